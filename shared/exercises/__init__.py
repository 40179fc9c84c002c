"""Checks and answers of the exercises: `check("3.2", my_function)` and `solution("3.2")`.

A check never raises: it says *not tried yet*, *not yet* with what was expected and what came, or *correct*. The checks
themselves stand in `checks/`, the answers in `solutions/` (a classroom copy leaves that folder out).
"""

import importlib
import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

_FOLDER = Path(__file__).resolve().parent


class NotYet(Exception):
    """What a check raises for an answer that is not right yet; its message is what the learner reads."""


def expect(condition: bool, message: str) -> None:
    """Raise `NotYet(message)` unless the condition holds."""
    if not condition:
        raise NotYet(message)


def expect_equal(what: str, got: Any, expected: Any, hint: str = "") -> None:
    """Raise `NotYet` with both values unless they are equal; tensors are compared by shape and value."""
    if isinstance(expected, torch.Tensor):
        _expect_shape(what, got, expected, hint)
        kinds = f"{what} should be {_kind(expected)}, yours are {got.dtype}."
        expect(_kind(got) == _kind(expected), f"{kinds} {hint}".strip())
        same = torch.equal(got, expected)
    else:
        is_array = type(got) is torch.Tensor or bool(getattr(got, "ndim", 0))
        same = not is_array and got == expected and not _is_fraction_for_whole(got, expected)
    if not same and isinstance(got, float) and got == expected:
        raise NotYet(f"{what} counts something: return a whole number, {expected}; yours is a float, {got!r}. {hint}")
    if not same:
        raise NotYet(_difference(what, got, expected, hint))


def _is_fraction_for_whole(got: Any, expected: Any) -> bool:
    """Say whether a decimal number, such as 2.0, stands where a whole number is expected."""
    if isinstance(expected, (list, tuple)):
        return any(_is_fraction_for_whole(mine, other) for mine, other in zip(got, expected))
    return isinstance(expected, int) and isinstance(got, Real) and not isinstance(got, Integral)


def expect_close(what: str, got: Any, expected: Any, hint: str = "", tolerance: float = 1e-5) -> None:
    """Raise `NotYet` with both values unless they agree within `tolerance` (absolute, and relative to the size)."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    if not isinstance(got, (torch.Tensor, Real)):  # Python's and NumPy's numbers are Real
        raise NotYet(_difference(what, got, expected, hint))
    got = got.detach() if isinstance(got, torch.Tensor) else torch.tensor(float(got), dtype=torch.float64)
    _expect_shape(what, got, expected, hint)
    if not torch.allclose(got.double(), expected, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise NotYet(_difference(what, got, expected, hint))


def _expect_shape(what: str, got: Any, expected: torch.Tensor, hint: str) -> None:
    if not isinstance(got, torch.Tensor):
        raise NotYet(_difference(what, got, expected, hint))
    message = f"{what} should have the shape {tuple(expected.shape)}, yours has {tuple(got.shape)}."
    expect(got.shape == expected.shape, f"{message} {hint}".strip())


def _kind(tensor: torch.Tensor) -> str:
    """Say what numbers a tensor holds: 3 and 3.0 are equal, and only the first can be an id."""
    if tensor.dtype == torch.bool:
        return "True and False"
    return "numbers with a decimal point" if tensor.is_floating_point() else "whole numbers"


def _difference(what: str, got: Any, expected: Any, hint: str) -> str:
    """Say what came and what was expected; where the beginnings look the same, the first place that differs too."""
    hidden = f" {_first_difference(got, expected)}" if _short(got) == _short(expected) else ""
    return f"{what} should be {_short(expected)}, yours is {_short(got)}.{hidden} {hint}".strip()


def _first_difference(got: Any, expected: Any) -> str:
    if not (isinstance(got, torch.Tensor) and isinstance(expected, torch.Tensor)):
        return f"Yours is a {type(got).__name__}, expected was a {type(expected).__name__}."
    pair = [tensor.detach().double().flatten() for tensor in (expected, got)]
    gap = torch.where(pair[0].isclose(pair[1], rtol=0.0, atol=0.0, equal_nan=True), 0.0, (pair[0] - pair[1]).abs())
    gap = gap.nan_to_num(torch.finfo(gap.dtype).max)  # nan and infinity differ by more than any number
    number = int((gap > gap.max() / 1000).nonzero()[0])  # the first place with more than the noise of rounding
    place = [int(index) for index in torch.unravel_index(torch.tensor(number), got.shape)]
    where = f"At {place}" if place else "More exactly,"
    return f"{where} it should be {float(pair[0][number]):.6g}, yours is {float(pair[1][number]):.6g}."


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        shown = value.detach().double().flatten()[:6].tolist()
        numbers = ", ".join(f"{x:.4g}" for x in shown) + (", …" if value.numel() > 6 else "")
        return numbers if value.ndim == 0 else f"[{numbers}] of shape {tuple(value.shape)}"
    if value is None:
        return "None (is there a `return`?)"
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 120 else text[:117] + "…"


def check(exercise: str, answer: Any) -> None:
    """Print whether the answer to an exercise is *not tried yet*, *not yet* (and why) or *correct*; never raise.

    Args:
        exercise: the id that stands beside the exercise, for instance "3.2".
        answer: the function or class that you wrote.
    """
    print(f"{exercise}: {verdict(exercise, answer)}")


def verdict(exercise: str, answer: Any) -> str:
    """Return the sentence that `check` prints."""
    checks = _table("checks", exercise, "CHECKS")
    if checks is None or exercise not in checks:
        return "there is no exercise of this name; take the id that stands beside the exercise."
    calls: list[str] = []
    try:
        checks[exercise](_watched(answer, calls))
    except NotImplementedError as error:
        if not str(error):  # as a stub raises it; PyTorch says which operation it lacks
            return "not tried yet."
        return f"not yet. {_failure(error, answer, calls)}"
    except NotYet as reason:
        return f"not yet. {reason}"
    except (Exception, SystemExit) as error:
        return f"not yet. {_failure(error, answer, calls)}"
    return "correct."


def _watched(answer: Any, calls: list[str]) -> Any:
    """Let an answer write down how it was called, so that a failure can be tried again by hand."""

    def called(*arguments, **options):
        given = [_short(value) for value in arguments] + [f"{name}={_short(value)}" for name, value in options.items()]
        calls.append(f"{getattr(answer, '__name__', 'your answer')}({', '.join(given)})")
        return answer(*arguments, **options)

    return called


def _failure(error: BaseException, answer: Any, calls: list[str]) -> str:
    """Say what an answer raised, in which of its own lines, and for which call."""
    name, text = type(error).__name__, str(error).strip().split("\n")[0]
    code = getattr(answer, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    # a cell may hold helpers above the answer: only the answer's own lines are counted from its first
    lines = [f.lineno for f in frames if code and (f.filename, f.name) == (code.co_filename, code.co_name)]
    said = f": {text}" if text else ""
    if code and not lines:
        return f"Look at what your function takes and what it returns; the check met {name}{said}."
    place = f" in its line {lines[-1] - code.co_firstlineno + 1}" if code and lines else ""
    tried = f" It was called as {calls[-1]}." if calls else ""
    return f"Your code raised {name}{place}{said}.{tried}"


@contextmanager
def without(owner: Any, name: str, message: str, option: str | None = None) -> Iterator[None]:
    """Take a function away for the time of a check, where an exercise asks to do its work by hand.

    Args:
        owner: the module or class that has it.
        name: its name there.
        message: what an answer is told that calls it.
        option: refuse only calls that name this option.
    """
    kept = getattr(owner, name)

    def refused(*arguments, **options):
        if option is None or option in options:
            raise NotYet(message)
        return kept(*arguments, **options)

    setattr(owner, name, refused)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def untouched(answer: Any) -> Any:
    """Give a function that calls an answer and raises `NotYet` where it has changed a given tensor or list."""

    def called(*given, **options):
        lists = [(some, list(some)) for some in given if isinstance(some, list)]
        tensors = [x for some in given for x in (some if isinstance(some, list) else [some])]
        before = [(x, x.detach().clone()) for x in tensors if isinstance(x, torch.Tensor)]
        result = answer(*given, **options)
        for now, once in lists:
            same = len(now) == len(once) and all(mine is old for mine, old in zip(now, once))
            changed = f"A list that was given, {_short(once)}, has become {_short(now)}."
            expect(same, f"{changed} Do not change what you were given.")
        for after, kept in before:
            expect_equal("A tensor that was given, afterwards,", after, kept, "Do not change what you were given.")
        return result

    return called


def expect_format(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Raise `NotYet` unless a right result has the number format of the expected one, float64, in all digits."""
    expect_equal("Its number format", str(got.dtype), str(expected.dtype), "Keep the one that is given.")
    exact = torch.allclose(got, expected, rtol=1e-9, atol=1e-9)
    expect(exact, "Yours agrees to about seven digits only: compute in the number format that is given, here float64.")


