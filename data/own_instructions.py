"""Read instructions of your own: JSON records, in a list or one after the other as in JSON Lines.

Each complaint names the file, the line, the record and the key, because thousands of records are mended by hand. The
walk through the file is our own: Python's `json.load` keeps neither lines nor a key that stands twice.
"""

import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from data.files import as_seen, read_utf8, without_blank_lines
from data.story_world.instruction_task import Instruction

RECORD_FORM = '{"instruction": "…", "input": "…", "output": "…"}'
OTHER_NAMES = {  # what people call the three keys
    "instruction": ("question", "prompt", "query"),
    "input": ("context",),
    "output": ("response", "answer", "completion", "target"),
}
TALKS = ("messages", "conversations")
ROLES = {"user": "instruction", "human": "instruction", "assistant": "output", "gpt": "output"}
WHITE = re.compile("[ \t\n\r\ufeff]*")  # files that were joined hold byte order marks between two records
MOST_DIGITS = 4_000  # Python refuses to read longer numbers
TROUBLES = (  # how the rest of a text begins that is no JSON -> what is wrong with it
    (re.compile(r"\n"), "found a line end inside of a text, where JSON writes \\n"),
    (re.compile(r"\t"), "found a tab inside of a text, where JSON writes \\t"),
    (re.compile(r"[\0-\x1f]"), "found a control sign inside of a text, which JSON does not allow"),
    (re.compile(r"//|/\*|#"), "found a comment, which JSON does not allow"),
    (re.compile("['‘’“”„«»`]"), 'found a quotation mark that is not ", the only one of JSON'),
    (re.compile(r"None|True|False"), "found a value of Python; JSON writes null, true and false"),
    (re.compile(r"\\"), "found a backslash that JSON does not know; a backslash in a text is written twice"),
)


def read_instructions(path: str | Path, *, keys: dict[str, str] | None = None) -> list[Instruction]:
    """Read instructions of your own: JSON records with `instruction`, `input` (may be absent or null) and `output`.

    The records stand in a list, or one after the other as in JSON Lines. A talk, {"messages": […]}, is read where it is
    one question of the user and one answer of the assistant.

    Args:
        path: a UTF-8 file; a byte order mark and empty lines are passed over.
        keys: other names of the keys, such as {"input": "context", "output": "response"}.

    Raises:
        ValueError: the file is missing, not UTF-8, not JSON or empty, or a record lacks a key or the text under it, or
            has a key twice or misspelled.

    Source: Taori et al. (2023), Stanford Alpaca, "Data Release". Taught in ch06, section 6.13.
    """
    names, unread, instructions = _names_of_keys(keys), defaultdict(list), []
    for place, record in _records(read_utf8(path), path):
        texts, others = _texts(record, names, f"{path}, {place}")
        instructions.append(_instruction(texts, names, f"{path}, {place}"))
        for key in others:
            unread[key].append(place)
    if not instructions:
        raise ValueError(f"{path} holds an empty list; expected records like {RECORD_FORM}")
    for key, places in unread.items():
        warnings.warn(
            f"{path}: text under {key!r} is not read, in {len(places):,} of {len(instructions):,} records (the first: "
            f"{places[0]}); other keys are read with {_advice([key], names, 'input')}",
            stacklevel=2,
        )
    return instructions


def _names_of_keys(keys: dict[str, str] | None) -> dict[str, str]:
    """The key under which each of the three texts stands."""
    names = {name: name for name in OTHER_NAMES} | (keys or {})
    if len(names) > len(OTHER_NAMES) or len(set(names.values())) < len(names):
        raise ValueError(f"keys={keys} is unclear; expected other names of {', '.join(OTHER_NAMES)}, each once")
    return names


# -------------------------------------------------------------------------------------------------------- one record
def _texts(record: object, names: dict[str, str], where: str) -> tuple[dict[str, str], list[str]]:
    """The texts of a record by our own names, and the other keys that hold text."""
    if not isinstance(record, dict):
        raise ValueError(f"{where}: found {_shown(record)}; expected a record like {RECORD_FORM}")
    others = [key for key, value in record.items() if key not in names.values() and _holds_text(value)]
    if names["instruction"] not in record and (talk := next((key for key in TALKS if key in others), None)):
        return _talk(record[talk], where), [key for key in others if key != talk]
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
    return texts, others


def _instruction(texts: dict[str, object], names: dict[str, str], where: str) -> Instruction:
    """One record in our own form; instruction and input become one prompt."""
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{where}: {names[name]!r} is {_shown(text)}; expected a text in quotation marks")
        if not as_seen(text) and name != "input":
            raise ValueError(f"{where}: {names[name]!r} is empty; fill it in or remove the record")
    prompt = [without_blank_lines(texts[name]) for name in ("instruction", "input") if as_seen(texts.get(name, ""))]
    answer = without_blank_lines(texts["output"])
    return Instruction("own", "\n".join(prompt), answer, (answer,))


