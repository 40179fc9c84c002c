"""The values that a training's settings may take.

Taught in ch05, section 5.5.
"""

import math
from numbers import Integral
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ch05_pretraining.pretraining import TrainConfig


def refuse_out_of_range(config: "TrainConfig") -> None:
    """Refuse a value outside its range.

    Args:
        config: a `TrainConfig`.

    Raises:
        ValueError: names the setting, its value and what was expected.

    Source: this course.
    """
    choices = {
        "optimizer": ("adamw", "muon"),
        "schedule": ("cosine", "linear", "constant"),
        "precision": ("float32", "bfloat16", "float16", "auto"),
        "products": ("linear", "convolution", "auto"),
    }
    for name, allowed in choices.items():
        _require(getattr(config, name) in allowed, config, name, f"one of {', '.join(allowed)}")
    for name in ("max_steps", "accumulation_steps", "eval_every"):
        _require(getattr(config, name) >= 1, config, name, "at least 1")
    for name in ("eval_batches", "checkpoint_every"):
        value = getattr(config, name)
        _require(value is None or value >= 1, config, name, "1 or more, or None")
    for name in ("learning_rate", "muon_learning_rate"):
        _require(0 < getattr(config, name) < math.inf, config, name, "above 0 and finite")
    for name in ("warmup_steps", "weight_decay", "grad_clip"):
        _require(0 <= getattr(config, name) < math.inf, config, name, "0 or more")
    _require(0 <= config.min_learning_rate <= config.learning_rate, config, "min_learning_rate", "0 to learning_rate")
    _require(0 < config.decay_fraction <= 1, config, "decay_fraction", "above 0 and at most 1")
    _require(isinstance(config.seed, Integral), config, "seed", "a whole number")


def _require(holds: bool, config: "TrainConfig", name: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name}={getattr(config, name)!r}: expected {expected}; change it in TrainConfig")
