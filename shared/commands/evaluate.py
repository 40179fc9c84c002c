"""`python course.py evaluate MODEL FILE`: how good a model is on rows of yours, and whether better than another one.

Rows that the model has learned from, as the folder of its run remembers them, are left out: they would measure memory.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from shared.commands.command_line import CommandParser, command
from shared.commands.finetune import errors_to_read, longest_answer, warnings_as_sentences
from shared.commands.own_models import add_columns, kept_rows, read_rows, require_finished, run_of
from shared.commands.published_models import tell_memory

MODEL = "name of a run, a folder, a published model, or 'shipped'"


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("evaluate", "Score a classifier or an assistant on rows of yours.")
    options.add_argument("model", help=MODEL)
    options.add_argument("file", help="messages (TSV, CSV) for a classifier; questions and answers (JSON, JSONL, CSV)")
    add_columns(options)
    options.add_argument("--against", metavar="MODEL", help="another model on the same rows, with a paired test")
    return options


def unseen_rows(rows: list, sources: list[str], file: str) -> list:
    """Leave out what one of the models has learned from.

    Args:
        rows: of the file.
        sources: the models.
        file: its name, for the message.

    Raises:
        ValueError: nothing is left.
    """
    from ch06_finetuning.own_data import row_key

    learned: set = set()
    for folder, about in filter(None, map(run_of, sources)):
        split = kept_rows(folder, about["kind"])
        learned |= {row_key(row) for row in (*split.train, *split.validation)}
    left = [row for row in rows if row_key(row) not in learned]
    if not left:
        raise ValueError(
            f"{file}: the model has learned from all {len(rows):,} rows, so they test nothing: give others"
        )
    if len(left) < len(rows):
        print(f"{len(rows) - len(left):,} of {len(rows):,} rows are left out: the model has learned from them")
    return left


def _examined(source: str, rows: list) -> Any:
    from ch06_finetuning.assistant import Assistant
    from ch06_finetuning.named_models import load_answering
    from ch06_finetuning.own_data import examine

    require_finished(source)
    tell_memory(source, "float32")
    model = load_answering(source)
    tell_unknown_labels(source, getattr(model, "labels", ()), rows)
    longest = longest_answer(model, rows) if isinstance(model, Assistant) and hasattr(rows[0], "response") else 100
    return examine(model, rows, max_new_tokens=longest)


def tell_unknown_labels(source: str, labels: Any, rows: list) -> None:
    """Say which labels of the rows a classifier never learned; none of them can be right.

    Args:
        source: the model.
        labels: its own.
        rows: messages, or instructions, which have no labels.

    Raises:
        ValueError: it knows none of them.
    """
    unknown = [label for label in (getattr(row, "label", None) for row in rows) if label and label not in labels]
    told = f"{', '.join(map(repr, sorted({*unknown})))}; {source} knows {', '.join(map(repr, labels))}"
    if labels and len(unknown) == len(rows):
        raise ValueError(f"none of the {len(rows):,} rows has a label that the model has learned: found {told}")
    if labels and unknown:
        print(f"{len(unknown):,} of {len(rows):,} rows cannot be right, by labels that were not learned: {told}")


@command("evaluate")
def main(arguments: list[str] | None = None) -> int:
    """Print scores with intervals, the paired test and errors to read; return the exit status."""
    options = parser().parse_args(arguments)
    from ch06_finetuning.metrics import compare_paired

    sources = [options.model, *([options.against] if options.against else [])]
    with warnings_as_sentences("evaluate"):
        rows = unseen_rows(read_rows(options.file, options), sources, Path(options.file).name)
        found = [_examined(source, rows) for source in sources]
    print(f"{options.model}: {str(found[0].rate).strip()}")
    if options.against:
        pair = compare_paired(found[0].right, found[1].right)
        print(f"{options.against}: {str(found[1].rate).strip()}")
        print(f"only {options.model} right: {pair.only_first}; only {options.against} right: {pair.only_second}")
        verdict = "the two differ" if pair.p_value < 0.05 else "these rows do not tell them apart"
        print(f"exact McNemar test: p = {pair.p_value:.3g}; {verdict}")
    print("\n".join(["", *errors_to_read(found[0])]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
