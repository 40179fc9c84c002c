"""Checks of chapter 1's exercises: surprise, counting, smoothing, drawing, masks, parameters, epochs, days."""

import math

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import different_numbers, whole_numbers


def check_average_bits(fn) -> None:
    one_flip = fn([0.5])
    turned = isinstance(one_flip, float) and one_flip == -1
    expect(not turned, "average_bits([0.5]) should be 1, yours is -1. Surprise is the logarithm of 1/p: turn the sign.")
    expect_close("average_bits([0.5])", one_flip, 1.0, "One coin flip is one bit: logarithm to base 2.")
    expect_close("average_bits([1.0, 1.0])", fn([1.0, 1.0]), 0.0, "What was certain does not surprise.")
    hint = "Take the surprise of each token first, the average afterwards."
    expect_close("average_bits([0.5, 0.125])", fn([0.5, 0.125]), 2.0, hint)
    expect_close("average_bits([0.25, 0.25, 0.5, 0.5])", fn([0.25, 0.25, 0.5, 0.5]), 1.5, "Divide by the tokens.")
    hint = "Every token counts, as often as it comes: (1 + 1 + 1 + 4) / 4."
    expect_close("average_bits([0.5, 0.5, 0.5, 0.0625])", fn([0.5, 0.5, 0.5, 0.0625]), 1.75, hint)
    given = [0.3, 0.7]
    expect_close("average_bits([0.3, 0.7])", fn(given), 1.12576938, "Give the average as it is, without rounding it.")
    hint = "A token may be as improbable as it likes: do not cap its surprise."
    expect_close("average_bits([2 ** -60, 1.0])", fn([2.0**-60, 1.0]), 30.0, hint)
    expect_close("average_bits([2 ** -1000, 1.0])", fn([2.0**-1000, 1.0]), 500.0, hint)
    hint = "The product of so many probabilities is too small for a computer: add up logarithms."
    expect_close("average_bits([0.125] * 1000)", fn([0.125] * 1000), 3.0, hint)
    halvings = whole_numbers(6, 1, 9)
    given = [2.0**-n for n in halvings]
    expect_close(f"average_bits({given})", fn(given), sum(halvings) / 6, "Half as probable is one bit more.")


def check_count_bigrams(fn) -> None:
    hint = "Each token is paired with the one after it."
    _expect_counts("count_bigrams([7, 8, 7, 9])", fn([7, 8, 7, 9]), {7: {8: 1, 9: 1}, 8: {7: 1}}, hint)
    hint = "Count every occurrence; neighbors may be equal."
    _expect_counts("count_bigrams([1, 1, 1, 2])", fn([1, 1, 1, 2]), {1: {1: 2, 2: 1}}, hint)
    _expect_counts("count_bigrams([4])", fn([4]), {}, "A single token has no neighbor.")
    given = [0, 5, 0, 5, 11, 0, 5, 0]
    expected = {0: {5: 3}, 5: {0: 2, 11: 1}, 11: {0: 1}}
    _expect_counts(f"count_bigrams({given})", fn(given), expected, "An id may be any number, 0 as well.")
    a, b, c = different_numbers(3, 90)
    given, expected = [a, b, a, c, a, b], {a: {b: 2, c: 1}, b: {a: 1}, c: {a: 1}}
    _expect_counts(f"count_bigrams({given})", fn(given), expected, "An id may be any number.")
    expected = {a: {b: 9, c: 5}, b: {a: 9}, c: {a: 4}}
    what = f"count_bigrams([{a}, {b}] * 9 + [{a}, {c}] * 5)"
    _expect_counts(what, fn([a, b] * 9 + [a, c] * 5), expected, "A text may be of any length, and a count of any size.")


def _expect_counts(what: str, got, expected: dict, hint: str) -> None:
    rows = list(got.values()) if isinstance(got, dict) else [None]
    is_nested = all(isinstance(row, dict) for row in rows)
    expect(is_nested, f"{what} should be a dictionary of dictionaries, {expected}, yours is {got!r:.100}.")
    plain = {a: {b: n for b, n in dict(row).items() if n} for a, row in got.items()}
    expect_equal(what, {a: row for a, row in plain.items() if row}, expected, hint)


