"""Claims about texts of one's own: which documents are read, what is kept aside, what is trained, and the verdict."""

import json
import math
import os
import random

import pytest
import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch05_pretraining import own_text
from ch05_pretraining.own_text import DocumentWindows, text_advice, text_baselines, text_verdict
from ch05_pretraining.run_state import History
from ch05_pretraining.story_scores import graded_windows, ngram_bits
from data.document_stream import BORDER
from data.own_texts import read_own_text

LONG = "".join(f"On day {i} the fox walked {i % 7} miles.\n" for i in range(60))  # more than the fewest bytes


def notes_of(n: int) -> list[str]:
    return [f"note {i}: the owl saw {i * i % 97} mice near the {i % 13}th tree" for i in range(n)]


def jsonl(texts) -> str:
    return "".join(json.dumps({"text": text, "id": n}) + "\n" for n, text in enumerate(texts))


# ---------------------------------------------------------------- what is a document


def test_one_file_is_one_document(tmp_path):
    (tmp_path / "diary.txt").write_text(LONG, encoding="utf-8")
    own = read_own_text(tmp_path / "diary.txt")
    assert own.documents == (LONG.strip("\n"),) and own.notes == ()
    assert own == read_own_text(str(tmp_path / "diary.txt")) == read_own_text(LONG) == read_own_text([LONG])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_make_no_difference(tmp_path, end, mark):
    (tmp_path / "diary.txt").write_bytes((mark + LONG).replace("\n", end).encode("utf-8"))
    (tmp_path / "notes.jsonl").write_bytes((mark + jsonl([LONG.replace("\n", end)])).replace("\n", end).encode("utf-8"))
    expected = read_own_text(LONG)
    for source in (tmp_path / "diary.txt", tmp_path / "notes.jsonl", (mark + LONG).replace("\n", end)):
        assert read_own_text(source) == expected and read_own_text(source).hash == expected.hash


@pytest.mark.parametrize(
    ("border", "parts"),
    [
        (f"\n{BORDER}\n", 2),
        (f"\n\n  {BORDER} \n\n", 2),
        (f"\r\n{BORDER}\r\n", 2),
        (f"\n{BORDER}\n{BORDER}\n", 2),
        (f"\n{BORDER}{BORDER}\n", 2),
        (f"\n{BORDER}", 2),  # begins a line
        (f"{BORDER}\n", 2),  # ends one
        (f" {BORDER} ", 1),  # in the middle of a line
        (f"\n{BORDER.upper()}\n", 1),
    ],
)
def test_the_end_token_at_either_end_of_a_line_is_a_border(border, parts):
    halves = LONG[:1000].strip(), LONG[1000:].strip()
    own = read_own_text(border.join(halves))
    assert len(own.documents) == parts
    if parts == 2:
        assert own.documents == halves and own.notes == ()
    assert bool(own.notes) == (border == f" {BORDER} ")
    assert "inside a line, 1 time, read as ordinary text" in "".join(own.notes) or not own.notes


@pytest.mark.parametrize("around", [f"{BORDER}\n%s", f"%s\n{BORDER}", f"\n\n%s\n{BORDER}\n\n{BORDER}\n \n"])
def test_borders_around_a_text_make_no_empty_documents(around):
    assert read_own_text(around % LONG).documents == (LONG.strip("\n"),)


def test_only_blank_lines_are_taken_from_a_documents_ends():
    text = f"  \n\n    indented\n\nkept  \n{LONG}\n \n"
    assert read_own_text(text).documents == (f"    indented\n\nkept  \n{LONG}".rstrip("\n"),)


def test_a_folder_is_read_in_order_with_the_folders_in_it(tmp_path):
    texts = notes_of(40)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "deep").mkdir()
    (tmp_path / "a.TXT").write_text(texts[0], encoding="utf-8")
    (tmp_path / "c.md").write_text(texts[1], encoding="utf-8")
    (tmp_path / "b" / "deep" / "x.jsonl").write_text(jsonl(texts[2:]), encoding="utf-8")
    for passed in (".hidden.txt", "picture.png", "program.py", ".git/x.txt", "b/.DS_Store"):
        (tmp_path / passed).parent.mkdir(exist_ok=True)
        (tmp_path / passed).write_bytes(b"\xff\x00")
    own = read_own_text(tmp_path)
    assert own.documents == (texts[0], texts[1], *texts[2:])
    assert own.notes == (f"4 files in {tmp_path} passed over: hidden, or not in .txt, .md, .jsonl.",)


