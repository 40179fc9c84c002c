"""Walk through a table in a text file: CSV and its relatives, whose first line names the columns.

Python's `csv` splits the cells. Here stand the names, the lines where rows begin, and the sentences for what is wrong.

Reference: RFC 4180, "Common Format and MIME Type for Comma-Separated Values (CSV) Files".
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from data.files import as_seen, without_blank_lines

SEPARATORS = "\t,;|"
RULE = re.compile(r"\s*([-:=+]{2,}\s*)?")  # what some programs draw below the names of the columns
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # what Excel understands as a file's first line


class Head(NamedTuple):
    """The line that names the columns: where it stands, what separates the columns, and their names.

    Args:
        line: its number.
        separator: one sign.
        names: of all columns.
        is_certain: a line before it says what separates the columns, so the file is a table.

    Source: RFC 4180, section 2.
    """

    line: int
    separator: str
    names: list[str]
    is_certain: bool = False


def find_head(content: str, fits: Callable[[list[str]], bool]) -> tuple[Head | None, Head]:
    """Read the first line as names of columns: -> the head whose names fit, or None, and the one with most names.

    Args:
        content: text of the file.
        fits: whether these are names of columns.

    Source: RFC 4180, section 2.
    """
    filled = ((number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip())
    (number, line), separators, is_certain = next(filled, (1, "")), SEPARATORS, False
    if excel := SEPARATOR_LINE.fullmatch(line):
        (number, line), separators, is_certain = next(filled, (number, "")), excel[1], True
    with cells_of_any_length(content):
        split = {mark: next(csv.reader([line], delimiter=mark), []) for mark in separators}
    heads = [Head(number, mark, [cell.strip() for cell in cells], is_certain) for mark, cells in split.items()]
    fitting = next((head for head in heads if fits(head.names)), None)
    return fitting, max(heads, key=lambda head: len(head.names))


def table_rows(content: str, path: str | Path, head: Head) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows below the head that are not empty, each with the line where it begins.

    Blank lines around a cell's text and spaces at its end are left out.

    Args:
        content: text of the file.
        path: the file's name, for the message.
        head: what `find_head` gave.

    Raises:
        ValueError: a quotation mark is not closed, a row has too many cells, or the head comes once more.

    Source: RFC 4180, section 2.
    """
    with cells_of_any_length(content):
        rows = [row for row in _all_rows(content, path, head.separator) if row[0] > head.line]
    for line, row in rows:
        cells = [without_blank_lines(cell).rstrip() for cell in row]
        if all(RULE.fullmatch(cell) for cell in cells):
            raise ValueError(f"{path}, line {line}: found a line drawn between names and rows; remove it")
        if [as_seen(cell).casefold() for cell in cells] == [as_seen(name).casefold() for name in head.names]:
            raise ValueError(f"{path}, line {line}: found the names of the columns once more; remove the line")
        if any(cells[len(head.names) :]):
            raise ValueError(
                f"{path}, line {line}: found {len(cells)} columns, but line {head.line} names {len(head.names)}; put "
                f"texts that hold {head.separator!r} into quotation marks"
            )
        yield line, cells


def _all_rows(content: str, path: str | Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content), delimiter=separator, strict=True, skipinitialspace=separator != "\t")
    try:
        while True:
            line = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if any("\n" in cell and separator in cell for cell in cells if separator == "\t"):
                raise csv.Error("a tab and a line end in one text")
            if any(cell.strip() for cell in cells):
                yield line, cells
    except csv.Error:
        raise ValueError(
            f"{path}, line {line}: found a quotation mark that is not closed where its text ends; close it there, and "
            "write a quotation mark inside of a quoted text twice"
        ) from None


@contextmanager
def cells_of_any_length(content: str) -> Iterator[None]:
    """Lift the limit of 131,072 signs that Python's csv sets to a cell: a text may be longer.

    Args:
        content: text of the file.

    Source: this course.
    """
    limit = csv.field_size_limit(len(content) + 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
