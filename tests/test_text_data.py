"""Chapter 2: tokenizers read any text and agree with tiktoken; datasets and batches hold what they promise."""

import json
import os
import random
import time
from collections import Counter

import numpy as np
import pytest
import tiktoken
import torch

from ch02_text_data import tokenizer_files
from ch02_text_data.any_tokenizer import (
    SPECIAL_TOKENS,
    add_special_tokens,
    encode_text,
    pad_id_of,
    special_id,
    special_tokens_of,
)
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches, pad_batch
from ch02_text_data.bpe import GPT2_PATTERN, apply_merges, learn_merges, split_pieces
from ch02_text_data.datasets import GPTDataset, StoryDataset, create_dataloader, create_story_dataloader
from ch02_text_data.encoding_files import tokenizer_from_json, tokenizer_to_json
from ch02_text_data.text_data import BPETokenizer, RegexTokenizer
from ch02_text_data.tokenizer_files import gpt2_tokenizer
from tests.sizes import n
from tests.small_models import tiktoken_of_bytes

TEXT = (
    'Once upon a time, a little fox named Mia lost her red ball. "Where is it?" she asked. It wasn\'t in the garden;\n'
    "it wasn't under the 2 old chairs -- nor the 12 new ones!  Her friend Ben said: 'I'll help.'\n\n"
    "Über den Dächern: 日本語のテキスト, мир, café, naïve, 👩‍👩‍👧 and 🙂.\n"
)
HARD = [
    "", " ", "   x", "\n\n \n", "\t\ttabs", "don't I'll we've he'd it's I'm they're 'S 'LL", "\u00a0nbsp\u2003em",
    "1234567890 3.14 ½ ٣", "日本語テキスト", "👩‍👩‍👧", "e\u0301", "\x00\x01\x7f", "<|endoftext|>", "a<|pad|>b",
    "\r\n\r\n", "  \n  a", "ﷺ", "𝒳", "\ufeffBOM", "\u200b", "snake_case camelCase", "http://a.b/c?d=e&f", "...!!!???",
    "x" * 300,
]  # fmt: skip
ALPHABETS = ["ab", "abc ", "aé日🙂 ", "ab' \n1.", "\u0301\u200d🙂a ", "".join(map(chr, range(256)))]


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train([TEXT] * 3, 420, SPECIAL_TOKENS)


def random_text(chance: random.Random, longest: int = 60) -> str:
    if chance.random() < 0.5:
        return "".join(chance.choices(chance.choice(ALPHABETS), k=chance.randrange(longest)))
    return "".join(
        chr(chance.choice([chance.randrange(0xD800), chance.randrange(0xE000, 0x110000)])) for _ in range(20)
    )


def naive_merge(ids: list, pair: tuple) -> list:
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(ids[i] + ids[i + 1])
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def naive_merges(words: dict[bytes, int], n_merges: int) -> list[tuple[bytes, bytes]]:
    """The textbook loop: count every pair again for every merge."""
    split = {word: [bytes([byte]) for byte in word] for word in words}
    merges = []
    while len(merges) < n_merges:
        counts = Counter()
        for word, tokens in split.items():
            for pair in zip(tokens, tokens[1:]):
                counts[pair] += words[word]
        if not counts:
            break
        merges.append(max(counts, key=lambda pair: (counts[pair], pair)))
        split = {word: naive_merge(tokens, merges[-1]) for word, tokens in split.items()}
    return merges