def check_smooth(fn) -> None:
    hint = "Without imaginary tokens the counts decide."
    _expect_numbers("smooth([3, 1], [0.5, 0.5], 0)", fn([3, 1], [0.5, 0.5], 0), [0.75, 0.25], hint)
    hint = "After a context that was never seen, the shorter one decides alone."
    unseen = fn([0, 0, 0], [0.5, 0.3, 0.2], 4)
    _expect_numbers("smooth([0, 0, 0], [0.5, 0.3, 0.2], 4)", unseen, [0.5, 0.3, 0.2], hint)
    mixed = fn([6, 0], [0.25, 0.75], 4)
    hint = "The s imaginary tokens are spread as the shorter context predicts."
    _expect_numbers("smooth([6, 0], [0.25, 0.75], 4)", mixed, [0.7, 0.3], hint)
    hint = "s need not be a whole number."
    _expect_numbers("smooth([2, 0], [0.2, 0.8], 0.5)", fn([2, 0], [0.2, 0.8], 0.5), [0.84, 0.16], hint)
    given = [1, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]
    hint = "Give the probabilities as they are, without rounding them."
    _expect_numbers(
        "smooth([1, 0, 0, 1], [0.1, 0.2, 0.3, 0.4], 5)", fn(*given, 5), [3 / 14, 1 / 7, 3 / 14, 3 / 7], hint
    )
    (times,) = whole_numbers(1, 2, 99)
    hint = "All counts and s are so many times as large as before: the probabilities stay."
    many = fn([6 * times, 0], [0.25, 0.75], 4 * times)
    _expect_numbers(f"smooth([{6 * times}, 0], [0.25, 0.75], {4 * times})", many, [0.7, 0.3], hint)


def _expect_numbers(what: str, got, expected: list[float], hint: str) -> None:
    is_row = hasattr(got, "__len__") and len(got) == len(expected) and not any(isinstance(x, str) for x in got)
    expect(is_row, f"{what} should be a list with one probability for each token, yours is {got!r:.100}.")
    numbers = [float(value) for value in got]
    shown = [round(value, 6) for value in numbers]
    expect(
        math.isclose(sum(shown), 1, abs_tol=1e-5),
        f"{what} should add up to 1, yours is {shown}. Divide by count(c) + s.",
    )
    wanted = [round(value, 6) for value in expected]
    rounded = shown == wanted and "Yours agrees to a few digits only: round nothing."
    close = all(math.isclose(a, b, rel_tol=5e-7, abs_tol=1e-9) for a, b in zip(numbers, expected))
    expect(close, f"{what} should be {wanted}, yours is {shown}. {rounded or hint}")


def check_draw(fn) -> None:
    p = [0.5, 0.0, 0.25, 0.25]
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.1)", fn(p, 0.1), 0, "0.1 lies in the first half of the line.")
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.6)", fn(p, 0.6), 2, "0.6 lies between 0.5 and 0.75: the third stretch.")
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.8)", fn(p, 0.8), 3, "0.8 lies beyond 0.75: the fourth stretch.")
    hint = "A stretch begins at its left end; a token of probability 0 has no stretch and is never drawn."
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.5)", fn(p, 0.5), 2, hint)
    expect_equal("draw([0, 1], 0.0)", fn([0.0, 1.0], 0.0), 1, hint)
    below = math.nextafter(0.5, 0)
    expect_equal(f"draw([0.5, 0, 0.25, 0.25], {below})", fn(p, below), 0, "It lies just below 0.5: compare exactly.")
    hint = "Lay the probabilities side by side as they come: sorting them changes which id is meant."
    expect_equal("draw([0.25, 0.75], 0.3)", fn([0.25, 0.75], 0.3), 1, hint)
    expect_equal("draw([0.25, 0.75], 0.1)", fn([0.25, 0.75], 0.1), 0, hint)
    hint = "u is compared with the sums as they are, also where all probabilities add up to a little less than 1."
    expect_equal("draw([0.1] * 10, 0.1)", fn([0.1] * 10, 0.1), 1, hint)
    expect_equal("draw([1 / 512] * 512, 0.75)", fn([1 / 512] * 512, 0.75), 384, "There may be any number of tokens.")
    hint = "Ten times 0.1 is rounded to a little less than 1: what is returned when u lies beyond the sum?"
    nearly_one = math.nextafter(1, 0)
    expect_equal(f"draw([0.1] * 10, {nearly_one})", fn([0.1] * 10, nearly_one), 9, hint)
    hint = "The last id has no probability and must not be drawn, not even when u lies beyond the sum."
    expect_equal(f"draw([0.1] * 10 + [0.0], {nearly_one})", fn([0.1] * 10 + [0.0], nearly_one), 9, hint)
    p = [[0.5, 0.125, 0.25, 0.0625, 0.0625][place] for place in different_numbers(5, 5)]
    (token,) = whole_numbers(1, 0, 4)
    u = sum(p[:token]) + p[token] / 2
    expect_equal(f"draw({p}, {u})", fn(p, u), token, "Any number of tokens: u lies in the middle of a stretch.")


