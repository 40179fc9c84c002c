"""What grows with size: work per token, the machine's ceiling, and a law from small models to a larger one.

References: Kaplan et al. (2020), "Scaling laws for neural language models" (2001.08361); Hoffmann et al. (2022),
"Training compute-optimal large language models" (2203.15556). Taught in ch05, in its scaling notebook.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ch04_gpt_model.fast_paths import linear_by_convolution
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.modern_gpt import ModernConfig

__all__ = ["PowerLaw", "fit_power_law", "flops_per_token", "matrix_product_ceiling"]


def flops_per_token(config: GPTConfig, length: int) -> float:
    """Count the multiplications and additions of one training token, forward and backward.

    Args:
        config: shape of the model, a `GPTConfig` or a `ModernConfig`.
        length: tokens of a row; a token attends to half of them on average.

    Source: Kaplan et al. (2020), section 2.1. Taught in ch05, section S.7 of its scaling notebook.
    """
    in_attention = 2 * (config.n_heads + config.n_kv_heads) * config.d_head  # queries and output, keys and values
    in_feed_forward = (3 if isinstance(config, ModernConfig) else 2) * config.d_ff  # a gate is a matrix more
    in_blocks = config.n_layers * config.d_model * (in_attention + in_feed_forward)  # weights that multiply
    in_head = config.vocab_size * config.d_model
    attending = config.n_layers * config.n_heads * config.d_head * length  # scores and averages, half the square each
    return 6.0 * (in_blocks + in_head + attending)


def matrix_product_ceiling(dtype: torch.dtype = torch.float32, size: int = 1024, seconds: float = 0.5) -> float:
    """Time products of two square matrices by both routines and give the fastest: what no training here can exceed.

    Args:
        dtype: of the matrices.
        size: rows and columns, at least 1.
        seconds: how long to try; at least two rounds are made.

    Shape:
        -> floating-point operations a second, a float.

    Source: Williams et al. (2009), "Roofline". Taught in ch05, section S.7 of its scaling notebook.
    """
    a, b = torch.randn(2, size, size).to(dtype)
    fastest, begun, n_rounds = float("inf"), time.perf_counter(), 0
    while n_rounds < 2 or time.perf_counter() - begun < seconds:
        for product in (F.linear, linear_by_convolution):  # a b', by either routine
            start = time.perf_counter()
            product(a, b)
            fastest = min(fastest, time.perf_counter() - start)
        n_rounds += 1
    return 2 * size**3 / fastest


@dataclass(frozen=True)
class PowerLaw:
    """A loss that falls with size towards a floor: floor + scale * size ** -exponent."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, size: float) -> float:
        return self.floor + self.scale * size**-self.exponent


def fit_power_law(sizes: Sequence[float], losses: Sequence[float], n_floors: int = 400) -> PowerLaw:
    """Find the power law that passes nearest to the measured losses.

    For a given floor, log(loss - floor) is a straight line in log(size); every floor of a grid is tried.

    Args:
        sizes: parameters (or tokens, or FLOP) of each run, above 0.
        losses: what each run reached, in nats.
        n_floors: floors tried, at least 1, from 0 up to just below the lowest loss.

    Raises:
        ValueError: fewer than three sizes, a number that is not finite and above 0, or losses that do not fall.

    Source: Hoffmann et al. (2022), section 3.3. Taught in ch05, section S.2 of its scaling notebook.
    """
    if len(set(sizes)) < 3 or len(sizes) != len(losses):
        found = f"{len(sizes)} sizes ({len(set(sizes))} different) and {len(losses)} losses"
        raise ValueError(f"{found}: give at least three runs of different sizes, one loss each")
    if not all(0 < number < math.inf for number in (*sizes, *losses)):
        raise ValueError(f"sizes {sizes}, losses {losses}: give finite numbers above 0, or leave a run out")
    if not isinstance(n_floors, int) or n_floors < 1:
        raise ValueError(f"n_floors={n_floors!r} is not a whole number >= 1")
    by_size = [loss for _, loss in sorted(zip(sizes, losses))]
    if not by_size[-1] < by_size[0]:
        raise ValueError("the largest model is no better than the smallest: train longer before fitting a law")
    x, y = torch.tensor(sizes, dtype=torch.float64).log(), torch.tensor(losses, dtype=torch.float64)
    columns = torch.stack([torch.ones_like(x), -x], dim=1)  # (n, 2)
    laws = []
    for floor in torch.linspace(0, 0.995, n_floors, dtype=torch.float64) * y.min():
        line = torch.linalg.lstsq(columns, (y - floor).log()).solution  # (2,): log scale, exponent
        laws.append(PowerLaw(floor.item(), line[0].exp().item(), line[1].item()))
    nearest = min(laws, key=lambda law: sum((law(n) - loss) ** 2 for n, loss in zip(sizes, losses)))
    if not nearest.exponent > 0:
        raise ValueError("the nearest law does not fall with size: look at the runs that lie far from the others")
    return nearest
