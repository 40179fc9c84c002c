"""Writing files so that each is there completely or not at all, and reading text that somebody else has written.

What is written goes beside its place first, is flushed to the disk, and is moved there in one step: a power cut leaves
the old content or the new one, never half of each. What is read is UTF-8 text or refused by name: text in another
encoding would be read as other letters without a word.
"""

import os
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

WINDOWS_BUSY = (5, 32, 33)  # access denied, sharing violation, lock violation: another program is looking
NO_UTF8 = (  # how files begin that are no UTF-8 text; UTF-32 before UTF-16, whose mark is the beginning of its own
    (b"\xff\xfe\0\0", "UTF-32 text"),
    (b"\0\0\xfe\xff", "UTF-32 text"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"PK\x03\x04", "a ZIP archive (as .xlsx, .docx and .ods files are)"),
    (b"\xd0\xcf\x11\xe0", "an Office file (.xls or .doc)"),
    (b"{\\rtf", "an RTF file"),
    (b"%PDF-", "a PDF file"),
    (b"\x1f\x8b", "a file packed by gzip"),
    (b"BZh91AY&SY", "a file packed by bzip2"),
    (b"\xfd7zXZ\0", "a file packed by xz"),
    (b"\x28\xb5\x2f\xfd", "a file packed by Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"SQLite format 3\0", "a database of SQLite"),
    (b"PAR1\x15", "a Parquet file"),
)
UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufe0e\ufe0f\ufeff"))  # signs that have no shape


def write_durably(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it.

    Source: Pillai et al. (2014), section 2.
    """
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(source: Path, target: Path, attempts: int = 10) -> None:
    """Move a file or folder to its place in one step; on Windows, wait for programs that are looking at it.

    Source: Pillai et al. (2014), section 2.
    """
    for attempt in range(attempts):
        try:
            return os.replace(source, target)
        except OSError as error:
            if getattr(error, "winerror", None) not in WINDOWS_BUSY or attempt == attempts - 1:
                raise
            time.sleep(0.05 * 2**attempt)  # a virus scanner or an indexer holds the file for a moment


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a text or bytes so that the file is complete or as it was before; its folder is made when absent.

    Source: Pillai et al. (2014), section 2.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write_durably(part, content.encode("utf-8") if isinstance(content, str) else content)
        replace(part, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk is told of without a name
        raise
    finally:
        part.unlink(missing_ok=True)


def read_utf8(path: str | Path) -> str:
    """Read a text file of anybody's making: UTF-8, with or without a byte order mark, each line end as \\n.

    Args:
        path: the file.

    Raises:
        ValueError: the file cannot be read, is in another encoding, or is no text.

    Source: The Unicode Standard, section 3.10.
    """
    with _opened(path) as file:
        return decode_utf8(file.read(), path)


def utf8_blocks(path: str | Path, n_bytes: int, *, whole_lines: bool = False) -> Iterator[str]:
    """Yield a large text file in blocks that end where a line does; they join to what `read_utf8` gives.

    Args:
        path: the file.
        n_bytes: about so many are in memory at a time, 4 or more.
        whole_lines: never cut a line; otherwise one that is longer than a block is cut at a space, or anywhere.

    Raises:
        ValueError: the file cannot be read, is in another encoding, or is no text.

    Source: The Unicode Standard, section 3.10.
    """
    done, rest = 0, b""
    with _opened(path) as file:
        while content := file.read(n_bytes):
            content = rest + content
            cut = _end_of_lines(content, whole_lines)
            block, rest = content[:cut], content[cut:]
            name = f"{path} behind byte {done:,}" if done else path
            if block:
                yield decode_utf8(block, name, is_beginning=not done)
            done += len(block)
    if rest:
        yield decode_utf8(rest, f"{path} behind byte {done:,}" if done else path, is_beginning=not done)


def _opened(path: str | Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        cause = "it is a folder" if os.path.isdir(path) else error.strerror
        raise ValueError(f"{path} cannot be read ({cause}); expected a text file") from None


def _end_of_lines(content: bytes, whole_lines: bool) -> int:
    """Where the last whole line ends, or else the last word or character; 0 if a whole line has not come yet."""
    line = max(content.rfind(b"\n"), content.rfind(b"\r", 0, len(content) - 1)) + 1  # a last \r may belong to a \n
    if line or whole_lines:
        return line
    if (word := content.rfind(b" ")) > 0:
        return word
    cut = len(content) - 1
    while cut and content[cut] & 0xC0 == 0x80:  # in the middle of a character
        cut -= 1
    return cut


def decode_utf8(content: bytes, path: str | Path, *, is_beginning: bool = True) -> str:
    """Decode what a text file holds: UTF-8, with or without a byte order mark, each line end (LF, CRLF, CR) as \\n.

    Args:
        content: the bytes of the file.
        path: the file's name, for the message.
        is_beginning: whether the bytes are the first of the file, by which other kinds of files are known.

    Raises:
        ValueError: the bytes are in another encoding, or are no text.

    Source: The Unicode Standard, section 3.10.
    """
    for beginning, kind in NO_UTF8:
        if is_beginning and content.startswith(beginning):
            raise ValueError(f"{path} is {kind}, not UTF-8 text; save it as plain text in UTF-8, a table as CSV UTF-8")
    if b"\0" in content:
        raise ValueError(
            f"{path} holds NUL bytes ({content.count(0):,}, the first in line {_line_of(content, content.index(0))}), "
            "as UTF-16 text and files that are no text do; save it as plain text in UTF-8"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text (byte {error.start}, in line {_line_of(content, error.start)}, does not fit; "
            "older encodings are Windows-1252 and Latin-1); save it as plain text in UTF-8"
        ) from None
    return _with_plain_line_ends(text)


def _with_plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _line_of(content: bytes, at: int) -> int:
    """The number of the line in which a byte stands, where lines end as in `decode_utf8`."""
    before = content[:at].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return before.count(b"\n") + 1


def lost_letters(text: str) -> list[str]:
    """Say where U+FFFD stands in a text, the sign that a program writes for a letter that it could not read.

    Args:
        text: of a file, as it was read.

    Source: The Unicode Standard, section 3.9.
    """
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if "\ufffd" in line]
    if not lines:
        return []
    return [
        f"the sign \ufffd stands in {len(lines):,} lines (the first is line {lines[0]}), so letters were lost when "
        "this file was made; save it once more from its source, in UTF-8"
    ]


def as_seen(text: str) -> str:
    """Write a text as a reader sees it: accents composed, one space between words, nothing that has no shape.

    Source: The Unicode Standard, Annex 15.
    """
    return " ".join(unicodedata.normalize("NFC", text.translate(UNSEEN)).split())


def without_blank_lines(text: str, *, front: bool = True, back: bool = True) -> str:
    """Take away the blank lines before and behind a text; its indentation stays, and each line end is \\n.

    Args:
        text: any text.
        front: whether the lines before it go.
        back: whether those behind it go.

    Source: this course.
    """
    text = _with_plain_line_ends(text)
    first, last = len(text) - len(text.lstrip()), len(text.rstrip())  # where its words begin and end
    if not last:
        return ""
    begin = text.rfind("\n", 0, first) + 1 if front else 0
    end = text.find("\n", last) if back else -1
    return text[begin:] if end < 0 else text[begin:end]


def whole_characters(text: str) -> str:
    """Write U+FFFD for each half of a character (a lone surrogate), which JSON may hold and no file in UTF-8.

    Source: The Unicode Standard, section 3.9.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
