"""Checks of the exercises in chapter 5's side room `scaling`."""

import math
import weakref
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ch05_pretraining.scaling import PowerLaw
from shared.exercises import expect, expect_close, expect_equal, may_change, without
from shared.exercises.class_numbers import dice, whole_numbers


def check_foretell(fn) -> None:
    hint = "Take the floor off both losses first, and put it back at the end."
    expect_close("foretell((100, 400), (3, 2), 1, 1600): each step of 4 halves what lies above the floor",
                 fn((100, 400), (3.0, 2.0), 1.0, 1600), 1.5, hint)  # fmt: skip
    cases = [
        (PowerLaw(0.0, 8.0, 0.5), (16, 256), 4096, "With a floor of 0 the loss itself is a power of the size."),
        (PowerLaw(1.5, 30.0, 0.4), (1e3, 1e4), 1e6, "The exponent is a quotient of two logarithms."),
        (PowerLaw(1.5, 30.0, 0.4), (1e4, 1e3), 1e6, "Here the larger size comes first; the law is the same."),
        (PowerLaw(0.7, 5.0, 1.3), (2, 50), 10, "The size may lie between the two."),
        (PowerLaw(2.0, 900.0, 0.9), (300, 5000), 10, "The size may be smaller than both."),
        (PowerLaw(0.5, 8.0, 3.5), (2, 3), 6, "An exponent may be large."),
        (PowerLaw(0.5, 8.0, 0.01), (100, 10_000), 1e9, "An exponent may be small."),
        (PowerLaw(1.5, 30.0, 0.4), (1e3, 1e4), 1e12, "A very large model comes as near to the floor as the law says."),
        (PowerLaw(0.0, 9.0, 0.33712345), (1e3, 1e5), 1e12, "The exponent may be any number: do not round it."),
    ]
    for law, sizes, size, hint in cases:
        losses = law(sizes[0]), law(sizes[1])
        shown = f"foretell({sizes}, ({losses[0]:.4g}, {losses[1]:.4g}), {law.floor}, {size:g})"
        expect_close(shown, fn(sizes, losses, law.floor, size), law(size), hint)
    tenths, factor, size = whole_numbers(3, 2, 90)
    law = PowerLaw(tenths / 10, float(factor), 0.5)
    losses = law(size), law(9 * size)
    shown = f"foretell({(size, 9 * size)}, ({losses[0]:.4g}, {losses[1]:.4g}), {law.floor}, {100 * size})"
    expect_close(shown, fn((size, 9 * size), losses, law.floor, 100 * size), law(100 * size), "Any law, any sizes.")


