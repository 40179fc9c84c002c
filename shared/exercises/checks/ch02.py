"""Checks of chapter 2's exercises: pairs and merges, encoding, decoding, windows, padding, bits per byte, positions."""

import math

import torch

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import dice, different_numbers, whole_numbers

MERGES = [("u", "g"), ("h", "ug"), ("p", "ug"), ("s", " ")]
IGNORED = -100


def check_merge_pair(fn) -> None:
    given = [1, 2, 3, 1, 2]
    expect_equal("merge_pair([1, 2, 3, 1, 2], (1, 2), 9)", fn(given, (1, 2), 9), [9, 3, 9], "Every pair is replaced.")
    hint = "From left to right, and no id is used twice: three 1s are one pair and a 1 left over."
    expect_equal("merge_pair([1, 1, 1], (1, 1), 9)", fn([1, 1, 1], (1, 1), 9), [9, 1], hint)
    expect_equal("merge_pair([1, 1, 1, 1], (1, 1), 9)", fn([1, 1, 1, 1], (1, 1), 9), [9, 9], hint)
    expect_equal("merge_pair([2, 1], (1, 2), 9)", fn([2, 1], (1, 2), 9), [2, 1], "The order within a pair matters.")
    lone = [5]
    expect_equal("merge_pair([5], (5, 5), 9)", fn(lone, (5, 5), 9), [5], "A lone id stays, the last one included.")
    expect(
        fn(lone, (5, 5), 9) is not lone, "Where nothing is merged, you return the list you were given: return a copy."
    )
    hint = "Compare the numbers, and not the digits in them: 11 is not 1 and 1."
    expect_equal("merge_pair([11, 2, 1, 22], (1, 2), 9)", fn([11, 2, 1, 22], (1, 2), 9), [11, 2, 1, 22], hint)
    large = [500 * k for k in (2, 4, 2, 4)]  # numbers above 256 are objects of their own each time
    hint = "Compare numbers with ==. `is` asks for the same object, and two equal large numbers may be two objects."
    expect_equal("merge_pair([1000, 2000, 1000, 2000], (1000, 2000), 9)", fn(large, (1000, 2000), 9), [9, 9], hint)
    expect_equal("merge_pair([], (1, 2), 9)", fn([], (1, 2), 9), [], "No ids, no pairs.")
    hint = "Texts may be of any length, and the first id of the pair may be the larger one."
    expect_equal("merge_pair([2, 1, 3] * 9, (2, 1), 9)", fn([2, 1, 3] * 9, (2, 1), 9), [9, 3] * 9, hint)
    hint = "An id may be 0 or may occur on both sides of a merge."
    expect_equal("merge_pair([0, 0, 7, 0, 0, 0], (0, 0), 8)", fn([0, 0, 7, 0, 0, 0], (0, 0), 8), [8, 7, 8, 0], hint)
    for n in range(2, 9):
        what = f"merge_pair([{'0, ' * (n - 2)}1, 2], (1, 2), 9)"
        expect_equal(what, fn([0] * (n - 2) + [1, 2], (1, 2), 9), [0] * (n - 2) + [9], "The pair may be the last.")
    a, b, new_id = different_numbers(3, 900)
    given, hint = [a, b, a, a, b, b], "Ids may be any numbers."
    expect_equal(f"merge_pair({given}, {a, b}, {new_id})", fn(given, (a, b), new_id), [new_id, a, new_id, b], hint)


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
    words = {("a", "bc"): 1, ("ab", "b"): 1}
    expect_equal("The best pair of a|bc and ab|b, once each", fn(words), ("ab", "b"), hint)
    hint = "Python puts capitals before small letters: 'a' comes after 'Z'."
    expect_equal("The best pair of {'ab': 3, 'Za': 3}", fn(_words({"ab": 3, "Za": 3})), ("a", "b"), hint)
    hint = "How long the tokens are does not count, only their order: 'z' comes after 'aaa'."
    expect_equal("The best pair of aaa|a and z|a, once each", fn({("aaa", "a"): 1, ("z", "a"): 1}), ("z", "a"), hint)
    hint = "The count decides first: 11 is more than 9, though '9' comes after '11'."
    expect_equal("The best pair of {'ab': 11, 'xy': 9}", fn(_words({"ab": 11, "xy": 9})), ("a", "b"), hint)
    hint = "A pair may stand in several pieces: their counts add up."
    expect_equal(
        "The best pair of {'xab': 2, 'abc': 2, 'zz': 3}", fn(_words({"xab": 2, "abc": 2, "zz": 3})), ("a", "b"), hint
    )
    x, y, z = ("bcdfghjklm"[place] for place in different_numbers(3, 10))
    (n,) = whole_numbers(1, 3, 90)
    counts = {x + y: n, z + y: n + 1, y + x: n - 1, z + x + y: 2}
    more = dict.fromkeys(["bb", "dd", "ff", "gg", "hh"], 1) | counts
    hint = "There may be any number of pieces, and the same pieces may have other counts at another time."
    for given, expected in ((more, (x, y)), (more | {z + y: 1, y + x: 3 * n}, (y, x))):
        expect_equal(f"The best pair of {given}", fn(_words(given)), expected, hint)
    hint = "Letters and counts may be any: add up what each pair has in all pieces."
    expect_equal(f"The best pair of {counts}", fn(_words(counts)), (x, y), hint)