def _talk(turns: object, where: str) -> dict[str, object]:
    """A talk of one question and one answer; longer ones do not fit into a record."""
    turns = turns if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns) else []
    roles = [str(turn.get("role", turn.get("from"))) for turn in turns]
    if [ROLES.get(role) for role in roles] != ["instruction", "output"]:
        raise ValueError(
            f"{where}: found a talk of {', '.join(roles) or 'nobody'}; expected one question of the user and "
            "one answer of the assistant: split longer talks into several records"
        )
    texts = {ROLES[role]: turn.get("content", turn.get("value")) for role, turn in zip(roles, turns)}
    for text in texts.values():
        if not isinstance(text, str) or not as_seen(text):
            raise ValueError(f"{where}: found a turn that says {_shown(text)}; expected a text in quotation marks")
    return texts


def _found_instead(record: dict, others: list[str], names: dict[str, str], missing: str) -> str:
    """The end of a complaint about a missing key: what is there instead, and what to do."""
    if lists := [key for key in others if isinstance(record[key], list) and isinstance(record[key][0], dict)]:
        return f", but {lists[0]!r} holds a list of records; keep only this list in the file, from [ to ]"
    if not others:
        return f"; expected a record like {RECORD_FORM}"
    found = " and ".join(map(repr, others))
    return f", but there is text under {found}; rename the keys, or pass {_advice(others, names, missing)}"


def _advice(others: list[str], names: dict[str, str], wanted: str) -> str:
    """The option that reads other keys, filled in where their names tell what they hold."""
    known = {
        name: _nearest(name, others) or next((key for key in others if key.casefold() in usual), None)
        for name, usual in OTHER_NAMES.items()
    }
    found = {name: key for name, key in known.items() if key} or {wanted: "…"}
    return f"keys={ {name: key for name, key in names.items() if key != name} | found }"


def _nearest(name: str, keys: list[str]) -> str | None:
    """The key that was probably meant by a name: in capitals, with a space, or with a letter wrong."""
    plain = {as_seen(key).casefold(): key for key in keys}
    return next((plain[near] for near in get_close_matches(name.casefold(), plain, n=1, cutoff=0.8)), None)


def _holds_text(value: object) -> bool:
    return bool(as_seen(value) if isinstance(value, str) else value and isinstance(value, (list, dict)))


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:40]


# --------------------------------------------------------------------------------------------------------- the file
def _records(text: str, path: str | Path) -> Iterator[tuple[str, object]]:
    """Walk through a list, or through records that follow each other, and say at which place each of them begins."""
    at, line, counted, number = _skip(text, 0), 1, 0, 0
    if text[at : at + 1] not in ("[", "{"):
        found = f"begins with {text[at : at + 20]!r}" if text[at:] else "is empty"
        raise ValueError(f"{path} {found}; expected a JSON list, [{RECORD_FORM}, …], or one record on each line")
    in_list = text[at] == "["
    at = _skip(text, at + 1) if in_list else at
    while text[at : at + 1] != ("]" if in_list else ""):
        line, counted, number = line + text.count("\n", counted, at), at, number + 1
        place = f"line {line}, record {number}"
        record, end = _decode(text, at, path, place)
        yield place, record
        at = _next_in_list(text, end, path) if in_list else _next_line(text, end, path)
    if text[at + 1 :].strip():
        raise ValueError(f"{_place(text, at, path)}: found more text after the end of the list; remove it")


def _decode(text: str, at: int, path: str | Path, place: str) -> tuple[object, int]:
    """The value that begins at a place, and the place behind it."""
    try:
        return DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: {_trouble(text, error)}; mend this line") from None
    except RecursionError:
        raise ValueError(f"{path}, {place}: found too many brackets; expected a record like {RECORD_FORM}") from None
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
    return WHITE.match(text, at).end()


def _trouble(text: str, error: json.JSONDecodeError) -> str:
    """What is wrong, the usual mistakes in our own words."""
    rest = text[error.pos :]
    if text[: error.pos + 1].rstrip("}] \t\n\r").endswith(","):
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
    return record


def _whole_number(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"found a number of {len(digits):,} digits, too long to be read; put it into quotation marks")
    return int(digits)


def _refuse(constant: str) -> None:
    raise ValueError(f"found {constant}, which is no JSON value; put it into quotation marks or write null")


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_whole_number, parse_constant=_refuse)
