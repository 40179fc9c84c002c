"""Checks of chapter 2's exercises: pairs and merges, encoding, decoding, windows, padding, bits per byte, positions."""

import math

import torch

from shared.exercises import expect, expect_close, expect_equal

MERGES = [("u", "g"), ("h", "ug"), ("p", "ug"), ("s", " ")]
IGNORED = -100


def check_merge_pair(fn) -> None:
    given = [1, 2, 3, 1, 2]
    expect_equal("merge_pair([1, 2, 3, 1, 2], (1, 2), 9)", fn(given, (1, 2), 9), [9, 3, 9], "Every pair is replaced.")
    expect_equal("The list you were given, afterwards,", given, [1, 2, 3, 1, 2], "Build a new list instead.")
    hint = "From left to right, and no id is used twice: three 1s are one pair and a 1 left over."
    expect_equal("merge_pair([1, 1, 1], (1, 1), 9)", fn([1, 1, 1], (1, 1), 9), [9, 1], hint)
    expect_equal("merge_pair([1, 1, 1, 1], (1, 1), 9)", fn([1, 1, 1, 1], (1, 1), 9), [9, 9], hint)
    expect_equal("merge_pair([2, 1], (1, 2), 9)", fn([2, 1], (1, 2), 9), [2, 1], "The order within a pair matters.")
    expect_equal("merge_pair([5], (5, 5), 9)", fn([5], (5, 5), 9), [5], "A lone id stays, the last one included.")


def check_best_pair(fn) -> None:
    hint = "A piece that occurs ten times brings its pairs ten times."
    expect_equal("The best pair of {'ab': 10, 'cdcd': 2}", fn(_words({"ab": 10, "cdcd": 2})), ("a", "b"), hint)
    hint = "(l, l) stands twice in one 'lll': overlapping neighbors count as they stand."
    expect_equal("The best pair of {'lll': 2, 'lo': 3}", fn(_words({"lll": 2, "lo": 3})), ("l", "l"), hint)
    hint = "Of equally frequent pairs, take the one that comes last in alphabetical order."
    expect_equal("The best pair of {'ab': 3, 'xa': 3}", fn(_words({"ab": 3, "xa": 3})), ("x", "a"), hint)
    expect_equal("The best pair of {'xa': 3, 'ab': 3}", fn(_words({"xa": 3, "ab": 3})), ("x", "a"), hint)
    hint = "No pair crosses from one piece into the next."
    expect_equal("The best pair of {'a': 9, 'b': 9, 'cd': 1}", fn(_words({"a": 9, "b": 9, "cd": 1})), ("c", "d"), hint)
    hint = "Where the first elements are equal too, the second ones decide: compare whole pairs."
    expect_equal("The best pair of {'ab': 3, 'ac': 3}", fn(_words({"ab": 3, "ac": 3})), ("a", "c"), hint)
    expect_equal("The best pair of {'ac': 3, 'ab': 3}", fn(_words({"ac": 3, "ab": 3})), ("a", "c"), hint)
    hint = "Compare the pairs and not the joined strings: ('ab', 'b') comes after ('a', 'bc')."
    joined = fn({("a", "bc"): 1, ("ab", "b"): 1})
    expect_equal("The best pair of a|bc and ab|b, once each", joined, ("ab", "b"), hint)


def _words(counts: dict[str, int]) -> dict[tuple[str, ...], int]:
    return {tuple(word): count for word, count in counts.items()}


def check_encode_piece(fn) -> None:
    hint = "u and g first, then h and ug."
    whole = fn("hug", MERGES)
    expect(not isinstance(whole, str), f"encode_piece should return a list of tokens, yours is the string {whole!r}.")
    expect_equal("encode_piece('hug', merges)", list(whole), ["hug"], hint)
    hint = "A merge of the list is applied everywhere in the piece."
    expect_equal("encode_piece('hugpughug', merges)", list(fn("hugpughug", MERGES)), ["hug", "pug", "hug"], hint)
    competing = [("b", "c"), ("a", "b")]
    hint = "The merge that was learned first goes first, wherever in the piece it stands."
    expect_equal("encode_piece('abc', [('b', 'c'), ('a', 'b')])", list(fn("abc", competing)), ["a", "bc"], hint)
    hint = "Only merges make tokens: a string is not a token because it happens to be there in one."
    long_way = [("a", "b"), ("c", "d"), ("ab", "cd")]
    expect_equal("encode_piece('bcd', [ab, cd, ab+cd])", list(fn("bcd", long_way)), ["b", "cd"], hint)
    expect_equal("encode_piece('', merges)", list(fn("", MERGES)), [], "No characters, no tokens.")


def check_decode(fn) -> None:
    vocabulary = {0: b"caf", 1: b"\xc3", 2: b"\xa9", 3: b" \xe6\x97", 4: b"\xa5"}
    expect_equal("decode([0], vocabulary)", fn([0], vocabulary), "caf")
    hint = "One character may be spread over several tokens: join the bytes first, decode once at the end."
    expect_equal("decode([0, 1, 2], vocabulary)", fn([0, 1, 2], vocabulary), "café", hint)
    expect_equal("decode([0, 1, 2, 3, 4], vocabulary)", fn([0, 1, 2, 3, 4], vocabulary), "café 日", hint)
    hint = "Half a character is no reason to stop: errors='replace'."
    try:
        broken = fn([0, 1], vocabulary)
    except UnicodeDecodeError:
        broken = "a UnicodeDecodeError"
    expect_equal("decode([0, 1], vocabulary)", broken, "caf\ufffd", hint)
    expect_equal("decode([], vocabulary)", fn([], vocabulary), "", "No ids, no text.")


