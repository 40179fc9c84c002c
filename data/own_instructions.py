"""Read instructions of your own: JSON records with a question and its answer, or a table with a column for each.

Each complaint names the file, the line, the record and the key, because thousands of records are mended by hand. Text
that nobody reads is warned about: it may be a note, or a misspelled key.
"""

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from data.files import as_seen, lost_letters, read_utf8, without_blank_lines
from data.json_records import json_records
from data.story_world.marking import Instruction
from data.tables import Head, find_head, table_rows

RECORD_FORM = '{"instruction": "…", "input": "…", "output": "…"}'
OTHER_NAMES = {  # what people call the three keys
    "instruction": ("question", "prompt", "query"),
    "input": ("context",),
    "output": ("response", "answer", "completion", "target"),
}
OPTIONS = {"instruction": "--question", "input": "--context", "output": "--answer"}  # of course.py finetune
BEGINS_AS_JSON = re.compile(r"[\s\ufeff]*(\[|\{)")
TALKS = ("messages", "conversations")
SYSTEM = "what the system says"  # the first turn of some talks
ROLES = {"user": "instruction", "human": "instruction", "assistant": "output", "gpt": "output"}


def read_instructions(path: str | Path, *, keys: dict[str, str] | None = None) -> list[Instruction]:
    """Read instructions of your own: JSON records with `instruction`, `input` (may be absent or null) and `output`.

    The records stand in a list, or one after the other as in JSON Lines, or are the rows of a table, such as CSV, whose
    first line names the keys. Where the first has two of the usual other keys, such as `question` and `answer`, these
    are read, with a warning. A talk, {"messages": […]}, of user and assistant in turn gives a record for each answer,
    with what was said before it as `history`; what the system says at its beginning is left out, with a warning.

    Args:
        path: a UTF-8 file; a byte order mark and empty lines are passed over.
        keys: other names of the keys, such as {"input": "context", "output": "response"}.

    Raises:
        ValueError: the file is missing, not UTF-8, neither JSON nor a table, or empty, or a record lacks a key or the
            text under it, or has a key twice or misspelled.

    Source: Taori et al. (2023), Stanford Alpaca, "Data Release". Taught in ch06, section 6.13.
    """
    content = read_utf8(path)
    head = _find_head(content, keys)
    if not head and content.strip("\ufeff \t\n") and not BEGINS_AS_JSON.match(content):
        raise ValueError(_neither(content, path, keys))
    records = list(_rows_as_records(content, path, head) if head else json_records(content, path, RECORD_FORM))
    first = dict.fromkeys(head.names, "text") if head else records[0][1] if records else None
    usual = {} if keys else _usual_keys(first)
    names, unread, instructions = _names_of_keys(keys or usual), defaultdict(list), []
    if usual:
        told = " and ".join(f"{key!r} as the {name}" for name, key in usual.items())
        warnings.warn(f"{path}: {told} is read; other keys are read with {_pass(usual)}", stacklevel=2)
    for place, record in records:
        found, others = _instructions(record, names, f"{path}, {place}")
        instructions += found
        for key in others:
            unread[key].append(place)
    if not instructions:
        nothing = "no row below the names of its columns" if head else "an empty list"
        raise ValueError(f"{path} holds {nothing}; expected records like {RECORD_FORM}")
    for doubt in lost_letters(content):
        warnings.warn(f"{path}: {doubt}", stacklevel=2)
    for key, places in unread.items():
        where = f"in {len(places):,} of {len(records):,} records (the first: {places[0]})"
        remedy = f"{where}; other keys are read with {_advice([key], names, 'input')}"
        told = f"{key} is not read, {where}" if key == SYSTEM else f"text under {key!r} is not read, {remedy}"
        warnings.warn(f"{path}: {told}", stacklevel=2)
    return instructions


def holds_instructions(path: str | Path) -> bool:
    """Say whether a file looks like instructions: JSON, or a table with columns for question and answer.

    Args:
        path: a UTF-8 file.

    Raises:
        ValueError: the file is missing or not UTF-8.

    Source: this course.
    """
    content = read_utf8(path)
    return bool(BEGINS_AS_JSON.match(content)) or _find_head(content, None) is not None