class _Tables(TorchDispatchMode):
    """Notes how many rows of scores the largest table has, and how many all that live at once have together."""

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.vocab_size, self.others = vocab_size, (vocab_size, width)  # the weight and the rows of torch.eye
        self.tables: list[weakref.ref] = []
        self.n_rows = self.n_kept = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2 and self._is_table(*result.shape):
            self.n_rows = max(self.n_rows, result.numel() // self.vocab_size)
            self.tables = [table for table in self.tables if table() is not None] + [weakref.ref(result)]
            alive = {table.data_ptr(): table.numel() for made in self.tables if (table := made()) is not None}
            self.n_kept = max(self.n_kept, sum(alive.values()) // self.vocab_size)
        return result

    def _is_table(self, n: int, m: int) -> bool:
        return (n == self.vocab_size and m not in self.others) or (m == self.vocab_size and n not in self.others)


def _of_pytorch(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    inputs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = F.cross_entropy(inputs[0] @ inputs[1].T, targets, reduction="sum")
    return torch.autograd.grad(loss, inputs)


def _expect_gradients(fn, n: int, n_rows: int, larger: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
    generator = dice(n)
    hidden, weight = torch.randn(n, 13, generator=generator), torch.randn(11, 13, generator=generator) * larger
    hidden, weight, targets = hidden.to(dtype), weight.to(dtype), torch.randint(11, (n,), generator=generator)
    expected, given = _of_pytorch(hidden, weight, targets), [x.clone() for x in (hidden, weight, targets)]
    with ExitStack() as taken_away:
        taken_away.enter_context(torch.no_grad())
        for owner, name in ((torch.autograd, "grad"), (torch.autograd, "backward"), (torch.Tensor, "backward")):
            message = (
                "Compute the gradients yourself, without autograd: the probabilities, with 1 taken off at the target."
            )
            taken_away.enter_context(without(owner, name, f"{message} Yours calls `{owner.__name__}.{name}`."))
        with _Tables(11, 13) as tables:
            got = fn(*given, n_rows)
    what = f"n = {n} and n_rows = {n_rows}" + (f" at scores {larger:.0f} times as large" if larger > 1 else "")
    expect(isinstance(got, tuple) and len(got) == 2, "Return two tensors: the gradients of hidden and of weight.")
    hint = "Of a sum over the rows: p by the logits, with 1 taken off at the target, and by the chain rule, @ weight."
    expect_close(f"The gradient of hidden for {what}", got[0], expected[0], hint)
    hint = "Each slice adds its share: the rows' gradients by the logits, transposed, times the rows."
    expect_close(f"The gradient of weight for {what}", got[1], expected[1], hint)
    many = f"In yours {tables.n_rows} rows of scores existed at once, and only {n_rows} may: take slice after slice."
    expect(tables.n_rows <= n_rows, many)
    kept = f"In yours the tables that lived at once had {tables.n_kept} rows together: let each go before the next."
    expect(tables.n_kept <= 10 * n_rows, kept)  # a slice may need a few tables: scores, probabilities, differences


def check_head_gradients(fn) -> None:
    _expect_gradients(fn, n=1, n_rows=4)
    _expect_gradients(fn, n=8, n_rows=4)
    _expect_gradients(fn, n=9, n_rows=4)
    _expect_gradients(fn, n=9, n_rows=5, larger=1000.0)
    _expect_gradients(fn, n=6, n_rows=4, dtype=torch.float32)
    _expect_gradients(fn, n=5, n_rows=2)
    _expect_gradients(fn, n=60, n_rows=1)


def _float16(*gradients: list) -> list[torch.Tensor]:
    return [torch.tensor(gradient, dtype=torch.float16) for gradient in gradients]


def _expect_two(fn, gradients: list[torch.Tensor], factor: float) -> tuple:
    returned = fn(gradients, factor)
    expect(isinstance(returned, tuple) and len(returned) == 2, "Return two things: the gradients and the next factor.")
    return returned


def _expect_left_out(fn, bad: float, number: int, place: int, factor: float) -> None:
    gradients = _float16([9.0], [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [7.0, 8.0])
    gradients[number].view(-1)[place] = bad
    got, following = _expect_two(fn, gradients, factor)
    which = ("first", "second", "last")[number]
    found = f"a list of {len(got)}" if isinstance(got, list) else repr(got)
    where = f"With {bad} in the {which} gradient, at place {place},"
    expect(got is None, f"{where} the whole step is left out: return None, not {found}.")
    expect_equal(f"The next factor after {bad} at a factor of {factor:g}", following, factor / 2,
                 "The loss was multiplied by too much: halve it.")  # fmt: skip


@may_change(number_format=True)
def check_unscale(fn) -> None:
    got, factor = _expect_two(fn, _float16([8.0, -4.0], [[0.5, 1.0, 2.0], [3.0, 4.0, 5.0]]), 4.0)
    expect(isinstance(got, list) and len(got) == 2, "Return a list with one gradient for each that was given.")
    for mine, expected in zip(got, ([2.0, -1.0], [[0.125, 0.25, 0.5], [0.75, 1.0, 1.25]])):
        expect_close("A gradient divided by 4", mine, expected, "Divide each by the factor, and keep its shape.")
    expect_equal("The next factor after a good step", factor, 4.0, "Where all went well it stays.")
    (tiny,), _ = fn(_float16([2**-14, -(2**-20)]), 65536.0)
    expect_close("2**30 times a gradient of 2**-14 divided by 65536", tiny.double() * 2**30, [1.0, -(2.0**-6)],
                 "In float16 such a small number is 0: change to float32 first, then divide.")  # fmt: skip
    expect_equal("The number format of a gradient", str(tiny.dtype), "torch.float32", "The weights are in float32.")
    for number, places in enumerate((1, 6, 2)):
        for place in reversed(range(places)):
            for bad, factor in ((math.inf, 1024.0), (-math.inf, 3.0), (math.nan, 0.75)):
                _expect_left_out(fn, bad, number, place, factor)
    for largest in (60000.0, 65504.0):
        large, factor = fn(_float16([largest], [-largest]), 1.0)
        expect(large is not None, f"{largest:g} is large, but float16 can hold it: only what is not finite is refused.")
        expect_close(f"{largest:g} divided by 1", large[0], [largest], "Divide each by the factor.")
        expect_close(f"{-largest:g} divided by 1", large[1], [-largest], "Divide each by the factor.")
    for pair in (([60000.0], [60000.0]), ([60000.0, 60000.0],), ([60000.0, -60000.0],)):
        got, _ = fn(_float16(*pair), 2.0)
        finite = f"Every number in {list(pair)} is finite, though a sum or a difference of two in float16 is not"
        expect(got is not None, f"{finite}: ask each number.")
    for gradients, expected in (([1.0], 12345.0), ([math.inf], 6172.5)):
        hint = "Where all went well it stays, and otherwise it is halved: do not round it."
        _, factor = fn(_float16(gradients), 12345.0)
        expect_equal(f"The next factor after {gradients} at a factor of 12345", factor, expected, hint)
    numbers = [float(n) for n in whole_numbers(5, -90, 90)]
    got, _ = _expect_two(fn, _float16(numbers), 8.0)
    expect_close(f"The gradient {numbers} divided by 8", got[0], [n / 8 for n in numbers], "Divide by the factor.")


CHECKS = {
    "5s.1": check_foretell,
    "5s.2": check_head_gradients,
    "5s.3": check_unscale,
}