def _words(counts: dict[str, int]) -> dict[tuple[str, ...], int]:
    return {tuple(word): count for word, count in counts.items()}


def check_encode_piece(fn) -> None:
    hint = "u and g first, then h and ug."
    merges = MERGES.copy()
    whole = fn("hug", merges)
    is_list = isinstance(whole, (list, tuple))
    expect(is_list, f"encode_piece should return a list of tokens, yours is a {type(whole).__name__}, {whole!r:.60}.")
    expect_equal("encode_piece('hug', merges)", list(whole), ["hug"], hint)
    hint = "A merge of the list is applied everywhere in the piece."
    expect_equal("encode_piece('hugpughug', merges)", list(fn("hugpughug", MERGES.copy())), ["hug", "pug", "hug"], hint)
    hint = "A space is a character like any other."
    expect_equal(
        "encode_piece('hugs pugs hug', merges)",
        list(fn("hugs pugs hug", MERGES.copy())),
        ["hug", "s ", "pug", "s ", "hug"],
        hint,
    )
    hint = "From left to right, and no letter is used twice: three are one pair and a letter left over."
    expect_equal("encode_piece('aaa', [('a', 'a')])", list(fn("aaa", [("a", "a")])), ["aa", "a"], hint)
    competing = [("b", "c"), ("a", "b")]
    hint = "The merge that was learned first goes first, wherever in the piece it stands."
    expect_equal("encode_piece('abc', [('b', 'c'), ('a', 'b')])", list(fn("abc", competing)), ["a", "bc"], hint)
    hint = "Only merges make tokens: a string is not a token because it happens to be there in one."
    long_way = [("a", "b"), ("c", "d"), ("ab", "cd")]
    expect_equal("encode_piece('bcd', [ab, cd, ab+cd])", list(fn("bcd", long_way)), ["b", "cd"], hint)
    hint = "A merge joins its own two halves: a and bc spell abc as well, but they are not the pair (ab, c)."
    spelled = [("b", "c"), ("a", "b"), ("ab", "c")]
    expect_equal("encode_piece('abc', [b+c, a+b, ab+c])", list(fn("abc", spelled)), ["a", "bc"], hint)
    hint = "Every character stays as it is: capitals, and spaces at both ends."
    expect_equal("encode_piece(' Hug ', merges)", list(fn(" Hug ", MERGES.copy())), [" ", "H", "ug", " "], hint)
    expect_equal("encode_piece('', merges)", list(fn("", MERGES.copy())), [], "No characters, no tokens.")
    hint = "The merges decide, also for a piece that came before; there may be any number of both."
    expect_equal("encode_piece('abc', [('a', 'b')])", list(fn("abc", [("a", "b")])), ["ab", "c"], hint)
    merges = [(letter, letter.upper()) for letter in "bcdfgh"]
    expect_equal(f"encode_piece('xhH' * 9, {merges})", list(fn("xhH" * 9, merges)), ["x", "hH"] * 9, hint)
    x, y, z = ("bcdfghjklm"[place] for place in different_numbers(3, 10))
    piece, merges, hint = x + y + z + x + y, [(y, z), (x, y)], "Letters and merges may be any."
    expect_equal(f"encode_piece({piece!r}, {merges})", list(fn(piece, merges)), [x, y + z, x + y], hint)


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
    hint = "Ids come in any order, and one may come again."
    expect_equal("decode([3, 4, 0, 0], vocabulary)", fn([3, 4, 0, 0], vocabulary), " 日cafcaf", hint)
    hint = "What comes after a broken byte is text again."
    expect_equal("decode([1, 0, 2, 0], vocabulary)", fn([1, 0, 2, 0], vocabulary), "\ufffdcaf\ufffdcaf", hint)
    odd = {0: b"\xef\xbb\xbf", 1: b"\xff", 2: b"\r\n", 3: b"x"}
    hint = "Every character stays as it is: a mark at the start, each broken byte, the ends of lines."
    expect_equal(f"decode([0, 3, 1, 1, 2], {odd})", fn([0, 3, 1, 1, 2], odd), "\ufeffx\ufffd\ufffd\r\n", hint)
    turned = {3: b"x", 1: b"y", 0: b"z", 2: b"w"}
    hint = "An id is a key of the vocabulary, and not a place in it."
    expect_equal("decode([3, 1], {3: b'x', 1: b'y', 0: b'z', 2: b'w'})", fn([3, 1], turned), "xy", hint)
    hint = "Another vocabulary has other bytes for the same ids, and a text may be of any length."
    expect_equal("decode([0], {0: b'no'})", fn([0], {0: b"no"}), "no", hint)
    expect_equal("decode([0] * 99, {0: b'no'})", fn([0] * 99, {0: b"no"}), "no" * 99, hint)
    first, second, third = different_numbers(3, 900)
    vocabulary = {first: b"\xe6\x97", second: b"\xa5 ", third: b"no"}
    hint = "Ids may be any numbers."
    what = f"decode({[third, first, second]}, {vocabulary})"
    expect_equal(what, fn([third, first, second], vocabulary), "no日 ", hint)


