"""Short texts with known facts: a scene of two people, told in sentences of many orders, or a piece of a story.

Whoever asks about a text needs to know what is true in it. A scene writes its facts down while it is told; a piece of
one of the world's stories keeps those facts of the story that the piece still shows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .engine import Story
from .grammar import PRON
from .tasks import PortableRandom, Thing, fill, templates, words

SYLLABLES = (
    "ba be bo ca da de do fa fi ga ka ko la le li lo ma me mi mo na ne no pa po ra ri ro sa so ta "
    "ti to tu va ve vi za zo"
).split()
LAST_SYLLABLES = (
    "bo da dra fin ka ki la lek li ma min mo na nel nik no pa ra rin ro sha sik ta tin to tu va vi za zu"
).split()
INVENTED_SHARE = 5  # one person of so many has a name that nobody taught
MODES = ("full", "full", "full", "names", "names", "kinds")  # how people are called: with a kind, by name or kind alone
TAG = r"(?:said|asked|called|cried|shouted|whispered|answered|replied)"
ADJECTIVES = "little small young clever kind merry busy curious friendly gentle".split()


class Person(NamedTuple):
    """Somebody in a text: how the text calls them, their kind ("fox"), and their pronouns by form."""

    name: str
    kind: str
    sex: str


@dataclass
class Facts:
    """What is true in a text, as far as it says so; None or empty where it says nothing."""

    text: str = ""
    people: list[Person] = field(default_factory=list)  # in the order of their first mention
    kinds_told: bool = True
    names_told: bool = True
    thing: tuple[str, str] | None = None  # ("red kite", "kite")
    place: str | None = None  # "in the park"
    feelings: dict[str, str] = field(default_factory=dict)  # who -> feeling
    said: list[tuple[str, str]] = field(default_factory=list)  # (who, words)
    deed: tuple[str, str, str, str] | None = None  # (giver, "give", "gave", receiver) of the thing
    order: tuple[str, str, str] | None = None  # (who, first act, next act)


def position(phrase: str, text: str) -> int:
    """Where a phrase stands in a text as whole words, in any case; -1 where it does not ("Ann" is not in "Anna")."""
    found = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE)
    return found.start() if found else -1


def invented_name(rng: PortableRandom, taken: Sequence[str] = ()) -> str:
    """A name of two or three syllables that no table holds, and that is not a part of a taken one, nor one of it."""
    middle = rng.pick(SYLLABLES) if rng.below(3) == 0 else ""
    name = (rng.pick(SYLLABLES) + middle + rng.pick(LAST_SYLLABLES)).capitalize()
    known = any(name in names for names in words().names.values())
    return invented_name(rng, taken) if known or any(name in one or one in name for one in taken) else name


class Telling:
    """Tells of people in the sentences of the table.

    Args:
        rng: the dice.
        people: three, of whom the third may stay away.
    """

    def __init__(self, rng: PortableRandom, people: tuple[Person, Person, Person]):
        self.rng, self.rules, self.people = rng, templates("scenes"), people
        self.a, self.b, self.c = people

    def introduced(self, *, third: bool, kinds_and_names: bool = True) -> list[str]:
        """Say who they are, in one sentence or several; without kinds or names, only that they are there."""
        if not kinds_and_names:
            return [self.say(rule) for rule in ("intro.bare", *(["intro.third.bare"] if third else []))]
        rules = ["intro.both"] if self.rng.below(2) else ["intro.first", "intro.second"]
        return [self.say(rule) for rule in [*rules, *(["intro.third"] if third else [])]]

    def say(self, rule: str, swap: bool = False, **more: str) -> str:
        """A sentence of a rule, or a template as it stands, with the slots filled; {X} is the second where `swap`."""
        slots = {"adj": self.rng.pick(ADJECTIVES), **more}
        one, two = (self.b, self.a) if swap else (self.a, self.b)
        for letter, person in (("A", self.a), ("B", self.b), ("C", self.c), ("X", one), ("Y", two)):
            he, him, his, _ = PRON[person.sex]
            slots |= {letter: person.name, letter.lower(): person.kind}
            slots |= {f"{letter}he": he, f"{letter}him": him, f"{letter}his": his}
            slots |= {f"{letter}He": he.capitalize(), f"{letter}His": his.capitalize()}
        line = self.rng.pick(self.rules[rule]) if rule in self.rules else rule
        return fill(fill(line, slots, self.rng), slots, self.rng)


class Scene(Telling):
    """Tells one scene: `parts` says what must be in it, the dice add the rest.

    Args:
        rng: the dice.
        parts: of "kinds", "names", "thing", "place", "feelings", "said", "deed", "order".
    """

    def __init__(self, rng: PortableRandom, *parts: str):
        modes = [mode for mode in MODES if not ("kinds" in parts and mode != "full")]
        mode = rng.pick([mode for mode in modes if not ("names" in parts and mode == "kinds")])
        super().__init__(rng, _people(rng, mode))
        self.facts = Facts(kinds_told=mode != "names", names_told=mode != "kinds")
        body = [self._part(part) for part in self._chosen(parts)]
        fillers = [fill(line, {}, rng) for line in rng.sample(self.rules["filler"], rng.pick((0, 0, 1, 1, 2)))]
        told = [*self._beginning(mode, "people" in parts or not body), *rng.shuffled([*body, *fillers])]
        self.facts.text = text = " ".join(_capital(sentence) for sentence in told)
        at = {person: position(person.name, text) for person in self.people}
        self.facts.people = sorted((person for person in at if at[person] >= 0), key=lambda person: at[person])

    # ---- what is in it
    def _chosen(self, parts: tuple[str, ...]) -> list[str]:
        """The parts that need sentences: those that must be there and some others."""
        needed = [part for part in parts if part in PARTS]
        others = [part for part in PARTS if part not in needed and self.rng.below(PARTS[part]) == 0]
        others = [part for part in others if not {part, *needed} >= {"deed", "thing"}]  # one thing is enough
        if "deed" in others and "thing" in others:
            others.remove("deed")
        return [*needed, *others]

    def _beginning(self, mode: str, needed: bool) -> list[str]:
        third = needed and self.rng.below(3) == 0
        if mode == "full":
            return self.introduced(third=third)
        return self.introduced(third=third, kinds_and_names=False) if needed or self.rng.below(2) else []

    def _part(self, part: str) -> str:
        return getattr(self, f"_{part}")(self.rng.below(2) == 1)

    def _thing(self, swap: bool) -> str:
        self.facts.thing = label, noun = a_thing(self.rng)
        return self.say("thing", swap, o=label, noun=noun)

    def _place(self, swap: bool) -> str:
        self.facts.place = self.rng.pick(words().places)[0]
        return self.say("place", swap, p=self.facts.place)

    def _feelings(self, swap: bool) -> str:
        one, two = (self.b, self.a) if swap else (self.a, self.b)
        first, second = self.rng.sample(self.rules["feeling"], 2)
        if self.rng.below(3) == 0:
            self.facts.feelings = {one.name: first}
            return self.say("feel.one", swap, f=first)
        self.facts.feelings = {one.name: first, two.name: second}
        return self.say("feel.both", swap, f=first, g=second)

    def _said(self, swap: bool) -> str:
        one, two = (self.b, self.a) if swap else (self.a, self.b)
        line = self.say("speech" if self.rng.below(4) else "speech.one", swap)
        for who, part in zip((one, two), line.split(" // ")):
            words_said = part.split('"')[1]
            self.facts.said.append((who.name, words_said.removesuffix(",") + "." * words_said.endswith(",")))
        return " ".join(_capital(part) for part in line.split(" // "))

    def _deed(self, swap: bool) -> str:
        one, two = (self.b, self.a) if swap else (self.a, self.b)
        give, gave = self.rng.pick(self.rules["verb"]).split()
        self.facts.thing = label, noun = a_thing(self.rng)
        self.facts.deed = one.name, give, gave, two.name
        return self.say("deed", swap, o=label, noun=noun, give=give, gave=gave)

    def _order(self, swap: bool) -> str:
        one = self.b if swap else self.a
        did, then = (self.say(act, swap) for act in self.rng.sample(self.rules["act"], 2))
        self.facts.order = one.name, did, then
        return self.say("order", swap, did=did, next=then)


def _people(rng: PortableRandom, mode: str) -> tuple[Person, Person, Person]:
    kinds = rng.sample(words().animals, 3)
    people: list[Person] = []
    for kind in kinds:
        person = rng.person([other.name for other in people])
        sex, name = person["sex"], person["n"]
        if rng.below(INVENTED_SHARE) == 0:
            name = invented_name(rng, [other.name for other in people])
        if rng.below(6) == 0 and not any(other.kind in ("girl", "boy") for other in people):
            kind = "girl" if sex == "f" else "boy"
        people.append(Person(f"the {kind}" if mode == "kinds" else name, kind, sex))
    return people[0], people[1], people[2]


PARTS = {"thing": 2, "place": 2, "feelings": 3, "said": 4, "deed": 6, "order": 5}  # unasked, in one scene of so many


def _capital(text: str) -> str:
    """Capital letters at the beginning and behind a period, as "the fox" needs them."""
    return re.sub(r"(\A|\. )([a-z])", lambda found: found[1] + found[2].upper(), text)


def a_thing(rng: PortableRandom) -> tuple[str, str]:
    """A thing with its adjective, and without: ("red kite", "kite")."""
    thing: Thing = rng.pick(words().things)
    return f"{rng.pick(thing.adjectives)} {thing.noun}", thing.noun


def piece_of(story: Story, rng: PortableRandom) -> Facts:
    """The first paragraphs of one of the world's stories, with the facts that they show."""
    paragraphs = story.text.split("\n")
    text = "\n".join(paragraphs[: 1 + rng.below(min(3, len(paragraphs)))])
    facts, known, shown = Facts(text), story.facts, re.findall(r"\w+", text)
    for name in sorted({*known["characters"]} & {*shown}, key=text.index):
        kind = known["kinds"][name]
        if kind in shown:
            facts.people.append(Person(name, kind, "f" if known["pronoun"][name] == "she" else "m"))
    place = known.get("place_at", "")
    facts.place = place if place and place in text and text.count(place.split(" ", 1)[1]) == 1 else None
    for line, who in re.findall(rf'"([^"]+)" {TAG} ([A-Z]\w+)', text):
        if who in known["characters"]:
            facts.said.append((who, line.removesuffix(",") + "." * line.endswith(",")))
    return facts