def holds_json(path: str | Path) -> bool:
    """Say whether a file begins as JSON does.

    Args:
        path: a UTF-8 file.

    Raises:
        ValueError: the file is missing or not UTF-8.

    Source: RFC 8259, section 2.
    """
    return bool(BEGINS_AS_JSON.match(read_utf8(path)))


def _find_head(content: str, keys: dict[str, str] | None) -> Head | None:
    """The head of a table that has columns for question and answer; None where the file holds none, or JSON."""
    if BEGINS_AS_JSON.match(content):
        return None
    names = _names_of_keys(keys)
    wanted = {names["instruction"], names["output"]}

    def fits(columns: list[str]) -> bool:
        return wanted <= {*columns} or not keys and bool(_usual_keys(dict.fromkeys(columns, "text")))

    return find_head(content, fits)[0]


def _neither(content: str, path: str | Path, keys: dict[str, str] | None) -> str:
    names = _names_of_keys(keys or {"instruction": "question", "output": "answer"})
    return (
        f"{path} begins with {content.lstrip()[:20]!r}; expected a JSON list, [{RECORD_FORM}, …], one record on each "
        f"line, or a table whose first line names the columns {names['instruction']!r} and {names['output']!r}: others "
        "are named with keys=… (in the terminal --question and --answer)"
    )


def _rows_as_records(content: str, path: str | Path, head: Head) -> Iterator[tuple[str, object]]:
    """The rows of a table as JSON records would be read: ("line 3", {"question": "…", "answer": "…"})."""
    if twice := [name for name in head.names if name and head.names.count(name) > 1]:
        raise ValueError(f"{path}, line {head.line}: the column {twice[0]!r} stands twice; keep one of them")
    for line, cells in table_rows(content, path, head):
        padded = [*cells, *[""] * (len(head.names) - len(cells))]
        yield f"line {line}", {name: cell for name, cell in zip(head.names, padded) if name}


def _names_of_keys(keys: dict[str, str] | None) -> dict[str, str]:
    """The key under which each of the three texts stands."""
    names = {name: name for name in OTHER_NAMES} | (keys or {})
    if len(names) > len(OTHER_NAMES) or len(set(names.values())) < len(names):
        raise ValueError(f"keys={keys} is unclear; expected other names of {', '.join(OTHER_NAMES)}, each once")
    return names


def _usual_keys(record: object) -> dict[str, str]:
    """Which of the usual other keys a record has for question and answer, each once; nothing where that is unclear."""
    if not isinstance(record, dict) or {"instruction", "output", *TALKS} & record.keys():
        return {}
    found = {
        name: [key for key, value in record.items() if key.casefold() in usual and _holds_text(value)]
        for name, usual in OTHER_NAMES.items()
    }
    clear = {name: keys[0] for name, keys in found.items() if len(keys) == 1}
    return clear if {"instruction", "output"} <= clear.keys() and "input" not in record else {}