def check_windows(fn) -> None:
    given = list(range(9))
    got = _as_lists(fn(given, 4, 4))
    expect_equal("The ids afterwards", given, list(range(9)), "Do not change what you were given: take slices of it.")
    expect(len(got) > 0, "You returned no window for 9 ids and windows of 4; there are two.")
    hint = "The targets are the ids one place later: the last one is an id that the inputs do not hold."
    expect_equal("The first window of 9 ids", got[0], ([0, 1, 2, 3], [1, 2, 3, 4]), hint)
    hint = "A window needs max_length ids and one more after them; 9 ids hold exactly two such windows of 4."
    expect_equal("The number of windows of 4 in 9 ids", len(got), 2, hint)
    expect_equal("The number of windows of 4 in 8 ids", len(_as_lists(fn(list(range(8)), 4, 4))), 1, hint)
    starts = [window[0] for window, _ in _as_lists(fn(list(range(12)), 4, 3))]
    hint = "The stride is the distance from start to start, whatever the length of a window."
    expect_equal("The starts with length 4 and stride 3 in 12 ids", starts, [0, 3, 6], hint)
    expect_equal("The windows of 4 in 4 ids", _as_lists(fn([1, 2, 3, 4], 4, 1)), [], "There is no id after the window.")


def _as_lists(pairs) -> list[tuple[list[int], list[int]]]:
    for pair in pairs:
        is_pair = len(pair) == 2 and all(hasattr(row, "__len__") for row in pair)
        expect(is_pair, f"A window should be a pair of two rows of ids, inputs and targets; yours is {pair!r:.100}.")
    return [(list(ids), list(targets)) for ids, targets in pairs]


def check_story_rows(fn) -> None:
    given = [[7, 8, 9], [5]]
    result = fn(given, 1, 0)
    expect_equal("The stories afterwards", given, [[7, 8, 9], [5]], "Do not change what you were given: copy it first.")
    expect(isinstance(result, tuple) and len(result) == 2, "Return two tensors: ids and targets.")
    ids, targets = result
    hint = "A row begins with the end token; the longest has four ids, and shorter rows are filled on the right."
    expect_equal("ids", ids, torch.tensor([[1, 7, 8, 9], [1, 5, 0, 0]]), hint)
    hint = "Each target is the token after its id; the story's last token predicts the end, and filling costs nothing."
    expect_equal("targets", targets, torch.tensor([[7, 8, 9, 1], [5, 1, IGNORED, IGNORED]]), hint)
    hint = "One story needs no filling."
    expect_equal("targets of one story alone", fn([[4, 6]], 1, 0)[1], torch.tensor([[4, 6, 1]]), hint)
    hint = "An id of the story that equals pad_id is a real token: go by the length and not by the value."
    targets = fn([[0, 6], [3, 3]], 1, 0)[1]
    expect_equal("targets of a story that holds the id 0", targets[0], torch.tensor([0, 6, 1]), hint)


def check_bits_per_byte(fn) -> None:
    hint = "One nat is 1 / ln 2 bits; ln 256 nats for each of 10 tokens of one byte is 8 bits per byte."
    expect_close("bits_per_byte(ln 256, 10, 10)", fn(math.log(256), 10, 10), 8.0, hint)
    hint = "The loss is an average over tokens; the total is spread over the bytes, of which a token has several."
    expect_close("bits_per_byte(ln 2, 100, 400)", fn(math.log(2), 100, 400), 0.25, hint)
    expect_close("bits_per_byte(2.0, 50, 200)", fn(2.0, 50, 200), 2.0 * 50 / math.log(2) / 200, hint)


def check_embed(fn) -> None:
    tokens = torch.arange(12.0).reshape(6, 2)  # (V, D)
    places = torch.tensor([[100.0, 0.0], [200.0, 0.0], [300.0, 0.0], [400.0, 0.0]])  # (context, D)
    ids = torch.tensor([[5, 0, 5], [1, 1, 2]])  # (B, T)
    got = fn(ids, tokens, places)
    expect(isinstance(got, torch.Tensor), "Return one tensor.")
    expect_equal("The shape", tuple(got.shape), (2, 3, 2), "Each id becomes a vector: (B, T) becomes (B, T, D).")
    hint = "Id 5 has the vector (10, 11), place 0 has (100, 0)."
    expect_equal("Id 5 in place 0", got[0, 0], torch.tensor([110.0, 11.0]), hint)
    difference = got[0, 2] - got[0, 0]
    hint = "Id 5 stands in places 0 and 2, and those differ: the place is the column, 0 to T - 1, and not the id."
    expect_equal("The same token in places 2 and 0: the difference", difference, torch.tensor([200.0, 0.0]), hint)
    hint = "Every row of the batch starts at place 0."
    expect_equal("Row 1", got[1], torch.tensor([[102.0, 3.0], [202.0, 3.0], [304.0, 5.0]]), hint)
    expect_equal("The token table afterwards", tokens[5], torch.tensor([10.0, 11.0]), "Do not change the tables.")


CHECKS = {
    "2.1": check_merge_pair,
    "2.2": check_best_pair,
    "2.3": check_encode_piece,
    "2.4": check_decode,
    "2.5": check_windows,
    "2.6": check_story_rows,
    "2.7": check_bits_per_byte,
    "2.8": check_embed,
}