def check_prefix_mask(fn) -> None:
    mask = fn(4, 0)
    kinds = sorted({type(cell).__name__ for row in mask for cell in row if not _is_boolean(cell)})
    expect(not kinds, f"prefix_mask should hold booleans, True and False; yours holds {', '.join(kinds)}.")
    rows = _mask_rows(mask)
    expect([len(row) for row in rows] == [4] * 4, f"prefix_mask(4, 0) should have four rows of four, yours are {rows}.")
    reads_itself = all(rows[t][t] == "1" for t in range(4))
    expect(reads_itself, "In prefix_mask(4, 0) every token should read itself; in yours some tokens do not.")
    turned = rows == ["1111", "0111", "0011", "0001"]
    expect(not turned, "prefix_mask(4, 0) is turned around: in yours a token reads the future, and not the past.")
    hint = "(One string for each row, 1 for True.) Rows read, columns are read; no prefix: a decoder's triangle."
    expect_equal("prefix_mask(4, 0)", rows, ["1000", "1100", "1110", "1111"], hint)
    hint = (
        "(One string for each row, 1 for True.) All tokens may read the whole prefix; nobody reads ahead in the rest."
    )
    expect_equal("prefix_mask(4, 2)", _mask_rows(fn(4, 2)), ["1100", "1100", "1110", "1111"], hint)
    expect_equal("prefix_mask(3, 3)", _mask_rows(fn(3, 3)), ["111"] * 3, "All prefix: an encoder's full square.")
    hint = "Three of five tokens are the prefix."
    expect_equal("prefix_mask(5, 3)", _mask_rows(fn(5, 3)), ["11100"] * 3 + ["11110", "11111"], hint)
    lists = [row for row in fn(3, 3) if isinstance(row, list)]
    shared = len({id(row) for row in lists}) < len(lists)
    expect(not shared, "Two of your rows are one and the same list: who changes one changes both. Make each row anew.")
    n, n_prefix = whole_numbers(1, 6, 12)[0], whole_numbers(1, 1, 5, number=1)[0]
    expected = [("1" * max(n_prefix, row + 1)).ljust(n, "0") for row in range(n)]
    expect_equal(f"prefix_mask({n}, {n_prefix})", _mask_rows(fn(n, n_prefix)), expected, "Both numbers are arguments.")


def _is_boolean(cell) -> bool:
    return isinstance(cell, bool) or str(getattr(cell, "dtype", "")) in ("bool", "torch.bool")


def _mask_rows(mask) -> list[str]:
    """Write each row of a mask as a word of ones and zeros, so that two masks can be compared by eye."""
    return ["".join("1" if cell else "0" for cell in row) for row in mask]


def check_block_parameters(fn) -> None:
    hint = "With width 1, attention has 8 numbers (four tables, four biases), the feed-forward part 4, the two norms 4."
    expect_equal("block_parameters(1, 1)", fn(1, 1), 16, hint)
    expect_equal("block_parameters(768, 3072)", fn(768, 3072), 7_087_872, hint)
    hint = "The feed-forward width is an argument; it need not be four times the model width."
    expect_equal("block_parameters(10, 7)", fn(10, 7), 4 * 110 + 2 * 70 + 7 + 10 + 40, hint)
    d, f = whole_numbers(2, 20, 900)
    expected = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d
    expect_equal(f"block_parameters({d}, {f})", fn(d, f), expected, "Both widths are arguments.")


