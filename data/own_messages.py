"""Read messages of your own: lines of a label, a tab and a text, or a table whose first line names its columns.

What cannot be right is refused with file and line. What is only doubtful is warned about: a label that occurs once may
be a slip or a rare class, and only the owner of the file can tell.
"""

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from data.files import as_seen, lost_letters, read_utf8
from data.story_world.message_task import Message
from data.tables import Head, find_head, table_rows

NAMES = {  # what people call the two columns, our own name first
    "label": ("label", "class", "category", "target", "sentiment", "intent", "type", "tag", "v1"),
    "text": ("text", "message", "sms", "sentence", "review", "comment", "content", "body", "tweet", "v2"),
}
CHOICE = "label=… and text=… (in the terminal --label and --text)"
FORM = (
    f"a label, a tab and a text, or a table whose first line names its columns (label,text; others with {CHOICE}; "
    "where the first line names none, write label,text above it, in the order of the columns)"
)
NUMBER = re.compile(r"[-+]?[0-9]{1,9}(\.[0-9]{1,4})?")
FEW = 10  # among fewer messages, a label for each is no sign of trouble


class Row(NamedTuple):
    """A message and the line where it begins."""

    line: int
    label: str
    text: str


class Table(NamedTuple):
    """The head of a table, and in which places stand the columns that are ours."""

    head: Head
    label: int
    text: int


def read_messages(path: str | Path, *, text: str | None = None, label: str | None = None) -> list[Message]:
    """Read messages of your own: one a line, the label, a tab, the text; or a table with named columns, such as CSV.

    Lines of a label, a tab and a text are the form of the SMS Spam Collection; quotation marks in them are ordinary
    signs. Where the first line names a column for the label and one for the text, the file is a table. Its columns are
    separated by commas, semicolons, tabs or bars, and a text in quotation marks may hold these and several lines.

    Args:
        path: a UTF-8 file; a byte order mark and empty lines are passed over.
        text: name of the column that holds the texts; None looks for `text`, `message`, `v2` and the like.
        label: name of the column that holds the labels; None looks for `label`, `category`, `v1` and the like.

    Raises:
        ValueError: the file is missing, not UTF-8 or empty, a message has no label or no text, a column is not there,
            label and text are swapped, or two labels look the same and are not.

    Source: Almeida, Gómez Hidalgo and Yamakami (2011), section 3. Taught in ch06, section 6.7.
    """
    content = read_utf8(path)
    table = _find_table(content, path, {"label": label, "text": text})
    rows, doubts = _rows_of_table(content, path, table) if table else (list(_lines(content, path)), [])
    if not rows:
        raise ValueError(f"{path} holds no message; expected lines of {FORM}")
    _refuse_control_signs(rows, path)
    _refuse_swapped(rows, path)
    _refuse_twins(rows, path)
    for doubt in [*_guesses(table, label, text), *lost_letters(content), *doubts, *_doubtful_labels(rows, table)]:
        warnings.warn(f"{path}: {doubt}", stacklevel=2)
    return [Message(row.text, row.label) for row in rows]


def holds_messages(path: str | Path) -> bool:
    """Say whether a file is a table with a column that is called like a label, and one that is called like a text.

    Args:
        path: a UTF-8 file.

    Raises:
        ValueError: the file is missing or not UTF-8.

    Source: this course.
    """
    anything: dict[str, str | None] = dict.fromkeys(NAMES)
    return (
        find_head(read_utf8(path), lambda names: all(_places(names, role, anything) for role in NAMES))[0] is not None
    )


def _lines(content: str, path: str | Path) -> Iterator[Row]:
    """Lines of a label, a tab and a text."""
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        label, _, text = line.partition("\t")
        if not as_seen(label) or not as_seen(text):
            raise ValueError(f"{path}, line {number}: found {line[:40]!r}; expected {FORM}")
        if _is_name(label, "label") and _is_name(text, "text"):
            raise ValueError(f"{path}, line {number}: found {line!r}, names of columns; remove the line")
        yield Row(number, label.strip(), text.rstrip())


