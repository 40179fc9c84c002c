"""The random numbers with which checks try an answer: a class may have its own, so that a grader asks for others."""

from pathlib import Path

import torch

CLASS_SEED = Path(__file__).resolve().parent / "class_seed.txt"  # in a hand-out that was made with a seed
_APART = 1_000_003  # classes with neighboring seeds share no numbers

_chosen: list[int] = []


def use_class_seed(seed: int) -> None:
    """Let all checks of this process take the numbers of a class.

    Args:
        seed: of the class; 0 gives the numbers that the course comes with.
    """
    _chosen[:] = [seed]


def class_seed() -> int:
    """Return the seed that was chosen, or that of this copy of the course."""
    if not _chosen:
        _chosen.append(int(CLASS_SEED.read_text(encoding="utf-8")) if CLASS_SEED.is_file() else 0)
    return _chosen[0]


def dice(number: int = 0) -> torch.Generator:
    """Return a generator of the numbers of a check.

    Args:
        number: which of the check's generators; each gives other numbers.
    """
    return torch.Generator().manual_seed((number + _APART * class_seed()) % 2**63)


def whole_numbers(n: int, low: int, high: int, number: int = 0) -> list[int]:
    """Return whole numbers of the class.

    Args:
        n: how many.
        low: the smallest that there may be.
        high: the largest.
        number: see `dice`.
    """
    return torch.randint(low, high + 1, (n,), generator=dice(number)).tolist()


def different_numbers(n: int, below: int, number: int = 0) -> list[int]:
    """Return whole numbers of the class of which no two are equal.

    Args:
        n: how many.
        below: they are from 0 up to this, which is left out.
        number: see `dice`.
    """
    return torch.randperm(below, generator=dice(number))[:n].tolist()


def words(n: int, number: int = 0) -> list[str]:
    """Return invented words of the class of which no two are equal.

    Args:
        n: how many.
        number: see `dice`.
    """
    first, last = "bdfglmnprstvz", "aeiou"
    syllables = [one + other for one in first for other in last]
    starts = different_numbers(n, len(syllables), number)
    ends = whole_numbers(n, 0, len(syllables) - 1, number)
    return [syllables[start] + syllables[end] for start, end in zip(starts, ends)]
