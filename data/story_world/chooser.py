"""The only source of randomness in the story world, which adds up what each choice costs."""

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")


class Chooser:
    """The only source of randomness; counts what each choice costs.

    `bits` is -log2 p under the split of the world, `free_bits` the same with no combination held out.
    With `replay`, a list of earlier choices, these are taken again before any new one is drawn.
    """

    def __init__(self, rng: random.Random, replay: Sequence[int] = ()):
        self.rng, self.replay = rng, replay
        self.bits = self.free_bits = 0.0
        self.trace: list[tuple[int, int]] = []  # (choice, number of options)

    def _next(self, weights: Sequence[int], total: int) -> int:
        step = len(self.trace)
        if step < len(self.replay):
            return min(self.replay[step], len(weights) - 1)
        u = self.rng.random() * total
        for choice, weight in enumerate(weights):
            u -= weight
            if u < 0:
                return choice
        return len(weights) - 1

    def draw(self, weights: Sequence[int]) -> int:
        """An index, drawn in proportion to whole-number weights above zero."""
        total = sum(weights)
        choice = self._next(weights, total)
        self._pay(choice, len(weights), math.log2(total / weights[choice]))
        return choice

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, each as likely as the others."""
        n = len(options)
        if n == 1:
            return options[0]
        step = len(self.trace)
        choice = min(self.replay[step], n - 1) if step < len(self.replay) else int(self.rng.random() * n)
        self._pay(choice, n, _log2(n))
        return options[choice]

    def masked(self, options: Sequence[T], allowed: Callable[[T], bool]) -> T:
        """One of the options that are allowed in this split; `free_bits` pays for all of them."""
        left = [option for option in options if allowed(option)]
        self.free_bits += _log2(len(options)) - _log2(len(left))
        return self.pick(left)

    def _pay(self, choice: int, n: int, bits: float) -> None:
        self.trace.append((choice, n))
        self.bits += bits
        self.free_bits += bits


@lru_cache(None)
def _log2(n: int) -> float:
    return math.log2(n)
