"""Questions about a text: what is asked, what is right, and what would be wrong."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .asking import Wordings
from .engine import StoryWorld
from .marking import Instruction
from .scene import Facts, Person, Scene, piece_of, position
from .tasks import PortableRandom, templates, with_article, words

NUMBERS = ("zero", "one", "two", "three", "four", "five")
NOT_KNOWN = "I do not know that, but you can ask me about a short story."
SAYS_NOT = (
    "do not know",
    "don't know",
    "does not say",
    "doesn't say",
    "does not tell",
    "doesn't tell",
    "cannot know",
    "can't know",
    "not in the story",
)
PIECE_SHARE = 4  # one text in so many is a piece of one of the world's stories, where a piece serves


@dataclass
class Asked:
    """A question about a text with all that marks its answer; `key` decides the split."""

    facts: Facts
    prompt: str  # text and question
    question: str  # the question alone, for later in a conversation
    accepted: tuple[str, ...]
    key: tuple[str, ...]
    wanted: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    opening: str = ""
    history: tuple[tuple[str, str], ...] = field(default=())

    def record(self, kind: str) -> Instruction:
        answer = self.accepted[0]
        return Instruction(
            kind, self.prompt, answer, self.accepted, self.history, self.wanted, self.rivals, self.told, self.opening
        )


@dataclass
class Answer:
    """What a kind of question asks about some facts, and what is right."""

    wording: str
    slots: dict[str, str]
    accepted: Sequence[str]
    key: Sequence[str] = ()
    wanted: Sequence[str] = ()
    rivals: Sequence[str] = ()


class Source:
    """Asks questions about scenes and about pieces of stories.

    Args:
        world: the world whose stories are cut, told and finished.
        rng: the dice.
        wordings: how questions are asked.
    """

    def __init__(self, world: StoryWorld, rng: PortableRandom, wordings: Wordings):
        self.world, self.rng, self.wordings = world, rng, wordings

    def ask(self, kind: str, facts: Facts | None = None) -> Asked | None:
        """Ask a question of a kind, about given facts or a new text; None where the text does not serve."""
        if kind in STORY_KINDS:
            return STORY_KINDS[kind](self)
        facts = facts or self._text(kind)
        answer = READING[kind](facts, self.rng)
        return None if answer is None else self._asked(kind, facts, answer)

    def _text(self, kind: str) -> Facts:
        if kind in ("who", "animal", "said", "first", "where") and self.rng.below(PIECE_SHARE) == 0:
            return piece_of(self.world.story(), self.rng)
        return Scene(self.rng, *NEEDED.get(kind, ())).facts

    def _asked(self, kind: str, facts: Facts, answer: Answer) -> Asked:
        question = self.wordings.ask(answer.wording, answer.slots)
        prompt = self.wordings.around(facts.text, question)
        rivals = answer.rivals if kind == "unknown" else (*answer.rivals, *SAYS_NOT)
        key = tuple(answer.key)
        return Asked(facts, prompt, question, tuple(answer.accepted), key, tuple(answer.wanted), tuple(rivals))

    # ---- conversations and stories
    def follow(self) -> Asked | None:
        """A second question about the other one, short, after an answered first one."""
        kind = self.rng.pick(("who", "animal", "feeling"))
        facts = Scene(self.rng, *NEEDED[kind]).facts
        if len(facts.people) < 2:
            return None
        pairs = self.rng.shuffled(facts.people)[:2]
        first, second = (READING[kind](facts, self.rng, person) for person in pairs)
        if first is None or second is None:
            return None
        asked = self._asked(kind, facts, first)
        wording, slots = (
            ("follow.kind", {"y": pairs[1].kind}) if kind == "who" else ("follow.name", {"Y": pairs[1].name})
        )
        later = self.wordings.ask(wording, slots)
        return Asked(
            facts, later, later, tuple(second.accepted), tuple(second.key), tuple(second.wanted),
            (*second.rivals, *SAYS_NOT), history=((asked.prompt, asked.accepted[0]),),
        )  # fmt: skip

    def finish(self) -> Asked:
        """A story that stops in the middle, at the end of a paragraph."""
        paragraphs = self.world.story().text.split("\n")
        cut = 1 + self.rng.below(len(paragraphs) - 1)
        opening, rest = "\n".join(paragraphs[:cut]), "\n".join(paragraphs[cut:])
        question = self.wordings.ask("finish", {})
        prompt = self.wordings.around(opening, question)
        return Asked(Facts(opening), prompt, question, (rest,), (), opening=opening)

    def tell(self) -> Asked | None:
        """A story with what was asked for in it."""
        story = self.world.story()
        known, hero, thing = story.facts, story.facts["hero"], story.facts.get("object")
        shape = self.rng.pick(("hero", "thing", "both", "mood"))
        if shape in ("thing", "both") and (thing is None or thing not in story.text):
            return None
        named = f"{hero['kind']} {self.rng.pick(('called', 'named'))} {hero['name']}"
        slots = {"hero": with_article(named), "o": thing or "", "mood": known["end"]}
        told = {"thing": (thing or "",), "both": (hero["name"], hero["kind"], thing or "")}
        question = self.wordings.ask(f"tell.{shape}", slots)
        parts = told.get(shape, (hero["name"], hero["kind"]))
        return Asked(Facts(), question, question, (story.text,), parts, told=parts)


# ------------------------------------------------------------------------------------------- one function for each kind
def _others(options: Sequence[str], *kept: str) -> list[str]:
    return [option for option in options if option not in kept]


def _pick_named(facts: Facts, rng: PortableRandom) -> Person | None:
    """Somebody of whom the text tells both name and kind, the only one of that kind."""
    kinds = [person.kind for person in facts.people]
    known = [person for person in facts.people if kinds.count(person.kind) == 1]
    return rng.pick(known) if known and facts.kinds_told and facts.names_told else None


def _names(facts: Facts, *kept: str) -> list[str]:
    return _others([person.name for person in facts.people], *kept)


def _who(facts: Facts, rng: PortableRandom, person: Person | None = None) -> Answer | None:
    if (person := person or _pick_named(facts, rng)) is None:
        return None
    name, kind = person.name, person.kind
    answers = [f"The {kind} is called {name}.", name, f"It is {name}.", f"It is the {kind} {name}."]
    return Answer("who", {"x": kind}, answers, (kind, name), (name,), _names(facts, name))


def _animal(facts: Facts, rng: PortableRandom, person: Person | None = None) -> Answer | None:
    if (person := person or _pick_named(facts, rng)) is None or person.kind in ("girl", "boy"):
        return None
    name, kind = person.name, person.kind
    answers = [f"In this story, {name} is {with_article(kind)}.", with_article(kind), kind]
    return Answer("animal", {"X": name}, answers, (kind, name), (kind,), [*_kinds_but(kind), *_names(facts, name)])


def _kinds_but(kind: str) -> list[str]:
    return _others(words().animals, kind)


def _what(facts: Facts, rng: PortableRandom) -> Answer | None:
    if facts.thing is None:
        return None
    label, noun = facts.thing
    answers = [f"It is {with_article(label)}.", label, noun, f"the {noun}", with_article(label), with_article(noun)]
    return Answer("what", {}, answers, (label, *_names(facts)[:1]), (noun,))


def _where(facts: Facts, rng: PortableRandom) -> Answer | None:
    if facts.place is None or len(facts.people) < 2:
        return None
    one, two = rng.shuffled(facts.people)[:2]
    place, spot = facts.place, facts.place.split(" ", 1)[1]
    rivals = _others([at.split(" ", 1)[1] for at, _ in words().places], spot)
    answers = [f"It was {place}.", place, f"They were {place}."]
    return Answer("where", {"X": one.name, "Y": two.name}, answers, (place, one.name), (spot,), rivals)


def _feeling(facts: Facts, rng: PortableRandom, person: Person | None = None) -> Answer | None:
    name = person.name if person else rng.pick([*facts.feelings]) if facts.feelings else ""
    if name not in facts.feelings:
        return None
    feeling = facts.feelings[name]
    answers = [f"In this story, {name} was {feeling}.", feeling, f"{name} was {feeling}."]
    rivals = [*_others(feelings(), feeling), *_names(facts, name)]
    return Answer("feeling", {"X": name}, answers, (feeling, name), (feeling,), rivals)


def feelings() -> list[str]:
    return templates("scenes")["feeling"]


def _felt(facts: Facts, rng: PortableRandom) -> Answer | None:
    if not facts.feelings:
        return None
    name, feeling = rng.pick([*facts.feelings.items()])
    answers = [f"The one who was {feeling} is {name}.", name, f"It was {name}.", f"{name} was."]
    answers += [f"{name} was {feeling}.", f"In this story, {name} was {feeling}."]
    return Answer("felt", {"f": feeling}, answers, (feeling, name), (name,), _names(facts, name))


def _said(facts: Facts, rng: PortableRandom) -> Answer | None:
    if not facts.said:
        return None
    who, said = rng.pick(facts.said)
    if sum(said == other for _, other in facts.said) > 1:
        return None
    answers = [f'The one who said "{said}" is {who}.', who, f"It was {who}.", f"It was {who} who said that."]
    answers += [f"{who} said it.", f"{who} said that."]
    return Answer("said", {"said": said}, answers, (said, who), (who,), _names(facts, who))


def _first(facts: Facts, rng: PortableRandom) -> Answer | None:
    if not facts.names_told or len(facts.people) < 2:
        return None
    name, other = facts.people[0].name, facts.people[1].name
    answers = [f"The first name is {name}.", name, f"It is {name}.", f"It was {name}."]
    return Answer("first", {}, answers, (name, other), (name,), _names(facts, name))


def _did(facts: Facts, rng: PortableRandom) -> Answer | None:
    if facts.deed is None or facts.thing is None:
        return None
    giver, give, gave, receiver = facts.deed
    label, noun = facts.thing
    slots = {"X": giver, "Y": receiver, "give": give, "gave": gave, "noun": noun, "o": label}
    whole = [
        f"In this story, {giver} {gave} {receiver} the {noun}.", f"{giver} {gave} {receiver} the {noun}.",
        f"{giver} {gave} the {noun} to {receiver}.", f"{giver} {gave} it to {receiver}.",
        f"{giver} {gave} {receiver} {with_article(label)}.", f"{giver} {gave} {with_article(label)} to {receiver}.",
    ]  # fmt: skip
    shape = rng.pick(("who", "whom", "what"))
    short = {
        "who": [giver, f"It was {giver}.", f"{giver} did."],
        "whom": [receiver, f"To {receiver}.", f"It was {receiver}."],
        "what": [label, noun, f"the {noun}", f"a {noun}", with_article(label), f"It was {with_article(label)}."],
    }
    return Answer(f"did.{shape}", slots, [*whole, *short[shape]], (giver, noun))


def _people(facts: Facts, rng: PortableRandom) -> Answer | None:
    names = [person.name for person in facts.people]
    if not names:
        return None
    n = NUMBERS[len(names)]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    there = f"There {'are' if len(names) > 1 else 'is'} {listed}."
    rivals = [word for word in (*NUMBERS[1:], "1", "2", "3", "4") if word not in (n, str(len(names)))]
    return Answer(
        "people", {}, [f"{there} That makes {n}.", n, str(len(names))], names[:2], (n, str(len(names))), rivals
    )


def _order(facts: Facts, rng: PortableRandom) -> Answer | None:
    if facts.order is None:
        return None
    name, did, then = facts.order
    others = _names(facts, name)
    if rng.below(2):
        return Answer("order.first", {"X": name}, [f"First, {name} {did}.", did], (did, name), (did,), (then, *others))
    answers = [f"In the end, {name} {then}.", then]
    return Answer("order.last", {"X": name}, answers, (then, name), (then,), (did, *others))


# ---------------------------------------------------------------------------------------------- yes or no, this or that
def _yesno(facts: Facts, rng: PortableRandom) -> Answer | None:
    shape = rng.pick(("animal", "thing", "place", "feeling"))
    yes = rng.below(2) == 0
    fact = ALTERNATIVES[shape](facts, rng)
    if fact is None:
        return None
    slots, slot, right, wrong, true = fact
    slots[slot] = right if yes else wrong
    word, other = ("yes", "no") if yes else ("no", "yes")
    rivals = [other, *NOT * yes, *(_names(facts, slots["X"]) if shape in OF_ONE else ())]
    answers = [f"{_as_sentence(shape, true)}, so {word}.", word, f"{word}, {true}."]
    return Answer(f"yesno.{shape}", slots, answers, (right, wrong), (word,), rivals)


NOT = ("not",)
OF_ONE = ("animal", "feeling")  # what is true of one person; who names another has mixed them up


def _as_sentence(shape: str, true: str) -> str:
    return f"In this story, {true}" if shape in OF_ONE else true[0].upper() + true[1:]


Fact = tuple[dict[str, str], str, str, str, str]  # slots, the slot asked, the truth, an untruth, a sentence


def _animal_fact(facts: Facts, rng: PortableRandom) -> Fact | None:
    if (person := _pick_named(facts, rng)) is None:
        return None
    wrong = rng.pick([p.kind for p in facts.people if p is not person] or _kinds_but(person.kind))
    if rng.below(2) or wrong in ("girl", "boy"):
        wrong = rng.pick(_kinds_but(person.kind))
    return {"X": person.name}, "k", person.kind, wrong, f"{person.name} is {with_article(person.kind)}"


def _thing_fact(facts: Facts, rng: PortableRandom) -> Fact | None:
    if facts.thing is None:
        return None
    label, noun = facts.thing
    nouns = [thing.noun for thing in words().things if position(thing.noun, facts.text) < 0]
    wrong = rng.pick([other for other in nouns if noun not in other and other not in label])
    return {}, "n", noun, wrong, f"it is {with_article(label)}"


def _place_fact(facts: Facts, rng: PortableRandom) -> Fact | None:
    if facts.place is None or not facts.people:
        return None
    wrong = rng.pick([at for at, _ in words().places if at != facts.place])
    return {"X": rng.pick(facts.people).name}, "q", facts.place, wrong, f"it was {facts.place}"


def _feeling_fact(facts: Facts, rng: PortableRandom) -> Fact | None:
    if not facts.feelings:
        return None
    name, right = rng.pick([*facts.feelings.items()])
    others = [feeling for who, feeling in facts.feelings.items() if who != name]
    wrong = rng.pick(others) if others and rng.below(2) else rng.pick(_others(feelings(), right))
    return {"X": name}, "e", right, wrong, f"{name} was {right}"


ALTERNATIVES = {"animal": _animal_fact, "thing": _thing_fact, "place": _place_fact, "feeling": _feeling_fact}
CHOICE_SLOTS = {"animal": ("k", "l"), "place": ("p", "q"), "feeling": ("f", "g")}


def _choice(facts: Facts, rng: PortableRandom) -> Answer | None:
    shape = rng.pick(("animal", "place", "feeling", "felt"))
    if shape == "felt":
        return _choice_of_people(facts, rng)
    fact = ALTERNATIVES[shape](facts, rng)
    if fact is None:
        return None
    slots, _, right, wrong, true = fact
    slots |= dict(zip(CHOICE_SLOTS[shape], rng.shuffled([right, wrong])))
    wanted, rival = (word.split(" ", 1)[-1] if shape == "place" else word for word in (right, wrong))
    answers = [f"{_as_sentence(shape, true)}.", right]
    return Answer(f"choice.{shape}", slots, answers, (right, wrong), (wanted,), (rival,))


def _choice_of_people(facts: Facts, rng: PortableRandom) -> Answer | None:
    base = _felt(facts, rng)
    if base is None or len(facts.people) < 2:
        return None
    name = base.wanted[0]
    one, two = rng.shuffled([name, rng.pick(_names(facts, name))])
    base.wording, base.slots = "choice.felt", {**base.slots, "X": one, "Y": two}
    return base


# --------------------------------------------------------------------------------------------------------- not knowing
def _unknown(facts: Facts, rng: PortableRandom) -> Answer | None:
    """A question that the text does not answer: of the kinds above about what is missing, or of another kind."""
    if rng.below(5) == 0:
        return _not_known("unknown.world", {})
    if not facts.people:
        return None
    one, two = (rng.shuffled(facts.people) * 2)[:2]
    if rng.below(3) == 0:
        return _not_known("unknown.story", {"X": one.name, "Y": two.name})
    return rng.pick(MISSING)(facts, rng, one, two)


def _not_known(wording: str, slots: dict[str, str]) -> Answer:
    return Answer(wording, slots, [NOT_KNOWN], (), SAYS_NOT)


def _no_such_animal(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    kind = rng.pick([kind for kind in words().animals if position(kind, facts.text) < 0])
    return _not_known("who", {"x": kind})


def _no_such_name(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    name = rng.person([person.name for person in facts.people])["n"]
    wording = rng.pick(("animal", "feeling", "order.first"))
    return _not_known(wording, {"X": name}) if position(name, facts.text) < 0 else None


def _no_kind(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    return None if facts.kinds_told else _not_known("animal", {"X": one.name})


def _no_feeling(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    if rng.below(2):
        return None if one.name in facts.feelings else _not_known("feeling", {"X": one.name})
    return _not_known("felt", {"f": rng.pick([f for f in feelings() if position(f, facts.text) < 0])})


def _no_place(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    if facts.place or re.search(r"\b(?:house|home|came to visit|visited)\b", facts.text):
        return None
    return _not_known("where", {"X": one.name, "Y": two.name})


def _no_speech(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    line = rng.pick(templates("scenes")["speech"]).split('"')[1].removesuffix(",")
    return None if line in facts.text else _not_known("said", {"said": line})


def _no_deed(facts: Facts, rng: PortableRandom, one: Person, two: Person) -> Answer | None:
    if facts.deed or len(facts.people) < 2:
        return None
    give, gave = rng.pick(templates("scenes")["verb"]).split()
    noun = facts.thing[1] if facts.thing else rng.pick(words().things).noun
    slots = {"X": one.name, "Y": two.name, "give": give, "gave": gave, "noun": noun, "o": noun}
    return _not_known(f"did.{rng.pick(('who', 'whom'))}", slots)


MISSING = (_no_such_animal, _no_such_name, _no_kind, _no_feeling, _no_place, _no_speech, _no_deed)
NEEDED: dict[str, tuple[str, ...]] = {
    "who": ("kinds", "names"), "animal": ("kinds", "names"), "what": ("thing",), "where": ("place",),
    "feeling": ("feelings",), "felt": ("feelings",), "said": ("said",), "first": ("names", "people"),
    "did": ("deed",), "people": ("people",), "order": ("order",),
}  # fmt: skip
READING: dict[str, Callable[..., Answer | None]] = {
    "who": _who, "animal": _animal, "what": _what, "where": _where, "feeling": _feeling, "felt": _felt, "said": _said,
    "first": _first, "yesno": _yesno, "choice": _choice, "did": _did, "people": _people, "order": _order,
    "unknown": _unknown,
}  # fmt: skip
STORY_KINDS: dict[str, Callable[[Source], Asked | None]] = {
    "follow": Source.follow, "tell": Source.tell, "finish": Source.finish,
}  # fmt: skip
READING_KINDS = (*READING, *STORY_KINDS)
