"""The loss of a GPT's head without the logits of the whole batch: a few rows at a time, gradients included.

A batch of 1,600 tokens over a vocabulary of 3,072 makes 20 MB of logits, and softmax and its gradient as much again;
with GPT-2's vocabulary it is sixteen times more. A slice that fits into the processor's cache is scored, graded
and turned into gradients before the next one is touched.

References: Hsu et al. (2024), "Liger kernel" (2410.10989), section 3.2. Taught in ch05, in its scaling notebook.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["head_loss"]

ROWS_AT_ONCE = {"cpu": 512}  # a slice for the processor's cache; a GPU wants larger ones


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum the surprise at every target, as cross-entropy over `hidden @ weight.T` would.

    Args:
        hidden: the vectors that the head reads.
        weight: the head's matrix; it has no bias.
        targets: the tokens that came, none of them masked.

    Shape:
        hidden (n, D), weight (V, D), targets (n,) -> scalar, in nats.

    Raises:
        ValueError: not one target for each row, or a target that is masked or no id of the vocabulary.

    Source: Hsu et al. (2024), section 3.2. Taught in ch05, section S.4 of its scaling notebook.
    """
    if hidden.ndim != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and targets {tuple(targets.shape)}: give (n, D) and (n,), a target a row"
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(weight):
        raise ValueError(
            f"a target lies outside 0 to {len(weight) - 1}: use the tokenizer that the model was made for, and leave "
            "masked positions out"
        )
    learns = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    return _HeadLoss.apply(hidden, weight, targets, learns)


class _HeadLoss(torch.autograd.Function):
    """The derivative of -log p(target) by the logits is p, with 1 taken off at the target: no need to wait for it."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, learns: bool) -> Tensor:  # type: ignore[no-untyped-def]  # PyTorch's
        n_rows = ROWS_AT_ONCE.get(hidden.device.type, 8192)
        total = hidden.new_zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32))
        to_hidden, to_weight = [], torch.zeros_like(weight) if learns else None
        for rows, wanted in zip(hidden.split(n_rows), targets.split(n_rows)):
            logits = F.linear(rows, weight).to(total.dtype)  # (n, V)
            log_probabilities = logits.log_softmax(dim=-1)
            total += F.nll_loss(log_probabilities, wanted, reduction="sum")
            if learns:
                gradients = log_probabilities.exp_()
                gradients[torch.arange(len(wanted), device=wanted.device), wanted] -= 1
                to_hidden.append((gradients @ weight).to(hidden.dtype))  # (n, D)
                to_weight += gradients.T @ rows  # (V, D)
        if learns:
            ctx.save_for_backward(torch.cat(to_hidden), to_weight)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[no-untyped-def]  # PyTorch's
        to_hidden, to_weight = ctx.saved_tensors
        return gradient * to_hidden, gradient * to_weight, None, None
