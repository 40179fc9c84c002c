"""Checks of chapter 4's room `inference`: groups, the rule of acceptance, padded rows."""

import torch

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import dice, whole_numbers


def check_rounded_in_groups(fn) -> None:
    by_hand = torch.tensor([[7.0, -3.4, 0.6, 1.0, 0.7, 0.34, -0.06, 0.1], [0.0] * 4 + [-14.0, 2.0, 5.2, 1.1]])
    expected = torch.tensor([[7.0, -3, 1, 1, 0.7, 0.3, -0.1, 0.1], [0.0] * 4 + [-14.0, 2.0, 6.0, 2.0]])
    hint = "In four bits the scale is the largest size of a group, divided by 7; weight / scale is rounded."
    got = fn(by_hand, 4, 4)
    finite = not isinstance(got, torch.Tensor) or bool(got.isfinite().all())
    expect(finite, "A group of zeros became NaN or infinity: do not divide by a scale of 0.")
    expect_close("rounded_in_groups of 2 rows of 8, 4 bits, groups of 4", got, expected, hint)
    fine = torch.tensor([[127.0, -3.4, 60.2, 1.0]])
    expect_close("the same with 8 bits and groups of 4", fn(fine, 8, 4), fine.round(), "The largest number is 127.")
    turned = torch.randn(12, 5, generator=dice(1)).T
    hint = "This weight is the transpose of another tensor: ask for shapes, and never for places in memory."
    expect_close("The same of a transposed weight", fn(turned, 4, 4), _one_by_one(turned.contiguous(), 4, 4), hint)
    for n_bits, size in ((3, 6), (5, 3), (8, 2)):
        weight = torch.randn(3, 12, generator=dice(n_bits))
        weight[1] *= 1e-6
        what = f"rounded_in_groups of random numbers, the second row in millionths, {n_bits} bits, groups of {size}"
        steps = torch.tensor([1.0, 1e6, 1.0])[:, None]  # so that an error of the second row counts as much
        hint = "Each group has its own scale, however small, and n_bits and size may be any."
        expect_close(what, steps * fn(weight, n_bits, size), steps * _one_by_one(weight, n_bits, size), hint)


def _one_by_one(weight: torch.Tensor, n_bits: int, size: int) -> torch.Tensor:
    found = weight.clone()
    for group in (part for row in found for part in row.split(size)):
        scale = group.abs().max() / (2 ** (n_bits - 1) - 1)
        group.copy_((group / scale).round() * scale)
    return found


