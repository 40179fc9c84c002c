"""What the course's own assistant can do, in a visitor's words, with examples of every ability.

The examples stand in `examples.json`: questions of the validation split, chosen by `shared/maintenance/examples.py`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().with_name("examples.json")
GROUPS = {
    "About a story": {
        "who": "a name", "animal": "what animal", "what": "a thing", "where": "the place", "feeling": "how somebody felt",
        "felt": "who felt so", "said": "who said it", "did": "who did it", "first": "whose name comes first",
        "people": "how many they are", "order": "what came first", "yesno": "yes or no", "choice": "this or that",
        "follow": "and the other one?", "unknown": "what nobody told",
    },
    "Tell me a story": {"tell": "a new story", "finish": "how mine goes on"},
    "Play with words": {
        "past": "what happened yesterday", "plural": "more than one", "opposite": "the opposite", "swap": "swap two things",
        "count": "count", "last": "the last word", "group": "which one belongs", "repeat": "say it again",
    },
    "Talk": {"greeting": "say hello", "can": "what can you do?", "you": "who are you?", "thanks": "say thank you"},
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