def seconds(action) -> float:
    """Processor time, so that a busy machine fails nobody."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


# --- byte-pair encoding ---------------------------------------------------------------------------------------------


def test_the_worked_example_learns_the_known_merges():
    # aa comes first, with four; then (aa, a) and (a, b) both have two, and aa stands after a in the dictionary
    assert learn_merges({b"aaabdaaabac": 1}, 3) == [(b"a", b"a"), (b"aa", b"a"), (b"aaa", b"b")]


def test_ties_go_to_the_lexicographically_greatest_pair():
    assert learn_merges({b"ab": 2, b"cd": 2, b"ca": 2}, 1) == [(b"c", b"d")]
    assert learn_merges({b"aa": 2, b"ab": 2}, 1) == [(b"a", b"b")]


def test_a_longer_token_counts_as_greater_than_its_own_beginning():
    words = {b"xy": 5, b"xyz": 3, b"xz": 3}  # after xy: (xy, z) and (x, z) occur three times each
    assert learn_merges(words, 2) == [(b"x", b"y"), (b"xy", b"z")] == naive_merges(words, 2)


def test_fast_training_equals_the_textbook_loop():
    chance = random.Random(1)
    for _ in range(n(60, 1000)):
        text = "".join(chance.choices(chance.choice(ALPHABETS[:5]), k=chance.randrange(1, 200)))
        words = Counter(piece.encode() for piece in split_pieces(text))
        assert learn_merges(words, 40) == naive_merges(words, 40), text


def test_fast_encoding_equals_the_textbook_loop(tokenizer):
    chance = random.Random(2)
    for _ in range(n(100, 2000)):
        word = "".join(chance.choices("the andonéx", k=chance.randrange(1, 30))).encode()
        tokens = [bytes([byte]) for byte in word]
        for pair in tokenizer.merges:
            tokens = naive_merge(tokens, pair)
        assert [tokenizer.tokens[i] for i in apply_merges(word, tokenizer._new_ids)] == tokens


def test_ids_are_bytes_then_merges_then_specials(tokenizer):
    assert tokenizer.tokens[:256] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.tokens[256:416] == [first + second for first, second in tokenizer.merges]
    assert list(tokenizer.special_tokens.values()) == [416, 417, 418, 419]
    assert tokenizer.vocab_size == 420 == len(tokenizer.merges) + 260


def test_training_is_deterministic_and_reads_one_text_or_many(tokenizer):
    again = BPETokenizer.train(iter([TEXT] * 3), 420, SPECIAL_TOKENS)
    assert again.merges == tokenizer.merges
    assert BPETokenizer.train(TEXT, 300).merges == BPETokenizer.train([TEXT], 300).merges


def test_training_stops_when_no_pair_is_left():
    tokenizer = BPETokenizer.train("ab ab", 1000)
    assert tokenizer.vocab_size == 256 + 2 + 1
    assert tokenizer.decode(tokenizer.encode("ab ab")) == "ab ab"


@pytest.mark.parametrize("text", HARD, ids=range(len(HARD)))
def test_hard_texts_come_back_and_match_tiktoken(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert ids == tokenizer.to_tiktoken().encode_ordinary(text)


def test_any_unicode_comes_back_and_matches_tiktoken(tokenizer):
    reference = tokenizer.to_tiktoken()
    chance = random.Random(3)
    for _ in range(n(1000, 20_000)):
        text = random_text(chance)
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert ids == reference.encode_ordinary(text), text


def test_any_text_that_hypothesis_finds_comes_back(tokenizer):
    hypothesis = pytest.importorskip("hypothesis")
    reference = tokenizer.to_tiktoken()

    @hypothesis.settings(max_examples=n(300, 5000), deadline=None, database=None, derandomize=True)
    @hypothesis.given(hypothesis.strategies.text())
    def comes_back(text):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert ids == reference.encode_ordinary(text)

    comes_back()


def test_merges_of_other_texts_match_tiktoken_too():
    chance = random.Random(4)
    for _ in range(n(20, 400)):
        alphabet = chance.choice(ALPHABETS[:5])
        texts = ["".join(chance.choices(alphabet, k=200)) for _ in range(3)]
        tokenizer = BPETokenizer.train(texts, chance.randrange(257, 400))
        reference = tokenizer.to_tiktoken()
        for _ in range(10):
            text = "".join(chance.choices(alphabet, k=50))
            assert tokenizer.encode(text) == reference.encode_ordinary(text)


def test_pieces_are_cut_as_gpt2_cuts_them():
    assert split_pieces("I'll pay $12  now!\n\nOK") == [
        "I",
        "'ll",
        " pay",
        " $",
        "12",
        " ",
        " now",
        "!",
        "\n",
        "\n",
        "OK",
    ]
    chance = random.Random(5)
    assert all("".join(split_pieces(text)) == text for text in (random_text(chance) for _ in range(n(300, 3000))))


def test_our_pattern_reads_every_code_point_as_tiktoken_does(tokenizer):
    reference = BPETokenizer([]).to_tiktoken()
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    points = points[:: n(37, 1)]
    ours = BPETokenizer([]).encode("x" + "x ".join(points))
    assert ours == reference.encode_ordinary("x" + "x ".join(points))
    joined = BPETokenizer.train([f"x{p} {p}1" for p in points[:: n(10, 3)]], 2000)
    text = " ".join(f"x{p}x {p}1" for p in points)
    assert joined.encode(text) == joined.to_tiktoken().encode_ordinary(text)


def test_lone_surrogates_become_the_replacement_character(tokenizer):
    for text in ["\ud800", "a\udfffb", "\udc00\ud800", "ok \ud83d"]:
        ids = tokenizer.encode(text)
        assert ids == tokenizer.to_tiktoken().encode_ordinary(text)
        assert "\ufffd" in tokenizer.decode(ids)
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude42")) == "🙂"  # a whole pair is one character
    assert BPETokenizer.train("a\ud800 a", 260).decode([97]) == "a"


def test_half_a_character_decodes_to_the_replacement_character(tokenizer):
    assert tokenizer.decode("é".encode()[:1]) == "\ufffd"


def test_special_tokens_never_come_from_a_users_text(tokenizer):
    chance = random.Random(6)
    specials = set(tokenizer.special_tokens.values())
    for _ in range(n(1000, 20_000)):
        text = random_text(chance, 20) + chance.choice(SPECIAL_TOKENS) + random_text(chance, 20)
        assert not specials & set(tokenizer.encode(text))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_are_honored_where_they_are_allowed(tokenizer):
    end, pad = tokenizer.special_tokens["<|endoftext|>"], tokenizer.special_tokens["<|pad|>"]
    text = "a<|endoftext|><|pad|>b<|endoftext|>"
    assert tokenizer.encode(text, {"<|endoftext|>", "<|pad|>"}) == [97, end, pad, 98, end]
    only_end = tokenizer.encode(text, ["<|endoftext|>"])
    assert only_end.count(end) == 2 and pad not in only_end
    assert tokenizer.decode(only_end) == text
    assert tokenizer.encode(text, {"<|endoftext|>"}) == tokenizer.to_tiktoken().encode(
        text, allowed_special={"<|endoftext|>"}, disallowed_special=()
    )


def test_the_longer_of_two_special_tokens_wins():
    tokenizer = BPETokenizer([], ["<a>", "<a><b>"])
    assert tokenizer.encode("<a><b><a>", {"<a>", "<a><b>"}) == [257, 256]


@pytest.mark.parametrize("character", ["a", " ", "é", "\n", "🙂"])
def test_a_million_equal_characters_take_little_more_than_twenty_times_fifty_thousand(character):
    tokenizer = BPETokenizer.train([character * 64, "a lot of words"], 300)
    tokenizer.encode(character * 1000)
    short = min(seconds(lambda: tokenizer.encode(character * 50_000)) for _ in range(3))
    long = seconds(lambda: tokenizer.encode(character * 1_000_000))
    assert long < 20 * short * 5, f"20 times the text took {long / short:.0f} times as long"


def test_one_endless_word_is_near_linear_too(tokenizer):
    chance = random.Random(7)
    word = "".join(chance.choices("etaoinshr", k=200_000))
    short, long = (seconds(lambda k=k: tokenizer.encode(word[:k])) for k in (20_000, 200_000))
    assert long < 10 * short * 5, f"10 times the word took {long / short:.0f} times as long"
    assert tokenizer.encode(word[:20_000]) == tokenizer.to_tiktoken().encode_ordinary(word[:20_000])


def test_training_is_near_linear_in_text_and_in_merges():
    chance = random.Random(8)
    lexicon = ["".join(chance.choices("etaoinshrdlucm", k=chance.randrange(2, 10))) for _ in range(6000)]
    text = " ".join(chance.choices(lexicon, k=170_000))
    base = min(seconds(lambda: BPETokenizer.train(text[:100_000], 500)) for _ in range(2))
    assert seconds(lambda: BPETokenizer.train(text[:1_000_000], 500)) < 10 * base * 5
    assert seconds(lambda: BPETokenizer.train(text[:100_000], 1_232)) < 4 * base * 5  # 4 times the merges


def test_gpt2_merges_give_gpt2_tokens():
    try:
        reference = gpt2_tokenizer()
    except ValueError:
        pytest.skip("GPT-2's vocabulary is not on this computer")
    ranks = reference._mergeable_ranks
    tokenizer = BPETokenizer(gpt2_merges(ranks))
    chance = random.Random(9)
    for text in HARD + [TEXT] + [random_text(chance) for _ in range(n(300, 20_000))]:
        assert [ranks[tokenizer.tokens[i]] for i in tokenizer.encode(text)] == reference.encode_ordinary(text)


def gpt2_merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Recover the pairs: a token's two parts are what earlier merges leave of it."""
    pairs = []
    for token, rank in sorted(ranks.items(), key=lambda row: row[1]):
        if len(token) > 1:
            parts = [bytes([byte]) for byte in token]
            while len(parts) > 2:
                joined = [ranks.get(a + b, rank) for a, b in zip(parts, parts[1:])]
                i = joined.index(min(joined))
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            pairs.append(tuple(parts))
    return pairs


