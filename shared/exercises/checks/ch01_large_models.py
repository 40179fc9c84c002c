"""Checks of the exercises in chapter 1's side room `large_models`."""

import math

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import whole_numbers, words

RUNS = [  # weight, its step, tokens read, size, printed epochs, their step; whether both can be true; why
    ((0.1, 0.01, 30, 10, 0.3, 0.01), True, "A tenth of 30 tokens is drawn from a source of 10: 0.3 epochs."),
    ((0.22, 0.01, 300, 19, 2.9, 0.1), False, "The smallest weight, 0.215, gives 3.39 epochs, the largest 3.55."),
    ((0.03, 0.01, 300, 3, 3.4, 0.1), True, "A weight of 0.034 is printed as 0.03, and gives 3.4 epochs."),
    ((0.08, 0.01, 300, 12, 1.9, 0.1), True, "A weight of 0.076 gives 1.9 epochs: the true one may be the smaller."),
    ((0.5, 0.01, 200, 100, 1.04, 0.1), True, "The printed epochs are rounded too: 1.04 may have been 1.0."),
    ((0.5, 0.01, 200, 100, 0.96, 0.1), True, "The printed epochs are rounded too: 0.96 may have been 1.0."),
    ((0.5, 0.01, 200, 100, 1.2, 0.1), False, "The largest weight, 0.505, gives 1.01; the epochs are at least 1.15."),
    ((0.5, 0.01, 200, 100, 0.8, 0.1), False, "The smallest weight, 0.495, gives 0.99; the epochs are at most 0.85."),
    ((0.5, 0.2, 100, 10, 5.0, 0.1), True, "One stretch may lie inside the other: 5.0 lies between 4 and 6."),
    ((0.5, 0.01, 100, 10, 5.0, 4.0), True, "One stretch may lie inside the other: 4.95 to 5.05 lies between 3 and 7."),
    ((0.5, 0.01, 100, 10, 5.12, 0.15), True, "The largest weight gives 5.05, the smallest printed number is 5.045."),
    ((0.5, 0.001, 100, 10, 5.06, 0.08), False, "The epochs lie at most *half* a step away: here 5.02 to 5.10."),
    ((0.5, 0.02, 100, 10, 5.15, 0.01), False, "The weight lies at most *half* a step away: here 0.49 to 0.51."),
]


def check_can_be_true(fn) -> None:
    for given, expected, hint in RUNS:
        got = fn(*given)
        what = f"can_be_true({', '.join(map(str, given))})"
        expect(got is not None, f"{what} should be {expected}, yours is None (is there a `return`?).")
        expect(bool(got) == expected, f"{what} should be {expected}, yours is {got!r:.60}. {hint}")
    size, times = whole_numbers(2, 20, 90)
    for epochs, possible in ((times, True), (times + 3, False), (times - 3, False)):
        given = 0.5, 0.01, 2 * times * size, size, epochs, 1
        got = fn(*given)
        what = f"can_be_true({', '.join(map(str, given))})"
        hint = f"Half of the tokens are {times} times as many as the source has, give or take a hundredth of them."
        expect(bool(got) == possible, f"{what} should be {possible}, yours is {got!r:.60}. {hint}")


PLANS = [  # dollars, dollars an hour, peak, utilization, tokens per parameter; what to look at
    ((3600, 1, 120, 1.0, 20), "An hour costs one dollar and has 3,600 seconds; N² is the work over 6 times 20."),
    (
        (3600, 4, 120, 1.0, 20),
        "At four dollars there are 900 hours, a quarter of the work, and half the model.",
    ),
    ((3600, 1, 120, 0.25, 20), "Only the share `utilization` of the peak is used."),
    ((3600, 1, 120, 1.0, 5), "With five tokens for each parameter the work is 6 times 5 times N²."),
    ((1e6, 2.5, 989e12, 0.4, 20), "Work = 6 times parameters times tokens."),
    ((250.0, 1.25, 1e13, 0.3, 300), "Work = 6 times parameters times tokens."),
    ((2.0, 3, 120, 1.0, 20), "Two dollars buy 40 minutes: do not round the hours."),
]


