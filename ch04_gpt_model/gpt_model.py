"""The GPT: GPT-2's architecture, exactly, from token ids to logits, and text out of it again.

Pre-norm blocks, learned positions, tanh GELU, biases on queries, keys and values, and a head that shares its weights
with the token embedding. `layer_norm` and `gelu` write the mathematics out; the classes call PyTorch's fused kernels,
and the tests hold each pair equal. Dimensions: B rows, T tokens, D model width, F feed-forward width, V vocabulary.

Sources: Radford et al. (2019), "Language models are unsupervised multitask learners"; Vaswani et al. (2017). Taught in
ch04; `GPTConfig` is in `gpt_config.py`, `KVCache`, `generate` and `stream` are in `generation.py`.
"""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch03_attention.attention import MultiHeadAttention
from ch04_gpt_model.gpt_config import GPTConfig

if TYPE_CHECKING:
    from ch04_gpt_model.generation import KVCache


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Bring each token vector to mean 0 and variance 1, then scale and shift it by learned amounts.

    Args:
        x: token vectors.
        weight: learned scale.
        bias: learned shift.
        eps: added to the variance, so that a constant vector does not divide by zero.

    Shape:
        x (..., D), weight (D,), bias (D,) -> (..., D). The variance divides by D, not by D - 1.

    Source: Ba et al. (2016), section 3. Taught in ch04, section 4.1.
    """
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / torch.sqrt(variance + eps) * weight + bias


def gelu(x: Tensor, approximate: str = "tanh") -> Tensor:
    """Let a number through in proportion to how likely a standard normal number is to be smaller.

    Args:
        x: any tensor.
        approximate: "tanh" for the formula of GPT-2, "none" for the exact one.

    Shape:
        (...) -> (...).

    Raises:
        ValueError: `approximate` is neither "tanh" nor "none".

    Source: Hendrycks and Gimpel (2016), section 2. Taught in ch04, section 4.2.
    """
    if approximate == "none":
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    if approximate == "tanh":
        return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    raise ValueError(f"approximate={approximate!r} is unknown; give 'tanh' or 'none'")


class LayerNorm(nn.Module):
    """`layer_norm` with its learned scale and shift.

    Args:
        d_model: width of the token vectors.
        eps: added to the variance.

    Shape:
        (..., D) -> (..., D).

    Source: Ba et al. (2016), section 3. Taught in ch04, section 4.1.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class GELU(nn.Module):
    """`gelu` in the tanh form of GPT-2, as a layer: (...) -> (...).

    Source: Hendrycks and Gimpel (2016), section 2. Taught in ch04, section 4.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them: each token thinks for itself.

    Args:
        d_model: width of the token vectors, in and out.
        d_ff: width in between; None means 4 x d_model.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Vaswani et al. (2017), section 3.3. Taught in ch04, section 4.3.
    """

    def __init__(self, d_model: int, d_ff: int | None = None):
        super().__init__()
        d_ff = 4 * d_model if d_ff is None else d_ff
        self.up_proj = nn.Linear(d_model, d_ff)
        self.gelu = GELU()
        self.down_proj = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gelu(self.up_proj(x)))  # (B, T, D) -> (B, T, F) -> (B, T, D)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each reading a normalized copy of the stream and adding its answer to it.

    Args:
        config: shape of the model.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Radford et al. (2019), section 2.3 (pre-norm). Taught in ch04, section 4.4.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm1 = LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(
            config.d_model, config.n_heads, dropout=config.dropout, qkv_bias=config.qkv_bias
        )
        self.norm2 = LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: Tensor, cache: "KVCache | None" = None, layer: int = 0) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x), cache, layer))
        return x + self.drop(self.feed_forward(self.norm2(x)))


