"""What the course's own assistant can do, in a visitor's words, with examples of every ability.

The examples stand in `examples.json`: questions of the validation split, chosen by `shared/maintenance/examples.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().with_name("examples.json")
GROUPS = {
    "About a story": {
        "who": "Who is it?", "animal": "What animal?", "what": "What thing?", "where": "Where?",
        "feeling": "How did they feel?", "felt": "Who felt so?", "said": "Who said it?", "did": "Who did it?",
        "first": "Whose name comes first?", "people": "How many?", "order": "What came first?", "yesno": "Yes or no?",
        "choice": "This or that?", "follow": "And the other one?", "unknown": "What nobody told",
    },
    "Tell me a story": {"tell": "A new story", "finish": "Go on with mine"},
    "Play with words": {
        "past": "Yesterday", "plural": "More than one", "opposite": "The opposite", "swap": "Swap two things",
        "count": "Count", "last": "The last word", "group": "Which one fits?", "repeat": "Say it again",
    },
    "Talk": {"greeting": "Hello!", "you": "Who are you?", "can": "What can you do?", "thanks": "Thank you!"},
}  # fmt: skip
"""Title of a group -> kind of question -> what a visitor calls it."""


@dataclass(frozen=True)
class Ability:
    """Something that the assistant can do.

    Args:
        label: what a visitor calls it.
        examples: each the prompts of a talk, one after the other; nearly always a single one.
    """

    label: str
    examples: list[list[str]]


@dataclass(frozen=True)
class Group:
    """Abilities of one sort under their title."""

    title: str
    abilities: list[Ability]


def load_groups() -> list[Group]:
    """Give every ability with its examples, in groups."""
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return [
        Group(title, [Ability(label, examples[kind]) for kind, label in labels.items()])
        for title, labels in GROUPS.items()
    ]