# ------------------------------------------------------------------------------------------ tables with named columns
def _find_table(content: str, path: str | Path, wanted: dict[str, str | None]) -> Table | None:
    """Read the names of the columns; None where the first line names none and none is wanted."""
    head, longest = find_head(content, lambda names: all(_places(names, role, wanted) for role in NAMES))
    if head:
        ours = {role: _only(_places(head.names, role, wanted), head.names, role, path) for role in NAMES}
        return Table(head, **ours)
    if longest.is_certain or any(wanted.values()):
        asked = " and ".join(repr(wanted[role] or role) for role in NAMES)
        raise ValueError(
            f"{path}, line {longest.line}: found the columns {_listed(longest.names)}; expected {asked}: name those "
            f"that hold label and text with {CHOICE}"
        )
    return None


def _places(names: list[str], role: str, wanted: dict[str, str | None]) -> list[int]:
    """Which columns may hold the label or the text: the wanted one, the one called so, or those with a known name."""
    taken = [wanted[other] for other in NAMES if other != role]
    free = [place for place, name in enumerate(names) if name not in taken]
    if wanted[role] is not None:
        return [place for place in free if as_seen(names[place]) == as_seen(str(wanted[role]))]
    known = [place for place in free if _is_name(names[place], role)]
    return [place for place in known if as_seen(names[place]).casefold() == role] or known


def _only(places: list[int], names: list[str], role: str, path: str | Path) -> int:
    if len(places) > 1:
        found = _listed([names[place] for place in places])
        raise ValueError(
            f"{path} has the columns {found}, each of which may hold the {role}; choose with {role}=… (in the terminal "
            f"--{role})"
        )
    return places[0]


def _is_name(cell: str, role: str) -> bool:
    return as_seen(cell).casefold() in NAMES[role]


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _rows_of_table(content: str, path: str | Path, table: Table) -> tuple[list[Row], list[str]]:
    """All rows below the head, and what is doubtful about them."""
    rows, stray = [], []
    for line, cells in table_rows(content, path, table.head):
        rows.append(_row(cells, line, path, table))
        nameless = [cell.strip() for cell, name in zip(cells, table.head.names) if not name]
        stray += [line] if any(cell and not cell.isdigit() for cell in nameless) else []  # pandas counts its rows
    found = f"{len(stray):,} of {len(rows):,} rows (the first in line {stray[0]})" if stray else ""
    return rows, [f"text in a column without a name is not read, in {found}"] if stray else []


def _row(cells: list[str], line: int, path: str | Path, table: Table) -> Row:
    for place in (table.label, table.text):
        if not as_seen("".join(cells[place : place + 1])):
            found = f"nothing in column {table.head.names[place]!r}"
            raise ValueError(f"{path}, line {line}: found {found}; fill it in or remove the line")
    return Row(line, cells[table.label].strip(), cells[table.text])


# ------------------------------------------------------------------------------------------------- what cannot be right
def _refuse_swapped(rows: list[Row], path: str | Path) -> None:
    """Labels that are longer and more varied than the texts are the texts."""
    labels, texts = {row.label for row in rows}, {row.text for row in rows}
    long = sum(len(row.label) for row in rows) > 2 * sum(len(row.text) for row in rows)
    if long and len(labels) > len(texts):
        raise ValueError(
            f"{path}: found {len(labels):,} different labels, such as {rows[0].label[:40]!r}, for {len(texts):,} "
            f"different texts, such as {rows[0].text[:40]!r}: the two are swapped; expected {FORM}"
        )


def _refuse_control_signs(rows: list[Row], path: str | Path) -> None:
    """Labels are printed, so what moves the cursor or ends a line may not stand in them."""
    for row in rows:
        if any(unicodedata.category(sign) == "Cc" for sign in row.label):
            raise ValueError(
                f"{path}, line {row.line}: found the label {row.label[:40]!r}, which holds a line end or a control "
                "sign; write it without"
            )