GPT2_IDS = {"!": 0, "~": 93, "A": 32, "a": 64, "\0": 188, "\n": 198, " ": 220, "\x7f": 221}  # its first 256 ids


@pytest.fixture(scope="module")
def numbered(tokenizer):
    return BPETokenizer.train([TEXT] * 3, 420, SPECIAL_TOKENS, numbering="gpt2")


def test_bytes_have_gpt2s_ids_when_asked(numbered):
    assert {sign: numbered.encode(sign) for sign in GPT2_IDS} == {sign: [id_] for sign, id_ in GPT2_IDS.items()}
    borders = b"".join(numbered.tokens[id_] for id_ in (94, 105, 106, 187, 188, 255))
    assert borders == b"\xa1\xac\xae\xff\0\xad"
    assert sorted(numbered.tokens[:256]) == [bytes([byte]) for byte in range(256)]


def test_gpt2s_numbering_changes_the_ids_of_bytes_and_nothing_else(tokenizer, numbered):
    assert (numbered.merges, numbered.special_tokens) == (tokenizer.merges, tokenizer.special_tokens)
    assert numbered.tokens[256:] == tokenizer.tokens[256:]
    chance = random.Random(11)
    for text in HARD + [TEXT] + [random_text(chance) for _ in range(n(300, 3000))]:
        ids = numbered.encode(text)
        assert [numbered.tokens[id_] for id_ in ids] == [tokenizer.tokens[id_] for id_ in tokenizer.encode(text)]
        assert ids == numbered.to_tiktoken().encode_ordinary(text) and numbered.decode(ids) == text


def test_the_numbering_stays_with_the_tokenizer(tokenizer, numbered):
    ids = numbered.encode(TEXT)
    for again in (BPETokenizer.from_json(numbered.to_json()), add_special_tokens(numbered, ["<|more|>"])):
        assert again.numbering == "gpt2" and again.encode(TEXT) == ids
    assert tokenizer.numbering == BPETokenizer.from_json(tokenizer.to_json()).numbering == "bytes"
    with pytest.raises(ValueError, match="found numbering='utf-8'; expected 'bytes' or 'gpt2'"):
        BPETokenizer.train(TEXT, 300, numbering="utf-8")


def test_gpt2s_merges_in_gpt2s_numbering_give_its_own_ids():
    try:
        reference = gpt2_tokenizer()
    except ValueError:
        pytest.skip("GPT-2's vocabulary is not on this computer")
    tokenizer = BPETokenizer(gpt2_merges(reference._mergeable_ranks), numbering="gpt2")
    assert tokenizer.vocab_size == reference.n_vocab == 50_257 == tokenizer.special_tokens["<|endoftext|>"] + 1
    assert all(tokenizer.encode(text) == reference.encode_ordinary(text) for text in [*HARD, TEXT])


@pytest.mark.parametrize("texts", [[], [""], [TEXT], ["a", " b", "", "\n", TEXT, "<|pad|>"], HARD], ids=range(5))
def test_many_texts_give_the_ids_of_each_one_after_another(tokenizer, texts):
    for allowed in (frozenset(), {"<|pad|>"}):
        expected = [id_ for text in texts for id_ in tokenizer.encode(text, allowed)]
        assert list(tokenizer.encode_iterable(iter(texts), allowed)) == expected
    assert list(tokenizer.encode_iterable(TEXT)) == tokenizer.encode(TEXT)


def test_many_texts_are_read_one_at_a_time(tokenizer):
    read = []
    ids = tokenizer.encode_iterable(read.append(number) or "ab" for number in range(5))
    assert not read
    next(ids), next(ids)
    assert read == [0]
    next(ids)
    assert read == [0, 1]
    with pytest.raises(ValueError, match="found a bytes; expected a str"):
        list(tokenizer.encode_iterable(["a", b"b"]))


