"""For maintainers, `python -m shared.maintenance.examples`: choose the examples that the chat shows.

They are questions of the validation split, so the assistant has not learned from them, in the first wordings of each
kind and without slips of the pen. The program writes `shared/commands/examples.json`; run it when the data of the
questions change.
"""

import re
import sys

from data.durable_folders import json_bytes
from data.files import write_atomically
from data.loaders import load_instructions
from data.story_world.instruction_task import INSTRUCTION_KINDS
from data.story_world.marking import Instruction
from shared.commands.chat_abilities import EXAMPLES

__all__ = ["choose_examples"]

N_EXAMPLES, N_WORDINGS, DRAWN = 6, 6, 60  # of each kind: shown, in so many wordings, chosen from
LONGEST = 260  # characters of a prompt, with its little text


def choose_examples() -> dict[str, list[list[str]]]:
    """Choose examples of every kind: kind -> talks, each a list of prompts.

    Source: this course.
    """
    drawn = load_instructions("validation", n=DRAWN * len(INSTRUCTION_KINDS), n_wordings=N_WORDINGS)
    return {kind: _spread([record for record in drawn if record.kind == kind]) for kind in INSTRUCTION_KINDS}


def _spread(records: list[Instruction]) -> list[list[str]]:
    """Some short talks of one kind, from the shortest on, at even distances."""
    talks = {_words(record.prompt): _talk(record) for record in records if _is_complete(record)}
    ordered = sorted(talks.values(), key=lambda talk: sum(map(len, talk)))
    n = min(N_EXAMPLES, len(ordered))
    return [ordered[number * len(ordered) // n] for number in range(n)]


def _talk(record: Instruction) -> list[str]:
    return [*(prompt for prompt, _ in record.history), record.prompt]


def _is_complete(record: Instruction) -> bool:
    """Whether nothing came before it, or for a second question only the first, and it is not long."""
    return len(record.history) == (record.kind == "follow") and sum(map(len, _talk(record))) <= LONGEST


def _words(prompt: str) -> str:
    return " ".join(re.findall(r"\w+", prompt.casefold()))


def main() -> int:
    """Write the examples; return the exit status."""
    write_atomically(EXAMPLES, json_bytes(choose_examples()))
    print(f"{EXAMPLES}: {EXAMPLES.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
