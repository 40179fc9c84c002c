"""Weights in fewer bits: whole numbers and a scale, one for each row or for each group of 32.

Only what is stored is made smaller here; to compute, the weights are turned back. Dimensions: F rows and D columns of a
matrix.

Sources: Dettmers et al. (2022), arXiv 2208.07339; the block formats of the project ggml. Taught in ch04,
`inference.ipynb`.
"""

import torch
from torch import Tensor

GROUP = 32  # weights that share a scale in GGUF's four-bit forms


def int8_by_row(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Write each row of a matrix as whole numbers from -127 to 127 and one scale: weight = scale * number.

    Args:
        weight: any matrix; a row of zeros stays one.

    Shape:
        weight (F, D) -> int8 (F, D) and float32 (F, 1).

    Raises:
        ValueError: no matrix, an empty one, NaN or infinity.

    Source: Dettmers et al. (2022), section 3.1. Taught in ch04, inference.ipynb, section I.2.
    """
    _require_matrix(weight, 1)
    scale = weight.float().abs().amax(dim=1, keepdim=True) / 127
    return (weight.float() / scale.clamp(min=1e-30)).round().to(torch.int8), scale


def _require_matrix(weight: Tensor, size: int) -> None:
    if weight.ndim != 2 or not weight.numel() or weight.shape[1] % size:
        rows = f"rows of a multiple of {size} numbers" if size > 1 else "a matrix that is not empty"
        raise ValueError(f"the weight has shape {tuple(weight.shape)}; give {rows}")
    if not weight.float().isfinite().all():
        raise ValueError("the weight holds NaN or infinity; give finite numbers")


def to_q4(weight: Tensor, with_minimum: bool = False) -> tuple[Tensor, ...]:
    """Write each group of 32 weights of a row as four-bit numbers and one scale, as GGUF's Q4_0 and Q4_1 do.

    Args:
        weight: a matrix whose rows are whole groups.
        with_minimum: False is Q4_0, weight = scale * (number - 8); True is Q4_1, weight = scale * number + minimum.

    Shape:
        weight (F, D) -> bytes (F, D/32, 16), scales (F, D/32, 1) and with a minimum (F, D/32, 1), in half precision.

    Raises:
        ValueError: D is not a multiple of 32, NaN or infinity, or a scale or minimum too large for half precision.

    Source: ggml's reference routines, `quantize_row_q4_0` and `_1`. Taught in ch04, inference.ipynb, section I.3.
    """
    _require_matrix(weight, GROUP)
    groups = weight.float().unflatten(1, (-1, GROUP))  # (F, D/32, 32)
    if with_minimum:
        low = groups.amin(dim=-1, keepdim=True)
        scale, shift = (groups.amax(dim=-1, keepdim=True) - low) / 15, 0.5
    else:  # the largest, of equal ones the first, becomes number 0: 16 numbers, 8 below zero
        low = torch.zeros(())
        scale, shift = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True)) / -8, 8.5
    steps = (groups - low) * (1 / scale.where(scale != 0, torch.inf))
    numbers = (steps + shift).floor().clamp(0, 15).to(torch.uint8)
    first, second = numbers.chunk(2, dim=-1)  # number i shares a byte with number i + 16
    kept = (scale.half(), low.half()) if with_minimum else (scale.half(),)
    if not all(part.isfinite().all() for part in kept):
        raise ValueError(f"weights up to {weight.abs().max():g} are too large for half precision; make them smaller")
    return (first | second << 4, *kept)


def from_q4(packed: Tensor, scale: Tensor, minimum: Tensor | None = None) -> Tensor:
    """Turn what `to_q4` gave back into weights.

    Args:
        packed: two numbers in a byte.
        scale: one for each group.
        minimum: one for each group, or None for Q4_0.

    Shape:
        packed (F, D/32, 16), scale and minimum (F, D/32, 1) -> (F, D) float32.

    Source: ggml's reference routines, `dequantize_row_q4_0` and `_1`. Taught in ch04, inference.ipynb, section I.3.
    """
    numbers = torch.cat([packed & 15, packed >> 4], dim=-1).float()  # (F, D/32, 32)
    groups = scale.float() * (numbers - 8) if minimum is None else scale.float() * numbers + minimum.float()
    return groups.flatten(1)
