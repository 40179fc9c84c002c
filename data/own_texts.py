"""Texts of your own: which documents a file, a folder or a string holds, and which of them are kept aside.

What a document is, and how files are read, stands in `document_stream.py`, which also reads a text that is larger than
the memory. Here a text is in memory as a whole, every document once. All commands and functions that take such a text
read it here.
"""

import hashlib
import os
import random
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from operator import not_
from pathlib import Path
from typing import NamedTuple

from data.document_stream import (
    BORDER,
    RECORDS,
    SUFFIXES,
    Source,
    counted,
    documents_in,
    plain,
    split_at_borders,
    stream_documents,
    text_files,
    texts_of_file,
)

KEPT_ASIDE, MOST_KEPT_ASIDE = 0.1, 1_000_000  # share of the visible characters, and their number
FEWEST_BYTES = 1_000
MOST_BYTES = 100_000_000


@dataclass(frozen=True)
class OwnText:
    """Documents in the order in which they were read, each once, and what the reader passed over.

    Args:
        documents: texts with at least one word, without blank lines around them.
        notes: whole sentences about files, copies and borders that were not read as documents.
    """

    documents: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All documents as one text, from which `read_own_text` makes the same documents."""
        return f"\n{BORDER}\n".join(self.documents) + "\n"

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with every character of the documents."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()[:16]

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents in UTF-8."""
        return sum(len(document.encode("utf-8")) for document in self.documents)

    def split(self) -> tuple[list[str], list[str]]:
        """Divide the documents into those to learn from and those kept aside, always in the same way.

        Documents are drawn by chance until they make up a tenth of the text or a million characters. Where they are
        too few or too long for that, the longest one is cut near its end, between two lines or words if there are any.
        """
        sizes = [_n_visible(document) for document in self.documents]
        wanted = min(KEPT_ASIDE * sum(sizes), MOST_KEPT_ASIDE)
        held = _drawn(sizes, wanted)
        if sum(sizes[number] for number in held) >= wanted / 2:
            chosen = [number in held for number in range(len(sizes))]
            return list(compress(self.documents, map(not_, chosen))), list(compress(self.documents, chosen))
        longest = sizes.index(max(sizes))
        cut = _cut(self.documents[longest], round(wanted))
        begun = [self.documents[longest][:cut]]
        return [*self.documents[:longest], *begun, *self.documents[longest + 1 :]], [self.documents[longest][cut:]]


def read_own_text(source: Source | list[Source]) -> OwnText:
    """Read the documents of a text, a file, a folder, or a list of them.

    Args:
        source: a path, or the text itself as a string; a string that names an existing file or folder is taken for
            its path. A `.jsonl` or `.json` file holds records with the key `text`; of a folder, with the folders in
            it, the files in `.txt`, `.md` and `.jsonl` are read and hidden ones passed over.

    Raises:
        ValueError: a file cannot be read, is no UTF-8 text or no JSON Lines, or there is too little text, or too much.

    Source: Brown et al. (2020), section 2.2 and appendix A, for documents as the unit. Taught in ch05, section 5.14.
    """
    sources = list(source) if isinstance(source, (list, tuple)) else [source]
    notes: list[str] = []
    found = [document for one in sources for document in _documents(one, notes)]
    own = OwnText(tuple(dict.fromkeys(found)), (*notes, *_copies_and_borders(found)))
    if not FEWEST_BYTES <= own.n_bytes <= MOST_BYTES:
        raise ValueError(_wrong_size(sources, own))
    return own


class Document(NamedTuple):
    """A text with the name of its file, and of its record where the file holds several.

    Source: this course. For ch06, section D.5.
    """

    name: str
    text: str


