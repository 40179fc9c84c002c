"""What finetune, evaluate, chat and serve share of models made from own rows: how they are opened, and what they keep.

The folder of such a run holds `finetune.json` (what it was begun with), `rows.json` (its rows, split) and the rows of
the test set as a file of their own, for `evaluate`.
"""

import argparse
import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.durable_folders import json_bytes
from data.files import write_atomically

SCORE = "score.json"
SIDES = ("train", "validation", "test")
COLUMNS = {
    "label": "column of the labels in a table of messages (default: label, category and the like)",
    "text": "column of the texts (default: text, message and the like)",
    "question": "key of the questions in records (default: instruction, question and the like)",
    "context": "key of what belongs to a question (default: input)",
    "answer": "key of the answers (default: output, answer and the like)",
}
KEYS = {
    "question": "instruction",
    "context": "input",
    "answer": "output",
}  # our options, and what the reader calls them
INSTRUCTIONS = (".json", ".jsonl")


class Sorter:
    """A classifier that is talked with: its answer is a label, and the likeliest tokens are the labels.

    Args:
        classifier: a `TextClassifier`.
    """

    was_cut = False

    def __init__(self, classifier: Any):
        self.classifier = classifier

    def turns_that_fit(self, prompt: str, history: Any) -> list:
        """Give all turns, none of which is read."""
        return list(history)

    def stream(self, prompt: str, history: Any = (), **_: Any) -> Iterator[str]:
        """Name the label of a text and how probable it is."""
        for text, _likely in self.stream_likely(prompt):
            yield text

    def stream_likely(self, prompt: str, history: Any = (), **_: Any) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """Name the label of a text, with the probabilities of all labels."""
        label, probabilities = self.classifier.classify(prompt)
        yield f"{label} ({probabilities[label]:.0%})", sorted(probabilities.items(), key=lambda pair: -pair[1])


def load_talker(source: str | Path, precision: str = "float32") -> Any:
    """Load what chat and serve talk with: an assistant, or a classifier as a `Sorter`.

    Args:
        source: what `load_answering` takes.
        precision: in which a published model computes.
    """
    from ch06_finetuning.finetuned_models import TextClassifier
    from ch06_finetuning.named_models import load_answering

    require_finished(source)
    model = load_answering(source, precision)
    return Sorter(model) if isinstance(model, TextClassifier) else model


def add_columns(options: argparse.ArgumentParser) -> None:
    """Add the options that name the columns of a table and the keys of records.

    Args:
        options: of a command that reads rows.
    """
    for name, what in COLUMNS.items():
        options.add_argument(f"--{name}", metavar="NAME", help=what)


def read_rows(path: str | Path, columns: argparse.Namespace, kind: str | None = None) -> list:
    """Read messages or instructions; without a kind, what has the ending or the columns of instructions is read so.

    Args:
        path: the file.
        columns: what the options of `add_columns` gave.
        kind: "messages" or "instructions".

    Raises:
        ValueError: the file is not what its ending says, or a row is bad.
    """
    from data.own_instructions import holds_json, read_instructions
    from data.own_messages import read_messages

    _refuse_pipe(path)
    if kind == "instructions" or kind is None and _asks(path, columns):
        _refuse_columns(columns, ("label", "text"), "a table of messages")
        return read_instructions(path, keys=_keys(columns))
    _refuse_columns(columns, tuple(KEYS), "records of questions and answers")
    if holds_json(path):
        raise ValueError(
            f"{path} holds JSON records: for a classifier save them as a table (CSV) with a label and a text in each "
            "row; records of questions and answers are given with --instructions"
        )
    if kind == "messages" and _asks(path, columns):
        raise ValueError(
            f"{path} holds questions and answers: give it with --instructions; for a classifier give a table with a "
            "label and a text in each line, or say by --label and --text which columns of it these are"
        )
    return read_messages(path, text=columns.text, label=columns.label)


def _asks(path: str | Path, columns: argparse.Namespace) -> bool:
    """Whether a file holds instructions, by the options, its content or, where that tells nothing, its ending."""
    from data.own_instructions import holds_instructions
    from data.own_messages import holds_messages

    if _keys(columns) is not None:
        return True
    if columns.label is not None or columns.text is not None or holds_messages(path):
        return False
    return holds_instructions(path) or Path(path).suffix.lower() in INSTRUCTIONS


def _keys(columns: argparse.Namespace) -> dict[str, str] | None:
    """The names of the keys as `read_instructions` takes them."""
    return {ours: name for option, ours in KEYS.items() if (name := getattr(columns, option)) is not None} or None


