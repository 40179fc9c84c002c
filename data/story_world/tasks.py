"""What the three tasks for fine-tuning share: the world's words, templates, random draws, and a rule for the splits.

A task is written from templates (`tables_tasks/*.txt`) and the words of the story world, so that a model that was
pretrained on the stories knows every word. Which split a record belongs to is not drawn but decided by a hash of the
combination that matters in it, for instance wording and topic. A combination is therefore in one split only, and a
model that scores well on the test split has learned a rule, not a list.
"""

import hashlib
import random
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from .engine import load_tables
from .grammar import PRON, article
from .template import Nodes, plain

T = TypeVar("T")

FOLDER = Path(__file__).parent / "tables_tasks"
SHARES = (("validation", 8), ("test", 24), ("train", 100))  # of 100 hash values: 8, 16 and 76
CHOICE = re.compile(r"\[([^\[\]]*)\]")
SLOT = re.compile(r"\{(\w+)\}")


class Thing(NamedTuple):
    """A thing of the story world: "kite", "kites", its adjectives, and its class such as "toy" or "food"."""

    noun: str
    plural: str
    adjectives: tuple[str, ...]
    kind: str


class Words(NamedTuple):
    """The words that tasks take from the story world."""

    names: dict[str, list[str]]  # "f" or "m" -> first names
    animals: list[str]
    things: list[Thing]
    places: list[tuple[str, str]]  # ("in the park", "to the park")


@lru_cache(maxsize=1)
def words() -> Words:
    """Return the names, animals, things and places of the story world."""
    world = load_tables()
    things = [
        Thing(plain(row["noun"]), plain(row["plural"]), _plain_texts(row["adj"]), plain(row["cls"]))
        for row in world.tables["obj"]
    ]
    animals = [plain(row["noun"]) for row in world.animals]
    places = [(plain(row["at"]), plain(row["to"])) for row in world.tables["place"]]
    return Words(world.names, animals, things, places)


def _plain_texts(cell: list[Nodes]) -> tuple[str, ...]:
    return tuple(nodes[0] for nodes in cell if len(nodes) == 1 and isinstance(nodes[0], str))


@lru_cache(maxsize=9)
def templates(name: str) -> dict[str, list[str]]:
    """Read the templates of a task: rule name -> its lines."""
    rules: dict[str, list[str]] = {}
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("= "):
            lines = rules.setdefault(line[2:].strip(), [])
        elif line.strip() and not line.startswith("#"):
            lines.append(line.strip())
    return rules


class PortableRandom:
    """Draws that come out the same on every platform and Python version: only `random()` is used."""

    def __init__(self, seed: str):
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """Draw k different options."""
        pool = list(options)
        return [pool.pop(self.below(len(pool))) for _ in range(k)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        return self.sample(options, len(options))

    def person(self, taken: Collection[str] = ()) -> dict[str, str]:
        """A person who is not one of the taken names: name, pronouns and sex."""
        sex = self.pick("fm")
        name = self.pick(words().names[sex])
        while name in taken:
            name = self.pick(words().names[sex])
        he, him, his, _ = PRON[sex]
        return {"n": name, "he": he, "him": him, "his": his, "He": he.capitalize(), "sex": sex}


def fill(template: str, slots: dict[str, str], rng: PortableRandom) -> str:
    """Write a template: choose between [a|b], fill {slots}, and put "an" where a vowel follows."""
    return AN.sub(r"\1n ", fill_slots(template, slots, rng))


def fill_slots(template: str, slots: dict[str, str], rng: PortableRandom) -> str:
    """Write a template of any language: choose between [a|b], and fill {slots}."""
    text = template
    while "[" in text:  # the innermost choices first
        text = CHOICE.sub(lambda match: rng.pick(match.group(1).split("|")), text)
    return SLOT.sub(lambda match: slots[match.group(1)], text)


AN = re.compile(r"\b([Aa]) (?=[aeiou])(?!uni|use|one\b|once|eu)")


def split_of(*key: str) -> str:
    """Return the split in which a combination may occur; the same answer everywhere and always."""
    value = int.from_bytes(hashlib.sha256("|".join(key).encode("utf-8")).digest()[:8], "big") % 100
    return next(name for name, end in SHARES if value < end)


def with_article(noun_phrase: str) -> str:
    """Put a or an before a noun phrase."""
    return article(noun_phrase)