def check_windows(fn) -> None:
    given = list(range(9))
    got = fn(given, 4, 4)
    expect(isinstance(got, (list, tuple)), f"Return a list of pairs; yours is a {type(got).__name__}.")
    got = _as_lists(got)
    expect(len(got) > 0, "You returned no window for 9 ids and windows of 4; there are two.")
    hint = "The targets are the ids one place later: the last one is an id that the inputs do not hold."
    expect_equal("The first window of 9 ids", got[0], ([0, 1, 2, 3], [1, 2, 3, 4]), hint)
    hint = "A window needs max_length ids and one more after them; 9 ids hold exactly two such windows of 4."
    expect_equal("The number of windows of 4 in 9 ids", len(got), 2, hint)
    expect_equal("The number of windows of 4 in 8 ids", len(_as_lists(fn(list(range(8)), 4, 4))), 1, hint)
    hint = "The stride is the distance from start to start, whatever the length of a window."
    expect_equal("The starts with length 4 and stride 3 in 12 ids", _starts(fn, 12, 4, 3), [0, 3, 6], hint)
    expect_equal("The starts with length 2 and stride 5 in 14 ids", _starts(fn, 14, 2, 5), [0, 5, 10], hint)
    hint = "A window holds ids, and not their places."
    expect_equal(
        "The windows of 2 in [7, 3, 3, 9, 1]",
        _as_lists(fn([7, 3, 3, 9, 1], 2, 2)),
        [([7, 3], [3, 3]), ([3, 9], [9, 1])],
        hint,
    )
    expect_equal("The windows of 4 in 4 ids", _as_lists(fn([1, 2, 3, 4], 4, 1)), [], "There is no id after the window.")
    hint = "There may be any number of windows."
    expect_equal("The starts with length 3 and stride 2 in 24 ids", _starts(fn, 24, 3, 2), list(range(0, 21, 2)), hint)
    given = different_numbers(9, 900)
    expected = [(given[:3], given[1:4]), (given[4:7], given[5:8])]
    expect_equal(
        f"The windows of 3 in {given}, stride 4", _as_lists(fn(given, 3, 4)), expected, "Ids may be any numbers."
    )


def _starts(fn, n_ids: int, max_length: int, stride: int) -> list[int]:
    return [window[0] for window, _ in _as_lists(fn(list(range(n_ids)), max_length, stride))]


def _as_lists(pairs) -> list[tuple[list[int], list[int]]]:
    expect(isinstance(pairs, (list, tuple)), f"Return a list of pairs, an empty one for none; yours is {pairs!r:.60}.")
    for pair in pairs:
        is_pair = len(pair) == 2 and all(hasattr(row, "__len__") for row in pair)
        expect(is_pair, f"A window should be a pair of two rows of ids, inputs and targets; yours is {pair!r:.100}.")
        are_lists = all(type(row) is list and all(type(id_) is int for id_ in row) for row in pair)
        expect(are_lists, f"Inputs and targets should be lists of ids, as what you were given; yours: {pair!r:.100}.")
    return [tuple(pair) for pair in pairs]


