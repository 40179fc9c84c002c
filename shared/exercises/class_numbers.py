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
