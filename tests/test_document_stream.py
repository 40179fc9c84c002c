"""A large file gives the same documents as a small one, and only a piece of it is in memory at a time."""

import json
import random
import re

import pytest

from ch02_text_data.bpe import split_pieces
from data import document_stream
from data.document_stream import BORDER, DocumentPart, documents_in, split_at_borders, stream_documents
from data.files import read_utf8, utf8_blocks, without_blank_lines
from tests.sizes import n

WORDS = (
    "the owl",
    " flew",
    "\n",
    "\n\n  ",
    "é中",
    "  ",
    ".",
    "\r\n",
    "\r",
    "\u2028",
    f"\n{BORDER}\n",
    f"{BORDER} x ",
    BORDER,
)


def random_text(seed: int, length: int = 300) -> str:
    return "".join(random.Random(seed).choices(WORDS, k=length))


def whole(parts) -> list[str]:
    """Join the parts of each document."""
    documents, begun = [], ""
    for part in parts:
        begun += part.text
        if part.ends:
            documents.append(begun)
            begun = ""
    assert not begun, "the last document has no end"
    return documents


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(document_stream, "AT_ONCE", 300)  # longer than any line of `random_text`
    monkeypatch.setattr(document_stream, "LONG", 20)


@pytest.mark.parametrize("seed", range(n(40, 1_000)))
def test_a_file_in_pieces_holds_the_documents_of_the_whole(tmp_path, small_pieces, seed):
    path = tmp_path / "text.txt"
    path.write_bytes(random_text(seed).encode("utf-8"))
    parts = list(stream_documents(path))
    assert whole(parts) == list(documents_in(read_utf8(path)))
    assert max(len(part.text) for part in parts) <= 2 * document_stream.LONG


PATTERN = re.compile(r"^(?:[^\S\n]*<\|endoftext\|>)+|(?:<\|endoftext\|>[^\S\n]*)+$", re.MULTILINE)  # slow, and plain


@pytest.mark.parametrize("seed", range(n(40, 1_000)))
def test_borders_are_found_where_a_pattern_says(seed):
    text = random_text(seed).replace("\r", "\n")
    plainly = [part for part in map(without_blank_lines, PATTERN.split(text)) if part]
    assert list(documents_in(text)) == plainly


def test_many_borders_in_one_line_take_no_longer_than_many_lines():
    text = f"x {BORDER} " * 100_000 + "x"
    assert split_at_borders(text) == [text]


@pytest.mark.parametrize("seed", range(n(20, 500)))
def test_blocks_join_to_the_text(tmp_path, seed):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeff".encode() + random_text(seed, 100).encode("utf-8"))
    for n_bytes in (4, 7, 50, 10_000):
        assert "".join(utf8_blocks(path, n_bytes)) == read_utf8(path)
        assert "".join(utf8_blocks(path, n_bytes, whole_lines=True)) == read_utf8(path)


def test_parts_are_cut_where_no_tokenizer_joins_the_sides(tmp_path, small_pieces):
    text = "One day, the owl's nest fell down.  It was sad\n\nand 42 owls came.\nThey built it anew. " * 20
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8")
    parts = list(stream_documents(path))
    assert len(parts) > 10 and [part.ends for part in parts] == [False] * (len(parts) - 1) + [True]
    assert [piece for part in parts for piece in split_pieces(part.text)] == list(split_pieces(text.rstrip("\n")))


def test_a_text_without_any_place_to_cut_is_cut_all_the_same(tmp_path, small_pieces):
    path = tmp_path / "one.txt"
    path.write_text("é" * 500, encoding="utf-8")
    assert whole(stream_documents(path)) == ["é" * 500]


def test_json_lines_in_blocks_are_the_records_of_the_whole(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    texts = [f"story {number}\nwith é" for number in range(50)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    monkeypatch.setattr(document_stream, "AT_ONCE", 100)
    assert whole(stream_documents(path)) == texts
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"words": 1}\n')
    with pytest.raises(ValueError, match="behind line 50, line 1, record [0-9]+: found the keys words"):
        list(stream_documents(path))


def test_a_wrong_byte_far_behind_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(document_stream, "AT_ONCE", 100)
    path = tmp_path / "text.txt"
    path.write_bytes(b"a line of text\n" * 20 + b"caf\xe9\n")
    with pytest.raises(ValueError, match="behind byte [0-9]+ is not UTF-8 text"):
        list(stream_documents(path))
    path.write_bytes(b"a line of text\n" * 20 + b"%PDF- is how a line may begin\n")
    assert len(whole(stream_documents(path))) == 1


def test_parquet_is_read_where_its_package_is_installed(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["one", f"two\n{BORDER}\nthree"], "id": [1, 2]}), path)
    assert list(stream_documents(path)) == [DocumentPart(text, True) for text in ("one", "two", "three")]
    parquet.write_table(pyarrow.table({"words": ["one"]}), path)
    with pytest.raises(ValueError, match="holds no column `text` that can be read .its columns are words"):
        list(stream_documents(path))
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match="holds no column `text` that can be read"):
        list(stream_documents(path))


def test_without_the_package_parquet_is_passed_over_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(document_stream, "SUFFIXES", (".txt",))
    monkeypatch.setattr(document_stream, "find_spec", lambda name: None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    (tmp_path / "story.txt").write_text("One day.", encoding="utf-8")
    notes: list[str] = []
    assert [path.name for path in document_stream.text_files(tmp_path, notes)] == ["story.txt"]
    assert notes[1].startswith("rows.parquet: Parquet is read where the Python package pyarrow is installed")
    with pytest.raises(ValueError, match="pyarrow is installed"):
        list(stream_documents(tmp_path / "rows.parquet"))