def read_documents(folder: Source) -> tuple[list[Document], list[str]]:
    """Read the texts of a folder, each with its place: -> documents, sentences about what was passed over.

    Args:
        folder: the files in `.txt`, `.md` and `.jsonl` in it and in its folders are read, see `read_own_text`; also a
            single file. Every line keeps its number; borders become empty lines.

    Raises:
        ValueError: there is no such folder, no text in it, or a file cannot be read, is no UTF-8 text or no JSON Lines.

    Source: this course. For ch06, section D.5.
    """
    if not os.path.exists(folder):
        raise ValueError(f"there is no folder {str(folder)!r}: give one with files in {', '.join(SUFFIXES)}")
    notes: list[str] = []
    place = Path(folder)
    paths = text_files(place, notes) if os.path.isdir(place) else [place]
    named = [(path.relative_to(place).as_posix() if path != place else path.name, path) for path in paths]
    documents = [document for name, path in named for document in _named_texts(name, path)]
    filled = [document for document in documents if document.text.strip()]
    if not filled:
        raise ValueError(" ".join([f"{folder} holds files, but not one word: write something into them.", *notes])[:-1])
    if empty := len(documents) - len(filled):
        notes.append(f"{counted(empty, 'file')} without a word passed over.")
    return filled, notes


def _named_texts(name: str, path: Path) -> Iterator[Document]:
    several = path.suffix.lower() in RECORDS
    for number, text in enumerate(texts_of_file(path), start=1):
        yield Document(f"{name}, record {number}" if several else name, "".join(split_at_borders(text)))


def _documents(source: Source, notes: list[str]) -> Iterator[str]:
    if not isinstance(source, (str, Path)):
        raise ValueError(f"found a {type(source).__name__}; expected a text or a path")
    if isinstance(source, str) and not os.path.exists(source):
        yield from documents_in(plain(source, "the text"))
        return
    for path in text_files(Path(source), notes) if os.path.isdir(source) else [Path(source)]:
        begun: list[str] = []
        for part in stream_documents(path):
            begun.append(part.text)
            if part.ends:
                yield "".join(begun)
                begun = []


def _copies_and_borders(found: list[str]) -> Iterator[str]:
    if copies := len(found) - len(set(found)):
        yield f"{counted(copies, 'document')} passed over: word for word the same as another."
    if inside := sum(document.count(BORDER) for document in set(found)):
        yield f"{BORDER} inside a line, {counted(inside, 'time')}, read as ordinary text: give borders their own line."


def _wrong_size(sources: list[Source], own: OwnText) -> str:
    found = f"the text has {own.n_bytes:,} bytes in {counted(len(own.documents), 'document')}"
    found = found if own.documents else "the text has not one word"
    if own.n_bytes > MOST_BYTES:
        return f"{found}: give at most {MOST_BYTES:,} bytes, more than this model reads in a day"
    missing = [one for one in sources if isinstance(one, str) and "\n" not in one and not os.path.exists(one)]
    hint = f" (and there is no file {missing[0]!r:.60})" if missing else ""
    wanted = f"give at least {FEWEST_BYTES:,} bytes, better a hundred times as much."
    return " ".join([f"{found}{hint}: {wanted}", *own.notes]).removesuffix(".")


def _n_visible(text: str) -> int:
    return sum(map(len, text.split()))


def _drawn(sizes: list[int], wanted: float) -> set[int]:
    """Numbers of documents, drawn by chance, that together come near the size that is wanted."""
    order = list(range(len(sizes)))
    random.Random("documents kept aside").shuffle(order)  # the same whatever the run's seed: grades stay comparable
    held, size = set(), 0
    for number in order:
        if size < wanted and size + sizes[number] <= 1.5 * wanted:
            held.add(number)
            size += sizes[number]
    return held


def _cut(document: str, n_visible: int) -> int:
    """Where the last so many visible characters begin, or the start of a line or of a word that is near."""
    places = range(len(document))
    cut = bisect_right(places, -n_visible, key=lambda at: -_n_visible(document[at:])) - 1
    near = (len(document) - cut) // 5
    for border in (r"\n", r"\s+"):  # a script without spaces is cut where it must
        starts = [cut - near + match.end() for match in re.finditer(border, document[cut - near : cut + near])]
        if starts:
            return min(starts, key=lambda at: abs(at - cut))
    return cut