def _refuse_pipe(path: str | Path) -> None:
    """Refuse what can be read only once, such as `<(…)` in a shell; rows are looked at more than once."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise ValueError(f"{path} is no file but a pipe or a device: save the rows in a file, and give that")


def _refuse_columns(columns: argparse.Namespace, names: tuple[str, ...], belongs: str) -> None:
    if given := [name for name in names if getattr(columns, name) is not None]:
        raise ValueError(f"--{given[0]} belongs to {belongs}: leave it out, or give such a file")


def keep_rows(folder: Path, split: Any, about: dict) -> None:
    """Write what a run was begun with: its rows first, and last `finetune.json`, with which it has begun.

    Args:
        folder: of the run.
        split: a `RowSplit`.
        about: options and the file's name.
    """
    write_atomically(
        folder / "rows.json", json_bytes({side: [list(row) for row in getattr(split, side)] for side in SIDES})
    )
    for name in ("test.csv", "test.jsonl"):  # of an attempt that ended before it had begun
        (folder / name).unlink(missing_ok=True)
    name, content = _as_file(split.test)
    write_atomically(folder / name, content)
    write_atomically(folder / "finetune.json", json_bytes(about))


def never_begun(folder: Path) -> bool:
    """Say whether a folder is free for a run: it holds nothing, or only what `keep_rows` writes before a run has begun.

    Args:
        folder: it need not exist.
    """
    first = re.compile(r"\.lock|(rows\.json|test\.csv|test\.jsonl)(\.\d+\.part)?|finetune\.json\.\d+\.part")
    return not folder.exists() or all(first.fullmatch(path.name) for path in folder.iterdir())


def kept_rows(folder: Path, kind: str) -> Any:
    """Read the rows of a run: -> `RowSplit`.

    Args:
        folder: of the run.
        kind: "messages" or "instructions".

    Raises:
        ValueError: the file is damaged.
    """
    from ch06_finetuning.own_data import RowSplit
    from data.story_world.marking import Instruction
    from data.story_world.message_task import Message

    def row(parts: list) -> Any:
        if kind == "messages":
            return Message(*parts)
        own, prompt, response, accepted, history, *_ = parts  # own rows have nothing else to be marked by
        return Instruction(own, prompt, response, tuple(accepted), tuple(map(tuple, history)))

    try:
        kept = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        train, validation, test = ([row(parts) for parts in kept[side]] for side in SIDES)
        return RowSplit(train, validation, test)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / 'rows.json'} is damaged or gone ({error}): begin anew under another --name"
        ) from error


def begun_with(folder: Path) -> dict | None:
    """Read `finetune.json`; None where the folder is no run of `course.py finetune`.

    Args:
        folder: of the run.
    """
    try:
        about = json.loads((folder / "finetune.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) and _is_whole(about) else None


def _is_whole(about: dict) -> bool:
    settings = about.get("settings")
    known = isinstance(settings, dict) and settings.keys() == {"base", "lora", "epochs", "seed"}
    return known and about.get("kind") in ("messages", "instructions") and {"file", "sha256"} <= about.keys()


def score_of(folder: Path) -> tuple[int, int, bool] | None:
    """Read how good a run's model was: -> rows right, rows kept aside, whether something simple may be as good.

    Args:
        folder: of the run; None comes back where its report was not finished.
    """
    try:
        kept = json.loads((folder / SCORE).read_text(encoding="utf-8"))
        return int(kept["right"]), int(kept["n"]), bool(kept["doubtful"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def require_finished(source: str | Path) -> None:
    """Say how to go on with a run of `course.py finetune` that has no model yet.

    Args:
        source: name of a run, or a folder.

    Raises:
        ValueError: the run was begun and not finished.
    """
    from ch06_finetuning.named_models import find_own
    from data.paths import runs_dir

    folder = runs_dir() / source
    if begun_with(folder) and find_own(source, "assistant", "classifier") is None:
        raise ValueError(
            f"{folder} was begun and has no model yet: go on with python course.py finetune --resume --name "
            f"{folder.name}"
        )


def run_of(source: str | Path) -> tuple[Path, dict] | None:
    """Find the run of `course.py finetune` that made a model: -> its folder and what it was begun with, or None.

    Args:
        source: name of a run, or a folder.
    """
    from ch06_finetuning.named_models import find_own

    folder = Path(source) if (Path(source) / "config.json").is_file() else find_own(source, "assistant", "classifier")
    about = begun_with(folder.parent) if folder else None
    return (folder.parent, about) if folder and about else None


def _as_file(rows: list) -> tuple[str, str]:
    """Rows as the file that `read_rows` reads: its name and its content."""
    if hasattr(rows[0], "label"):
        table = io.StringIO()
        csv.writer(table, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
            [("label", "text"), *((row.label, row.text) for row in rows)]
        )
        return "test.csv", table.getvalue()
    prefixes = {row.history for row in rows}
    whole = [row for row in rows if (*row.history, (row.prompt, row.response)) not in prefixes]
    return "test.jsonl", "".join(json.dumps(_as_record(row), ensure_ascii=False) + "\n" for row in whole)


def _as_record(row: Any) -> dict:
    if not row.history:
        return {"instruction": row.prompt, "output": row.response}
    turns = [*row.history, (row.prompt, row.response)]
    said = [(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn)]
    return {"messages": [{"role": role, "content": text} for role, text in said]}
