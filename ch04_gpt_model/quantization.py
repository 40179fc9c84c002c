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

    Source: Dettmers et al. (2022), section 2. Taught in ch04, inference.ipynb, section I.2.
    """
    scale = weight.float().abs().amax(dim=1, keepdim=True) / 127
    return (weight.float() / scale.clamp(min=1e-30)).round().to(torch.int8), scale


def to_q4(weight: Tensor, with_minimum: bool = False) -> tuple[Tensor, ...]:
    """Write each group of 32 weights of a row as four-bit numbers and one scale, as GGUF's Q4_0 and Q4_1 do.

    Args:
        weight: a matrix whose rows are whole groups.
        with_minimum: False is Q4_0, weight = scale * (number - 8); True is Q4_1, weight = scale * number + minimum.

    Shape:
        weight (F, D) -> bytes (F, D/32, 16), scales (F, D/32, 1) and with a minimum (F, D/32, 1), in half precision.

    Raises:
        ValueError: D is not a multiple of 32.

    Source: ggml's reference routines, `quantize_row_q4_0` and `_1`. Taught in ch04, inference.ipynb, section I.3.
    """
    if weight.ndim != 2 or weight.shape[1] % GROUP:
        raise ValueError(f"the weight has shape {tuple(weight.shape)}; give rows of a multiple of {GROUP} numbers")
    groups = weight.float().unflatten(1, (-1, GROUP))  # (F, D/32, 32)
    low, high = groups.amin(dim=-1, keepdim=True), groups.amax(dim=-1, keepdim=True)
    scale, zero = (high - low) / 15, -low
    if not with_minimum:
        scale = torch.where(-low > high, low, high) / -8  # the largest becomes number 0: 16 numbers, 8 below zero
    steps = groups / scale.where(scale != 0, torch.inf)
    shift = zero / scale.where(scale != 0, torch.inf) if with_minimum else 8
    numbers = (steps + shift + 0.5).floor().clamp(0, 15).to(torch.uint8)
    first, second = numbers.chunk(2, dim=-1)  # number i shares a byte with number i + 16
    packed = first | second << 4
    return (packed, scale.half(), low.half()) if with_minimum else (packed, scale.half())


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
