"""Look at the table of wordings before it is learned from: learners add lines to it, and a slip would stop it late.

An open bracket would be filled for ever, a slot that nothing fills would stop a training at its first question, and a
line under a heading that nobody reads would be lost. A wording of the exam in it would make the exam worthless.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data.files import as_seen, read_utf8
from data.paths import DATA_DIR

TABLES = DATA_DIR / "story_world" / "tables_tasks"
SLOT = re.compile(r"\{(\w+)\}")
PAIRS = {"[": "]", "{": "}"}


def require_wordings(path: Path = TABLES / "wordings.txt", exam: Path = TABLES / "held_out_wordings.txt") -> None:
    """Refuse wordings that cannot be filled, or that stand in the exam.

    Args:
        path: the table to learn from.
        exam: the wordings that nothing is trained on.

    Raises:
        ValueError: names the line, what is wrong with it, and what to do.
    """
    asked = list(_lines(exam))
    known = {section for _, section, _ in asked}
    held_out = {(section, as_seen(line).casefold()) for _, section, line in asked}
    rows = list(_lines(path))
    counts = Counter((section, slot) for _, section, line in rows for slot in {*SLOT.findall(line)})
    fillable = {key for key, count in counts.items() if count > 1}
    fillable |= {(section, slot) for _, section, line in asked for slot in SLOT.findall(line)}
    for number, section, line in rows:
        where = f"{path.name}, line {number}"
        if section.startswith("ask.") and section not in known:
            raise ValueError(f"{where}: stands under '= {section}', which nobody asks; move it under one of the others")
        if trouble := _open_bracket(line):
            raise ValueError(f"{where}: found {line[:60]!r}, in which {trouble}; mend it")
        for slot in SLOT.findall(line):
            if (section, slot) not in fillable:
                others = ", ".join(sorted(f"{{{one}}}" for own, one in fillable if own == section))
                raise ValueError(
                    f"{where}: nothing fills {{{slot}}} there; under '= {section}' stand {others or 'none'}"
                )
        if (section, as_seen(line).casefold()) in held_out:
            raise ValueError(
                f"{where}: {line[:60]!r} stands in the exam word for word; leave it out, or it proves nothing"
            )


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Number, section and text of each wording."""
    section = ""
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if line.startswith("= "):
            section = line[2:].strip()
        elif line.strip() and not line.startswith("#"):
            yield number, section, line.strip()


def _open_bracket(line: str) -> str:
    """Say which bracket has no partner; nothing where all have one."""
    waiting: list[str] = []
    for sign in line:
        if sign in PAIRS:
            waiting.append(PAIRS[sign])
        elif sign in PAIRS.values() and (not waiting or waiting.pop() != sign):
            return f"{sign!r} closes nothing"
    return f"{waiting[-1]!r} is missing" if waiting else ""
