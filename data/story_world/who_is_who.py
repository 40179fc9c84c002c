"""The lesson *who is who*: people are introduced, and then sentences begin that only who has read this can end.

In "Karl the owl met Ada the fox" two pairs must be kept apart, and each of a pair leads to the other: the owl is called
Karl, and Karl is an owl. A small model learns this with few names and short sentences first (chapter 6). Who is what
is drawn anew in every text, so no pair of a name and a kind is worth remembering: only reading helps. What decides the
end of a statement belongs to the training split, as in the questions for training (`instruction_task.py`).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from .asking import Wordings
from .reading_questions import READING, Answer, feelings
from .scene import Facts, Person, Scene, Telling, invented_name, position
from .tasks import PortableRandom, fill, split_of, templates, with_article, words

PLAIN = ("{A} the {a} came.", "There was a {a} called {A}.", "{A} was a {a}.", "The {a} {A} was there.")
MOST_STATEMENTS = 10
MOST_OF_YES_AND_NO = 6  # of them asked about one text
INVENTED_SHARE = 4  # where feelings are told, one person of so many has a name that nobody taught
N_WORDINGS = 2  # of each kind, where a statement is a question with its answer
SCENE_PARTS = ("kinds", "names", "people", "thing", "place", "feelings", "said", "deed", "order")
ASKED_FIRST = ("yesno", "choice", "unknown", "did", "people")  # who hears only the answer does not know what decides it
ENDS_IN_NAME = ("who", "felt", "said", "choice.felt")


class Statement(NamedTuple):
    """A sentence about the people of a lesson: its beginning, and the words that end it."""

    form: str  # "name" and "kind" in three words, or the kind of question that it answers ("who", "yesno")
    begins: str
    word: str


class Lesson(NamedTuple):
    """A text that introduces people, and statements about them; a space stands before each word that goes on."""

    text: str
    statements: tuple[Statement, ...]


def write_lesson(rng: PortableRandom, n_names: int, *, plain: bool = False, part: str = "people") -> Lesson:
    """Write one lesson.

    Args:
        rng: the dice.
        n_names: names, kinds of animals and feelings that may come, the same ones every time, at least 3; all where
            there are fewer. Scenes take all.
        plain: introduce two people in one short sentence each, not in the many ways of a scene.
        part: "people", who is what; "kinds", whether somebody is an animal, yes or no; "feelings", with how two of them
            felt, and some names that no table holds; "yes or no", the same with both kinds of questions for yes or no;
            "scenes", all kinds of questions about whole scenes.

    Raises:
        ValueError: there is no such part.

    Source: this course. For ch06, section 6.10.
    """
    if part not in LESSON_PARTS:
        raise ValueError(f"part={part!r} is unknown: choose one of {', '.join(LESSON_PARTS)}")
    if part == "scenes":
        return _scene(rng)
    with_feelings = part in ("feelings", "yes or no")
    telling = Telling(rng, _people(rng, n_names, invented=with_feelings))
    told = _plainly(telling) if plain else telling.introduced(third=part != "kinds" and rng.below(3) == 0)
    felt = _felt(telling, n_names) if with_feelings else {}
    if felt:
        told += rng.shuffled([_says_how(telling, felt), *_fillers(rng)])
    text = " ".join(sentence[0].upper() + sentence[1:] for sentence in told)
    people = [person for person in telling.people if position(person.name, text) >= 0]
    facts = Facts(text, people, feelings={person.name: feeling for person, feeling in felt.items()})
    statements = tuple(dict.fromkeys(ASKS[part](facts, rng)))[:MOST_STATEMENTS]
    return Lesson(text, statements) if statements else write_lesson(rng, n_names, plain=plain, part=part)


@lru_cache(maxsize=1)
def _known() -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """All (name, sex), all kinds of animals and all feelings, in an order that is drawn once."""
    rng, names = PortableRandom("who is who"), words().names
    known = rng.shuffled([(name, sex) for sex in names for name in names[sex]]), rng.shuffled(words().animals)
    return *known, rng.shuffled(feelings())


def _people(rng: PortableRandom, n: int, *, invented: bool) -> tuple[Person, Person, Person]:
    names, kinds, _ = _known()
    named = rng.sample(names[:n], 3)
    for place in range(3):
        if invented and rng.below(INVENTED_SHARE) == 0:
            named[place] = invented_name(rng, [name for name, _ in named]), rng.pick("fm")
    a, b, c = (Person(name, kind, sex) for (name, sex), kind in zip(named, rng.sample(kinds[:n], 3)))
    return a, b, c


def _plainly(telling: Telling) -> list[str]:
    rng, people = telling.rng, telling.rng.shuffled((telling.a, telling.b))
    return [fill(rng.pick(PLAIN), {"A": person.name, "a": person.kind}, rng) for person in people]


def _felt(telling: Telling, n: int) -> dict[Person, str]:
    people = telling.rng.shuffled((telling.a, telling.b))
    return dict(zip(people, telling.rng.sample(_known()[2][:n], 2)))


def _says_how(telling: Telling, felt: dict[Person, str]) -> str:
    (first, one), (_, other) = felt.items()
    return telling.say("feel.both", first is telling.b, f=one, g=other)


def _fillers(rng: PortableRandom) -> list[str]:
    return [fill(line, {}, rng) for line in rng.sample(templates("scenes")["filler"], rng.below(2))]


# -------------------------------------------------------------------------------------------------- the statements
def _who_is_what(facts: Facts, rng: PortableRandom) -> list[Statement]:
    return rng.shuffled([one for person in facts.people for one in _of_kind(person)])


def _of_kind(person: Person) -> list[Statement]:
    name, kind = person.name, person.kind
    an = with_article(kind).removesuffix(f" {kind}")
    ways = {
        "who": [Statement("who", f" The {kind} is called", f" {name}"), Statement("name", f" The {kind}", f" {name}")],
        "animal": [
            Statement("animal", f" In this story, {name} is {an}", f" {kind}"),
            Statement("kind", f" {name} the", f" {kind}"),
        ],
    }
    return [one for asked, both in ways.items() if _is_ours(asked, (kind, name)) for one in both]


def _is_ours(asked: str, key: tuple[str, ...]) -> bool:
    return split_of(asked, *key) == "train"


def _yes_or_no_of_kinds(facts: Facts, rng: PortableRandom) -> list[Statement]:
    return _asked(facts, rng, ["yesno"] * 40, ("yesno.animal",))


def _with_feelings(facts: Facts, rng: PortableRandom) -> list[Statement]:
    kinds = ["feeling", "felt", "yesno", "yesno"] * 3 + ["unknown"]
    asked = _asked(facts, rng, kinds, ("feeling", "felt", "yesno.animal"))
    return rng.shuffled([*_who_is_what(facts, rng), *asked])


def _yes_or_no(facts: Facts, rng: PortableRandom) -> list[Statement]:
    return _asked(facts, rng, ["yesno"] * 40, ("yesno.animal", "yesno.feeling"))


def _asked(facts: Facts, rng: PortableRandom, kinds: list[str], wordings: tuple[str, ...]) -> list[Statement]:
    """Questions of some kinds in some of their wordings, and what is not told; few of them for yes or no."""
    found = []
    for kind in kinds:
        answer = READING[kind](facts, rng)
        if answer and (kind == "unknown" or answer.wording in wordings) and _is_decided_here(kind, answer):
            found.append(_stated(kind, answer, rng))
    some = [one for one in dict.fromkeys(found) if one.form == "yesno"][:MOST_OF_YES_AND_NO]
    return [one for one in found if one.form != "yesno"] + some


def _is_decided_here(kind: str, answer: Answer) -> bool:
    return not answer.key or _is_ours(kind, tuple(answer.key))


def _stated(kind: str, answer: Answer, rng: PortableRandom) -> Statement:
    """An answer cut before what decides it, behind its question where the answer alone does not say what was asked."""
    whole = answer.accepted[0].removesuffix(".")
    deciding = answer.wanted if answer.wording in ENDS_IN_NAME else answer.key
    cut = 0 if kind == "unknown" else position(deciding[0], whole)
    asked = Wordings("wordings", rng, N_WORDINGS).ask(answer.wording, answer.slots) if kind in ASKED_FIRST else ""
    return Statement(kind, f" {asked} {whole[:cut]}".rstrip().replace("  ", " "), f" {whole[cut:]}")


def _scene(rng: PortableRandom) -> Lesson:
    """A scene with some of its parts told for certain, and one statement of each kind that it answers."""
    parts = rng.sample(SCENE_PARTS, 2)
    if {*parts} == {"deed", "thing"}:  # one thing is enough
        parts = ["deed"]
    facts = Scene(rng, *parts).facts
    answers = [(kind, READING[kind](facts, rng)) for kind in rng.shuffled([*READING, "yesno"])]
    found = [_stated(kind, one, rng) for kind, one in answers if one and _is_decided_here(kind, one)]
    return Lesson(facts.text, tuple(dict.fromkeys(found))[:MOST_STATEMENTS]) if found else _scene(rng)


ASKS: dict[str, Callable[[Facts, PortableRandom], list[Statement]]] = {
    "people": _who_is_what, "kinds": _yes_or_no_of_kinds, "feelings": _with_feelings, "yes or no": _yes_or_no,
}  # fmt: skip
LESSON_PARTS = (*ASKS, "scenes")
"""What a lesson can be about; scenes are asked in all kinds."""
