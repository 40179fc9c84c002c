"""Readers for files of your own: messages as tab-separated lines, instructions as JSON records.

Both name the file, the line and what is wrong with it, because a list of thousands of records is mended by hand.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from data.files import read_utf8
from data.story_world.instruction_task import Instruction
from data.story_world.message_task import Message

RECORD_FORM = '{"instruction": "…", "input": "…", "output": "…"}'


def read_messages(path: str | Path) -> list[Message]:
    """Read messages of your own: one a line, the label, a tab, the text (the form of the SMS Spam Collection).

    Args:
        path: a UTF-8 file; a byte order mark and empty lines are passed over.

    Raises:
        ValueError: the file is missing, not UTF-8 or empty, or a line has no tab, no label or no text.

    Source: Almeida, Gómez Hidalgo and Yamakami (2011), section 3. Taught in ch06, section 6.7.
    """
    messages = []
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if not line.strip():
            continue
        label, _, text = (part.strip() for part in line.partition("\t"))
        if not label or not text:
            raise ValueError(f"{path}, line {number}: found {line[:40]!r}; expected a label, a tab and a text")
        messages.append(Message(text, label))
    if not messages:
        raise ValueError(f"{path} holds no message; expected lines of a label, a tab and a text")
    return messages


def read_instructions(path: str | Path) -> list[Instruction]:
    """Read instructions of your own: a JSON list of records with `instruction`, `input` (may be absent) and `output`.

    Args:
        path: a UTF-8 file; a byte order mark is passed over.

    Raises:
        ValueError: the file is missing, not UTF-8, not JSON or empty, or a record lacks a key or has no text in it.

    Source: Taori et al. (2023), Stanford Alpaca, "Data Release". Taught in ch06, section 6.13.
    """
    instructions = [_instruction(record, f"{path}, line {line}") for line, record in _records(read_utf8(path), path)]
    if not instructions:
        raise ValueError(f"{path} holds an empty list; expected records like {RECORD_FORM}")
    return instructions


def _records(text: str, path: str | Path) -> Iterator[tuple[int, object]]:
    """Walk through a JSON list and give each record with the number of the line where it begins."""
    decoder = json.JSONDecoder(parse_constant=_refuse)
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError(f"{path} begins with {text[at : at + 20]!r}; expected a JSON list, [{RECORD_FORM}, …]")
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        line = text.count("\n", 0, at) + 1
        try:
            record, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {error.lineno}: {_trouble(text, error)}; mend this line") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {line}: {error}; expected a record like {RECORD_FORM}") from None
        yield line, record
        at = _next_record(text, end, path)
    if text[at + 1 :].strip():
        line = text.count("\n", 0, at) + 1
        raise ValueError(f"{path}, line {line}: found more text after the end of the list; remove it")


def _next_record(text: str, end: int, path: str | Path) -> int:
    """Where the next record begins, or the closing bracket."""
    at = _skip(text, end)
    line = text.count("\n", 0, at) + 1
    if text[at : at + 1] == "]":
        return at
    if text[at : at + 1] != ",":
        found = repr(text[at : at + 20]) if text[at:] else "the end of the file"
        raise ValueError(f"{path}, line {line}: found {found} after a record; expected a comma or ]")
    after = _skip(text, at + 1)
    if text[after : after + 1] in ("]", ""):
        raise ValueError(f"{path}, line {line}: found a comma after the last record; remove it and end the list with ]")
    return after


def _skip(text: str, at: int) -> int:
    """The place of the next sign that is not white."""
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}, which is no JSON value")


def _trouble(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong, the two classics in our own words."""
    around = text[: error.pos + 1].rstrip("}] \t\n\r")
    if around.endswith(","):
        return "found a comma before the closing bracket, which JSON does not allow"
    if not text[error.pos :].strip():
        return "the file ends in the middle of a record"
    return f"this is not JSON ({error.msg} at column {error.colno})"


def _instruction(record: object, where: str) -> Instruction:
    """One record in our own form; instruction and input become one prompt."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: found {record!r:.40}; expected a record like {RECORD_FORM}")
    for key in ("instruction", "output"):
        if key not in record:
            raise ValueError(f"{where}: the key {key!r} is missing; expected a record like {RECORD_FORM}")
    for key in ("instruction", "input", "output"):
        if not isinstance(record.get(key, ""), str):
            raise ValueError(f"{where}: {key!r} is {record[key]!r:.40}; expected a text in quotation marks")
    instruction, extra, output = (record.get(key, "").strip() for key in ("instruction", "input", "output"))
    if not instruction or not output:
        empty = "instruction" if not instruction else "output"
        raise ValueError(f"{where}: {empty!r} is empty; fill it in or remove the record")
    return Instruction("own", f"{instruction}\n{extra}" if extra else instruction, output, (output,))
