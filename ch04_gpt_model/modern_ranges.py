"""The values that a modern GPT's settings and its rotations may take.

Taught in ch04, `modern_gpt.ipynb`, sections M.3 and M.5, and in `beyond_llama.ipynb`.
"""

import math
from numbers import Real
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from ch04_gpt_model.modern_gpt import ModernConfig
    from ch04_gpt_model.recent_gpt import RecentConfig

SWITCHES = ("qkv_bias", "tie_weights", "qk_norm", "out_bias", "ff_bias",
            "norm_across_heads", "gelu_gate", "norm_from_one", "scale_embeddings")  # fmt: skip
LISTS_AND_WORDS = "rope_factors", "windows", "window_base", "norms", "score_width"  # looked at with their ranges
NUMBERS = "dropout", "rope_base", "norm_eps"
PLACES = "before", "after", "both"  # of the norms, seen from the parts


def refuse_wrong_kinds(config: "ModernConfig") -> None:
    """Refuse a setting of a wrong kind: a word for a switch or a number, a switch for a size.

    Args:
        config: a `ModernConfig`, whose open sizes may still be open.

    Raises:
        ValueError: names the setting, its value and what was expected.

    Source: this course.
    """
    for name, value in vars(config).items():
        if name in SWITCHES:
            _require(isinstance(value, bool), f"{name}={value!r} is neither True nor False")
        elif name in NUMBERS:
            _require(_is_number(value), f"{name}={value!r} is not a number")
        elif name not in LISTS_AND_WORDS:
            _require(not isinstance(value, bool), f"{name}={value!r} is not a whole number >= 1")


def refuse_out_of_range(config: "ModernConfig") -> None:
    """Refuse a setting that a `GPTConfig` has not and whose value is outside its range.

    Args:
        config: a `ModernConfig` with all sizes filled in.

    Raises:
        ValueError: names the setting, its value and what was expected.

    Source: this course.
    """
    n_heads, n_kv_heads, d_head, factors = config.n_heads, config.n_kv_heads, config.d_head, config.rope_factors
    _require(n_heads % n_kv_heads == 0, f"n_kv_heads={n_kv_heads} does not divide n_heads={n_heads}; choose a divisor")
    even = isinstance(d_head, int) and d_head >= 2 and d_head % 2 == 0
    _require(even, f"a head is {d_head} wide; give an even whole number, because rotations turn pairs")
    _require(
        1 < config.rope_base < math.inf, f"rope_base={config.rope_base} is not a number above 1; Llama takes 10000"
    )
    _require(not config.dropout, f"dropout={config.dropout} was given and this model has none; give 0")
    _require(0 < config.norm_eps < 1, f"norm_eps={config.norm_eps} is not between 0 and 1; Llama takes 1e-5")
    fits = factors is None or _are_factors(factors, d_head // 2)
    _require(fits, f"rope_factors={factors} are not {d_head // 2} numbers above 0, one a pair")


def refuse_other_parts(config: "RecentConfig") -> None:
    """Refuse a setting that a `ModernConfig` has not and whose value is of a wrong kind or outside its range.

    Args:
        config: a `RecentConfig` with all sizes filled in.

    Raises:
        ValueError: names the setting, its value and what was expected.

    Source: this course.
    """
    windows, base, width = config.windows, config.window_base, config.score_width
    fits = windows is None or (isinstance(windows, tuple) and len(windows) == config.n_layers)
    sizes = windows if fits and windows else ()
    fits = fits and all(size is None or (type(size) is int and size >= 1) for size in sizes)
    _require(fits, f"windows={windows} are not {config.n_layers} whole numbers >= 1 or None, one a block")
    fits = base is None or (_is_number(base) and 1 < base < math.inf)
    _require(fits, f"window_base={base!r} is not a number above 1; Gemma 3 takes 10000")
    _require(config.norms in PLACES, f"norms={config.norms!r} is not one of {', '.join(PLACES)}")
    fits = width is None or (_is_number(width) and 0 < width < math.inf)
    _require(fits, f"score_width={width!r} is not a number above 0; None means the width of a head")


def require_rotation(x: Tensor, base: float, factors: tuple[float, ...] | None) -> None:
    """Refuse what `rotate` cannot turn.

    Args:
        x: queries or keys, (..., T, K).
        base: of the speeds, above 0.
        factors: one for each pair, above 0, or None.

    Raises:
        ValueError: x has no pairs or is not of floating point, or the base or the factors are no speeds for it.

    Source: this course.
    """
    pairs = x.ndim >= 2 and x.shape[-1] % 2 == 0 and x.is_floating_point()
    _require(pairs, f"found {x.dtype} of shape {tuple(x.shape)}; give (..., T, K) in floating point, with K even")
    _require(0 < base < math.inf, f"base={base} is not a number above 0; Llama takes 10000")
    n_pairs = x.shape[-1] // 2
    fits = factors is None or _are_factors(factors, n_pairs)
    _require(fits, f"factors={factors} are not {n_pairs} numbers above 0, one a pair")


def _are_factors(factors: object, n_pairs: int) -> bool:
    if not isinstance(factors, (tuple, list)) or len(factors) != n_pairs:
        return False
    return all(_is_number(factor) and 0 < factor < math.inf for factor in factors)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
