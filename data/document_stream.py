"""One reader for everybody's texts: which documents a file or a folder holds, however large it is.

A document is what stands between two borders. Borders are the ends of a file, the ends of a record of JSON Lines or of
a row of Parquet, and `<|endoftext|>` where a line begins or ends with it. A small file is read at once. Of a large one
only a piece is in memory at a time, and so is of a large document: it comes in parts, cut where no tokenizer of the
course joins what stands on both sides.

Parquet is read where the package `pyarrow` is installed; the course does not need it.
"""

import os
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from data.files import read_utf8, utf8_blocks, without_blank_lines
from data.json_records import json_records

BORDER = "<|endoftext|>"
BORDERS = re.compile(r"(?:<\|endoftext\|>[^\S\n]*)+")  # one or several in a line
SPACES = re.compile(r"[^\S\n]*")
PARQUET = ".parquet"
SUFFIXES = (".txt", ".md", ".jsonl", *((PARQUET,) if find_spec("pyarrow") else ()))  # what is read in a folder
RECORDS, FORM = (".jsonl", ".json"), '{"text": "…"}'
UNREAD = {  # kinds of files that somebody may expect to be read -> what is said of them
    ".pdf": "PDF is not read, save the text of such a file as .txt",
    ".docx": "Word files are not read, save such a file as plain text (.txt) in UTF-8",
    PARQUET: "Parquet is read where the Python package pyarrow is installed, or save the texts as .jsonl",
}
AT_ONCE = 16_000_000  # bytes of a file that is read as a whole, and of a piece of a larger one
LONG = 1_000_000  # characters of a document, from which on it comes in parts
SAFE_CUTS = (re.compile(r"(?<=\S\n)(?=\S)|(?<=\S)(?= \w)"), re.compile(r"(?<=\w)(?=\w)"))  # between words, or in one
Source = str | Path


class DocumentPart(NamedTuple):
    """A document, or one part of a long one.

    Args:
        text: with at least one word, but for the last part of a long document, which may be empty.
        ends: whether the document ends here.
    """

    text: str
    ends: bool


def stream_documents(path: Path) -> Iterator[DocumentPart]:
    """Yield the documents of a file one after another, long ones in parts that join to their text.

    Args:
        path: a file of any size: UTF-8 text, JSON Lines with the key `text`, or Parquet with the column `text`.

    Raises:
        ValueError: the file cannot be read, or is none of these.

    Source: Brown et al. (2020), section 2.2 and appendix A, for documents as the unit. For ch05, section 5.14.
    """
    if path.suffix.lower() not in (*RECORDS, PARQUET) and size_of(path) > AT_ONCE:
        yield from _parts_between_borders(utf8_blocks(path, AT_ONCE))
        return
    for text in texts_of_file(path):
        for document in documents_in(text):
            yield from _in_parts(document)


def _parts_between_borders(blocks: Iterable[str]) -> Iterator[DocumentPart]:
    """The documents of a text in blocks of whole lines; in a line longer than a block a border may be missed."""
    begun, is_new = "", True  # what no border has ended yet; whether a document begins there
    for block in blocks:
        begun += block
        lines = begun.rfind("\n") + 1
        lines = lines if len(begun) - lines <= AT_ONCE else len(begun)
        begun, last_line = begun[:lines], begun[lines:]  # how half a line goes on decides whether it holds a border
        *whole, begun = split_at_borders(begun)
        for text in whole:
            yield from _ended(text, is_new)
            is_new = True
        begun = without_blank_lines(begun, back=False) if is_new else begun
        while len(begun) > 2 * LONG:
            cut = _safe_place(begun)
            yield DocumentPart(begun[:cut], False)
            begun, is_new = begun[cut:], False
        begun += last_line
    for text in split_at_borders(begun):
        yield from _ended(text, is_new)
        is_new = True


def _ended(text: str, is_new: bool) -> Iterator[DocumentPart]:
    """The last parts of a document; an end without words is still the end of what came before."""
    text = without_blank_lines(text, front=is_new)
    if text or not is_new:
        yield from _in_parts(text)


def _in_parts(document: str) -> Iterator[DocumentPart]:
    while len(document) > 2 * LONG:
        cut = _safe_place(document)
        yield DocumentPart(document[:cut], False)
        document = document[cut:]
    yield DocumentPart(document, True)


def _safe_place(document: str) -> int:
    """Where to cut a long text: at the first safe place behind `LONG` characters, or just there if none is near."""
    found = (kind.search(document, LONG, 2 * LONG) for kind in SAFE_CUTS)
    return next((place.start() for place in found if place), LONG)


def split_at_borders(text: str) -> list[str]:
    """Cut a text where `<|endoftext|>` begins or ends a line; inside of a line it is ordinary text.

    Args:
        text: of any length; the borders are looked for by their letters, which is fast.
    """
    parts, done, line = [], 0, 0
    for border in BORDERS.finditer(text):
        line = max(line, text.rfind("\n", line, border.start()) + 1)  # where the line of this border begins
        begins_line = SPACES.match(text, line).end() == border.start()  # type: ignore[union-attr]  # matches nothing, too
        if begins_line or text[border.end() : border.end() + 1] in ("\n", ""):
            parts.append(text[done : line if begins_line else border.start()])
            done = border.end() if not begins_line else border.start() + len(border[0].rstrip())
    return [*parts, text[done:]]