def test_gpt2_without_files_says_how_to_fetch_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="python course.py fetch gpt2-tokenizer"):
        gpt2_tokenizer()
    for name in tokenizer_files.GPT2_FILES:
        (tmp_path / name).write_text("<html>not found</html>", encoding="utf-8")
    with pytest.raises(ValueError, match="damaged GPT-2 vocabulary"):
        gpt2_tokenizer()
    assert all((tmp_path / name).exists() for name in tokenizer_files.GPT2_FILES)


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_saved_tokenizer_comes_back_equal(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new folder" / "tokenizer.json")
    loaded = BPETokenizer.load(tmp_path / "new folder" / "tokenizer.json")
    assert loaded.merges == tokenizer.merges
    assert loaded.special_tokens == tokenizer.special_tokens
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["tokenizer.json"]


def test_the_file_is_the_text_and_the_text_is_read_from_its_bytes_too(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    text = tokenizer.to_json()
    assert (tmp_path / "t.json").read_bytes() == text.encode()
    for content in (text, text.encode()):
        again = BPETokenizer.from_json(content)
        assert (again.merges, again.special_tokens) == (tokenizer.merges, tokenizer.special_tokens)
    with pytest.raises(ValueError, match="found a damaged or foreign tokenizer .*expected the format"):
        BPETokenizer.from_json(text[:-3])


def test_one_text_for_tokenizers_of_both_kinds(tokenizer):
    for one in (tokenizer, tokenizer.to_tiktoken()):
        again = tokenizer_from_json(tokenizer_to_json(one).encode())
        assert type(again) is type(one) and encode_text(again, TEXT) == encode_text(one, TEXT)
        assert special_tokens_of(again) == special_tokens_of(one)
    for damaged in (b"", b'{\n"format": "tiktoken, version 1"}', b"\xff\x00", b'{"format": "another"}'):
        with pytest.raises(ValueError, match="found a damaged"):
            tokenizer_from_json(damaged)
    for other in (None, "gpt2", RegexTokenizer(["a"])):
        with pytest.raises(ValueError, match="of which this course makes no file"):
            tokenizer_to_json(other)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", "3", "<html>", "{}", '{"format": 1}', "\x00" * 50,
     '{"format": "byte-level BPE, version 9"}',
     '{"format": "byte-level BPE, version 1", "special_tokens": [], "merges": [["a"]]}',
     '{"format": "byte-level BPE, version 1", "special_tokens": [], "merges": [["ab", "c"]]}',
     '{"format": "byte-level BPE, version 1", "special_tokens": [], "merges": [["日", "c"]]}',
     '{"format": "byte-level BPE, version 1", "special_tokens": ["x", "x"], "merges": []}',
     '{"format": "byte-level BPE, version 1", "special_tokens": 5, "merges": []}'],
    ids=range(15),
)  # fmt: skip
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"found a damaged.*tokenizer\.json"):
        BPETokenizer.load(path)


def test_a_file_with_any_byte_cut_off_is_refused(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    content = path.read_bytes()
    for size in random.Random(10).sample(range(len(content) - 2), n(50, 500)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="damaged"):
            BPETokenizer.load(path)


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="found no tokenizer file.*train a tokenizer first"):
        BPETokenizer.load(tmp_path / "absent.json")


def test_an_interrupted_save_leaves_the_old_file(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    before = path.read_bytes()

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        BPETokenizer([]).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_plain_json_that_other_programs_read(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text(encoding="ascii"))
    assert content["special_tokens"] == list(SPECIAL_TOKENS)
    assert [tuple(part.encode("latin-1") for part in pair) for pair in content["merges"]] == tokenizer.merges


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [-1, 420, 10**9, 1.5, "a", None, torch.tensor([1, 2])])
def test_decoding_refuses_ids_outside_the_vocabulary(tokenizer, bad):
    with pytest.raises(ValueError, match="found the id .* 0 to 419"):
        tokenizer.decode([97, bad])


def test_decoding_takes_a_row_of_a_tensor(tokenizer):
    assert tokenizer.decode(torch.tensor([104, 105])) == "hi"


def test_encoding_refuses_what_is_no_string(tokenizer):
    for bad in (b"bytes", None, 3, ["text"]):
        with pytest.raises(ValueError, match="expected a str"):
            tokenizer.encode(bad)


def test_encoding_refuses_unknown_special_tokens(tokenizer):
    with pytest.raises(ValueError, match="found '<.end.>' in allowed_special"):
        tokenizer.encode("x", {"<|end|>"})


def test_training_refuses_no_text_and_a_tiny_vocabulary():
    for texts in ("", [], ["", ""]):
        with pytest.raises(ValueError, match="found no text"):
            BPETokenizer.train(texts, 300)
    with pytest.raises(ValueError, match="found vocab_size=256; expected at least 257"):
        BPETokenizer.train("abc", 256)
    with pytest.raises(ValueError, match="special tokens"):
        BPETokenizer.train("abc", 300, ["<a>", "<a>"])
    with pytest.raises(ValueError, match="expected a str"):
        BPETokenizer.train([b"abc"], 300)


def test_merges_that_cannot_be_are_refused():
    for merges in ([(b"ab", b"c")], [(b"a", b"b"), (b"a", b"b")], [(b"a", b"b"), (b"ab", b""), (b"b", b"c")]):
        with pytest.raises(ValueError, match="found the merge"):
            BPETokenizer(merges)


# --- the simple tokenizer -------------------------------------------------------------------------------------------


def test_the_regular_expression_keeps_words_and_punctuation():
    assert RegexTokenizer.split('Hello, world. "Is this-- a test?"') == [
        "Hello", ",", "world", ".", '"', "Is", "this", "--", "a", "test", "?", '"',
    ]  # fmt: skip


def test_the_simple_vocabulary_is_sorted_with_the_specials_last():
    tokenizer = RegexTokenizer.from_text("b a, b <|endoftext|>")
    assert tokenizer.vocabulary == [",", "a", "b", "<|endoftext|>", "<|unk|>"]
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("a b z") == [1, 2, 4]
    assert tokenizer.decode([2, 0, 1]) == "b, a"


def test_simple_texts_come_back_when_every_word_is_known():
    text = 'The fox said, "I am late!" It ran.'
    tokenizer = RegexTokenizer.from_text(text)
    again = tokenizer.decode(tokenizer.encode(text))
    assert tokenizer.encode(again) == tokenizer.encode(text)
    assert again.replace(" ", "") == text.replace(" ", "")


def test_the_simple_tokenizer_refuses_bad_input():
    with pytest.raises(ValueError, match="text without a word"):
        RegexTokenizer.from_text(" \n")
    with pytest.raises(ValueError, match="unknown word 'z'"):
        RegexTokenizer.from_text("a b", ()).encode("a z")
    with pytest.raises(ValueError, match="give each once"):
        RegexTokenizer(["a", "a"])
    with pytest.raises(ValueError, match="found the id -1"):
        RegexTokenizer(["a"]).decode([-1])


# --- windows of a text ----------------------------------------------------------------------------------------------


class Letters:
    """A tokenizer whose ids are known by hand: a = 0, b = 1, …"""

    def encode(self, text):
        return [ord(c) - ord("a") for c in text]