# -------------------------------------------------------------------------------------------------------- one record
def _instructions(record: object, names: dict[str, str], where: str) -> tuple[list[Instruction], list[str]]:
    """A record in our own form, or one for each answer of a talk, and the other keys that hold text."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: found {_shown(record)}; expected a record like {RECORD_FORM}")
    others = [key for key, value in record.items() if key not in names.values() and _holds_text(value)]
    if names["instruction"] not in record and (talk := next((key for key in TALKS if key in others), None)):
        turns = record[talk]
        if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
            raise ValueError(
                f"{where}: {talk!r} is {_shown(turns)}; expected a list of turns, "
                '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
            )
        said = turns[1:] if turns and _role(turns[0]) == "system" else turns
        others = [key for key in others if key != talk] + [SYSTEM] * (len(turns) - len(said))
        return list(_answers_of_talk(said, where)), others
    for name in ("instruction", "output"):
        if names[name] not in record:
            found = _found_instead(record, others, names, name)
            raise ValueError(f"{where}: the key {names[name]!r} is missing{found}")
    if others and names["input"] not in record and (near := _nearest(names["input"], others)):
        advice = _advice([near], names, "input")
        raise ValueError(f"{where}: found the key {near!r}; write {names['input']!r}, or pass {advice}")
    texts = {name: record.get(key, "") for name, key in names.items()}
    if texts["input"] is None:
        texts["input"] = ""
    return [_instruction(texts, names, where)], others


def _instruction(texts: dict[str, Any], names: dict[str, str], where: str) -> Instruction:
    """One record in our own form; instruction and input become one prompt."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{where}: {names[name]!r} is {_shown(text)}; expected a text in quotation marks")
        if not as_seen(text) and name != "input":
            raise ValueError(f"{where}: {names[name]!r} is empty; fill it in or remove the record")
    prompt = [without_blank_lines(texts[name]) for name in ("instruction", "input") if as_seen(texts.get(name, ""))]
    answer = without_blank_lines(texts["output"])
    return Instruction("own", "\n".join(prompt), answer, (answer,))


def _role(turn: dict) -> str:
    return str(turn.get("role", turn.get("from"))).lower()


def _answers_of_talk(turns: list[dict], where: str) -> Iterator[Instruction]:
    """A record for each answer of a talk, with the turns before it."""
    roles = [_role(turn) for turn in turns]
    if not roles or [ROLES.get(role) for role in roles] != ["instruction", "output"] * (len(roles) // 2):
        raise ValueError(
            f"{where}: found a talk of {', '.join(roles) or 'nobody'}; expected user and assistant in turn, from a "
            "question of the user to an answer of the assistant: leave out the other turns"
        )
    texts = [_said(turn.get("content", turn.get("value")), where) for turn in turns]
    talk = tuple(zip(texts[::2], texts[1::2]))
    for number, (prompt, answer) in enumerate(talk):
        yield Instruction("own", prompt, answer, (answer,), talk[:number])


def _said(text: object, where: str) -> str:
    if not isinstance(text, str) or not as_seen(text):
        raise ValueError(f"{where}: found a turn that says {_shown(text)}; expected a text in quotation marks")
    return without_blank_lines(text)


def _found_instead(record: dict, others: list[str], names: dict[str, str], missing: str) -> str:
    """The end of a complaint about a missing key: what is there instead, and what to do."""
    if lists := [key for key in others if isinstance(record[key], list) and isinstance(record[key][0], dict)]:
        return f", but {lists[0]!r} holds a list of records; keep only this list in the file, from [ to ]"
    if not others:
        return f"; expected a record like {RECORD_FORM}"
    found = " and ".join([repr(key[:40]) for key in others[:3]] + ["more"] * (len(others) > 3))
    return f", but there is text under {found}; rename the keys, or pass {_advice(others, names, missing)}"


def _advice(others: list[str], names: dict[str, str], wanted: str) -> str:
    """The option that reads other keys, filled in where their names tell what they hold."""
    known = {
        name: _nearest(name, others) or next((key for key in others if key.casefold() in usual), None)
        for name, usual in OTHER_NAMES.items()
    }
    found = {name: key for name, key in known.items() if key} or {wanted: "…"}
    return _pass({name: key for name, key in names.items() if key != name} | found)


def _pass(keys: dict[str, str]) -> str:
    """How other keys are named, in Python and in the terminal."""
    options = [f"{option} {keys[name]}" for name, option in OPTIONS.items() if name in keys]
    return f"keys={keys}" + (f" (in the terminal {' '.join(options)})" if options else "")


def _nearest(name: str, keys: list[str]) -> str | None:
    """The key that was probably meant by a name: in capitals, with a space, or with a letter wrong."""
    plain = {as_seen(key).casefold(): key for key in keys}
    return next((plain[near] for near in get_close_matches(name.casefold(), plain, n=1, cutoff=0.8)), None)


def _holds_text(value: object) -> bool:
    return bool(as_seen(value) if isinstance(value, str) else value and isinstance(value, (list, dict)))


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:40]