def check_epochs(fn) -> None:
    sources = {"web": (400, 0.6), "books": (20, 0.4)}
    got = fn(sources, 100)
    is_table = isinstance(got, dict) and set(got) == set(sources)
    hint = f"epochs should return a dictionary with one number for each of {list(sources)}"
    expect(is_table, f"{hint}, yours is {got!r:.100}.")
    hint = "The weight says how many of the tokens read come from the source, whatever its size."
    expect_close("The epochs of 400 tokens with weight 0.6 in a run of 100", got["web"], 0.15, hint)
    expect_close("The epochs of 20 tokens with weight 0.4 in a run of 100", got["books"], 2.0, hint)
    rounded = {"WebText2": (19, 0.22), "the rest": (480, 0.79)}
    hint = "Take the weights as they are, though rounding lets them add up to 1.01, and do not round the result."
    read = fn(rounded, 300)["WebText2"]
    expect_close("The epochs of WebText2, where the weights are 0.22 and 0.79", read, 66 / 19, hint)
    three = fn({"web": (10, 0.5), "books": (20, 0.25), "talks": (8, 0.25)}, 80)
    hint = "There may be any number of sources."
    expect(isinstance(three, dict) and list(three) == ["web", "books", "talks"], f"{hint} Of three, yours is {three}.")
    for name, expected in (("web", 4.0), ("books", 1.0), ("talks", 2.5)):
        expect_close(f"The epochs of {name}, one of three sources", three[name], expected, hint)
    size, read = whole_numbers(2, 50, 900)
    got = fn({"web": (4.0 * size, 0.5), "books": (float(size), 0.5)}, 10.0 * read)
    for name, expected in (("web", 1.25 * read / size), ("books", 5 * read / size)):
        what = (
            f"The epochs of {name} in a run of {10 * read}, where web has {4 * size} tokens, books {size}, half each,"
        )
        expect_close(what, got[name], expected, "Sizes and tokens may be any numbers.")


def check_training_days(fn) -> None:
    got = fn(1e9, 20e9, 1, 1e15, 1.0)
    expect_close("training_days(1e9, 20e9, 1, 1e15, 1.0)", got, 1.2e5 / 86_400, "6 N D operations; 86,400 s a day.")
    hint = "More devices share the work; only a share of their peak is used."
    expect_close("training_days(1e9, 20e9, 8, 1e15, 1.0)", fn(1e9, 20e9, 8, 1e15, 1.0), 1.5e4 / 86_400, hint)
    expect_close("training_days(1e9, 20e9, 1, 1e15, 0.5)", fn(1e9, 20e9, 1, 1e15, 0.5), 2.4e5 / 86_400, hint)
    hint = "The tokens are an argument: they need not be twenty for each parameter."
    expect_close("training_days(1e9, 7e9, 1, 1e15, 1.0)", fn(1e9, 7e9, 1, 1e15, 1.0), 4.2e4 / 86_400, hint)
    hint = "Another model on other devices: every argument counts."
    expect_close("training_days(3e9, 5e9, 2, 4e14, 0.3)", fn(3e9, 5e9, 2, 4e14, 0.3), 3.75e5 / 86_400, hint)
    millions, billions, devices = whole_numbers(3, 2, 90)
    given = millions * 1e6, billions * 1e9, devices, 1e14, 0.5
    expected = 6 * millions * billions * 1e15 / (devices * 5e13) / 86_400
    expect_close(f"training_days{given}", fn(*given), expected, hint)


CHECKS = {
    "1.1": check_average_bits,
    "1.2": check_count_bigrams,
    "1.3": check_smooth,
    "1.4": check_draw,
    "1.5": check_prefix_mask,
    "1.6": check_block_parameters,
    "1.7": check_epochs,
    "1.8": check_training_days,
}
