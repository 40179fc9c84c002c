"""`python course.py search FOLDER "question"`: find passages in your own documents, and answer from the best one."""

import argparse
import math
import sys
import textwrap
from typing import TYPE_CHECKING

from shared.commands.chat import clean
from shared.commands.command_line import CommandParser, command, whole_number
from shared.commands.published_models import add_precision, tell_memory

if TYPE_CHECKING:
    from ch06_finetuning.assistant import Assistant
    from ch06_finetuning.search import Found

SHOWN = 300  # characters of a passage


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("search", "Find passages in a folder of documents, and answer from the best one.")
    options.add_argument("folder", help="a folder with .txt, .md and .jsonl files, or one such file; UTF-8")
    options.add_argument("question", help="what you want to know, in quotation marks")
    told = "who answers: a run, a folder, or a published model such as smollm2 (default: a sentence is quoted)"
    options.add_argument("--model", metavar="SOURCE", help=told)
    add_precision(options)
    options.add_argument("--results", type=whole_number(1), default=3, help="most passages to show (default 3)")
    told = "least share of a full score with which a passage is found (default: as chosen in chapter 6; 0 shows all)"
    options.add_argument("--threshold", type=_score, metavar="SCORE", help=told)
    return options


def _score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no score of 0 or more")
    return value


@command("search")
def main(arguments: list[str] | None = None) -> int:
    """Print an answer and the passages it comes from; return the exit status."""
    options = parser().parse_args(arguments)
    from ch06_finetuning.search import BM25, THRESHOLD, answer_from, read_passages, search

    if not options.question.strip():
        raise ValueError("the question is empty: give one in quotation marks behind the folder")
    passages, notes = read_passages(options.folder)
    threshold = THRESHOLD if options.threshold is None else options.threshold
    index = BM25([passage.text for passage in passages])
    found = search(options.question, passages, index, k=options.results, threshold=threshold)
    for note in notes:
        print(clean(note), file=sys.stderr)
    assistant = _assistant(options.model, options.precision) if found else None
    print(clean(str(answer_from(options.question, found, assistant))))
    for one in found:
        print(f"\n{_shown(one)}")
    return 0


def _assistant(source: str | None, precision: str) -> "Assistant | None":
    from ch06_finetuning.assistant import load_assistant

    if source is None:
        return None
    tell_memory(source, precision)
    return load_assistant(source, precision)


def _shown(found: "Found") -> str:
    text = clean(" ".join(found.passage.text.split()))
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return textwrap.fill(f"{found.passage.place} (score {found.score:.2f}): {text}", 100, subsequent_indent="    ")


if __name__ == "__main__":
    sys.exit(main())
