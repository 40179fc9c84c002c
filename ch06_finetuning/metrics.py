"""Scores with their uncertainty: exact counts in, honest percentages out.

A score on 300 held-out rows is itself a measurement. Every rate here carries Wilson's 95 % interval, so that two
results are only called different when the test set is large enough to tell them apart.

References: Wilson (1927), "Probable inference, the law of succession, and statistical inference"; McNemar
(1947), "Note on the sampling error of the difference between correlated proportions or percentages".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "ClassificationReport", "PairedComparison", "Rate", "classification_report", "compare_paired", "wilson_interval",
]  # fmt: skip


def wilson_interval(n_correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return the range that holds the true rate in about 95 % of such measurements.

    Args:
        n_correct: successes, 0 to `n`.
        n: trials, at least 1.
        z: width in standard deviations; 1.96 gives 95 %.

    Raises:
        ValueError: there are no trials, or more successes than trials.

    Source: Wilson (1927). Taught in ch06, section 6.6.
    """
    if not 0 <= n_correct <= n or n == 0:
        raise ValueError(f"{n_correct} correct of {n} is no rate: pass at least one trial and 0 to n correct ones")
    rate = n_correct / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


@dataclass(frozen=True)
class Rate:
    """A share of `n` trials, with Wilson's 95 % interval.

    Source: Wilson (1927). Taught in ch06, section 6.7.
    """

    n_correct: int
    n: int

    @property
    def value(self) -> float:
        return self.n_correct / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.n_correct, self.n) if self.n else (0.0, 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{_percent(self, 6)}  [{low:.1%}, {high:.1%}]  n={self.n}"


def _percent(rate: Rate, width: int) -> str:
    """A share in percent; a dash where there were no trials, so that nobody reads 0 or nan for it."""
    return f"{rate.value:{width}.1%}" if rate.n else f"{'–':>{width}}"


@dataclass(frozen=True)
class ClassificationReport:
    """What a classifier got right: over all, per class, and which class it took for which.

    `confusion[i, j]` counts rows of class i that were called class j. `unseen` are labels that training never saw:
    no row of theirs can be right.

    Source: this course. Taught in ch06, section 6.6.
    """

    labels: tuple[str, ...]
    confusion: Tensor  # (C, C) int64: true class by predicted class
    unseen: tuple[str, ...] = ()

    @property
    def accuracy(self) -> Rate:
        return Rate(int(self.confusion.trace()), int(self.confusion.sum()))

    @property
    def recall(self) -> list[Rate]:
        return [Rate(int(row[i]), int(row.sum())) for i, row in enumerate(self.confusion)]

    @property
    def precision(self) -> list[Rate]:
        return [Rate(int(column[j]), int(column.sum())) for j, column in enumerate(self.confusion.T)]

    @property
    def f1(self) -> list[float]:
        sizes = self.confusion.sum(0) + self.confusion.sum(1)  # (C,) predicted + true
        return (2 * self.confusion.diagonal() / sizes.clamp(min=1)).tolist()

    def __str__(self) -> str:
        width = max(map(len, self.labels))
        lines = [f"{'':{width}}  precision  recall      F1  rows"]
        for label, precision, recall, f1 in zip(self.labels, self.precision, self.recall, self.f1):
            score = f"{f1:6.1%}" if precision.n or recall.n else f"{'–':>6}"
            lines.append(f"{label:{width}}  {_percent(precision, 9)}  {_percent(recall, 6)}  {score}  {recall.n:4d}")
        return "\n".join([*lines, f"{'accuracy':{width}}  {self.accuracy}", *self._remarks()])

    def _remarks(self) -> list[str]:
        """What a table of shares cannot say: classes without a test row, without a prediction, without training."""
        groups = {
            "no test row": [label for label, rate in zip(self.labels, self.recall) if not rate.n],
            "never predicted": [label for label, rate in zip(self.labels, self.precision) if not rate.n],
            "never seen in training": self.unseen,
        }
        return [f"{what}: {', '.join(labels)}" for what, labels in groups.items() if labels]


def classification_report(
    targets: Sequence[int] | Tensor, predictions: Sequence[int] | Tensor, labels: Sequence, *, unseen: Sequence = ()
) -> ClassificationReport:
    """Compare predicted classes with the true ones.

    Args:
        targets: class indices (N,), 0 to C - 1.
        predictions: class indices (N,), 0 to C - 1.
        labels: the C class names, in the order of the indices.
        unseen: those of the labels that training never saw.

    Raises:
        ValueError: the two lists differ in length, are empty, or hold an index outside the labels.

    Source: this course. Taught in ch06, section 6.6.
    """
    targets, predictions = torch.as_tensor(targets).long(), torch.as_tensor(predictions).long()
    if targets.shape != predictions.shape or targets.numel() == 0:
        raise ValueError(
            f"{targets.numel()} targets and {predictions.numel()} predictions: pass one prediction for each target"
        )
    seen = torch.cat([targets, predictions])
    if seen.min() < 0 or seen.max() >= len(labels):
        raise ValueError(f"class indices run from {seen.min()} to {seen.max()}, but there are {len(labels)} labels")
    cells = torch.bincount(targets * len(labels) + predictions, minlength=len(labels) ** 2)
    confusion = cells.reshape(len(labels), len(labels))
    return ClassificationReport(tuple(map(str, labels)), confusion, tuple(map(str, unseen)))


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same rows: on how many both were right, only the first, only the second, neither.

    Source: McNemar (1947).
    """

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def first(self) -> Rate:
        return Rate(self.both + self.only_first, self.n)

    @property
    def second(self) -> Rate:
        return Rate(self.both + self.only_second, self.n)

    @property
    def n(self) -> int:
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def p_value(self) -> float:
        """How often fair coins would share out the rows at least so unevenly on which only one model was right."""
        n_apart, fewer = self.only_first + self.only_second, min(self.only_first, self.only_second)
        tail = sum(math.comb(n_apart, k) for k in range(fewer + 1))
        return min(1.0, 2 * tail / 2**n_apart)

    def __str__(self) -> str:
        apart = f"only the first right {self.only_first}, only the second {self.only_second}"
        return f"first  {self.first}\nsecond {self.second}\n{apart}, exact McNemar test p = {self.p_value:.3g}"


def compare_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedComparison:
    """Compare which of the same rows two models got right; rows on which they agree say nothing of who is better.

    Args:
        first: whether the first model was right, one truth value a row.
        second: the same of the second model, in the same order.

    Raises:
        ValueError: the two differ in length, or are empty.

    Source: McNemar (1947), in its exact form.
    """
    pairs = list(zip(map(bool, first), map(bool, second)))
    if not pairs or len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} marks: pass one of each model for the same rows")
    cells = (True, True), (True, False), (False, True), (False, False)
    return PairedComparison(*(pairs.count(cell) for cell in cells))
