"""The counts of `NgramModel` in sorted arrays: for texts of millions of tokens.

A dictionary of counts is built one token at a time. Here each n-gram is written as one whole number, the numbers are
sorted, and equal neighbors are counted; a whole text is looked up at once. The probabilities are those of
`NgramModel`, to the last bit, and a test holds both equal. Nothing else is taught here: this module exists for speed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ch01_understanding_llms.understanding_llms import NgramModel


@dataclass(frozen=True)
class _Table:
    """Counts of all n-grams of one length, and of their contexts; both sorted by code."""

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray


class FastNgramModel(NgramModel):
    """`NgramModel` for long texts: the same arguments, methods and probabilities, in a fraction of the time.

    Raises:
        ValueError: an argument is out of range, or vocab_size ** order does not fit 63 bits.

    Source: as `NgramModel`. Taught in ch01, section 1.3.
    """

    def __init__(self, order: int, vocab_size: int, smoothing: float = 4.0):
        super().__init__(order, vocab_size, smoothing)
        if vocab_size**order >= 2**63:
            raise ValueError(f"{vocab_size} ** {order} n-grams do not fit 63 bits; NgramModel takes any order")

    def fit(self, ids: Iterable[int]) -> "FastNgramModel":
        """Count every n-gram up to `order` in one flat sequence of ids; a second call starts anew."""
        text = self.require_ids(ids, at_least=self.order)
        self.counts = {length: self._count(text, length) for length in range(self.order)}  # by length of the context
        return self

    def next_probabilities(self, context: Sequence[int]) -> np.ndarray:
        """Give the probability of every id after `context`, of which the last `order - 1` ids are read.

        Shape:
            any length -> (V,). Sums to 1.
        """
        tables, recent = self.fitted(), self.require_ids(context)
        probabilities = np.full(self.vocab_size, 1 / self.vocab_size)  # (V,)
        for length in range(min(self.order, len(recent) + 1)):
            counts = self._continuations(tables[length], recent[len(recent) - length :])  # (V,)
            probabilities = self._blend(counts, counts.sum(), probabilities)
        return probabilities

    def token_probabilities(self, ids: Iterable[int]) -> np.ndarray:
        """Give the probability that the model gave to each id of a text before seeing it.

        Shape:
            (T,) -> (T,). The first ids have shorter contexts.
        """
        tables, text = self.fitted(), self.require_ids(ids)
        probabilities = np.full(len(text), 1 / self.vocab_size)  # (T,)
        for length in range(min(self.order, len(text))):
            table, grams = tables[length], self._codes(text, length + 1)  # (T - length,)
            counts = _look_up(table.grams, table.counts, grams)
            totals = _look_up(table.contexts, table.totals, grams // self.vocab_size)
            probabilities[length:] = self._blend(counts, totals, probabilities[length:])
        return probabilities

    def _codes(self, ids: np.ndarray, n: int) -> np.ndarray:
        """Write each n-gram as one number in base `vocab_size`: (T,) -> (T - n + 1,)."""
        codes = np.zeros(len(ids) - n + 1, dtype=np.int64)
        for start in range(n):
            codes = codes * self.vocab_size + ids[start : start + len(codes)]
        return codes

    def _count(self, ids: np.ndarray, length: int) -> _Table:
        grams, counts = np.unique(self._codes(ids, length + 1), return_counts=True)
        # Sorted by code, all n-grams of one context stand side by side: its total is the sum of that stretch.
        contexts, starts = np.unique(grams // self.vocab_size, return_index=True)
        return _Table(grams, counts, contexts, np.add.reduceat(counts, starts))

    def _continuations(self, table: _Table, context: np.ndarray) -> np.ndarray:
        """Counts of every id after one context: (length,) -> (V,)."""
        code = int(self._codes(context, len(context))[0])
        edges = np.array([code, code + 1], dtype=np.int64) * self.vocab_size
        first, last = np.searchsorted(table.grams, edges)
        counts = np.zeros(self.vocab_size)
        counts[table.grams[first:last] % self.vocab_size] = table.counts[first:last]
        return counts

    def _blend(self, counts: np.ndarray, totals: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        """Mix counts with what the shorter context predicts; where nothing was counted, trust the shorter one."""
        weight = np.where(totals > 0, totals + self.smoothing, 1)  # 1 only avoids a division by zero
        return np.where(totals > 0, (counts + self.smoothing * shorter) / weight, shorter)


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Find the value of each wanted key in a sorted table; 0 where it is missing."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
