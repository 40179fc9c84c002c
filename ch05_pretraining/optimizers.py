"""Optimizers: AdamW's rule in plain arithmetic, and Muon, which is ours to the last line.

`clip_gradients` and `adamw_step` are tested equal to PyTorch's, which training calls for speed. PyTorch's own Muon
rounds to bfloat16, which few CPUs do quickly and no two do alike; ours stays in float32.

References: Loshchilov and Hutter (2019), "Decoupled weight decay regularization" (1711.05101); Jordan et al. (2024),
"Muon: an optimizer for hidden layers in neural networks". Taught in ch05, sections 5.5 and 5.10.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["Muon", "adamw_step", "clip_gradients", "orthogonalize"]


def clip_gradients(gradients: Iterable[Tensor], max_norm: float) -> Tensor:
    """Shrink all gradients together, in place, so that their joint norm is at most `max_norm`.

    Args:
        gradients: tensors of any shapes, seen as one long vector.
        max_norm: largest norm allowed, above 0.

    Shape:
        gradients (...) -> scalar, the norm before clipping.

    Source: Pascanu et al. (2013), section 3.2. Taught in ch05, section 5.5.
    """
    gradients = list(gradients)
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    for gradient in gradients:
        gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


def adamw_step(
    weights: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: int, *,
    learning_rate: float, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8, weight_decay: float = 0.1,
) -> None:  # fmt: skip
    """Move the weights once, in place, by AdamW's rule.

    Args:
        weights: the weights to move.
        gradient: the loss's gradient at these weights.
        mean: running mean of the gradient, updated in place; zeros before step 1.
        square: running mean of its square, updated in place; zeros before step 1.
        step: 1 for the first step.
        learning_rate: size of one step, above 0.
        betas: how much of each running mean is kept, in [0, 1).
        eps: keeps the division finite.
        weight_decay: share of the weights lost at learning rate 1.

    Shape:
        weights, gradient, mean, square: all the same.

    Source: Loshchilov and Hutter (2019), algorithm 2. Taught in ch05, section 5.5.
    """
    weights.mul_(1 - learning_rate * weight_decay)
    mean.lerp_(gradient, 1 - betas[0])
    square.lerp_(gradient.square(), 1 - betas[1])
    fair_mean = mean / (1 - betas[0] ** step)  # both start at zero: undo that bias
    fair_square = square / (1 - betas[1] ** step)
    weights.sub_(learning_rate * fair_mean / (fair_square.sqrt() + eps))


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Push every singular value of each matrix towards 1, keeping its directions (Newton-Schulz).

    Args:
        matrices: one or several matrices, not all zero.
        iterations: rounds of the polynomial; 5 brings nearly all values into 0.7 to 1.2.

    Shape:
        matrices (..., R, C) -> (..., R, C).

    Source: Jordan et al. (2024). Taught in ch05, section 5.10.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonalize(matrices.mT, iterations).mT
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # no singular value above 1
    gram = x @ x.mT  # (..., R, R): holds the squares of the singular values, all that a round needs to know of x
    turn = unchanged = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    for _ in range(iterations):
        push = 3.4445 * unchanged - 4.7750 * gram + 2.0315 * gram @ gram
        turn, gram = push @ turn, push @ gram @ push
    return turn @ x


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal: all directions of a matrix learn at one speed.

    Args:
        parameters: matrices only; embeddings, biases and norms belong to AdamW.
        learning_rate: size of one step, above 0.
        momentum: how much of the running gradient is kept, in [0, 1).
        weight_decay: share of the weights lost at learning rate 1.
        pieces: equal bands of rows that are made orthogonal each for itself; a parameter group may have its own.
            The queries, keys and values of every head lie in one matrix: taken whole, the values' large gradients
            would leave queries and keys almost no update.

    Raises:
        ValueError: a parameter is not a matrix, or its rows cannot be cut into so many pieces.

    Source: Jordan et al. (2024). Taught in ch05, section 5.10.
    """

    def __init__(
        self, parameters: Iterable, learning_rate: float = 0.01, momentum: float = 0.95, weight_decay: float = 0.1,
        pieces: int = 1,
    ):  # fmt: skip
        options = {"lr": learning_rate, "momentum": momentum, "weight_decay": weight_decay, "pieces": pieces}
        super().__init__(parameters, options)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon moves matrices, not shape {tuple(p.shape)}: give the others to AdamW")
                if p.shape[0] % group["pieces"]:
                    raise ValueError(f"{p.shape[0]} rows cannot be cut into {group['pieces']} equal pieces")

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # no closure: one gradient a step is all that it needs
        """Move all matrices once, those of one shape together."""
        for group in self.param_groups:
            for same_shape in _by_shape(group["params"]):
                self._move(same_shape, group)

    def _move(self, matrices: list[Tensor], group: dict) -> None:
        gradients = torch.stack([p.grad for p in matrices if p.grad is not None])  # (N, R, C)
        running = torch.stack([self.state[p].get("momentum", torch.zeros_like(p)) for p in matrices])
        running = group["momentum"] * running + gradients
        ahead = gradients + group["momentum"] * running  # Nesterov: look one step ahead
        pieces = ahead.unflatten(1, (group["pieces"], -1))  # (N, n, R / n, C)
        step_size = group["lr"] * math.sqrt(max(1.0, pieces.shape[-2] / pieces.shape[-1]))
        updates = orthogonalize(pieces).flatten(1, 2)  # (N, R, C)
        for p, update, kept in zip(matrices, updates, running, strict=True):
            self.state[p]["momentum"] = kept.clone()
            p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=step_size)


def _by_shape(parameters: list[Tensor]) -> list[list[Tensor]]:
    groups: dict[torch.Size, list[Tensor]] = {}
    for p in parameters:
        if p.grad is not None:
            groups.setdefault(p.shape, []).append(p)
    return list(groups.values())
