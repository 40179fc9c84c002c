"""Checks of the exercises in chapter 5's side room `scaling`."""

import math

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ch05_pretraining.scaling import PowerLaw
from shared.exercises import expect, expect_close, expect_equal, without


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
    ]
    for law, sizes, size, hint in cases:
        losses = law(sizes[0]), law(sizes[1])
        shown = f"foretell({sizes}, ({losses[0]:.4g}, {losses[1]:.4g}), {law.floor}, {size:g})"
        expect_close(shown, fn(sizes, losses, law.floor, size), law(size), hint)


class _Tables(TorchDispatchMode):
    """Notes how many rows of scores exist at once."""

    def __init__(self, vocab_size: int):
        super().__init__()
        self.vocab_size, self.n_rows = vocab_size, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2 and self.vocab_size in result.shape:
            self.n_rows = max(self.n_rows, result.numel() // self.vocab_size)
        return result


def _of_pytorch(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    inputs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = F.cross_entropy(inputs[0] @ inputs[1].T, targets, reduction="sum")
    return torch.autograd.grad(loss, inputs)


def _expect_gradients(fn, n: int, n_rows: int, larger: float = 1.0, dtype: torch.dtype = torch.float64) -> None:
    generator = torch.Generator().manual_seed(n)
    hidden, weight = torch.randn(n, 3, generator=generator), torch.randn(11, 3, generator=generator) * larger
    hidden, weight, targets = hidden.to(dtype), weight.to(dtype), torch.randint(11, (n,), generator=generator)
    expected, given = _of_pytorch(hidden, weight, targets), [x.clone() for x in (hidden, weight, targets)]
    message = "Compute the gradients yourself, without autograd: the probabilities, with 1 taken off at the target."
    with without(torch.autograd, "grad", message), without(torch.Tensor, "backward", message), _Tables(11) as tables:
        got = fn(*given, n_rows)
    what = f"n = {n} and n_rows = {n_rows}" + (f" at scores {larger:.0f} times as large" if larger > 1 else "")
    expect(isinstance(got, tuple) and len(got) == 2, "Return two tensors: the gradients of hidden and of weight.")
    hint = "Of a sum over the rows: p by the logits, with 1 taken off at the target, and by the chain rule, @ weight."
    expect_close(f"The gradient of hidden for {what}", got[0], expected[0], hint)
    hint = "Each slice adds its share: the rows' gradients by the logits, transposed, times the rows."
    expect_close(f"The gradient of weight for {what}", got[1], expected[1], hint)
    for name, mine in zip(("hidden", "weight"), got):
        expect_equal(f"The number format of the gradient of {name}", str(mine.dtype), str(dtype), "Keep the given one.")
    for name, before, after in zip(("hidden", "weight", "targets"), (hidden, weight, targets), given):
        expect_equal(f"{name} afterwards", after, before, "Do not change what you were given.")
    many = f"In yours {tables.n_rows} rows of scores existed at once, and only {n_rows} may: take slice after slice."
    expect(tables.n_rows <= max(n_rows, 3), many)  # the weight itself is 11 by 3


def check_head_gradients(fn) -> None:
    _expect_gradients(fn, n=1, n_rows=4)
    _expect_gradients(fn, n=8, n_rows=4)
    _expect_gradients(fn, n=9, n_rows=4)
    _expect_gradients(fn, n=9, n_rows=5, larger=1000.0)
    _expect_gradients(fn, n=6, n_rows=4, dtype=torch.float32)


def check_unscale(fn) -> None:
    def given(*rows: list[float]) -> list[torch.Tensor]:
        return [torch.tensor(row, dtype=torch.float16) for row in rows]

    gradients = given([8.0, -4.0], [0.5])
    before = [gradient.clone() for gradient in gradients]
    returned = fn(gradients, 4.0)
    expect(isinstance(returned, tuple) and len(returned) == 2, "Return two things: the gradients and the next factor.")
    got, factor = returned
    expect(isinstance(got, list) and len(got) == 2, "Return a list with one gradient for each that was given.")
    for mine, expected in zip(got, ([2.0, -1.0], [0.125])):
        expect_close("A gradient divided by 4", mine, expected, "Divide each by the factor.")
    expect_equal("The next factor after a good step", factor, 4.0, "Where all went well it stays.")
    for mine, old in zip(gradients, before):
        expect_equal("A gradient that was given, afterwards", mine, old, "Build new tensors.")
    (tiny,), _ = fn(given([2**-14, -(2**-20)]), 65536.0)
    expect_close("2**30 times a gradient of 2**-14 divided by 65536", tiny.double() * 2**30, [1.0, -(2.0**-6)],
                 "In float16 such a small number is 0: change to float32 first, then divide.")  # fmt: skip
    expect_equal("The number format of a gradient", str(tiny.dtype), "torch.float32", "The weights are in float32.")
    for bad, where in ((math.inf, "first"), (-math.inf, "first"), (math.nan, "first"), (math.inf, "last")):
        rows = [[1.0, bad], [2.0]] if where == "first" else [[1.0, 2.0], [bad]]
        got, factor = fn(given(*rows), 1024.0)
        expect(got is None, f"With {bad} in the {where} gradient the whole step is left out: return None.")
        expect_equal(f"The next factor after {bad}", factor, 512.0, "The loss was multiplied by too much: halve it.")
    large, factor = fn(given([60000.0], [-60000.0]), 2.0)
    expect(large is not None, "60000 is large, but float16 can hold it: only what is not finite is refused.")
    expect_close("60000 divided by 2", large[0], [30000.0], "Divide each by the factor.")
    opposite, _ = fn(given([60000.0], [60000.0]), 2.0)
    expect(opposite is not None, "Every number here is finite, though their sum in float16 is not: ask each number.")


CHECKS = {
    "5s.1": check_foretell,
    "5s.2": check_head_gradients,
    "5s.3": check_unscale,
}
