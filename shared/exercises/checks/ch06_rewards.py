"""Checks of the exercises in chapter 6's side room `rewards`: a baseline, two means, and what each token earned."""

import torch

from shared.exercises import expect, expect_close, expect_gradients
from shared.exercises.class_numbers import dice


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def _table(rows: list) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def check_above_the_others(fn) -> None:
    given = _table([[1, 0, 0, 1]])
    result = fn(given)
    hint = "The first answer has 1; the other three have 0, 0 and 1, so their mean is 1/3."
    expect_close("above_the_others of the rewards 1, 0, 0, 1", result, _table([[2, -2, -2, 2]]) / 3, hint)
    hint = "Each row is a group with a baseline of its own: 3 lies 2 above 1, and 10 lies 0 above 10."
    expect_close("above_the_others of 1, 3 and of 10, 10", fn(_table([[1, 3], [10, 10]])), _table([[-2, 2], [0, 0]]),
                 hint)  # fmt: skip
    rewards = _numbers(3, 5)
    rows = [[row[k] - torch.cat([row[:k], row[k + 1 :]]).mean() for k in range(5)] for row in rewards]
    hint = "Subtract the mean of the other four, and nothing else: no spread, and not the answer's own reward."
    expect_close("above_the_others of 3 groups of 5", fn(rewards), _table(rows), hint)
    rewards = 100 * _numbers(12, 4, seed=1).T
    hint = "Rewards may be of any size, groups too; this tensor is the transpose of another one."
    rows = [[row[k] - torch.cat([row[:k], row[k + 1 :]]).mean() for k in range(12)] for row in rewards]
    expect_close("above_the_others of 4 groups of 12", fn(rewards), _table(rows), hint)


def check_two_means(fn) -> None:
    gain = _table([[99, 2, 4, 99, 99], [99, -1, -1, -1, -1]]).requires_grad_()
    written = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 1, 1, 1]]).bool()
    result = fn(gain, written)
    expect(isinstance(result, tuple) and len(result) == 2, "Return two numbers: by answers, and by tokens.")
    by_answers, by_tokens = result
    hint = "The first answer has 2 and 4, mean 3; the second has four times -1, mean -1; the mean of both is 1."
    expect_close("The mean by answers", by_answers, 1.0, hint)
    hint = "Six tokens were written, and their gains are 2, 4, -1, -1, -1, -1: they add up to 2."
    expect_close("The mean by tokens", by_tokens, 1 / 3, hint)
    learns = all(isinstance(part, torch.Tensor) and part.requires_grad for part in result)
    expect(learns, "Your numbers are cut off from gain (.item() or .detach()), so nothing could learn.")
    gain, written = _numbers(3, 7), torch.tensor([[0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0]])
    answers = [row[mask.bool()] for row, mask in zip(gain, written)]
    by_answers, by_tokens = fn(gain, written.bool())
    hint = "Where nothing was written, neither the gain nor the place itself counts."
    # the quotient of a mask and its sum is float32 in PyTorch, so that these agree to fewer digits
    what = "of 5, 1 and 3 tokens"
    expect_close(f"The mean by answers {what}", by_answers, sum(a.mean() for a in answers) / 3, hint, tolerance=1e-6)
    expect_close(f"The mean by tokens {what}", by_tokens, torch.cat(answers).mean(), hint, tolerance=1e-6)
    gain, written = _numbers(2, 700), torch.ones(2, 700, dtype=torch.bool)
    written[0, 3:8], gain[1, 9] = False, 0.0
    hint = "A row may be long, written tokens may have others between them, and a gain of 0 is a gain."
    wanted = (gain[0][written[0]].mean() + gain[1].mean()) / 2, gain[written].mean()
    for name, got, right in zip(("answers", "tokens"), fn(gain, written), wanted):
        expect_close(f"The mean by {name} of 695 and 700 tokens", got, right, hint, tolerance=1e-6)
    for place, scale in enumerate((written.sum(dim=1, keepdim=True) * 2, written.sum())):
        expect_gradients(lambda gain, place=place: fn(gain, written)[place],
                         lambda gain, scale=scale: (gain * written / scale).sum(), gain=gain)  # fmt: skip


def check_earned_by_token(fn) -> None:
    policy, reference = _numbers(2, 5, seed=1), _numbers(2, 5, seed=2)
    written = torch.tensor([[0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]).bool()
    given = [torch.tensor([3.0, -2.0], dtype=torch.float64), policy.clone(), reference.clone(), written.clone()]
    free = fn(*given, 0.0)
    hint = "Without a rope only the end of each answer earns: positions 3 and 1."
    expect_close("earned_by_token with kl_weight 0", free, _table([[0, 0, 0, 3, 0], [0, -2, 0, 0, 0]]), hint)
    rope = -0.5 * (policy - reference) * written
    hint = "Each written token pays kl_weight (log p - log p_ref), also where that is below zero; others pay nothing."
    expect_close("earned_by_token with rewards of 0", fn(0 * given[0], *given[1:], 0.5), rope, hint)
    expected = rope + _table([[0, 0, 0, 3, 0], [0, -2, 0, 0, 0]])
    hint = "The last written token earns the reward and pays for itself, too."
    expect_close("earned_by_token with kl_weight 0.5", fn(*given, 0.5), expected, hint)
    policy, reference = _numbers(9, 2, seed=1).T, _numbers(9, 2, seed=2).T
    written = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 0, 1, 0, 0, 0]]).bool()
    hint = "Any weight, any rewards, rows of any length; written tokens may have others between them."
    for weight, one, other in ((1.75, 40, -30), (0.125, -0.5, 0.25)):
        expected = -weight * (policy - reference) * written
        expected[0, 7], expected[1, 5] = expected[0, 7] + one, expected[1, 5] + other
        what = f"earned_by_token with rewards of {one} and {other} and kl_weight {weight}"
        expect_close(what, fn(_table([one, other]), policy, reference, written, weight), expected, hint)


CHECKS = {
    "6r.1": check_above_the_others,
    "6r.2": check_two_means,
    "6r.3": check_earned_by_token,
}
