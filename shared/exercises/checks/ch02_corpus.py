"""Checks of the exercises in chapter 2's side room `corpus`."""

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import different_numbers, whole_numbers, words


def check_similarity(fn) -> None:
    for first, second, n, expected, hint in (
        ("a b c d e f", "b c d e f g", 5, 1 / 3, "Two runs each, one in common, three in all."),
        ("a b c", "a b c", 2, 1.0, "Equal texts have the similarity 1: the runs of both count once in all."),
        ("a b a b a b", "a b c", 2, 1 / 3, "A run counts once, however often it occurs: build sets."),
        ("a b c d", "c d a b", 2, 0.5, "(a b), (b c), (c d) and (c d), (d a), (a b): 2 in common, 4 in all."),
        ("a b", "b a", 1, 1.0, "Runs of one word are the words, and both texts have the same."),
        ("ab c", "a bc", 2, 0.0, "These words differ: keep the words of a run apart when you join them."),
        ("a b", "a b", 3, 1.0, "Fewer than n words: the only run is all words."),
        ("a b", "a c", 3, 0.0, "Fewer than n words: (a b) and (a c) are different runs."),
        ("a b c", "a b", 3, 0.0, "(a b c) and the short text's only run (a b) are different."),
        ("The fox", "the Fox", 1, 0.0, "Words are compared as they are: a capital letter makes another one."),
        ("a b c d e f g h", "g h a b", 2, 2 / 8, "Texts may be of any length: 7 runs, 3 runs, 2 in common."),
        ("a b c d", "b c d e", 3, 1 / 3, "A text of 4 words has 2 runs of 3: the last one begins at place 1."),
    ):
        given = first.split(), second.split()
        got = fn(*given, n)
        expect_close(f"similarity({first.split()}, {second.split()}, {n})", got, expected, hint)
    a, b, c, d, e = words(5)
    got = fn([a, b, c, d], [b, c, d, e], 2)
    hint = "Two runs in common, (b c) and (c d), of four in all."
    expect_close(f"similarity({[a, b, c, d]}, {[b, c, d, e]}, 2)", got, 0.5, hint)


def check_kept_texts(fn) -> None:
    for n, pairs, expected, hint in (
        (3, [], [0, 1, 2], "Without pairs every text stays."),
        (3, [(0, 2)], [0, 1], "Of a pair, the one with the smaller number stays, and a text without a pair stays."),
        (3, [(2, 0)], [0, 1], "A pair may come with the larger number first."),
        (4, [(0, 1), (1, 2)], [0, 3], "A copy of a copy is a copy: 2 hangs together with 0."),
        (4, [(1, 2), (0, 1)], [0, 3], "The pairs come in any order: 2 hangs together with 0 by the later pair, too."),
        (5, [(0, 2), (1, 2)], [0, 3, 4], "0 and 1 hang together by 2, though neither is the first of the other."),
        (6, [(3, 4), (1, 2), (2, 3), (4, 5)], [0, 1], "A chain of five: only its smallest number stays, beside 0."),
        (7, [(5, 6), (4, 5), (3, 4), (2, 3), (1, 2), (0, 1)], [0], "A long chain: go on until nothing changes."),
        (4, [(0, 2), (1, 3), (2, 3)], [0], "All four hang together, though no order of one pass may show it."),
        (16, [(k, k + 1) for k in reversed(range(14))], [0, 15], "A chain may have any number of texts."),
        (4, [(1, 1), (0, 3), (0, 3)], [0, 1, 2], "A text paired with itself stays, and a pair may come twice."),
    ):
        given = list(pairs)
        expect_equal(f"kept_texts({n}, {pairs})", fn(n, given), expected, hint)
    a, b, c = different_numbers(3, 9)
    pairs = [(b, c), (a, b)]
    expected = sorted({*range(9)} - {a, b, c} | {min(a, b, c)})
    expect_equal(
        f"kept_texts(9, {pairs})", fn(9, list(pairs)), expected, "Two pairs that share a text: a chain of three."
    )


def check_epochs_of(fn) -> None:
    for sizes, exponent, n_tokens, expected, hint in (
        ({"a": 100.0}, 2, 250, {"a": 2.5}, "A single source gives all tokens: 250 of 100 are 2.5 epochs."),
        ({"a": 900.0, "b": 100.0}, 1, 500, {"a": 0.5, "b": 0.5}, "With exponent 1 every source is read equally often."),
        ({"a": 900.0, "b": 100.0}, 0.5, 1000, {"a": 750 / 900, "b": 2.5}, "30 to 10: shares of 0.75 and 0.25."),
        ({"a": 900.0, "b": 100.0}, 0, 1000, {"a": 500 / 900, "b": 5.0}, "With exponent 0 the shares are equal."),
        ({"a": 9.0, "b": 1.0}, 0.5, 7, {"a": 5.25 / 9, "b": 1.75}, "Round nothing, neither tokens nor shares."),
        ({"a": 8.0, "b": 4.0, "c": 4.0}, 2, 24, {"a": 2.0, "b": 1.0, "c": 1.0}, "64, 16 and 16: 2/3, 1/6 and 1/6."),
    ):
        given = dict(sizes)
        got = fn(given, exponent, n_tokens)
        what = f"epochs_of({sizes}, {exponent}, {n_tokens})"
        expect(isinstance(got, dict), f"{what} should be a dictionary, yours is {got!r:.60}.")
        expect_equal(f"The sources of {what}", sorted(got), sorted(sizes), "Give every source, by its name.")
        for name, value in expected.items():
            expect_close(f"{what}[{name!r}]", got[name], value, hint)
    first, second = words(2)
    size, n_tokens = whole_numbers(2, 2, 900)
    got = fn({first: 3.0 * size, second: float(size)}, 1, float(n_tokens))
    for name in (first, second):
        what = f"epochs_of({{{first!r}: {3 * size}, {second!r}: {size}}}, 1, {n_tokens})[{name!r}]"
        expect_close(what, got[name], n_tokens / (4 * size), "Names and sizes may be any.")


CHECKS = {
    "2c.1": check_similarity,
    "2c.2": check_kept_texts,
    "2c.3": check_epochs_of,
}
