"""Checks of chapter 4's room `beyond_llama`: a router with a bias, the cache of windows, a step of the delta rule."""

import torch

from ch04_gpt_model.mixture_of_experts import route
from ch04_gpt_model.other_attention import delta_rule
from shared.exercises import expect, expect_close, expect_equal, expect_gradients
from shared.exercises.class_numbers import dice, whole_numbers


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def _right_matrix(scores: torch.Tensor, bias: torch.Tensor, n_active: int) -> torch.Tensor:
    weights, chosen = route(scores.sigmoid(), n_active, bias)
    return torch.zeros_like(scores).scatter(1, chosen, weights)


def check_routing_matrix(fn) -> None:
    scores, bias = torch.tensor([[0.0, 2.0, 1.0, -1.0]], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    expected = _right_matrix(scores, bias, 2)
    hint = "The two largest sigmoids, divided by their sum; zeros elsewhere."
    expect_close("The weights of one token without a bias", fn(scores, bias, 2), expected, hint)
    bias = torch.tensor([1.2, -0.3, 0.0, 0.0], dtype=torch.float64)
    expected = _right_matrix(scores, bias, 2)
    hint = "The bias decides which experts are chosen; their weights are made of the affinities alone."
    expect_close("The weights with the bias 1.2, -0.3, 0, 0", fn(scores, bias, 2), expected, hint)
    scores, bias = _numbers(6, 5), _numbers(5, seed=1)
    expected, got = _right_matrix(scores, bias, 3), fn(scores, bias, 3)
    expect_close("The weights of six tokens, three experts each", got, expected, "Each row for itself.")
    far, none = torch.tensor([[1000.0, -1.0, 0.5, 2.0, -2.0]]).double(), torch.zeros(5).double()
    hint = "The exponential of 1,000 overflows: `sigmoid` takes care of that."
    expect_close("The weights where a score is 1,000", fn(far, none, 3), _right_matrix(far, none, 3), hint)
    equal = fn(torch.zeros(2, 5).double(), torch.zeros(5).double(), 3)
    hint = "Where more experts are equally good than may be chosen, any three will do."
    counts = (equal != 0).sum(dim=1)
    expect_equal("The number of chosen experts for two tokens with scores of zeros", counts, torch.tensor([3, 3]), hint)
    expect_close("The sums of their weights", equal.sum(dim=1), [1.0, 1.0], "Divide by the sum of the chosen three.")
    expect_gradients(lambda scores: fn(scores, bias, 3), lambda scores: _right_matrix(scores, bias, 3), scores=scores)


def check_cached_numbers(fn) -> None:
    hint = "A key and a value for each token, each as wide as all heads of keys together."
    expect_equal("The cache of one full block, 10 tokens, 3 heads of 4", fn([None], 10, 3, 4), 240, hint)
    expect(isinstance(fn([None], 10, 3, 4), int), "Numbers are counted: return a whole number, and do not divide by /.")
    hint = "A block with a window keeps no more tokens than the window holds."
    expect_equal("The same with a window of 3", fn([3], 10, 3, 4), 72, hint)
    hint = "It cannot keep more tokens than the text has."
    expect_equal("The same with a window of 64", fn([64], 10, 3, 4), 240, hint)
    hint = "Every block keeps its own; add them up."
    expect_equal("The cache of windows of 64 and 3 and a full block", fn([64, 3, None], 10, 3, 4), 552, hint)
    olmo3 = [4096, 4096, 4096, None] * 8
    expect_equal("The cache of OLMo 3 7B, 65,536 tokens", fn(olmo3, 65_536, 32, 128), 5_100_273_664, hint)
    n_tokens, n_heads, width = whole_numbers(3, 5, 90)
    got = fn([2, None, 1000], n_tokens, n_heads, width)
    what = f"The cache of windows of 2 and 1,000 and a full block, {n_tokens} tokens, {n_heads} heads of {width}"
    expect_equal(what, got, 2 * n_heads * width * (2 + 2 * n_tokens), "All numbers are arguments.")


def _right_note(state, key, value, write: float, keep: float) -> torch.Tensor:
    exchanged, kept = torch.tensor([[write], [keep]], dtype=torch.float64)
    return delta_rule(key[None], key[None], value[None], exchanged, kept, state)[1]


def check_write_note(fn) -> None:
    state = torch.tensor([[2.0, 4.0, 6.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    key, value = torch.tensor([1.0, 0.0]).double(), torch.tensor([7.0, 8.0, 9.0]).double()
    before = state.clone()
    expected, got = torch.stack([value, before[1]]), fn(state, key, value, 1.0, 1.0)
    expect_close("The state after a whole exchange at the first row", got, expected, "7, 8, 9 takes that row's place.")
    expected = torch.stack([(before[0] + value) / 2, before[1]])
    hint = "Half of what stands there goes, half of the new value comes."
    expect_close("The state after half an exchange", fn(state, key, value, 0.5, 1.0), expected, hint)
    expected = torch.stack([value, before[1] / 2])
    hint = "The whole state fades; then what stands there is read, in the faded state."
    got = fn(state, key, value, 1.0, 0.5)
    expect_close("The state after fading to a half and a whole exchange", got, expected, hint)
    state, key, value = _numbers(4, 3), _numbers(4, seed=3), _numbers(3, seed=2)
    key = torch.tensor([1.0, -1.0, 1.0, -1.0]) * key.abs() / key.norm()  # some numbers below 0, whatever the seed
    expected, got = _right_note(state, key, value, 0.3, 0.8), fn(state, key, value, 0.3, 0.8)
    expect_close("The state for a key between the rows", got, expected, "Every row changes by its number in the key.")
    large, hint = 1000 * state, "Numbers may be as large as they like."
    what = "The state for a state 1,000 times as large"
    expect_close(what, fn(large, key, value, 0.3, 0.8), _right_note(large, key, value, 0.3, 0.8), hint)
    hint = "Take the key as it is: who wants the length 1 divides before the step."
    for factor in (2.0, 0.5):
        expected = _right_note(state, factor * key, value, 0.3, 0.8)
        what = f"The state for a key of the length {factor:g}"
        expect_close(what, fn(state, factor * key, value, 0.3, 0.8), expected, hint)
    mine, right = (lambda *three, step=step: step(*three, 0.3, 0.8) for step in (fn, _right_note))
    expect_gradients(mine, right, state=state, key=key, value=value)


CHECKS = {
    "4b.1": check_routing_matrix,
    "4b.2": check_cached_numbers,
    "4b.3": check_write_note,
}
