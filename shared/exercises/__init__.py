"""Checks and answers of the exercises: `check("3.2", my_function)` and `solution("3.2")`.

A check never raises: it says *not tried yet*, *not yet* with what was expected and what came, or *correct*. The checks
themselves stand in `checks/`, the answers in `solutions/` (a classroom copy leaves that folder out).
"""

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .class_numbers import class_seed, use_class_seed
from .values import change, copied, first_difference, short, tensors_in, unchanged

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
    if not same and not isinstance(expected, torch.Tensor) and not is_array and got == expected:
        wanted = f"return a whole number, {expected}; yours is a float, {got!r}"
        several = f"return whole numbers, {short(expected)}; yours are floats, {short(got)}"
        raise NotYet(f"{what} counts something: {wanted if isinstance(expected, int) else several}. {hint}".strip())
    if not same:
        raise NotYet(_difference(what, got, expected, hint))


def _is_fraction_for_whole(got: Any, expected: Any) -> bool:
    """Say whether a decimal number, such as 2.0, stands where a whole number is expected."""
    if isinstance(expected, dict):
        return any(_is_fraction_for_whole(got.get(key), other) for key, other in expected.items())
    if isinstance(expected, (list, tuple)):
        return any(_is_fraction_for_whole(mine, other) for mine, other in zip(got, expected))
    return isinstance(expected, int) and isinstance(got, Real) and not isinstance(got, Integral)


def expect_close(what: str, got: Any, expected: Any, hint: str = "", tolerance: float | None = None) -> None:
    """Raise `NotYet` with both values unless they agree.

    Args:
        what: is compared, as it stands at the beginning of a message.
        got: what came, a tensor or a number.
        expected: a tensor, a number or a list of numbers.
        hint: the end of the message.
        tolerance: absolute, and relative to the size; without it as many digits count as the numbers have.
    """
    relative, absolute = _digits(got, expected) if tolerance is None else (tolerance, tolerance)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    if not isinstance(got, (torch.Tensor, Real)):  # Python's and NumPy's numbers are Real
        raise NotYet(_difference(what, got, expected, hint))
    given, got = got, got.detach() if isinstance(got, torch.Tensor) else torch.tensor(float(got), dtype=torch.float64)
    _expect_shape(what, got, expected, hint)
    if not torch.allclose(got.double(), expected, relative, absolute, equal_nan=True):
        if torch.allclose(got.double(), expected, 1e-5, 1e-5, equal_nan=True):
            advice = "round nothing, and compute in the number format that is given."
            hint = f"Yours agrees to a few digits only: {advice} {hint}".strip()
        raise NotYet(_difference(what, given, expected, hint))


def _digits(got: Any, expected: Any) -> tuple[float, float]:
    """Return by how much two numbers may differ, relative and absolute, as both have their digits."""
    single = isinstance(expected, torch.Tensor) and expected.is_floating_point() and expected.dtype != torch.float64
    if isinstance(got, torch.Tensor):
        double = isinstance(expected, torch.Tensor) and got.dtype == expected.dtype == torch.float64
        return (1e-9, 1e-9) if double else (1e-5, 1e-5)
    return (1e-5, 1e-5) if single else (5e-7, 1e-9)  # a number may have been computed in float32


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
    """Say what came and what was expected, and the first place that differs where there are many."""
    where = first_difference(got, expected)
    return " ".join(filter(None, [f"{what} should be {short(expected)}, yours is {short(got)}.", where, hint]))


def check(exercise: str, answer: Any) -> None:
    """Print whether the answer to an exercise is *not tried yet*, *not yet* (and why) or *correct*; never raise.

    Args:
        exercise: the id that stands beside the exercise, for instance "3.2".
        answer: the function or class that you wrote.
    """
    print(f"{exercise}: {verdict(exercise, answer)}")


def verdict(exercise: str, answer: Any) -> str:
    """Return the sentence that `check` prints; an answer is tried with the numbers of two classes, its own first."""
    checks = _table("checks", exercise, "CHECKS")
    if checks is None or exercise not in checks:
        return "there is no exercise of this name; take the id that stands beside the exercise."
    watched, own = _Watched(answer, checks[exercise]), class_seed()
    try:
        for seed in (own, own + 1):  # what knows the first numbers by heart, or remembers them, meets others
            use_class_seed(seed)
            checks[exercise](watched)
    except NotImplementedError as error:
        if not str(error):  # as a stub raises it; PyTorch says which operation it lacks
            return "not tried yet."
        return f"not yet. {_failure(error, answer, watched.calls)}"
    except NotYet as reason:
        return f"not yet. {reason}"
    except (Exception, SystemExit) as error:
        return f"not yet. {_failure(error, answer, watched.calls)}"
    finally:
        use_class_seed(own)
    return "correct."


def may_change(*places: int, number_format: bool = False) -> Callable:
    """Mark a check whose answers may change something, which is refused otherwise.

    Args:
        places: of the arguments that an answer may change, counted from 0.
        number_format: whether a result may have other numbers than what is given, for instance float32 for float16.
    """

    def marked(checks: Callable) -> Callable:
        vars(checks).update(changed_places=places, changed_format=number_format)
        return checks

    return marked