def test_several_sources_are_read_one_after_another(tmp_path):
    (tmp_path / "one.txt").write_text(LONG, encoding="utf-8")
    (tmp_path / "two.txt").write_text("The end.", encoding="utf-8")
    own = read_own_text([tmp_path / "two.txt", str(tmp_path / "one.txt"), "And a last word."])
    assert own.documents == ("The end.", LONG.strip(), "And a last word.")


def test_equal_documents_are_read_once_and_that_is_said():
    own = read_own_text(f"\n{BORDER}\n".join([LONG, "again", LONG, "again", "again"]))
    assert own.documents == (LONG.strip(), "again")
    assert own.notes == ("3 documents passed over: word for word the same as another.",)


def test_a_symbolic_link_to_a_file_is_read_and_one_to_a_folder_is_not(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text(LONG, encoding="utf-8")
    folder = tmp_path / "links"
    folder.mkdir()
    try:
        (folder / "b.txt").symlink_to(tmp_path / "real" / "a.txt")
        (folder / "loop").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no symbolic links")
    assert read_own_text(folder).documents == (LONG.strip(),)
    (folder / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="gone.txt cannot be read"):
        read_own_text(folder)


def test_what_a_run_keeps_reads_as_the_same_documents():
    sources = [LONG, f"  a\n{BORDER}\nb \n\n{BORDER} x {BORDER}\nc", "\ufeff\r\rlone \ud800 half"]
    own = read_own_text(sources)
    again = read_own_text(own.text)
    assert again.documents == own.documents and again.hash == own.hash and "\ufffd" in own.documents[-1]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"content": "x", "id": 3}', 'line 2, record 2: found the keys content, id; expected a record like {"text":'),
        ("{}", "line 2, record 2: found the keys none"),
        ("[1, 2]", r"line 2, record 2: found \[1, 2\]; expected a record"),
        ('"text"', "line 2, record 2: found 'text'; expected a record"),
        ('{"text": null}', 'line 2, record 2: "text" is None; expected a text in quotation marks'),
        ('{"text": 7}', 'line 2, record 2: "text" is 7'),
        ('{"text": "a", "text": "b"}', "line 2, record 2: the key 'text' stands twice"),
        ('{"text": "a"', "line 3: the file ends in the middle of a record"),
        ("[" * 100_000, "line 2, record 2: found too many brackets"),
    ],
)
def test_a_bad_record_is_named_with_its_line(tmp_path, line, complaint):
    (tmp_path / "notes.jsonl").write_text(f"{jsonl([LONG])}{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"notes.jsonl, {complaint}"):
        read_own_text(tmp_path / "notes.jsonl")


def test_a_json_list_of_records_may_be_named(tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps([{"text": LONG}, {"text": "The end."}]), encoding="utf-8")
    assert read_own_text(tmp_path / "notes.json").documents == (LONG.strip(), "The end.")


def test_empty_records_and_blank_lines_hold_no_document(tmp_path):
    lines = ["", json.dumps({"text": ""}), " ", json.dumps({"text": " \n"}), jsonl([LONG]), ""]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read_own_text(tmp_path / "notes.jsonl").documents == (LONG.strip(),)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("t.txt", LONG.encode("utf-16"), "t.txt is UTF-16 text"),
        ("t.txt", LONG.encode("utf-16-le"), "t.txt holds NUL bytes .* as UTF-16 text"),
        ("t.txt", LONG.encode("utf-32"), "t.txt is UTF-32 text"),
        ("t.txt", "caf\u00e9 ".encode("cp1252") * 300, "t.txt is not UTF-8 text .*Windows-1252"),
        ("t.txt", "\u65e5\u672c\u8a9e".encode("shift_jis") * 300, "t.txt is not UTF-8 text"),
        ("t.txt", b"PK\x03\x04" + b"word/document.xml" * 90, "t.txt is a ZIP archive"),
        ("t.txt", b"\x1f\x8b\x08" + LONG.encode(), "t.txt is a file packed by gzip"),
        ("t.md", LONG.encode() + b"\0", r"t.md holds NUL bytes \(1, the first in line 61\)"),
        ("t.jsonl", jsonl(["a", LONG + "\0"]).encode(), "t.jsonl, line 2, record 2 holds the character NUL"),
        ("t.json", b'{"title": "a"}', "t.json, line 1, record 1: found the keys title; expected a record like"),
        ("t.jsonl", b" \n", "t.jsonl is empty"),
        ("t.txt", b"", "the text has not one word: give at least 1,000 bytes"),
        ("t.txt", b"\n \t\r\n" * 2_000, "the text has not one word"),
        ("t.txt", (BORDER + "\n").encode() * 2_000, "the text has not one word"),
        ("t.txt", b"too short " * 20, "the text has 200 bytes in 1 document: give at least 1,000 bytes"),
        ("t.txt", f"ab\n{BORDER}\n".encode() * 900, "has 2 bytes in 1 document.*899 documents passed over"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_teaches_nothing_is_refused_by_name(tmp_path, name, content, complaint, inside):
    path = tmp_path / "texts" / name
    path.parent.mkdir()
    path.write_bytes(content)
    if inside and name == "t.json":
        complaint = "holds no file in .txt, .md, .jsonl"
    with pytest.raises(ValueError, match=complaint) as caught:
        read_own_text(path.parent if inside else path)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="nowhere.txt cannot be read"):
        read_own_text(tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match="holds no file in .txt, .md, .jsonl: give a folder with such files"):
        read_own_text(tmp_path)
    with pytest.raises(ValueError, match=r"not one word \(and there is no file ''\)"):
        read_own_text("")
    with pytest.raises(ValueError, match=r"in 1 document \(and there is no file 'dairy.txt'\)"):
        read_own_text("dairy.txt")
    for wrong in (None, 3, b"bytes", [LONG, None], {LONG}):
        with pytest.raises(ValueError, match="expected a text or a path"):
            read_own_text(wrong)
    if os.path.exists("/dev/zero"):
        with pytest.raises(ValueError, match="/dev/zero is neither a file nor a folder"):
            read_own_text("/dev/zero")


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_named(tmp_path):
    (tmp_path / "a.txt").write_text(LONG, encoding="utf-8")
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(ValueError, match="closed cannot be read"):
        read_own_text(tmp_path)


def test_too_much_text_is_refused(monkeypatch):
    monkeypatch.setattr("data.own_texts.MOST_BYTES", 2_000)
    with pytest.raises(ValueError, match=r"the text has [\d,]+ bytes in 1 document: give at most 2,000 bytes"):
        read_own_text(LONG)


# ---------------------------------------------------------------- what is kept aside


SHAPES = {
    "one text": [LONG],
    "one line": [LONG.replace("\n", " ")],
    "one word": ["x" * 5_000],
    "a script without spaces": ["\u5728\u96e8\u4e2d\u7b49\u5f85\u6e21\u8239\u3002" * 300],
    "a tail of white space": [LONG + " \n" * 3_000 + "end"],
    "two documents": [LONG, LONG.upper()],
    "many": notes_of(500),
    "a long one among short ones": [*notes_of(30), LONG * 30],
    "long ones and a short one": [LONG.replace("fox", name) for name in ("owl", "cat", "dog")] + ["short"],
    "emoji": ["\U0001f98a\U0001f989 " * 400],
    "combining marks": ["e\u0301" * 2_000],
    "right to left": ["\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd. " * 200],
}


@pytest.mark.parametrize("documents", SHAPES.values(), ids=SHAPES)
def test_about_a_tenth_is_kept_aside_and_nothing_is_lost_or_stands_on_both_sides(documents):
    own = read_own_text(documents)
    learned, held = own.split()
    total, kept = (sum(len("".join(text.split())) for text in part) for part in ([*learned, *held], held))
    assert 0.04 * total <= kept <= 0.16 * total
    assert all(text.split() for text in (*learned, *held))
    assert sum(map(len, learned)) + sum(map(len, held)) == sum(map(len, own.documents))
    if len(learned) < len(own.documents):
        assert sorted([*learned, *held]) == sorted(own.documents)
    else:
        assert len(held) == 1 and any(text + held[0] in own.documents for text in learned)
    assert own.split() == (learned, held)


def test_a_text_is_cut_between_lines_or_else_between_words():
    learned, held = read_own_text(LONG).split()
    assert held[0].startswith("On day") and learned[0].endswith("\n")
    learned, held = read_own_text(LONG.replace("\n", " ")).split()
    assert learned[0].endswith(" ") and held[0][0] != " "


def test_the_tail_that_is_white_space_is_not_what_is_kept_aside():
    learned, held = read_own_text(LONG + " \n" * 3_000 + "end").split()
    assert len(held[0].split()) > 20


def test_documents_are_drawn_from_all_over_the_text():
    held = read_own_text(notes_of(500)).split()[1]
    places = [int(text.split()[1].rstrip(":")) for text in held]
    assert min(places) < 100 and max(places) > 400 and places == sorted(places)


def test_of_a_large_text_a_million_characters_are_enough(monkeypatch):
    monkeypatch.setattr("data.own_texts.MOST_KEPT_ASIDE", 500)
    for documents in ([LONG * 20], notes_of(900)):
        kept = sum(len("".join(text.split())) for text in read_own_text(documents).split()[1])
        assert 250 <= kept <= 750


# ---------------------------------------------------------------- windows


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(LONG, 300, SPECIAL_TOKENS)


@pytest.mark.parametrize("length", [2, 3, 8, 64, 4096])
def test_every_window_begins_with_the_end_token_and_every_token_is_learned(tokenizer, length):
    documents = ["The fox.", LONG, "x", "An owl walked home.", LONG[:200]]
    end = tokenizer.special_tokens[BORDER]
    windows = DocumentWindows(documents, tokenizer, length)
    seen = torch.zeros(len(windows.stream), dtype=torch.bool)
    for number in range(len(windows)):
        ids, targets = windows[number]
        start = windows.starts[number]
        assert len(ids) == len(targets) == windows.lengths[number] and 1 <= len(ids) <= length
        assert ids[0] == end and torch.equal(ids[1:], targets[:-1])
        assert torch.equal(targets, windows.stream[start + 1 : start + 1 + len(ids)])
        seen[start + 1 : start + 1 + len(ids)] = True
    assert seen[1:].all()  # each token of each document, and each end
    stream = [end, *(token for text in documents for token in (*tokenizer.encode(text), end))]
    assert windows.stream.tolist() == stream
    beginnings = [n for n, token in enumerate(stream[:-1]) if token == end]
    assert set(beginnings) <= set(windows.starts)


def test_windows_in_the_middle_of_a_document_begin_at_a_word(tokenizer):
    windows = DocumentWindows([LONG], tokenizer, 32)
    words = [tokenizer.tokens[windows[n][0][1]] for n in range(1, len(windows))]
    assert len(words) > 20 and all(word[:1] in (b" ", b"\n") for word in words)


def test_a_window_longer_than_all_documents_goes_on_over_their_ends(tokenizer):
    windows = DocumentWindows(["The fox.", "The owl.", "On day 3."], tokenizer, 100)
    end = tokenizer.special_tokens[BORDER]
    assert [int((targets == end).sum()) for _, targets in (windows[n] for n in range(3))] == [3, 2, 1]


def test_what_is_graded_begins_with_the_end_token_in_every_window(tokenizer):
    end = tokenizer.special_tokens[BORDER]
    windows = graded_windows([LONG, "The fox."], tokenizer, 16)
    assert all(ids[0] == end and len(ids) == len(targets) <= 16 for ids, targets in windows)
    graded = [target for _, targets in windows for target in targets if target != -100]
    assert graded == [*tokenizer.encode(LONG), end, *tokenizer.encode("The fox."), end]


# ---------------------------------------------------------------- baselines, verdict, advice


def test_the_baselines_are_those_of_their_definitions(tokenizer):
    lzma = pytest.importorskip("lzma")
    learned, held = [LONG[:1500], "The owl."], [LONG[1500:]]
    baselines = text_baselines(tokenizer, learned, held)
    before, after = ("\n".join(part).encode("utf-8") for part in (learned, held))
    bits = -sum(math.log2((before.count(byte) + 1) / (len(before) + 256)) for byte in after)
    assert math.isclose(baselines["bytes"], bits / len(after))
    for name, bits in zip(("bigram", "trigram"), ngram_bits(tokenizer, learned, held, (2, 3))):
        assert math.isclose(baselines[name], bits / len(after))
    added = len(lzma.compress(before + b"\n" + after)) - len(lzma.compress(before))
    assert math.isclose(baselines["lzma"], 8 * added / len(after))


def test_nothing_predicts_random_letters_better_than_counting_them(tokenizer):
    letters = "".join(random.Random(0).choices("abcdefgh", k=20_000))
    assert 3.0 < text_baselines(tokenizer, [letters[2_000:]], [letters[:2_000]])["bytes"] < 3.1


def test_ngram_bits_are_the_surprise_of_all_tokens_and_ends():
    from ch01_understanding_llms.understanding_llms import NgramModel

    tokenizer = BPETokenizer.train("ab ab ab", 261, SPECIAL_TOKENS)
    end = tokenizer.special_tokens[BORDER]
    a, b = tokenizer.encode("ab ab"), tokenizer.encode("ba")
    model = NgramModel(2, tokenizer.vocab_size).fit([end, *a, end])
    row = [end, *b, end]
    expected = -sum(math.log2(model.next_probabilities(row[:n])[row[n]]) for n in range(1, len(row)))
    assert math.isclose(ngram_bits(tokenizer, ["ab ab"], ["ba"], (2,))[0], expected)


def test_a_python_without_lzma_leaves_that_baseline_out(tokenizer, monkeypatch):
    monkeypatch.setattr(own_text, "find_spec", lambda name: None)
    assert set(text_baselines(tokenizer, [LONG], ["The owl."])) == {"bytes", "bigram", "trigram"}


def history(val_losses, train=2.0) -> History:
    steps = list(range(1, 10 * len(val_losses) + 1))
    return History(steps, [train] * len(steps), [0.1] * len(steps), steps[9::10], list(val_losses))


GOOD = {"bytes": 4.5, "bigram": 2.5, "trigram": 2.4, "lzma": 2.1}


@pytest.mark.parametrize(
    ("val_losses", "bits", "baselines", "word", "told"),
    [
        ([5.0, 4.0, 3.0], 2.0, GOOD, "learned", "2.00 bits per byte, the best counting model (trigram) 2.40"),
        ([5.0, 3.0, 3.2], 2.0, GOOD, "learned", "2.00"),
        ([5.0, 3.0, 3.4], 2.0, GOOD, "memorized", "lowest after step 20, 3.00 nats per token, and rose to 3.40"),
        ([6.6, 9.0, 16.9], 2.9, GOOD, "memorized", "lowest after step 10"),
        ([5.0, 4.0, 3.0], 2.39, GOOD, "untrained", "2.39 bits per byte, the best counting model (trigram) 2.40"),
        ([5.0, 4.0, 3.0], 3.44, {"bytes": 3.46, "bigram": 4.2, "trigram": 4.5}, "untrained", "(bytes) 3.46"),
        ([5.0], 3.5, GOOD, "untrained", "3.50"),
        ([1.0, 0.1, 0.05], 0.04, GOOD | {"lzma": 0.05}, "memorized", "stands in the rest as well: lzma needs 0.05"),
        ([5.0, 4.0, 3.0], 2.0, {"bytes": 4.0, "bigram": 2.5, "trigram": 2.6}, "learned", "(bigram) 2.50"),
    ],
)
def test_the_verdict_is_decided_by_numbers(val_losses, bits, baselines, word, told):
    verdict = text_verdict(history(val_losses), bits, baselines)
    assert verdict.word == word and told in verdict.reason and verdict.remedy


def test_an_untrained_model_is_told_to_train_longer_only_while_its_loss_falls():
    assert "train longer" in text_verdict(history([5.0, 4.0]), 3.5, GOOD).remedy
    assert "train longer" not in text_verdict(history([4.0, 4.1]), 3.5, GOOD).remedy


STORY = GPTConfig(3072, 320, 128, 4, 4)


@pytest.mark.parametrize(
    ("n_bytes", "config", "n_steps", "told", "untold"),
    [
        (20_000, STORY, 2_900, ["--vocabulary 512 --layers 2 --width 64", "1,114 times", "From about step 26"], []),
        (200_000, STORY, 2_900, ["suits this much text: --layers 2 --width 64"], ["--vocabulary"]),
        (80_000, STORY, 100, ["--vocabulary 1024", "10 times"], ["From about"]),
        (3_000_000, STORY, 2_900, ["about 7 times"], ["From about", "suits"]),
        (90_000_000, STORY, 2_900, ["read once or less."], ["From about", "suits"]),
        (30_000, GPTConfig(512, 64, 64, 2, 2), None, ["about 10,000 tokens"], ["times", "suits"]),
    ],
)
def test_the_advice_follows_from_the_amount_of_text(n_bytes, config, n_steps, told, untold):
    advice = text_advice(n_bytes, config, 8, n_steps)
    assert all(words in advice for words in told), advice
    assert not any(words in advice for words in untold), advice