def documents_in(text: str) -> Iterator[str]:
    """Yield the documents of a text that is in memory, each with at least one word and no blank lines around it."""
    for part in split_at_borders(text):
        if document := without_blank_lines(part):
            yield document


# ---------------------------------------------------------------- files


def text_files(folder: Path, notes: list[str]) -> list[Path]:
    """List the readable files of a folder and of the folders in it, in the order of their names.

    Args:
        folder: hidden files and folders in it are passed over.
        notes: gets whole sentences about what was passed over.

    Raises:
        ValueError: there is no such file, or a folder cannot be read.
    """
    found: list[Path] = []
    unread: dict[str, list[str]] = {kind: [] for kind in UNREAD}
    links: list[str] = []
    others = 0
    for place, folders, names in os.walk(folder, onerror=_cannot_be_read):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links += [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted(names):
            fits = name.lower().endswith(SUFFIXES) and not name.startswith(".")
            found += [Path(place) / name] if fits else []
            others += not fits
            if not fits and (kind := Path(name).suffix.lower()) in unread:
                unread[kind].append(name)
    told = [f"{_some(names)}: {UNREAD[kind]}" for kind, names in unread.items() if names]
    told += [f"{_some(links)}: links to folders are not followed, name such a folder itself"] if links else []
    if not found:
        wanted = f"{folder} holds no file in {', '.join(SUFFIXES)}: give a folder with such files, or a file"
        raise ValueError("; ".join([wanted, *told]))
    if others:
        notes.append(f"{counted(others, 'file')} in {folder} passed over: hidden, or not in {', '.join(SUFFIXES)}.")
    notes += [f"{sentence}." for sentence in told]
    return found


def _cannot_be_read(error: OSError) -> None:
    raise ValueError(f"{error.filename} cannot be read ({error.strerror}): allow it, or give another folder") from error


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(n: int, thing: str) -> str:
    """Write a number with its noun: "1 file", "2,000 files"."""
    return f"{n:,} {thing}{'s' * (n != 1)}"


def texts_of_file(path: Path) -> Iterator[str]:
    """Yield the texts of a file, borders included: one of a text file, one for each record of other files.

    Args:
        path: its name says by `.jsonl`, `.json` or `.parquet` that it holds records.

    Raises:
        ValueError: the file cannot be read, or does not hold what its name says.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is neither a file nor a folder: save the text in a file first")
    suffix = path.suffix.lower()
    if suffix not in (*RECORDS, PARQUET):
        yield read_utf8(path)
        return
    for place, record in _parquet_rows(path) if suffix == PARQUET else _json_lines(path):
        yield plain(_field(record, place), place)


def _json_lines(path: Path) -> Iterator[tuple[str, object]]:
    """The records of a file with their places; of a large one, each of whose lines must hold whole records, in blocks.

    A large file that is one list is read as a whole all the same: its end may be anywhere.
    """
    if size_of(path) <= AT_ONCE or _begins_a_list(path):
        yield from ((f"{path}, {place}", record) for place, record in json_records(read_utf8(path), path, FORM))
        return
    done = 0
    for block in utf8_blocks(path, AT_ONCE, whole_lines=True):
        name = f"{path} behind line {done:,}" if done else f"{path}"
        if block.strip():
            yield from ((f"{name}, {place}", record) for place, record in json_records(block, name, FORM))
        done += block.count("\n")


def _begins_a_list(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1_000).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _parquet_rows(path: Path) -> Iterator[tuple[str, object]]:
    if not find_spec("pyarrow"):
        raise ValueError(f"{path}: {UNREAD[PARQUET]}")
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise ValueError(f"its columns are {', '.join(file.schema_arrow.names)}")
            rows = (row for batch in file.iter_batches(1_000, columns=["text"]) for row in batch.to_pylist())
            yield from ((f"{path}, row {number:,}", row) for number, row in enumerate(rows, start=1))
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these classes
        raise ValueError(f"{path} holds no column `text` that can be read ({error}): give another file") from error


def size_of(path: Path) -> int:
    """Give the bytes of a file; 0 where it cannot be asked, for whoever reads it will say why."""
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _field(record: object, where: str) -> str:
    if not isinstance(record, dict) or "text" not in record:
        found = f"the keys {', '.join(record) or 'none'}" if isinstance(record, dict) else f"{record!r:.40}"
        raise ValueError(f"{where}: found {found}; expected a record like {FORM}")
    if not isinstance(record["text"], str):
        raise ValueError(f'{where}: "text" is {record["text"]!r:.40}; expected a text in quotation marks')
    return record["text"]


def plain(text: str, where: str) -> str:
    """Write a string as a file would hold it: no lone surrogates, each line end as \\n.

    Args:
        text: any string.
        where: it stands, for the message.

    Raises:
        ValueError: it holds the character NUL.
    """
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "\0" in text:
        raise ValueError(f"{where} holds the character NUL, as what is no text does: give plain text")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