def _spread(numbers: list[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def check_kept_and_replacement(fn) -> None:
    def ask(p, q):
        got = fn(p, q)
        pair = isinstance(got, tuple) and len(got) == 2
        expect(pair, "Return two things: the probability that the guess is kept, and the replacement's distribution.")
        return got

    p, q = _spread([0.5, 0.3, 0.1, 0.1]), _spread([0.2, 0.2, 0.2, 0.4])
    kept, rest = ask(p, q)
    expect_close("the probability that the guess is kept", torch.as_tensor(kept), 0.6, "It is the sum of min(p, q).")
    hint = "Only what p has more than q, scaled so that the sum is 1."
    expect_close("the distribution of the replacement", rest, _spread([0.75, 0.25, 0.0, 0.0]), hint)
    kept, rest = ask(p, p)
    expect_close("the probability for p = q", torch.as_tensor(kept), 1.0, "It is the sum of min(p, q).")
    expect_close("the replacement for p = q", rest, p, "Nothing is ever refused there: give p, and divide by no zero.")
    p, q = _spread([0.0, 0.3, 0.0, 0.22, 0.18, 0.3]), _spread([0.0, 0.25, 0.1, 0.2, 0.15, 0.3])
    kept, rest = ask(p, q)
    hint = "The vocabulary may have any size, p and q may both be 0, and few guesses may be refused."
    expect_close("the probability for p = [0, 0.3, 0, ...], six tokens", torch.as_tensor(kept), 0.9, hint)
    expect_close("the replacement for six tokens", rest, _spread([0.0, 0.5, 0.0, 0.2, 0.3, 0.0]), hint)
    shares = torch.tensor(whole_numbers(4, 1, 9), dtype=torch.float64)
    p, q = shares / shares.sum(), _spread([0.25] * 4)
    kept, rest = ask(p, q)
    less = (p - q).relu()
    what = f"for p = {shares.int().tolist()} of {int(shares.sum())} and four equal guesses"
    expect_close(f"the probability {what}", torch.as_tensor(kept), 1 - less.sum(), "It is the sum of min(p, q).")
    if less.sum() > 0:
        expect_close(f"the replacement {what}", rest, less / less.sum(), "Only what p has more than q, scaled.")


def check_positions_and_mask(fn) -> None:
    got = fn(torch.tensor([2, 0]), 4)
    pair = isinstance(got, tuple) and len(got) == 2
    expect(pair, "Return two things: the positions and the mask.")
    positions, mask = got
    hint = "They are counted from the first real token on, and are 0 at padding."
    expect_equal(
        "the positions for n_pads = [2, 0], length 4", positions, torch.tensor([[0, 0, 0, 1], [0, 1, 2, 3]]), hint
    )
    boolean = isinstance(mask, torch.Tensor) and mask.dtype == torch.bool
    expect(boolean, "The mask should be a boolean tensor in which True means may read.")
    expect(mask.shape == (2, 4, 4), f"The mask should have the shape (2, 4, 4), yours has {tuple(mask.shape)}.")
    padded = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
    inverted = torch.equal(mask[0], ~padded)
    expect(not inverted, "Your mask is the other way round: True means may read, and yours is True where nobody may.")
    expect(bool(mask.any(dim=-1).all()), "A token of padding reads nothing in yours, which is 0/0: let it read itself.")
    expect(not bool(mask.triu(1).any()), "In yours a token reads the future.")
    expect(not bool(mask[0, 2:, :2].any()), "In yours a real token reads padding.")
    real = torch.ones(4, 4, dtype=torch.bool).tril()
    expect_equal("the mask of a row without padding", mask[1], real, "Every token reads itself and all before it.")
    expect_equal("the mask of the row with padding", mask[0], padded, "Padding reads itself alone.")
    n_pads = torch.tensor([1, 4, 3])
    positions, mask = fn(n_pads, 6)
    hint = "Each row has its own padding, in the order of n_pads, and length may be any."
    expected = torch.tensor([[0, 0, 1, 2, 3, 4], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 2]])
    expect_equal("the positions for n_pads = [1, 4, 3], length 6", positions, expected, hint)
    read = [[[j == i or n <= j <= i for j in range(6)] for i in range(6)] for n in (1, 4, 3)]
    expect_equal("the mask for n_pads = [1, 4, 3], length 6", mask, torch.tensor(read), hint)
    positions, mask = fn(torch.tensor([3, 0]), 40)
    hint = "A row may be of any length, and a token reads everything before it."
    expect_equal("the positions of a row of 40 without padding", positions[1], torch.arange(40), hint)
    expect_equal("the mask of a row of 40 without padding", mask[1], torch.ones(40, 40).tril().bool(), hint)
    (n,) = whole_numbers(1, 1, 8)
    positions, mask = fn(torch.tensor([n]), 9)
    expect_equal(
        f"the positions for n_pads = [{n}], length 9", positions[0].tolist(), [0] * n + list(range(9 - n)), hint
    )
    allowed = [[j == i or n <= j <= i for j in range(9)] for i in range(9)]
    expect_equal(f"the mask for n_pads = [{n}], length 9", mask[0], torch.tensor(allowed), hint)


CHECKS = {
    "4i.1": check_rounded_in_groups,
    "4i.2": check_kept_and_replacement,
    "4i.3": check_positions_and_mask,
}