def test_targets_are_the_ids_one_place_later():
    dataset = GPTDataset("abcdefghij", Letters(), max_length=4, stride=3)
    assert [ids.tolist() for ids, _ in (dataset[i] for i in range(len(dataset)))] == [[0, 1, 2, 3], [3, 4, 5, 6]]
    for ids, targets in (dataset[i] for i in range(len(dataset))):
        assert targets.tolist() == [i + 1 for i in ids.tolist()]
        assert ids.dtype == targets.dtype == torch.int64


@pytest.mark.parametrize("length", [5, 6, 9, 13, 40])
def test_end_to_end_windows_predict_each_token_once(length):
    text = "".join(chr(ord("a") + i % 26) for i in range(length))
    dataset = GPTDataset(text, Letters(), max_length=4, stride=4)
    assert len(dataset) == (length - 1) // 4
    covered = [start + k for start in dataset.starts for k in range(1, 5)]
    assert covered == list(range(1, len(dataset) * 4 + 1))


def test_a_text_of_exactly_one_window_is_enough():
    assert len(GPTDataset("abcde", Letters(), 4, 1)) == 1
    with pytest.raises(ValueError, match="found a text of 4 tokens; expected at least 5"):
        GPTDataset("abcd", Letters(), 4, 1)
    with pytest.raises(ValueError, match="found a text of 0 tokens"):
        GPTDataset("", Letters(), 4, 1)


@pytest.mark.parametrize("length", [5, 6, 9, 13, 40])
@pytest.mark.parametrize("stride", [1, 3, 4, 5, 7, 50])
def test_ids_that_no_window_holds_are_counted_and_a_last_window_reads_the_end(length, stride):
    text = "".join(chr(ord("a") + i % 26) for i in range(length))
    plain, whole = (GPTDataset(text, Letters(), 4, stride, to_end=to_end) for to_end in (False, True))
    for dataset in (plain, whole):
        read = {start + k for start in dataset.starts for k in range(5)}
        assert dataset.n_unread == length - len(read)
        assert all(len(ids) == len(targets) == 4 for ids, targets in (dataset[i] for i in range(len(dataset))))
    assert [*whole.starts] == [*plain.starts, *([] if plain.starts[-1] == length - 5 else [length - 5])]
    assert whole[len(whole) - 1][1].tolist() == Letters().encode(text[-4:])
    assert plain.n_unread < stride or stride > 5
    options = {"batch_size": 1, "max_length": 4, "stride": stride}
    assert len(create_dataloader(text, Letters(), to_end=True, **options)) == len(whole)


def test_windows_refuse_numbers_below_one():
    for max_length, stride in ((0, 1), (4, 0), (4, -1)):
        with pytest.raises(ValueError, match="at least 1"):
            GPTDataset("abcdef", Letters(), max_length, stride)


def test_the_loader_serves_every_window_once():
    loader = create_dataloader("abcdefghijklm", Letters(), batch_size=3, max_length=4, stride=1, drop_last=False)
    firsts = [row[0].item() for ids, _ in loader for row in ids]
    assert sorted(firsts) == list(range(9)) and firsts != sorted(firsts)
    assert len(loader) == 3
    ids, targets = next(iter(loader))
    assert ids.shape == targets.shape == (3, 4)
    assert torch.equal(ids + 1, targets)


def test_drop_last_that_leaves_no_batch_is_refused():
    options = {"batch_size": 20, "max_length": 4, "stride": 1}
    with pytest.raises(ValueError, match="found 9 rows, too few for one batch of 20; lower batch_size or give more"):
        create_dataloader("abcdefghijklm", Letters(), **options)
    assert len(create_dataloader("abcdefghijklm", Letters(), drop_last=False, **options)) == 1


def test_the_loader_works_with_tiktoken(tokenizer):
    loader = create_dataloader(TEXT, tokenizer.to_tiktoken(), batch_size=2, max_length=8, stride=8, shuffle=False)
    ours = create_dataloader(TEXT, tokenizer, batch_size=2, max_length=8, stride=8, shuffle=False)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(loader, ours))


def test_reading_a_loader_leaves_the_random_state_alone(tokenizer):
    loader = create_dataloader(TEXT, tokenizer, batch_size=2, max_length=8, stride=8)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


# --- any tokenizer --------------------------------------------------------------------------------------------------

TYPED = "Mia ran.<|endoftext|> <|user|>He said:<|assistant|> <|pad|>no"


@pytest.fixture
def rust(tokenizer):
    return tokenizer.to_tiktoken()


@pytest.mark.parametrize("text", [*HARD, TYPED, TEXT, "a\ud800b"])
def test_text_is_text_for_our_class_and_tiktokens(tokenizer, rust, text):
    assert encode_text(rust, text) == encode_text(tokenizer, text) == tokenizer.encode(text)
    assert not set(encode_text(rust, text)) & set(tokenizer.special_tokens.values())


def test_every_dataset_of_the_chapter_takes_tiktokens_class(tokenizer, rust):
    for build in (
        lambda t: create_dataloader(TYPED * 5, t, batch_size=2, max_length=8, stride=8),
        lambda t: create_story_dataloader([TYPED, "Mia ran.", TEXT], t, batch_size=2, max_length=40),
        lambda t: GPTDataset(TYPED, t, 4, 3),
        lambda t: StoryDataset([TYPED, WithText("<|pad|>")], t, 30),
    ):
        ours, theirs = build(tokenizer), build(rust)
        assert len(ours) == len(theirs)
        assert all(torch.equal(a, b) for mine, other in zip(ours, theirs) for a, b in zip(mine, other))


def test_special_tokens_are_found_in_both_classes(tokenizer, rust):
    gpt2_like = tiktoken_of_bytes()
    assert special_tokens_of(tokenizer) == special_tokens_of(rust) == tokenizer.special_tokens
    assert pad_id_of(tokenizer) == pad_id_of(rust) == tokenizer.special_tokens["<|pad|>"]
    assert pad_id_of(gpt2_like) == special_id(gpt2_like, "<|endoftext|>") == 256
    assert special_tokens_of(Letters()) == special_tokens_of(RegexTokenizer(["a"])) == {}


