"""Checks of chapter 1's exercises: surprise, counting, smoothing, drawing, masks, parameters, epochs, days."""

import torch

from shared.exercises import expect, expect_close, expect_equal


def check_average_bits(fn) -> None:
    expect_close("average_bits([0.5])", fn([0.5]), 1.0, "One coin flip is one bit: logarithm to base 2.")
    expect_close("average_bits([1.0, 1.0])", fn([1.0, 1.0]), 0.0, "What was certain does not surprise.")
    hint = "Take the surprise of each token first, the average afterwards."
    expect_close("average_bits([0.5, 0.125])", fn([0.5, 0.125]), 2.0, hint)
    expect_close("average_bits([0.25, 0.25, 0.5, 0.5])", fn([0.25, 0.25, 0.5, 0.5]), 1.5, "Divide by the tokens.")


def check_count_bigrams(fn) -> None:
    hint = "Each token is paired with the one after it."
    _expect_counts("count_bigrams([7, 8, 7, 9])", fn([7, 8, 7, 9]), {7: {8: 1, 9: 1}, 8: {7: 1}}, hint)
    hint = "Count every occurrence; neighbours may be equal."
    _expect_counts("count_bigrams([1, 1, 1, 2])", fn([1, 1, 1, 2]), {1: {1: 2, 2: 1}}, hint)
    _expect_counts("count_bigrams([4])", fn([4]), {}, "A single token has no neighbour.")


def _expect_counts(what: str, got, expected: dict, hint: str) -> None:
    rows = list(got.values()) if isinstance(got, dict) else [None]
    is_nested = all(isinstance(row, dict) for row in rows)
    expect(is_nested, f"{what} should be a dictionary of dictionaries, {expected}, yours is {got!r:.100}.")
    plain = {a: {b: n for b, n in dict(row).items() if n} for a, row in got.items()}
    expect_equal(what, {a: row for a, row in plain.items() if row}, expected, hint)


def check_smooth(fn) -> None:
    sure = _numbers("smooth([3, 1], [0.5, 0.5], 0)", fn([3, 1], [0.5, 0.5], 0))
    expect_close("smooth([3, 1], [0.5, 0.5], 0)", sure, [0.75, 0.25], "Without imaginary tokens the counts decide.")
    unseen = _numbers("smooth([0, 0, 0], [0.5, 0.3, 0.2], 4)", fn([0, 0, 0], [0.5, 0.3, 0.2], 4))
    hint = "After a context that was never seen, the shorter model decides alone."
    expect_close("smooth([0, 0, 0], [0.5, 0.3, 0.2], 4)", unseen, [0.5, 0.3, 0.2], hint)
    mixed = _numbers("smooth([6, 0], [0.25, 0.75], 4)", fn([6, 0], [0.25, 0.75], 4))
    expect_close("The sum of smooth([6, 0], [0.25, 0.75], 4)", mixed.sum(), 1.0, "Divide by count(c) + s.")
    hint = "The s imaginary tokens are spread as the shorter model predicts."
    expect_close("smooth([6, 0], [0.25, 0.75], 4)", mixed, [0.7, 0.3], hint)


def _numbers(what: str, got) -> torch.Tensor:
    is_row = hasattr(got, "__len__") and not isinstance(got, str)
    expect(is_row, f"{what} should be a list with one probability for each token, yours is {got!r:.100}.")
    return torch.tensor([float(value) for value in got], dtype=torch.float64)


def check_draw(fn) -> None:
    p = [0.5, 0.0, 0.25, 0.25]
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.1)", fn(p, 0.1), 0, "0.1 lies in the first half of the line.")
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.6)", fn(p, 0.6), 2, "0.6 lies between 0.5 and 0.75: the third stretch.")
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.8)", fn(p, 0.8), 3, "0.8 lies beyond 0.75: the fourth stretch.")
    hint = "A stretch begins at its left end; a token of probability 0 has no stretch and is never drawn."
    expect_equal("draw([0.5, 0, 0.25, 0.25], 0.5)", fn(p, 0.5), 2, hint)
    expect_equal("draw([0, 1], 0.0)", fn([0.0, 1.0], 0.0), 1, hint)


def check_prefix_mask(fn) -> None:
    rows = _mask_rows(fn(4, 0))
    expect([len(row) for row in rows] == [4] * 4, f"prefix_mask(4, 0) should have four rows of four, yours are {rows}.")
    reads_itself = all(rows[t][t] == "1" for t in range(4))
    expect(reads_itself, "In prefix_mask(4, 0) every token should read itself, yours do not all.")
    hint = "(One word a row, 1 for True.) Rows read, columns are read; no prefix: a decoder's triangle."
    expect_equal("prefix_mask(4, 0)", rows, ["1000", "1100", "1110", "1111"], hint)
    hint = "(One word a row, 1 for True.) All tokens may read the whole prefix; nobody reads ahead in the rest."
    expect_equal("prefix_mask(4, 2)", _mask_rows(fn(4, 2)), ["1100", "1100", "1110", "1111"], hint)
    expect_equal("prefix_mask(3, 3)", _mask_rows(fn(3, 3)), ["111"] * 3, "All prefix: an encoder's full square.")


def _mask_rows(mask) -> list[str]:
    """Write each row of a mask as a word of ones and zeros, so that two masks can be compared by eye."""
    return ["".join("1" if cell else "0" for cell in row) for row in mask]


def check_block_parameters(fn) -> None:
    hint = "Attention has four square matrices (query, key, value, output), each with a bias; "
    hint += "then two feed-forward layers with biases, and two norms with a scale and a shift each."
    expect_equal("block_parameters(1, 1)", fn(1, 1), 16, hint)
    expect_equal("block_parameters(768, 3072)", fn(768, 3072), 7_087_872, hint)
    hint = "The feed-forward width is an argument; it need not be four times the model width."
    expect_equal("block_parameters(10, 7)", fn(10, 7), 4 * 110 + 2 * 70 + 7 + 10 + 40, hint)


def check_epochs(fn) -> None:
    sources = {"web": (400, 0.6), "books": (20, 0.4)}
    got = fn(sources, 100)
    is_table = isinstance(got, dict) and set(got) == set(sources)
    hint = f"epochs should return a dictionary with one number for each of {list(sources)}"
    expect(is_table, f"{hint}, yours is {got!r:.100}.")
    hint = "The weight says how many of the tokens read come from the source, whatever its size."
    expect_close("The epochs of 400 tokens with weight 0.6 in a run of 100", float(got["web"]), 0.15, hint)
    expect_close("The epochs of 20 tokens with weight 0.4 in a run of 100", float(got["books"]), 2.0, hint)


def check_training_days(fn) -> None:
    got = fn(1e9, 20e9, 1, 1e15, 1.0)
    expect_close("training_days(1e9, 20e9, 1, 1e15, 1.0)", got, 1.2e5 / 86_400, "6 N D operations; 86,400 s a day.")
    hint = "More devices share the work; only a share of their peak is used."
    expect_close("training_days(1e9, 20e9, 8, 1e15, 1.0)", fn(1e9, 20e9, 8, 1e15, 1.0), 1.5e4 / 86_400, hint)
    expect_close("training_days(1e9, 20e9, 1, 1e15, 0.5)", fn(1e9, 20e9, 1, 1e15, 0.5), 2.4e5 / 86_400, hint)


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
