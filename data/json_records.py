"""Walk through the records of a JSON file, of a list or of JSON Lines, and name the line where something is wrong.

The walk is our own, because Python's `json.load` keeps neither lines nor a key that stands twice.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from data.files import whole_characters

WHITE = re.compile("[ \t\n\r\ufeff]*")  # files that were joined hold byte order marks between two records
MOST_DIGITS = 4_000  # Python refuses to read longer numbers
LAST_COMMA = re.compile(r",\s*[]}]")
TROUBLES = (  # how the rest of a text begins that is no JSON -> what is wrong with it
    (re.compile(r"\n"), "found a line end inside of a text, where JSON writes \\n"),
    (re.compile(r"\t"), "found a tab inside of a text, where JSON writes \\t"),
    (re.compile(r"[\0-\x1f]"), "found a control sign inside of a text, which JSON does not allow"),
    (re.compile(r"//|/\*|#"), "found a comment, which JSON does not allow"),
    (re.compile("['‘’“”„«»`]"), 'found a quotation mark that is not ", the only one of JSON'),
    (re.compile(r"None|True|False"), "found a value of Python; JSON writes null, true and false"),
    (re.compile(r"\\"), "found a backslash that JSON does not know; a backslash in a text is written twice"),
)


def json_records(text: str, path: str | Path, form: str) -> Iterator[tuple[str, object]]:
    """Walk through the JSON records of a file and say where each begins: yields ("line 3, record 2", record).

    Args:
        text: the text of the file: a list of records, or records one after the other as in JSON Lines.
        path: the file's name, for the message.
        form: what a record looks like, for the message.

    Raises:
        ValueError: the text is no JSON, or a key stands twice in a record.

    Source: RFC 8259, "The JavaScript Object Notation (JSON) Data Interchange Format". Taught in ch06, section 6.13.
    """
    at, line, counted, number = _skip(text, 0), 1, 0, 0
    if text[at : at + 1] not in ("[", "{"):
        found = f"begins with {text[at : at + 20]!r}" if text[at:] else "is empty"
        raise ValueError(f"{path} {found}; expected a JSON list, [{form}, …], or one record on each line")
    in_list = text[at] == "["
    at = _skip(text, at + 1) if in_list else at
    while text[at : at + 1] != ("]" if in_list else ""):
        line, counted, number = line + text.count("\n", counted, at), at, number + 1
        place = f"line {line}, record {number}"
        record, end = _decode(text, at, path, place, form)
        yield place, record
        at = _next_in_list(text, end, path) if in_list else _next_line(text, end, path)
    if text[at + 1 :].strip():
        raise ValueError(f"{_place(text, at, path)}: found more text after the end of the list; remove it")


def _decode(text: str, at: int, path: str | Path, place: str, form: str) -> tuple[object, int]:
    """The value that begins at a place, and the place behind it."""
    try:
        return DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: {_trouble(text, error)}; mend this line") from None
    except RecursionError:
        raise ValueError(f"{path}, {place}: found too many brackets; expected a record like {form}") from None
    except ValueError as error:
        raise ValueError(f"{path}, {place}: {error}") from None


def _next_in_list(text: str, end: int, path: str | Path) -> int:
    """Where the next record of a list begins, or the closing bracket."""
    at = _skip(text, end)
    if text[at : at + 1] == "]":
        return at
    if text[at : at + 1] != ",":
        found = repr(text[at : at + 20]) if text[at:] else "the end of the file"
        raise ValueError(f"{_place(text, at, path)}: found {found} after a record; expected a comma or ]")
    after = _skip(text, at + 1)
    if text[after : after + 1] in ("]", ""):
        remedy = "remove it and end the list with ]"
        raise ValueError(f"{_place(text, at, path)}: found a comma after the last record; {remedy}")
    return after


def _next_line(text: str, end: int, path: str | Path) -> int:
    """Where the next record begins that stands in no list."""
    at = _skip(text, end)
    if text[at : at + 1] == ",":
        remedy = "remove such commas, or put all records between [ and ]"
        raise ValueError(f"{_place(text, at, path)}: found a comma after a record; {remedy}")
    return at


def _place(text: str, at: int, path: str | Path) -> str:
    line = text.count("\n", 0, at) + 1
    return f"{path}, line {line}"


def _skip(text: str, at: int) -> int:
    """The place of the next sign that is not white."""
    return WHITE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing as well


def _trouble(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong, the usual mistakes in our own words."""
    rest = text[error.pos :]
    if LAST_COMMA.match(rest) or rest[:1] in ("]", "}") and text[: error.pos].rstrip().endswith(","):
        return "found a comma before the closing bracket, which JSON does not allow"
    if not rest.strip() or error.msg.startswith("Unterminated string"):
        return "the file ends in the middle of a record"
    if error.msg == "Expecting ',' delimiter":
        return f'found {rest[:20]!r} where a comma belongs; a quotation mark inside of a text is written \\"'
    known = (what for beginning, what in TROUBLES if beginning.match(rest))
    return next(known, f"this is not JSON ({error.msg} at column {error.colno})")


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; Python's own reader would keep the last of two equal keys without a word."""
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice; keep one of them")
    return {key: whole_characters(value) if isinstance(value, str) else value for key, value in record.items()}


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"found a number of {len(digits):,} digits, too long to be read; put it into quotation marks")
    return int(digits)


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}, which is no JSON value; put it into quotation marks or write null")


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_whole_number, parse_constant=_refuse)
