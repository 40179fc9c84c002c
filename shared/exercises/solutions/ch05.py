"""Answers to chapter 5's exercises."""

import torch
from torch import Tensor


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    graded = targets != -100
    log_probabilities = logits - logits.logsumexp(dim=-1, keepdim=True)  # (..., V)
    picked = log_probabilities[graded].gather(-1, targets[graded].unsqueeze(-1))  # (n, 1)
    return -picked.mean()


def rate_at(step: int, peak: float, warmup_steps: int, max_steps: int) -> float:
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (max_steps - step) / (max_steps - warmup_steps)


def clip(gradients: list[Tensor], max_norm: float) -> list[Tensor]:
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    scale = max_norm / float(length) if length > max_norm else 1.0
    return [g * scale for g in gradients]


def mean_of_batches(losses: list[float], counts: list[int]) -> float:
    total = sum(loss * count for loss, count in zip(losses, counts) if count)
    return total / sum(counts)


def adamw(weights: Tensor, gradients: list[Tensor], learning_rate: float, weight_decay: float) -> Tensor:
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        weights = weights * (1 - learning_rate * weight_decay)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        fair_mean, fair_square = mean / (1 - 0.9**step), square / (1 - 0.95**step)
        weights = weights - learning_rate * fair_mean / (fair_square.sqrt() + 1e-8)
    return weights


def copy_targets(row: Tensor, period: int) -> tuple[Tensor, Tensor]:
    ids, targets = row[:-1], row[1:].clone()
    targets[: period - 1] = -100
    return ids, targets


def from_gpt2(name: str, stored: Tensor) -> Tensor:
    conv1d = name.endswith(("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"))
    return stored.T if conv1d else stored


SOLUTIONS = {
    "5.1": (
        loss,
        """log softmax is a subtraction: score minus logsumexp. Written so, no exponential of a large score is ever
        formed. The mean runs over the graded targets only: dividing by all would make padding look like skill.""",
    ),
    "5.2": (
        rate_at,
        """The rise protects the first steps, when AdamW's means are guesses; the fall lets the weights settle. Step 0
        takes a share of the peak, because a step of size 0 would teach nothing.""",
    ),
    "5.3": (
        clip,
        """All gradients are scaled by one number, so their direction stays. Clipping each alone, or each number, would
        turn the step. A short gradient is left alone, one of zeros included.""",
    ),
    "5.4": (
        mean_of_batches,
        """A mean of means gives every token of a short batch more weight than a token of a long one. Multiply back to
        sums, add, divide once. The same rule makes two processes equal to one.""",
    ),
    "5.5": (
        adamw,
        """Both means start at 0 and are too small at first by exactly 1 - beta**step. The division by the root of the
        squares makes the step independent of the gradient's size, so decay must not pass through it: it acts on the
        weights directly. That is the W.""",
    ),
    "5.6": (
        copy_targets,
        """Position t predicts row[t + 1], and that is a copy as soon as t + 1 >= period: the first period - 1 targets
        are masked, not the first period.""",
    ),
    "5.7": (
        from_gpt2,
        """The name decides, never the shape: attn.c_proj.weight is square, and a model that was loaded with it the
        wrong way round runs without complaint and talks nonsense.""",
    ),
}
