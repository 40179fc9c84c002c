"""For maintainers, `python -m shared.maintenance.own_examples`: take the examples of own data through the commands.

    python -m shared.maintenance.own_examples                    each set over three seeds, from the story GPT
    python -m shared.maintenance.own_examples --from smollm2     the same from a published model
    python -m shared.maintenance.own_examples --only shell_talks.jsonl

Each command is a process of its own, which is timed and whose memory is measured where the system tells it. The table
is printed for `data/README.md`, "What came of the examples". Nothing is left on the disk. Run it on a quiet machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ch06_finetuning.metrics import Rate
from ch06_finetuning.named_models import load_answering
from ch06_finetuning.own_data import RowSplit, examine
from ch06_finetuning.recipes import baseline_report
from ch06_finetuning.search import BM25, THRESHOLD, answer_from, read_passages, search
from data.paths import DATA_DIR
from shared.commands.finetune import longest_answer, nearest_answers
from shared.commands.own_models import begun_with, kept_rows

__all__ = ["Spent", "main", "run_command", "search_scores", "share_of_nearest"]

OWN = DATA_DIR / "own_examples"
TALKS, NOTES = "shell_talks.jsonl", "notes"
FILES = ("support_tickets.csv", "tickets_by_hand.csv", TALKS, NOTES)
HEAD = """\
| data | begins as | right on rows kept aside, for each seed | beside it | seconds | memory |
|---|---|---|---|---|---|"""


class Spent(NamedTuple):
    """What a command took: seconds, and the most memory in bytes, or None where the system does not tell it."""

    seconds: float
    memory: int | None


def run_command(name: str, *words: str, runs: Path) -> Spent:
    """Run a command of the course in a process of its own.

    Args:
        name: of the command.
        words: its options.
        runs: folder of its runs.

    Raises:
        ValueError: it ended with an error; what it said is in the message.
    """
    began = time.perf_counter()
    environment = os.environ | {"COURSE_RUNS": str(runs)}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", f"shared.commands.{name}", *words], stdout=said, stderr=said, env=environment,
            cwd=DATA_DIR.parent,
        )  # fmt: skip
        memory = _wait(process)
        if process.returncode:
            said.seek(0)
            raise ValueError(f"{name} {' '.join(words)} ended with {process.returncode}: {said.read()[-500:]}")
    return Spent(time.perf_counter() - began, memory)


def _wait(process: subprocess.Popen) -> int | None:
    """Wait for the end of a process: -> its most memory in bytes."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def share_of_nearest(split: RowSplit) -> Rate:
    """Say how often the answer of the training question that shares the rarest words with a test question is right.

    Args:
        split: of instructions.
    """
    right = nearest_answers(split.train, split.test)
    return Rate(sum(right), len(right))


def search_scores() -> tuple[Rate, Rate]:
    """Ask the notes the questions to judge with: -> right of those with an answer, silent of those without one."""
    passages, _ = read_passages(OWN / NOTES)
    index = BM25([passage.text for passage in passages])
    questions = json.loads((OWN / "questions_about_notes.json").read_text(encoding="utf-8"))["to_judge_with"]
    right, silent = [], []
    for row in questions:
        answer = answer_from(row["question"], search(row["question"], passages, index, threshold=THRESHOLD))
        if row["wanted"]:
            from_it = answer.source is not None and answer.source.name == row["note"]
            right.append(from_it and row["wanted"].lower() in answer.text.lower())
        else:
            silent.append(answer.refused)
    return Rate(sum(right), len(right)), Rate(sum(silent), len(silent))


def _lines(files: list[str], base: str, seeds: range) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            yield _line_of_notes(Path(folder)) if file == NOTES else _line(file, base, seeds, Path(folder))


def _line(file: str, base: str, seeds: range, folder: Path) -> str:
    """One row of the table: a set of examples, taken through `finetune` with each seed."""
    option = "--instructions" if file == TALKS else "--messages"
    scores, beside, spent, n_rows = [], [], [], 0
    for seed in seeds:
        name = f"{Path(file).stem}-{base}-{seed}"
        words = [option, str(OWN / file), "--from", base, "--seed", str(seed), "--name", name]
        spent.append(run_command("finetune", *words, runs=folder))
        rate, other, n_rows = _scores(folder / name)
        scores.append(str(rate).strip())
        beside.append(f"{other.value:.0%}")
        print(f"{name}: {scores[-1]}, {beside[-1]}, {spent[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    what = "nearest question" if file == TALKS else "bag of words"
    seconds = ", ".join(f"{each.seconds:.0f}" for each in spent)
    return (
        f"| `{file}`, {n_rows} rows | {base} | {'; '.join(scores)} | {what}: {', '.join(beside)} | {seconds} | "
        f"{_memory(spent)} |"
    )


def _scores(folder: Path) -> tuple[Rate, Rate, int]:
    """How many test rows a run's model gets right, what its simple baseline does, and how many rows there are."""
    about = begun_with(folder)
    assert about is not None
    split = kept_rows(folder, about["kind"])
    n_rows = sum(map(len, (split.train, split.validation, split.test)))
    if about["kind"] == "messages":
        model: Any = load_answering(folder / "classifier")
        return examine(model, split.test).rate, baseline_report(split.train, split.test).accuracy, n_rows
    model = load_answering(folder / "assistant")
    found = examine(model, split.test, max_new_tokens=longest_answer(model, split.test))
    return found.rate, share_of_nearest(split), n_rows


def _line_of_notes(folder: Path) -> str:
    """The row of the search, in which nothing is drawn."""
    spent = run_command("search", str(OWN / NOTES), "Where is the boiler?", runs=folder)
    right, silent = (str(rate).strip() for rate in search_scores())
    n_notes = len(list((OWN / NOTES).glob("*.md")))
    return (
        f"| `{NOTES}/`, {n_notes} files | no model | quoted the answer: {right} | said that nothing was found, where "
        f"nothing was: {silent} | {spent.seconds:.0f} | {_memory([spent])} |"
    )


def _memory(spent: list[Spent]) -> str:
    most = [each.memory for each in spent if each.memory is not None]
    return f"{max(most) / 1e9:.1f} GB" if most else "not told"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="shared.maintenance.own_examples", description=main.__doc__)
    parser.add_argument("--from", dest="base", default="story", help="what the models begin as (default story)")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on (default 3)")
    parser.add_argument("--only", choices=FILES, action="append", help="one of the sets; may be repeated")
    options = parser.parse_args(arguments)
    print(HEAD)
    for line in _lines(options.only or list(FILES), options.base, range(options.seeds)):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