def test_special_tokens_can_be_added_and_old_ids_stay(tokenizer):
    gpt2_like = tiktoken_of_bytes()
    chat = add_special_tokens(gpt2_like)
    assert special_tokens_of(chat) == {"<|endoftext|>": 256, "<|pad|>": 257, "<|user|>": 258, "<|assistant|>": 259}
    assert chat.n_vocab == 260 and gpt2_like.n_vocab == 257
    assert encode_text(chat, TYPED) == encode_text(gpt2_like, TYPED) == list(TYPED.encode())
    assert chat.decode([258, 104, 105, 259]) == "<|user|>hi<|assistant|>"
    assert special_tokens_of(add_special_tokens(chat, ["<|tool|>"]))["<|tool|>"] == 260
    assert special_tokens_of(add_special_tokens(chat)) == special_tokens_of(chat)
    plain = BPETokenizer.train(TEXT, 300)
    more = add_special_tokens(plain)
    assert more.merges == plain.merges and list(more.special_tokens) == list(SPECIAL_TOKENS)
    assert more.special_tokens["<|endoftext|>"] == plain.special_tokens["<|endoftext|>"]
    assert more.encode(TYPED) == plain.encode(TYPED) and more.vocab_size == plain.vocab_size + 3
    with pytest.raises(ValueError, match="none of them empty"):
        add_special_tokens(gpt2_like, ["<|a|>", "<|a|>"])
    with pytest.raises(ValueError, match="found a Letters; expected a BPETokenizer or"):
        add_special_tokens(Letters())


class GivesBack:
    """A tokenizer whose `encode` gives whatever it is made with."""

    def __init__(self, given):
        self.encode = lambda text: given


@pytest.mark.parametrize("given", [(3, 4), torch.tensor([3, 4]), [torch.tensor(3), True + 3], range(3, 5)])
def test_ids_may_come_in_any_sequence(given):
    assert encode_text(GivesBack(given), "ab") == [3, 4]


@pytest.mark.parametrize("given", [["a", "b"], "ab", None, 3, [[3, 4]], [3.0], {"input_ids": [3]}])
def test_what_is_no_list_of_ids_is_refused(given):
    with pytest.raises(ValueError, match=r"found a GivesBack that turned a text into no ids .*wrap yours"):
        GPTDataset("ab", GivesBack(given), 1, 1)


def test_tokenizers_of_hugging_face_are_refused_by_name_or_work():
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer(tokenizers.models.WordLevel({"Mia": 0, "ran": 1, "<|endoftext|>": 2}, "ran"))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match="found a Tokenizer that turned a text into no ids"):
        GPTDataset("Mia ran Mia", theirs, 1, 1)
    with pytest.raises(ValueError, match="found a Tokenizer without the special token <.endoftext.>"):
        StoryDataset(["Mia ran"], theirs, 4)
    wrapped = GivesBack(theirs.encode("Mia ran Mia").ids)
    assert GPTDataset("Mia ran Mia", wrapped, 1, 1).ids.tolist() == [0, 1, 0]


@pytest.mark.parametrize("bad", [None, 3, b"abc", ["abc"], object()])
def test_what_is_no_text_or_no_tokenizer_is_refused(tokenizer, rust, bad):
    for ours in (tokenizer, rust, Letters()):
        with pytest.raises(ValueError, match="expected a str"):
            encode_text(ours, bad)
    with pytest.raises(ValueError, match="turned a text into no ids"):
        encode_text(bad, "abc")


NO_TEXT = r"^found a \w+ that (has|holds) [^;\n]+; expected a text, or its ids: [^\n]+$"
NO_IDS = {
    "nothing": None,
    "a number": 7,
    "bytes": b"abc",
    "fractions": [1.0, 2.0, 3.0],
    "a fraction among ids": [1, 2.5, 3],
    "a number below zero": [1, -2, 3],
    "a huge number": [1, 2**63, 3],
    "a number beyond all": [1, 2**70, 3],
    "words": ["1", "2", "3"],
    "a word among ids": [1, "2", 3],
    "nothing among ids": [1, None, 3],
    "truth values": [True, False, True],
    "rows": [[1, 2], [3, 4]],
    "rows of two lengths": [[1, 2], [3]],
    "a generator": (id_ for id_ in (1, 2, 3)),
    "a set": {1, 2, 3},
    "a dictionary": {"input_ids": [1, 2, 3]},
    "a tensor of fractions": torch.rand(5, requires_grad=True),
    "a tensor of short fractions": torch.rand(5, dtype=torch.bfloat16),
    "a mask": torch.ones(5, dtype=torch.bool),
    "a batch": torch.ones(2, 3, dtype=torch.int64),
    "one id": torch.tensor(3),
    "an array of fractions": np.ones(4),
    "an array of negatives": np.array([3, -1], dtype=np.int8),
    "an array of huge numbers": np.array([3, 2**64 - 1], dtype=np.uint64),
}


@pytest.mark.parametrize("bad", NO_IDS.values(), ids=NO_IDS)
def test_what_is_neither_text_nor_ids_is_refused_in_one_sentence(tokenizer, bad):
    calls = [
        lambda: GPTDataset(bad, tokenizer, 1, 1),
        lambda: create_dataloader(bad, tokenizer, batch_size=1, max_length=1, stride=1),
        lambda: StoryDataset(["Mia ran.", bad], tokenizer, 9),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=NO_TEXT):
            call()


IDS = [5, 300, 0, 77, 8]


@pytest.mark.parametrize(
    "given",
    [
        tuple(IDS), torch.tensor(IDS), torch.tensor(IDS, dtype=torch.int32), torch.tensor([IDS, IDS]).T[:, 0],
        np.array(IDS), np.array(IDS, dtype=np.uint16), np.array(IDS[::-1])[::-1], [torch.tensor(id_) for id_ in IDS],
    ],
    ids=range(8),
)  # fmt: skip
def test_datasets_take_ids_in_the_place_of_text(tokenizer, given):
    windows = GPTDataset(given, None, 2, 2)
    assert windows.ids.tolist() == IDS and windows.ids.dtype == torch.int64
    assert torch.equal(windows[1][1], torch.tensor([77, 8]))
    (ids, targets), *_ = create_dataloader(given, None, batch_size=2, max_length=2, stride=2, shuffle=False)
    assert ids.tolist() == [[5, 300], [0, 77]] and targets.tolist() == [[300, 0], [77, 8]]
    end, (ids, targets) = special_id(tokenizer, "<|endoftext|>"), StoryDataset([given], tokenizer, 6)[0]
    assert ids.tolist() == [end, *IDS] and targets.tolist() == [*IDS, end]