def expect_gradients(answer: Any, right: Any, **given: torch.Tensor) -> None:
    """Raise `NotYet` unless the same gradients come back through an answer as through the right function.

    Args:
        answer: function of the tensors, in their order.
        right: another one, whose gradients are expected.
        given: the tensors, by the names that the exercise gives them.
    """
    ours, others = ([x.detach().clone().requires_grad_() for x in given.values()] for _ in range(2))
    got, names = answer(*ours), " and ".join(", ".join(given).rsplit(", ", 1))
    expect(got.requires_grad, f"A training must reach {names} through yours: leave `detach` and `no_grad` out.")
    gradients = torch.autograd.grad(got.square().sum(), ours, allow_unused=True)
    wanted = torch.autograd.grad(right(*others).square().sum(), others)
    for name, mine, other in zip(given, gradients, wanted):
        expect(mine is not None, f"No gradient reaches {name}: leave `detach` and `no_grad` out.")
        expect_close(f"The gradient that reaches {name}", mine, other, "Is a part of it cut off?")


def solution(exercise: str) -> None:
    """Print the answer to an exercise with an explanation, or say that it has not been released."""
    solutions = _table("solutions", exercise, "SOLUTIONS")
    if solutions is None:
        print(f"{exercise}: the solution has not been released.")
    elif exercise not in solutions:
        print(f"{exercise}: there is no exercise of this name; take the id that stands beside the exercise.")
    else:
        answer, explanation = solutions[exercise]
        print(f"{inspect.getsource(answer).rstrip()}\n\n{inspect.cleandoc(explanation)}")


def _table(kind: str, exercise: str, name: str) -> dict[str, Any] | None:
    """Return CHECKS or SOLUTIONS of the exercise's chapter and its side rooms, None where they are absent."""
    number = re.sub(r"\D.*", "", str(exercise), flags=re.DOTALL).zfill(2)  # 4m.1 stands in ch04
    paths = sorted((_FOLDER / kind).glob(f"ch{number}*.py"))
    tables = [getattr(importlib.import_module(f".{kind}.{path.stem}", __package__), name) for path in paths]
    return {key: entry for table in tables for key, entry in table.items()} if tables else None
