"""For maintainers, `python -m shared.maintenance.sureness`: measure what the chat's words for how sure it is are worth.

    python -m shared.maintenance.sureness         measures the shipped assistant, writes shared/commands/sureness.json
    python -m shared.maintenance.sureness NAME    measures the assistant of a run, and only prints

The borders between "guessing", "fairly sure" and "sure" are chosen on the validation split: "sure" begins where 95 of
100 answers are right, "fairly sure" where 75 are. Then the answers of the test split and those to other people's
wordings are sorted by these borders and counted; nothing is chosen on them. Stories are left out, as the chat says
nothing about them. Run it when another assistant is shipped; it takes some minutes.
"""

import argparse
import math
import sys
from collections.abc import Iterable
from typing import NamedTuple

from ch06_finetuning.assistant import Assistant, load_assistant
from ch06_finetuning.metrics import Rate
from data.durable_folders import json_bytes
from data.files import write_atomically
from data.loaders import load_instructions
from data.paths import DATA_DIR
from data.story_world.marking import Instruction, mark
from shared.commands.chat_sureness import MEASURED, WORDS, Sureness, measure, model_hash

__all__ = ["Answer", "answers_of", "choose_borders", "count_right", "measured"]

RIGHT_WHERE = {"fairly sure": 0.75, "sure": 0.95}
STORIES = ("tell", "finish")


class Answer(NamedTuple):
    """An answer of an assistant: its text, the probabilities of its tokens, and whether it was right."""

    text: str
    probabilities: list[float]
    right: bool


def answers_of(assistant: Assistant, records: Iterable[Instruction]) -> list[Answer]:
    """Let an assistant answer, always with the likeliest token.

    Args:
        assistant: who answers.
        records: what is asked; stories are left out.

    Source: this course.
    """
    answers = []
    for record in records:
        if record.kind not in STORIES:
            written = list(assistant.stream_likely(record.prompt, record.history))
            text = "".join(piece for piece, _ in written)
            answers.append(Answer(text, [likely[0][1] for _, likely in written], mark(record, text)))
    return [answer for answer in answers if answer.probabilities]


def choose_borders(answers: Iterable[Answer]) -> tuple[float, float]:
    """Choose the least measures of "fairly sure" and of "sure".

    The share of right answers is fitted as a function of the measure that never falls, by pooling neighbors that are in
    the wrong order. A border is where the fitted share first reaches what the word promises; 2, so never, where it
    does not.

    Args:
        answers: of the validation split.

    Source: Ayer, Brunk, Ewing, Reid and Silverman (1955), "An empirical distribution function for sampling with
    incomplete information".
    """
    pooled: list[tuple[float, int, int]] = []  # least measure, right, all
    for least, wrong in sorted((measure(answer.probabilities), not answer.right) for answer in answers):
        block = (least, int(not wrong), 1)
        while pooled and pooled[-1][1] * block[2] >= block[1] * pooled[-1][2]:
            before = pooled.pop()
            block = (before[0], before[1] + block[1], before[2] + block[2])
        pooled.append(block)
    fairly, sure = (
        next((least for least, right, n in pooled if right >= share * n), 2.0) for share in RIGHT_WHERE.values()
    )
    return fairly, sure


def count_right(answers: Iterable[Answer], borders: tuple[float, float]) -> dict[str, list[int]]:
    """Count for each word how many answers were right, and of how many.

    Args:
        answers: of other rows than those of the borders.
        borders: from `choose_borders`.

    Source: this course.
    """
    counts = {word: [0, 0] for word in WORDS}
    for answer in answers:
        if word := Sureness(borders, {}).word(answer.text, answer.probabilities):
            counts[word][0] += answer.right
            counts[word][1] += 1
    return counts


def measured(assistant: Assistant) -> dict:
    """Choose the borders for an assistant and count its answers.

    Args:
        assistant: who answers.

    Source: this course.
    """
    validation = answers_of(assistant, load_instructions("validation"))
    fairly, sure = (math.floor(1e4 * border) / 1e4 for border in choose_borders(validation))
    borders = fairly, sure
    others = {split: answers_of(assistant, load_instructions(split)) for split in ("test", "new_wordings")}
    counts = {split: count_right(answers, borders) for split, answers in {"validation": validation, **others}.items()}
    return {"borders": borders, **counts}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and, for the shipped assistant, write; return the exit status."""
    options = argparse.ArgumentParser(prog="python -m shared.maintenance.sureness", description=__doc__.split("\n")[0])
    options.add_argument("model", nargs="?", default="shipped", help="name of a run, a folder, or 'shipped' (default)")
    source = options.parse_args(arguments).model
    found = measured(load_assistant(source))
    print("borders:", *found["borders"])
    for split in ("validation", "test", "new_wordings"):
        for word in WORDS:
            print(f"{split:12}  {word:11}  {Rate(*found[split][word])}")
    if source == "shipped":
        write_atomically(MEASURED, json_bytes({"model": model_hash(DATA_DIR / "story_assistant"), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