def test_ids_give_the_rows_that_their_text_gives(tokenizer):
    ids = tokenizer.encode(TEXT)
    for of_ids, of_text in zip(GPTDataset(ids, None, 7, 5), GPTDataset(TEXT, tokenizer, 7, 5), strict=True):
        assert torch.equal(of_ids[0], of_text[0]) and torch.equal(of_ids[1], of_text[1])
    of_ids, of_text = StoryDataset([ids], tokenizer, 40), StoryDataset([TEXT], tokenizer, 40)
    assert torch.equal(of_ids.rows[0], of_text.rows[0])


def test_a_dataset_keeps_ids_of_its_own():
    given = torch.tensor(IDS)
    windows = GPTDataset(given, None, 2, 2)
    given.zero_()
    assert windows.ids.tolist() == IDS


def test_a_text_without_a_tokenizer_and_no_ids_at_all_are_refused(tokenizer):
    with pytest.raises(ValueError, match="found a text and no tokenizer"):
        GPTDataset("a text", None, 1, 1)
    for empty in ([], "", torch.tensor([], dtype=torch.int64)):
        with pytest.raises(ValueError, match="found a text of 0 tokens"):
            GPTDataset(empty, tokenizer, 1, 1)
        with pytest.raises(ValueError, match="empty story at position 1"):
            StoryDataset(["Mia", empty], tokenizer, 10)


# --- whole stories --------------------------------------------------------------------------------------------------


class WithText:
    def __init__(self, text):
        self.text = text


def test_a_story_row_starts_and_ends_with_end_of_text(tokenizer):
    end, pad = tokenizer.special_tokens["<|endoftext|>"], tokenizer.special_tokens["<|pad|>"]
    story = tokenizer.encode("Mia ran.")
    dataset = StoryDataset(["Mia ran.", WithText("Mia ran.")], tokenizer, max_length=20)
    for ids, targets in (dataset[0], dataset[1]):
        used = len(story) + 1
        assert ids[:used].tolist() == [end, *story] and targets[:used].tolist() == [*story, end]
        assert set(ids[used:].tolist()) == {pad} and set(targets[used:].tolist()) == {IGNORE_INDEX}
        assert ids.shape == targets.shape == (20,)
    assert dataset.lengths == [len(story) + 1] * 2


def test_a_long_story_is_cut_and_counted(tokenizer):
    dataset = StoryDataset(
        ["Mia ran.", "Mia ran and ran and ran."], tokenizer, max_length=len(tokenizer.encode("Mia ran.")) + 1
    )
    ids, targets = dataset[1]
    assert dataset.n_cut == 1
    assert torch.equal(ids[1:], targets[:-1]) and IGNORE_INDEX not in targets


def test_without_a_padding_token_the_end_token_fills_up():
    tokenizer = BPETokenizer.train(TEXT, 300)
    ids, targets = StoryDataset(["Mia"], tokenizer, 30)[0]
    assert ids[-1] == tokenizer.special_tokens["<|endoftext|>"] and targets[-1] == IGNORE_INDEX


def test_stories_refuse_bad_input(tokenizer):
    with pytest.raises(ValueError, match="found one text; expected a list of stories"):
        StoryDataset("Mia ran home.", tokenizer, 10)
    with pytest.raises(ValueError, match="found 0 stories"):
        StoryDataset([], tokenizer, 10)
    with pytest.raises(ValueError, match="empty story at position 1"):
        StoryDataset(["Mia", ""], tokenizer, 10)
    with pytest.raises(ValueError, match="max_length=0"):
        StoryDataset(["Mia"], tokenizer, 0)
    for foreign in (BPETokenizer([], ["<|pad|>"]), Letters(), tiktoken.Encoding("x", pat_str=GPT2_PATTERN,
                    mergeable_ranks={bytes([b]): b for b in range(256)}, special_tokens={})):  # fmt: skip
        with pytest.raises(ValueError, match="without the special token <.endoftext.>"):
            StoryDataset(["Mia"], foreign, 10)


def test_story_batches_are_as_long_as_their_longest_story(tokenizer):
    stories = ["Mia ran." + " The fox asked." * (i % 9) for i in range(64)]
    loader = create_story_dataloader(stories, tokenizer, batch_size=8, max_length=60)
    shown = 0
    for ids, targets in loader:
        assert ids.shape == targets.shape and (targets[:, -1] != IGNORE_INDEX).any()
        assert torch.equal(ids[:, 1:][targets[:, 1:] != IGNORE_INDEX], targets[:, :-1][targets[:, 1:] != IGNORE_INDEX])
        shown += int((targets != IGNORE_INDEX).sum())
    assert shown == sum(len(tokenizer.encode(story)) + 1 for story in stories)


def test_padding_a_batch_trims_and_fills():
    short = torch.tensor([1, 2]), torch.tensor([2, 3])
    filled = torch.tensor([4, 0, 0, 0]), torch.tensor([5, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX])
    ids, targets = pad_batch([short, filled], pad_id=9)
    assert ids.tolist() == [[1, 2], [4, 0]] and targets.tolist() == [[2, 3], [5, IGNORE_INDEX]]
    longer = torch.tensor([1, 2, 3]), torch.tensor([2, 3, 4])
    ids, targets = pad_batch([short, longer], pad_id=9)
    assert ids[0].tolist() == [1, 2, 9] and targets[0].tolist() == [2, 3, IGNORE_INDEX]
    with pytest.raises(ValueError, match="batch without rows"):
        pad_batch([])


# --- the order of batches -------------------------------------------------------------------------------------------