def _refuse_twins(rows: list[Row], path: str | Path) -> None:
    """Labels that nobody can tell apart by looking would become two classes."""
    lines: dict[str, int] = {row.label: row.line for row in reversed(rows)}
    seen: dict[str, str] = {}
    for label, line in lines.items():
        twin = seen.setdefault(as_seen(label), label)
        if twin != label:
            raise ValueError(
                f"{path}: the labels {ascii(twin)} (line {lines[twin]}) and {ascii(label)} (line {line}) look the same "
                "and are not; write both alike"
            )


# ---------------------------------------------------------------------------------------------------- what is doubtful
def _guesses(table: Table | None, label: str | None, text: str | None) -> Iterator[str]:
    """Say which columns were taken where it was neither asked for nor certain."""
    names = [table.head.names[table.label], table.head.names[table.text]] if table else []
    if table and None in (label, text) and [name.casefold() for name in names] != ["label", "text"]:
        yield f"column {names[0]!r} is read as the label and {names[1]!r} as the text; choose with {CHOICE}"


def _doubtful_labels(rows: list[Row], table: Table | None) -> Iterator[str]:
    counts, lines = Counter(row.label for row in rows), {row.label: row.line for row in reversed(rows)}
    if table is None and (_is_name(rows[0].label, "label") or _is_name(rows[0].text, "text")):
        found = f"{rows[0].label!r} and {rows[0].text[:40]!r}"
        yield f"line {rows[0].line} is read as a message; if {found} name columns, pass {CHOICE}"
    elif "label" in map(str.casefold, counts):
        yield "'label' stands among the labels; is the head of a table among the messages?"
    if table is None and (quoted := [row.line for row in rows if _is_quoted(row)]):
        found = f"{len(quoted):,} of {len(rows):,} messages (the first in line {quoted[0]})"
        yield f"the quotation marks of CSV stay in {found}; to read CSV, let the first line name the columns"
    for first, second, how in _nearly_same(counts):
        pair = f"{first!r} (line {lines[first]}) and {second!r} (line {lines[second]})"
        yield f"the labels {pair} differ in {how} only; are they one? then write both alike"
    if len(rows) >= FEW and len(counts) > len(rows) / 2:
        yield f"{len(counts):,} different labels for {len(rows):,} messages; does the label come first?"
    elif max(counts.values()) >= 3 and (once := [label for label, count in counts.items() if count == 1]):
        some = ", ".join([f"{label!r} (line {lines[label]})" for label in once[:3]] + ["…"] * (len(once) > 3))
        yield f"labels that occur only once: {some}; are they labels, and spelled right?"


def _is_quoted(row: Row) -> bool:
    """Whether the label stands in quotation marks, or the text does with doubled ones in it."""
    label, text = row.label[1:-1], row.text[1:-1]
    return row.label == f'"{label}"' or (row.text == f'"{text}"' and '"' in text and '"' not in text.replace('""', ""))


def _nearly_same(labels: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Pairs of labels that somebody may have meant as one, each with what they differ in."""
    ways = (("capitals", str.casefold), ("a sign at the end", _without_last_sign), ("the form of a number", _as_number))
    pairs: dict[tuple[str, str], str] = {}
    for how, form in ways:
        seen: dict[str, str] = {}
        for label in labels:
            if (first := seen.setdefault(form(label), label)) != label:
                pairs.setdefault((first, label), how)
    for (first, second), how in pairs.items():
        yield first, second, how


def _without_last_sign(label: str) -> str:
    return label.casefold().rstrip(".,;:!?") or label


def _as_number(label: str) -> str:
    """One form for 1, 1.0 and 01, as programs write the same number."""
    return f"{float(label):g}" if NUMBER.fullmatch(label) else label