def check_largest_model(fn) -> None:
    for given, hint in PLANS:
        dollars, price, peak, utilization, ratio = given
        n_parameters = math.sqrt(dollars / price * 3600 * peak * utilization / (6 * ratio))
        what = f"largest_model({', '.join(f'{value:g}' for value in given)})"
        got = fn(*given)
        is_pair = isinstance(got, (tuple, list)) and len(got) == 2
        expect(is_pair, f"{what} should be a pair, parameters and tokens; yours is {got!r:.60}.")
        expect_close(f"The parameters of {what}", got[0], n_parameters, hint)
        hint = "Each parameter has `tokens_per_parameter` tokens."
        expect_close(f"The tokens of {what}", got[1], ratio * n_parameters, hint)
    dollars, ratio = whole_numbers(2, 2, 900)
    got = fn(float(dollars), 1, 1e12, 0.5, ratio)
    what = f"largest_model({dollars}, 1, 1e12, 0.5, {ratio})"
    n_parameters = math.sqrt(dollars * 1.8e15 / (6 * ratio))
    expect_close(f"The parameters of {what}", got[0], n_parameters, "All numbers are arguments.")
    expect_close(f"The tokens of {what}", got[1], ratio * n_parameters, hint)


LETTERS = " ".join("abcdefghijklmnopqrstuvwxy")
COPIES = [  # what was written, what was read, the longest copy; why
    ("the fox saw a hen", "a hen saw the fox run", "the fox", "(the, fox) and (a, hen) are equally long: the first."),
    ("a b c d", "x b c y", "b c", "A run may begin and end anywhere in both."),
    ("a b c d", "a x b x c x d", "a", "The tokens must be neighbors in `read` as well."),
    ("a b a b c", "b c x a b a", "a b a", "The longest run counts, and a token may occur in it twice."),
    ("x a b c", "a b c", "a b c", "The run may reach to the end of both."),
    ("a b c x", "y y a b c", "a b c", "The run may begin at the first token."),
    ("b a c", "a b c", "b", "The order of the tokens counts."),
    ("p q r s t", "r s t p q", "r s t", "A later run may be longer than the first one."),
    ("a a a a", "a a x", "a a", "`read` holds two of them side by side, not four."),
    ("b c", "b x b c", "b c", "A token may stand in `read` more than once: look at each of its places."),
    ("a b c d e f g h", "h a b c d e f g", "a b c d e f g", "The texts and the run may be of any length."),
    ("a b c d e f g h", "x f g h", "f g h", "The run may begin at any token of `written`."),
    ("x q x", "q x " * 150, "x q x", "`read` may be long, and its tokens may be frequent ones."),
    ("ab c", "a b c", "c", "Tokens are compared, and not the letters in them."),
    ("elephants y a b", "a b x elephants", "a b", "The longest run has the most tokens, however long these are."),
    ("The Fox", "the fox", "", "Tokens are compared as they are: a capital letter makes another one."),
    (LETTERS, f"{'z ' * 450}{LETTERS} z", LETTERS, "`written`, `read` and the run may be as long as they like."),
    ("a b", "c d", "", "Nothing is shared: an empty list."),
    ("", "a b", "", "Nothing was written: an empty list."),
    ("a b", "", "", "Nothing was read: an empty list."),
]


def check_longest_copy(fn) -> None:
    for written, read, expected, hint in COPIES:
        given = written.split(), read.split()
        got = fn(*given)
        shown = f"{read.split()}" if len(read) < 100 else f"{read.split()[:4]} * {len(read.split()) // 4}"
        what = f"longest_copy({written.split()}, {shown})"
        expect(isinstance(got, list), f"{what} should be the list {expected.split()}, yours is {got!r:.60}.")
        expect_equal(what, got, expected.split(), hint)
    hint = "A token may be a number: compare tokens, and not what they look like side by side."
    expect_equal("longest_copy([1, 2], [1, 21])", fn([1, 2], [1, 21]), [1], hint)
    hint = "A token may hold a space: compare tokens, and not texts joined from them."
    expect_equal("longest_copy(['a b', 'c'], ['a', 'b', 'c'])", fn(["a b", "c"], ["a", "b", "c"]), ["c"], hint)
    a, b, c, d, e = words(5)
    said, heard = [a, b, c, d, e], [e, b, c, d, b, a]
    expect_equal(f"longest_copy({said}, {heard})", fn(said, heard), [b, c, d], "The tokens may be any.")


CHECKS = {
    "1l.1": check_can_be_true,
    "1l.2": check_largest_model,
    "1l.3": check_longest_copy,
}