def check_story_rows(fn) -> None:
    given = [[7, 8, 9], [5]]
    result = fn(given, 1, 0)
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
    hint = "The ids of end and padding are arguments: here 50 and 60."
    ids, targets = fn([[4], [], [2, 8]], 50, 60)
    expect_equal("ids with end_id=50 and pad_id=60", ids, torch.tensor([[50, 4, 60], [50, 60, 60], [50, 2, 8]]), hint)
    expected = torch.tensor([[4, 50, IGNORED], [50, IGNORED, IGNORED], [2, 8, 50]])
    expect_equal("targets with end_id=50 and pad_id=60", targets, expected, hint)
    hint = "One id may serve as end and as padding; the end that closes a story is a target all the same."
    both, targets_of_both = fn([[4], [2, 8]], 9, 9)
    expect_equal("ids with end_id=9 and pad_id=9", both, torch.tensor([[9, 4, 9], [9, 2, 8]]), hint)
    expected = torch.tensor([[4, 9, IGNORED], [2, 8, 9]])
    expect_equal("targets with end_id=9 and pad_id=9", targets_of_both, expected, hint)
    kinds = {ids.dtype, targets.dtype}
    expect(kinds == {torch.int64}, f"ids and targets should be int64, as embeddings and the loss want it, not {kinds}.")
    stories = [list(range(10, 10 + length)) for length in (3, 7, 0, 12, 5)]
    ids, targets = fn(stories, 1, 0)
    hint = "There may be any number of stories, of any length."
    expected = torch.tensor([([1, *story] + [0] * 12)[:13] for story in stories])
    expect_equal("ids of five stories of 3, 7, 0, 12 and 5 ids", ids, expected, hint)
    expected = torch.tensor([([*story, 1] + [IGNORED] * 12)[:13] for story in stories])
    expect_equal("targets of five stories of 3, 7, 0, 12 and 5 ids", targets, expected, hint)
    a, b, c, end, pad = different_numbers(5, 900)
    ids, targets = fn([[a, b], [c]], end, pad)
    what = f"{[[a, b], [c]]} with end_id={end} and pad_id={pad}"
    expect_equal(f"ids of {what}", ids, torch.tensor([[end, a, b], [end, c, pad]]), "Ids may be any numbers.")
    expect_equal(
        f"targets of {what}", targets, torch.tensor([[a, b, end], [c, end, IGNORED]]), "Ids may be any numbers."
    )


def check_bits_per_byte(fn) -> None:
    hint = "One nat is 1 / ln 2 bits; ln 256 nats for each of 10 tokens of one byte is 8 bits per byte."
    expect_close("bits_per_byte(ln 256, 10, 10)", fn(math.log(256), 10, 10), 8.0, hint)
    hint = "The loss is an average over tokens; the total is spread over the bytes, of which a token has several."
    expect_close("bits_per_byte(ln 2, 100, 400)", fn(math.log(2), 100, 400), 0.25, hint)
    expect_close("bits_per_byte(2.0, 50, 150)", fn(2.0, 50, 150), 2.0 * 50 / math.log(2) / 150, hint)
    hint = "A token has 3.4 bytes here, on average: do not round that."
    expect_close("bits_per_byte(2.0, 50, 170)", fn(2.0, 50, 170), 2.0 * 50 / math.log(2) / 170, hint)
    hint = "A token may be shorter than a byte, and the numbers need not divide."
    expect_close("bits_per_byte(2.0, 70, 30)", fn(2.0, 70, 30), 2.0 * 70 / math.log(2) / 30, hint)
    n_bits, n_tokens = whole_numbers(2, 2, 90)
    got = fn(n_bits * math.log(2), n_tokens, 4 * n_tokens)
    expect_close(
        f"bits_per_byte({n_bits} ln 2, {n_tokens}, {4 * n_tokens})", got, n_bits / 4, "All three are arguments."
    )


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
    tables = [table.double().requires_grad_() for table in (tokens, places)]
    got = fn(ids, *tables)
    learns = got.requires_grad
    expect(learns, "The tables could not learn: no gradient flows back. Leave out detach, .data and torch.no_grad.")
    got.sum().backward()
    for name, table in zip(("token", "position"), tables):
        expect(table.grad is not None, f"The {name} table could not learn: no gradient reaches it.")
    gradients = [table.grad.to_dense() for table in tables if table.grad is not None]
    uses = torch.tensor([1.0, 2, 1, 0, 0, 2])[:, None].expand(6, 2)
    hint = "Each row gets a gradient as often as it was looked up, that of id 0 as well."
    expect_equal("The gradient of the token table", gradients[0].float(), uses, hint)
    uses = torch.tensor([2.0, 2, 2, 0])[:, None].expand(4, 2)
    expect_equal("The gradient of the position table", gradients[1].float(), uses, "Two rows use each place once.")
    tokens, places = (torch.randn(n, 3, generator=dice(n), dtype=torch.float64) for n in (7, 6))
    ids = torch.tensor([whole_numbers(5, 0, 6)])
    got = fn(ids, tokens, places)
    for place, id_ in enumerate(ids[0].tolist()):
        what, expected = f"Id {id_} in place {place} of tables of random numbers", tokens[id_] + places[place]
        expect_close(what, got[0, place], expected, "A token's row and a place's row, added.")


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