def require_ids(ids: Tensor, vocab_size: int, context_length: int | None = None, *, n_cached: int = 0) -> None:
    """Refuse what a model cannot read, before it fails three layers down.

    Args:
        ids: what should be token ids.
        vocab_size: ids are in [0, vocab_size). (On PyTorch's meta device, where tensors hold nothing, any are.)
        context_length: most tokens that can be read; None means any number.
        n_cached: number of tokens that were read before these.

    Shape:
        ids (B, T), none of them 0.

    Raises:
        ValueError: ids are not (B, T) whole numbers in [0, V), or B or T is 0, or there are too many.

    Source: this course. Taught in ch04, section 4.5.
    """
    is_tensor = isinstance(ids, Tensor)
    if not is_tensor or ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32) or ids.numel() == 0:
        found = f"{ids.dtype} of shape {tuple(ids.shape)}" if is_tensor else f"a {type(ids).__name__} and no tensor"
        raise ValueError(f"ids are {found}; give int64 of shape (batch, tokens) with at least one token")
    if context_length is not None and n_cached + ids.shape[1] > context_length:
        given = f"{ids.shape[1]} tokens" + (f" after {n_cached} cached ones" if n_cached else "")
        raise ValueError(f"{given} were given and the context holds {context_length}; shorten them, or use generate")
    if not ids.is_meta and (ids.min().item() < 0 or ids.max().item() >= vocab_size):
        wrong = ids[(ids < 0) | (ids >= vocab_size)][0].item()
        wanted = "encode the text with the tokenizer that the model was trained with"
        raise ValueError(f"token id {wrong} is not in 0..{vocab_size - 1}; {wanted}")


class GPTModel(nn.Module):
    """GPT-2: embeddings, a stack of blocks, a final norm, and a score for every token of the vocabulary.

    Args:
        config: shape of the model. Weights are drawn from PyTorch's global generator.

    Shape:
        ids (B, T) int64 -> logits (B, T, V).

    Raises:
        ValueError: ids are not (B, T) whole numbers in [0, V), or B or T is 0, or T exceeds the context.

    Source: Radford et al. (2019), section 2.3. Taught in ch04, section 4.5.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.drop = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.final_norm: nn.Module = LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        self.init_weights()

    def init_weights(self) -> None:
        """Draw all weights anew: 0.02 N(0, 1), the last projection of each branch smaller by sqrt(2 n_layers)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("out_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * self.config.n_layers) if into_stream else 0.02
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)

    def forward(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor:
        """Score every possible next token after every token: (B, T) -> (B, T, V)."""
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor:
        """Give the vectors that the head reads, after the final norm: (B, T) -> (B, T, D)."""
        x = self.drop(self.embed(ids, cache))
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += ids.shape[1]
        return self.final_norm(x)

    def embed(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor:
        """Look up what each token is and where it stands: (B, T) -> (B, T, D)."""
        start = 0 if cache is None else cache.length
        require_ids(ids, self.config.vocab_size, self.config.context_length, n_cached=start)
        positions = self.position_embedding.weight[start : start + ids.shape[1]]  # (T, D)
        return self.token_embedding(ids) + positions

    def attention_maps(self, ids: Tensor) -> list[Tensor]:
        """Give the attention weights of every block: (B, T) -> n_layers x (B, H, T, T)."""
        maps, x = [], self.embed(ids)
        for block in self.blocks:
            maps.append(block.attention.weights(block.norm1(x)))  # type: ignore[operator, union-attr]  # every block can
            x = block(x)
        return maps

    def block_matrices(self) -> dict[nn.Parameter, int]:
        """Give the matrices of the blocks, each with how many lie in it: one for q, k and v of every head, or 1."""
        stacked = {"attention.qkv_proj.weight": 3 * self.config.n_heads}
        parameters = self.blocks.named_parameters()  # such as 0.attention.qkv_proj.weight
        return {p: stacked.get(name.split(".", 1)[1], 1) for name, p in parameters if p.ndim == 2}

    @property
    def n_parameters(self) -> int:
        """Number of trained values; shared weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())
