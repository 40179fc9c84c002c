"""Checks of the exercises in chapter 6's side room `reasoning`: a mean of pass@k, a weighted vote, wasted tokens."""

import copy

from shared.exercises import expect_close, expect_equal
from shared.exercises.class_numbers import different_numbers, words


def check_mean_pass(fn) -> None:
    for counts, n, k, expected, hint in (
        ([1], 4, 1, 0.25, "With one try, pass@1 is the share of right answers."),
        ([1], 4, 2, 0.5, "Of 6 pairs, 3 hold the right answer."),
        ([0], 4, 3, 0.0, "Without a right answer no choice helps."),
        ([3], 4, 2, 1.0, "With one wrong answer, every pair holds a right one."),
        ([4], 4, 4, 1.0, "All answers are right."),
        ([2], 4, 2, 5 / 6, "The answers are chosen without putting them back: 1 of 6 pairs is all wrong."),
        ([1], 4, 3, 0.75, "With three of four answers, one choice in four leaves the right one out."),
        ([0, 4], 4, 2, 0.5, "One question is never solved and one always: the mean over questions is 1/2."),
        ([1, 1, 0, 1], 4, 2, 0.375, "A question counts, also where another has the same number of right answers."),
        ([3], 9, 5, 1 - 6 / 126, "k may be any number up to n."),
        ([2], 500, 250, 1 - 250 * 249 / (500 * 499), "n may be large: take math.comb, whose numbers are exact."),
        ([0, 2, 4], 4, 2, (0 + 5 / 6 + 1) / 3, "Compute pass@k for each question, and take the mean afterwards."),
    ):
        given = list(counts)
        expect_close(f"mean_pass({counts}, {n}, {k})", fn(given, n, k), expected, hint)
    count, n = sorted(different_numbers(2, 30))
    n += 2
    expected = 1 - (n - count) * (n - count - 1) / (n * (n - 1))
    expect_close(f"mean_pass([{count}], {n}, 2)", fn([count], n, 2), expected, "All numbers are arguments.")


def check_weighted_vote(fn) -> None:
    for answers, trust, expected, hint in (
        (["a"], [0.5], "a", "A single answer wins."),
        (["a", "b", "b"], [0.9, 0.2, 0.3], "a", "0.9 against 0.5: the sum of trust decides, not the number of votes."),
        (["a", "b", "b"], [0.6, 0.7, 0.1], "b", "0.6 against 0.8: take the sum of trust, not its mean."),
        (["a", "b", "b"], [0.9, 0.6, 0.6], "b", "0.9 against 1.2: add up; the largest single trust does not decide."),
        (["a", "b"], [0.5, 0.5], "a", "Of equal sums, the one that comes first in the list wins."),
        (["b", "a"], [0.5, 0.5], "b", "Of equal sums, the first in the list wins, not the first in the alphabet."),
        (["b", "a", "a"], [0.5, 0.25, 0.25], "b", "Equal sums again: b comes first, although a is said more often."),
        (["", "", "a"], [0.9, 0.9, 0.1], "a", "An empty answer cannot win."),
        (["", "a", "b"], [0.9, 0.1, 0.2], "b", "0.1 against 0.2: each answer keeps its own trust."),
        (["a", "A", "A"], [0.5, 0.3, 0.3], "A", "0.5 against 0.6: a and A are two answers."),
        (["", ""], [0.9, 0.1], "", "Where no answer was given, return the empty one."),
        (["a", "b"], [0.0, 0.0], "a", "Sums of 0 count as well: the first one wins."),
        (["A", "a ", "a", " "], [0.3, 0.3, 0.2, 0.4], " ", 'Only "" is empty; compare answers as they are.'),
        (["a", "b", "a"], [0.25, 0.375, 0.25], "a", "The same answer may come again later: 0.5 against 0.375."),
        (["a", "b"], [0.251, 0.252], "b", "Trust may be nearly equal: do not round it."),
        (["a", "b"], [-2.0, -1.0], "b", "A verifier may give numbers below 0: -1 is the larger sum."),
        (["a", "a", *"bcdefghijkl", "z", "z"], [0.2] * 13 + [0.3] * 2, "z", "A list may be of any length."),
    ):
        given = list(answers), list(trust)
        expect_equal(f"weighted_vote({answers}, {trust})", fn(*given), expected, hint)
    a, b = words(2)
    expect_equal(f"weighted_vote({[a, b, a]}, [1, 3, 1])", fn([a, b, a], [1, 3, 1]), b, "3 against 2.")


def check_wasted_share(fn) -> None:
    for rewards, lengths, expected, hint in (
        ([[1, 1], [0, 1]], [[2, 2], [3, 3]], 0.4, "The first group teaches nothing: 4 of 10 tokens."),
        ([[0, 0]], [[5, 1]], 1.0, "All wrong teaches as little as all right."),
        ([[0, 1]], [[5, 1]], 0.0, "A mixed group is not wasted, not even its wrong answers."),
        ([[1, 1], [0, 1]], [[9, 9], [1, 1]], 0.9, "Count tokens and not groups: 18 of 20."),
        ([[0.5, 0.5, 0.5], [0, 0, 1]], [[1, 1, 2], [4, 1, 1]], 0.4, "Rewards may be any numbers: compare them."),
        ([[-1, 1], [2, 2]], [[1, 2], [3, 4]], 0.7, "Compare the rewards; a sum of 0 says nothing."),
        ([[0.5, 0, 1]], [[1, 1, 1]], 0.0, "Compare all rewards of a group; one that equals their mean says nothing."),
        ([[0, 1]], [[0, 5]], 0.0, "An answer without tokens has a reward as well, so this group is mixed."),
        ([[1, 2], [0.2, 0.3], [0, 0.1]], [[1, 2], [3, 4], [5, 6]], 0, "Rewards differ, be it by little: compare them."),
        ([[1], [0, 1]], [[3], [1, 1]], 0.6, "A group of one answer has nothing to compare."),
        ([[1, 1, 1, 0], [2, 2]], [[1, 1, 1, 5], [1, 1]], 0.2, "A group may be of any size; one other reward suffices."),
        ([[0, 0, 1], [1, 1, 0], [3, 3]], [[1, 2, 3], [4, 5, 6], [7, 8]], 15 / 36, "All rewards of a group count."),
        ([[1, 1]], [[0, 0]], 0, "No token was written, so none was wasted: return 0."),
        ([], [], 0, "No group at all: return 0."),
    ):
        given = copy.deepcopy((rewards, lengths))
        expect_close(f"wasted_share({rewards}, {lengths})", fn(*given), expected, hint)
    first, second = different_numbers(2, 50)
    got = fn([[1, 1, 1], [1, 0, 1]], [[first, 1, 1], [second, 1, 1]])
    expect_close(
        f"wasted_share of groups with {first + 2} and {second + 2} tokens", got,
        (first + 2) / (first + second + 4), "All numbers are arguments.",
    )  # fmt: skip


CHECKS = {
    "6t.1": check_mean_pass,
    "6t.2": check_weighted_vote,
    "6t.3": check_wasted_share,
}
