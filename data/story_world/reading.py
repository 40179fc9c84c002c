"""A story taken apart for the checker: paragraphs, narration, and who is who."""

import re
from functools import lru_cache
from typing import NamedTuple

from .engine import Tables, load_tables
from .template import Alt, Nodes, plain, word

FAMILY = {"mom": "f", "dad": "m", "grandma": "f", "grandpa": "m", "aunt": "f", "uncle": "m"}
SEX_WORDS = {
    "sister": "f",
    "brother": "m",
    "woman": "f",
    "man": "m",
    "girl": "f",
    "boy": "m",
    "mother": "f",
    "queen": "f",
    "king": "m",
    "sisters": "f",
} | FAMILY
PRONOUN_SEX = {"he": "m", "him": "m", "his": "m", "himself": "m", "she": "f", "her": "f", "herself": "f"}


Entity = tuple[int, str, str]  # (position, sex, name or noun) of somebody whom a pronoun may mean


class Lists(NamedTuple):
    """What the checker knows about the world."""

    sex: dict[str, str]  # first name -> "f" or "m"
    kinds: list[str]
    jobs: list[str]
    things: dict[str, set[str]]  # thing -> its adjectives
    surnames: set[str]
    vocabulary: set[str]
    scenery: set[tuple[str, str]]  # (word before, thing)


@lru_cache(None)
def _lists() -> Lists:
    """Names, kinds, jobs and things of the world, and every word it uses."""
    world = load_tables()
    tables = world.tables
    sex = dict(world.sexes)
    kinds = [plain(row["noun"]) for row in world.animals] + ["boy", "girl"]
    things = {plain(row["noun"]): {word(adjective) for adjective in row["adj"]} for row in tables["obj"]}
    jobs = [plain(row["noun"]) for row in tables["job"]]
    return Lists(sex, kinds, jobs, things, set(world.surnames), _vocabulary(world), _scenery(world, things))


def _vocabulary(world: Tables) -> set[str]:
    words: set[str] = set()

    def collect(nodes: Nodes) -> None:
        for node in nodes:
            if isinstance(node, str):
                words.update(re.findall(r"[a-z]+", node.lower()))
            elif isinstance(node, Alt):
                for option in node.options:
                    collect(option)

    for _, nodes in world.pieces:
        collect(nodes)
    for variants in world.rules.values():  # with their synonyms
        for variant in variants:
            collect(variant.nodes)
    extra = (
        "she he her him his himself herself the a an and little young small boy girl mr mrs named called said replied "
        "answered s t m ll re next door school from friend this fresh bread warm soup apple pie plum jam everyone"
    )
    return (
        words
        | set(extra.split())
        | {name.lower() for names in world.names.values() for name in names}
        | {name.lower() for name in world.surnames}
    )


def _scenery(world: Tables, things: dict[str, set[str]]) -> set[tuple[str, str]]:
    """(word before, thing) wherever the tables name a thing that no story need be about: "rang the bell"."""
    pairs: set[tuple[str, str]] = set()
    heads = {noun.split()[0]: noun for noun in things}

    def collect(nodes: Nodes, before: set[str]) -> set[str]:
        for node in nodes:
            if isinstance(node, str):
                words = re.findall(r"[a-z'-]+|[.!?;:,\"]", node.lower())
                for word in words:
                    if word in heads:
                        pairs.update((last, noun) for last in before for noun in things if noun.split()[0] == word)
                    before = {word}
            elif isinstance(node, Alt):
                before = set().union(*(collect(option, before) for option in node.options))
            else:
                before = {"*"}
        return before

    for _, nodes in world.pieces:
        collect(nodes, {"*"})
    return pairs


class Reading:
    """A story taken apart: paragraphs, narration with the speech blanked out, and who is who."""

    def __init__(self, text: str):
        self.sex, self.kinds, self.jobs, self.things, self.surnames, self.vocabulary, self.scenery = _lists()
        self.text = text.strip()
        self.paragraphs = [part.strip() for part in re.split(r"\n+", self.text) if part.strip()]
        self.flat = "\n".join(self.paragraphs)
        self.narration = re.sub(r'"[^"\n]*"?', lambda m: '"' + " " * (len(m.group()) - 2) + '"', self.flat)
        self.narration = re.sub(r"\b(Mrs?)\.", r"\1 ", self.narration)
        self.kind_pattern = "|".join(sorted(self.kinds + self.jobs, key=len, reverse=True))
        self.mentions = self._find_names()
        self.people = list(dict.fromkeys(name for name, _ in self.mentions))
        self.kind = {name: self._kind_of(name) for name in self.people}

    def _find_names(self) -> list[tuple[str, int]]:
        found = []
        for match in re.finditer(r"\b(?:(Mrs?)\. )?([A-Z][a-z]+)\b", self.flat):
            title, word = match.groups()
            if title and word in self.surnames:
                found.append((match.group(), match.start()))
            elif not title and word in self.sex:
                found.append((word, match.start()))
        return found

    def sex_of(self, name: str) -> str:
        if name.startswith("Mr"):
            return "f" if name.startswith("Mrs") else "m"
        return self.sex[name]

    def _kind_of(self, name: str) -> str | None:
        """The kind that the story gives to a name at its first mention, or None."""
        start = self.first(name)
        before, after = self.flat[max(0, start - 70) : start], self.flat[start + len(name) :]
        adj = r"(?:[a-z-]+ ){0,4}?"
        child = "girl" if self.sex_of(name) == "f" else "boy"
        kind = rf"({self.kind_pattern})\b"
        for pattern, where in (
            (rf"^ the {kind}", after),
            (rf"\b{kind} (?:named|called|whose name was) $", before),
            (rf"^(?: was| is|,) (?:a|an|the) {adj}{kind}", after),
            (rf"^ (?:was|is) the name of an? {adj}{kind}", after),
            (rf"^ lived [^.]*\. (?:He|She|{name}) was an? {adj}{kind}", after),
            (rf"^\? {name} was an? {adj}{kind}", after),
        ):
            match = re.search(pattern, where)
            if match:
                return match.group(1)
        if re.match(r" from (?:next door|school)", after) or re.search(r"(?:\b[Ll]ittle|\b[Yy]oung|friend) $", before):
            return child
        return None

    def first(self, name: str) -> int:
        return next(at for other, at in self.mentions if other == name)


def entities_of(story: Reading) -> list[Entity]:
    """(position, sex, name or noun) of everyone whom a pronoun may mean."""
    people = [(at, story.sex_of(name), name) for name, at in story.mentions]
    nouns = [
        (m.start(), SEX_WORDS[m.group().lower()], m.group().lower())
        for m in re.finditer(r"\b(?:" + "|".join(SEX_WORDS) + r")\b", story.flat, re.IGNORECASE)
    ]
    kinds = {kind: name for name, kind in story.kind.items()}
    called = [
        (m.start(), story.sex_of(kinds[m.group(1)]), kinds[m.group(1)])
        for m in re.finditer(rf"\b[Tt]he (?:little |young )?({story.kind_pattern})\b", story.flat)
        if m.group(1) in kinds
    ]
    return sorted(people + nouns + called)
