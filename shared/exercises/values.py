"""What checks do with any value, be it a number, a list or a tensor: copy it, compare it, write it in a few words."""

from collections.abc import Iterator
from numbers import Real
from typing import Any

import torch

_LONGEST = 120  # characters of a value in a message


def copied(value: Any) -> Any:
    """Return a copy with the same contents, against which a later look can be compared; of other objects themselves.

    Args:
        value: anything; tensors, modules, lists, tuples, sets and dictionaries are copied, however deep.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, torch.nn.Module):
        learning = {name: part.requires_grad for name, part in value.named_parameters()}
        modes = {name: part.training for name, part in value.named_modules()}
        return {"numbers": copied(dict(value.state_dict())), "learning": learning, "training": modes}
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(map(copied, value))
    return value


def unchanged(value: Any, kept: Any) -> bool:
    """Say whether a value still is what its copy is.

    Args:
        value: as it is now.
        kept: what `copied` gave for it earlier.
    """
    if isinstance(value, torch.nn.Module):
        return unchanged(copied(value), kept)
    if isinstance(value, torch.Tensor):
        return isinstance(kept, torch.Tensor) and _same_tensor(value.detach(), kept)
    if isinstance(value, dict):
        return value.keys() == kept.keys() and all(unchanged(value[key], kept[key]) for key in kept)
    if type(value) in (list, tuple):
        return len(value) == len(kept) and all(unchanged(mine, old) for mine, old in zip(value, kept))
    return value is kept or bool(value == kept) or (value != value and kept != kept)  # nan is not equal to itself


def change(value: Any, kept: Any) -> str:
    """Say what has changed in a value since it was copied; nothing where it is the same.

    Args:
        value: as it is now.
        kept: what `copied` gave for it earlier.
    """
    if unchanged(value, kept):
        return ""
    if not isinstance(value, torch.nn.Module):
        return f"it was {short(kept)} and is {short(value)}"
    names = {"training": "its mode, train or eval", "learning": "which parameters learn", "numbers": "its weights"}
    now = copied(value)
    return " and ".join(told for part, told in names.items() if not unchanged(now[part], kept[part]))


def _same_tensor(value: torch.Tensor, kept: torch.Tensor) -> bool:
    if value.shape != kept.shape or value.dtype != kept.dtype:
        return False
    return bool(((value == kept) | ((value != value) & (kept != kept))).all())


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Give all tensors in a value, also those in lists, tuples and dictionaries.

    Args:
        value: anything.
    """
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors_in(part)


def short(value: Any) -> str:
    """Write a value in one line of a message.

    Args:
        value: anything; of a tensor six numbers and the shape are told.
    """
    text = "None (is there a `return`?)" if value is None else _written(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}…"


def _written(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        shown = value.detach().double().flatten()[:6].tolist()
        numbers = ", ".join(f"{x:.{4 if value.ndim else 6}g}" for x in shown) + (", …" if value.numel() > 6 else "")
        return numbers if value.ndim == 0 else f"[{numbers}] of shape {tuple(value.shape)}"
    if isinstance(value, dict) and any(True for _ in tensors_in(value)):
        return f"{{{', '.join(f'{key!r}: {_written(part)}' for key, part in value.items())}}}"
    if type(value) in (list, tuple) and any(True for _ in tensors_in(value)):
        first, last = "[]" if isinstance(value, list) else "()"
        return f"{first}{', '.join(map(_written, value))}{last}"
    return f"{value:.6g}" if isinstance(value, float) else " ".join(repr(value).splitlines())


def first_difference(got: Any, expected: Any) -> str:
    """Say in a sentence where two values differ first; nothing where the values themselves show it.

    Args:
        got: what came.
        expected: what should have come.
    """
    alike = short(got) == short(expected)
    if isinstance(got, torch.Tensor) and isinstance(expected, torch.Tensor):
        return _of_tensors(got, expected) if alike or got.numel() > 1 and got.shape == expected.shape else ""
    if type(got) is type(expected) and isinstance(got, (list, tuple, str)):
        return _of_rows(got, expected) if alike or len(got) > 6 or len(expected) > 6 else ""
    if alike and isinstance(got, Real) and isinstance(expected, (Real, torch.Tensor)):
        return f"More exactly, it should be {float(expected):.12g}, yours is {float(got):.12g}."
    same = f"Yours is a {type(got).__name__}, expected was a {type(expected).__name__}."
    return same if alike and type(got) is not type(expected) else ""


def _of_rows(got: Any, expected: Any) -> str:
    for place, (mine, other) in enumerate(zip(got, expected)):
        if not unchanged(mine, other):
            return f"At [{place}] it should be {short(other)}, yours is {short(mine)}."
    if len(got) == len(expected):
        return ""
    return f"Up to [{min(len(got), len(expected)) - 1}] both are equal; yours has {len(got)} and not {len(expected)}."


def _of_tensors(got: torch.Tensor, expected: torch.Tensor) -> str:
    pair = [tensor.detach().double().flatten() for tensor in (expected, got)]
    gap = torch.where(pair[0].isclose(pair[1], rtol=0.0, atol=0.0, equal_nan=True), 0.0, (pair[0] - pair[1]).abs())
    gap = gap.nan_to_num(torch.finfo(gap.dtype).max)  # nan and infinity differ by more than any number
    if not gap.any():
        return ""
    number = int((gap > gap.max() / 1000).nonzero()[0])  # the first place with more than the noise of rounding
    place = [int(index) for index in torch.unravel_index(torch.tensor(number), got.shape)]
    where = f"At {place}" if place else "More exactly,"
    numbers = [float(row[number]) for row in pair]
    digits = 6 if f"{numbers[0]:.6g}" != f"{numbers[1]:.6g}" else 12
    return f"{where} it should be {numbers[0]:.{digits}g}, yours is {numbers[1]:.{digits}g}."