class _Watched:
    """Calls an answer, and raises `NotYet` where a call has changed what was given or what was returned earlier.

    Every call is written down, so that a failure can be tried again by hand.
    """

    def __init__(self, answer: Any, checks: Callable):
        self.answer, self.calls, self.returned = answer, list[str](), list[tuple[str, Any]]()
        self.may_change = getattr(checks, "changed_places", ())
        self.may_change_format = getattr(checks, "changed_format", False)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        names = self._names(len(arguments))
        given = dict(zip(names, arguments)) | options
        told = [short(value) for value in arguments] + [f"{name}={short(value)}" for name, value in options.items()]
        self.calls.append(f"{getattr(self.answer, '__name__', 'your answer')}({', '.join(told)})")
        free = {name for place, name in enumerate(names) if place in self.may_change}
        before = {name: copied(value) for name, value in given.items() if name not in free}
        earlier = [copied(value) for _, value in self.returned]
        result = self.answer(*arguments, **options)
        self._expect_the_same(given, before, earlier)
        if not self.may_change_format:
            _expect_number_format(list(given.values()), result)
        if isinstance(result, (torch.Tensor, list, tuple, dict, set)):
            self.returned.append((self.calls[-1], result))
        return result

    def _names(self, n: int) -> list[str]:
        """Return names for n arguments, as the answer has them, or their numbers where it has none."""
        try:
            found = list(inspect.signature(self.answer).parameters.values())
        except (TypeError, ValueError):
            found = []
        names = [one.name for one in found if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        return names + [f"argument {number + 1}" for number in range(len(names), n)]

    def _expect_the_same(self, given: dict[str, Any], before: dict[str, Any], earlier: list[Any]) -> None:
        for name, kept in before.items():
            what = change(given[name], kept)
            advice = "Leave what you are given as it is, and make something new."
            expect(not what, f"Your function has changed `{name}`, which it was given: {what}. {advice}")
        for (call, now), kept in zip(self.returned, earlier):
            same = unchanged(now, kept)
            expect(same, f"What {call} returned has changed with the next call: return a new list or tensor each time.")


def _expect_number_format(given: list[Any], result: Any) -> None:
    """Raise `NotYet` where a result has floating or whole numbers of another format than all that was given."""
    for kind in (torch.Tensor.is_floating_point, _is_whole):
        formats = {tensor.dtype for tensor in tensors_in(given) if kind(tensor)}
        others = {tensor.dtype for tensor in tensors_in(result) if kind(tensor)} - formats
        if len(formats) == 1 and others:
            (one,), other = formats, min(others, key=str)
            raise NotYet(f"You were given numbers in {one} and returned {other}: keep the number format that is given.")


def _is_whole(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _failure(error: BaseException, answer: Any, calls: list[str]) -> str:
    """Say what an answer raised, in which of its own lines, and for which call."""
    name, text = type(error).__name__, str(error).strip().split("\n")[0]
    text = text if len(text) <= 160 else f"{text[:157]}…"  # PyTorch lists all ways to call a function
    code = getattr(answer, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    # a cell may hold helpers above the answer: only the answer's own lines are counted from its first
    lines = [f.lineno for f in frames if code and (f.filename, f.name) == (code.co_filename, code.co_name)]
    said = f": {text}" if text else ""
    tried = f" It was called as {calls[-1]}." if calls else ""
    if code and not lines:
        return f"Look at what your function takes and what it returns; the check met {name}{said}.{tried}"
    place = f" in its line {lines[-1] - code.co_firstlineno + 1}" if code and lines else ""
    return f"Your code raised {name}{place}{said}.{tried}"


@contextmanager
def without(owner: Any, name: str, message: str) -> Iterator[None]:
    """Take a function away for the time of a check, where an exercise asks to do its work by hand.

    Args:
        owner: the module or class that has it.
        name: its name there.
        message: what an answer is told that calls it.
    """
    kept = getattr(owner, name)

    def refused(*arguments, **options):
        raise NotYet(message)

    setattr(owner, name, refused)
    try:
        yield
    finally:
        setattr(owner, name, kept)


class forbidden(TorchFunctionMode):
    """Refuse functions of PyTorch for the time of a call, under whatever name an answer has imported them.

    Args:
        message: what an answer is told that calls one.
        names: of the functions, as PyTorch has them.
        option: refuse only calls that name this option.
    """

    def __init__(self, message: str, *names: str, option: str | None = None):
        super().__init__()
        self.message, self.names, self.option = message, names, option

    def __torch_function__(self, func, types, args=(), kwargs=None):
        is_one = getattr(func, "__name__", "").split(".")[0] in self.names  # torch.ops adds the name of a variant
        expect(not is_one or bool(self.option and not (kwargs or {}).get(self.option)), self.message)
        return func(*args, **(kwargs or {}))


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