def test_every_row_comes_once_an_epoch():
    for grouped in (False, True):
        batches = EpochBatches(range(1, 101), 7, drop_last=False, group_by_length=grouped)
        assert sorted(row for batch in batches for row in batch) == list(range(100))
        assert len(list(batches)) == len(batches) == 15
        dropped = EpochBatches(range(1, 101), 7, group_by_length=grouped)
        assert len(list(dropped)) == len(dropped) == 14 and all(len(batch) == 7 for batch in dropped)


@pytest.mark.parametrize("n_rows, size, world_size, drop_last, left_out", [
    (100, 7, 1, True, 2), (100, 7, 1, False, 0), (21, 10, 4, False, 1), (20, 10, 4, False, 0), (5, 10, 2, False, 0),
])  # fmt: skip
def test_rows_that_an_epoch_leaves_out_are_counted(n_rows, size, world_size, drop_last, left_out):
    ranks = [
        EpochBatches([1] * n_rows, size, drop_last=drop_last, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    served = sum(len(batch) for rank in ranks for batch in rank)
    assert n_rows - served == left_out and {rank.n_dropped for rank in ranks} == {left_out}


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        batches = EpochBatches([1] * 50, 5, seed=seed)
        batches.set_epoch(epoch)
        return list(batches)

    assert order(3, 2) == order(3, 2)
    assert len({str(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16
    assert order(0, 0)[0] == [0, 46, 6, 26, 23]  # on every machine


def test_resuming_in_the_middle_continues_the_same_order():
    chance = random.Random(11)
    for _ in range(n(50, 1000)):
        lengths = [chance.randrange(1, 300) for _ in range(chance.randrange(40, 400))]
        options = {
            "seed": chance.randrange(9),
            "group_by_length": chance.random() < 0.5,
            "drop_last": chance.random() < 0.5,
        }
        size, epoch = chance.randrange(1, 20), chance.randrange(5)
        whole, resumed = EpochBatches(lengths, size, **options), EpochBatches(lengths, size, **options)
        whole.set_epoch(epoch)
        start = chance.randrange(len(whole) + 1)
        resumed.set_epoch(epoch, start)
        assert list(resumed) == list(whole)[start:]
        assert len(resumed) == len(whole)


def test_processes_share_each_batch_without_overlap():
    for world_size in (2, 3, 4):
        for drop_last in (True, False):
            options = {"drop_last": drop_last, "group_by_length": True, "seed": 1}
            lengths = [1 + i * 7 % 50 for i in range(105)]
            together = list(EpochBatches(lengths, 10, **options))
            ranks = [
                list(EpochBatches(lengths, 10, rank=r, world_size=world_size, **options)) for r in range(world_size)
            ]
            for batch, *parts in zip(together, *ranks):
                assert sorted(batch) == sorted(row for part in parts for row in part)
                assert all(parts), "a process was left without a row"


def test_a_last_batch_smaller_than_the_processes_is_left_out():
    options = {"drop_last": False, "world_size": 4}
    ranks = [EpochBatches([1] * 21, 10, rank=rank, **options) for rank in range(4)]
    assert [len(list(rank)) for rank in ranks] == [len(rank) for rank in ranks] == [2] * 4


def test_grouping_by_length_leaves_little_padding():
    chance = random.Random(12)
    lengths = [chance.randrange(50, 300) for _ in range(4000)]

    def padded(grouped):
        batches = list(EpochBatches(lengths, 16, group_by_length=grouped))
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches) / sum(lengths)

    assert padded(False) > 1.4
    assert padded(True) < 1.05


def test_grouped_batches_do_not_come_sorted():
    firsts = [max(batch) for batch in EpochBatches(range(640), 8, group_by_length=True)]
    assert firsts != sorted(firsts)


def test_without_shuffle_rows_come_as_they_are():
    batches = EpochBatches([5, 1, 4, 2], 2, shuffle=False, group_by_length=True)
    assert list(batches) == [[0, 1], [2, 3]]


def test_batches_refuse_bad_input():
    for arguments, message in [
        (([], 1), "found no rows"),
        (([1], 2), "too few for one batch of 2"),
        (([1] * 4, 0), "batch_size=0"),
        (([1] * 4, -3), "batch_size=-3"),
    ]:
        with pytest.raises(ValueError, match=message):
            EpochBatches(*arguments)
    with pytest.raises(ValueError, match="rank=2, world_size=2"):
        EpochBatches([1] * 9, 4, rank=2, world_size=2)
    with pytest.raises(ValueError, match="at least world_size=3"):
        EpochBatches([1] * 9, 2, world_size=3)
    with pytest.raises(ValueError, match="found 2 rows, too few for world_size=3"):
        EpochBatches([1] * 2, 4, world_size=3, drop_last=False)
    for epoch, start in ((-1, 0), (0, -1), (0, 5)):
        with pytest.raises(ValueError, match="expected epoch >= 0 and start from 0 to 4"):
            EpochBatches([1] * 8, 2).set_epoch(epoch, start)


# --- fuzz -----------------------------------------------------------------------------------------------------------


def test_public_functions_give_a_result_or_our_error(tokenizer):
    chance = random.Random(13)
    values = ["", "a", TEXT, None, 0, -1, 3, 10**6, 2.5, [], [1], ["a"], b"a", {"x": 1}, float("nan"), torch.ones(2)]
    calls = [
        lambda a, b, c: tokenizer.encode(str(a)),
        lambda a, b, c: tokenizer.encode(a),
        lambda a, b, c: tokenizer.decode([a, b, c]),
        lambda a, b, c: BPETokenizer.train(str(a), b if isinstance(b, int) else 300),
        lambda a, b, c: GPTDataset(str(a), tokenizer, b if isinstance(b, int) else 3, c if isinstance(c, int) else 2)[
            0
        ],
        lambda a, b, c: StoryDataset([str(a), str(b)], tokenizer, c if isinstance(c, int) else 8)[0],
        lambda a, b, c: list(
            EpochBatches([1] * 9, b if isinstance(b, int) else 2, rank=c if isinstance(c, int) else 0)
        ),
    ]
    for _ in range(n(200, 2000)):
        call, arguments = chance.choice(calls), chance.choices(values, k=3)
        try:
            call(*arguments)
        except ValueError as error:
            assert "found" in str(error) and "expected" in str(error) or "too few" in str(error)
