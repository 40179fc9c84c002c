"""Documents apart: each token of a row reads its own document only, in a model that knows nothing of documents.

A row of a token shard may hold the end of one document and the beginning of the next. The models of the course take ids
and no mask. PyTorch lets a *function mode* see each call before it is made, so while the mode is open the mask of the
documents is added to every call of attention. Positions go on counting through the row.

Left out: routines that skip what is masked; here the time is that of whole rows.
Reference: Grattafiori et al. (2024), "The Llama 3 herd of models" (2407.21783), section 3.2. For ch05, section S.6 of
its scaling notebook.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ch02_text_data.shard_loader import document_mask
from ch05_pretraining.evaluation import loss_sum

__all__ = ["DocumentsApart", "loss_of_documents"]


class DocumentsApart(TorchFunctionMode):
    """While it is open, every attention of whole rows leaves out what a mask does not allow.

    Args:
        mask: True where a token may read another one, never a later one; `document_mask` gives it.

    Shape:
        mask (B, 1, T, T) bool.

    Source: Grattafiori et al. (2024), section 3.2. For ch05, section S.6 of its scaling notebook.
    """

    def __init__(self, mask: Tensor):
        super().__init__()
        self.mask = mask

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, *, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        mask = self.mask if attn_mask is None else attn_mask & self.mask  # (B, 1, T, T)
        return F.scaled_dot_product_attention(query, key, value, mask, dropout_p, scale=scale, enable_gqa=enable_gqa)


def loss_of_documents(end_id: int) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """Give a loss for `train` and `evaluate`: `loss_sum`, with each token reading its own document only.

    Args:
        end_id: the id that parts documents; it begins the document behind it.

    Source: Grattafiori et al. (2024), section 3.2. For ch05, section S.6 of its scaling notebook.
    """

    def loss(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
        with DocumentsApart(document_mask(ids, end_id)):
            return loss_sum(model, ids, targets)

    return loss
