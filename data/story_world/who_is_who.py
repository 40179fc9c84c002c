"""The lesson *who is who*: people are introduced, and then sentences begin that only who has read this can end.

In "Karl the owl met Ada the fox" two pairs must be kept apart, and each of a pair leads to the other: the owl is called
Karl, and Karl is an owl. A small model learns this with few names and short sentences first (chapter 6). Who is what
is drawn anew in every text, so no pair of a name and a kind is worth remembering: only reading helps.
"""

from functools import lru_cache
from typing import NamedTuple

from .scene import Person, Telling, invented_name
from .tasks import PortableRandom, fill, templates, with_article, words

PLAIN = ("{A} the {a} came.", "There was a {a} called {A}.", "{A} was a {a}.", "The {a} {A} was there.")
MOST_STATEMENTS = 10
INVENTED_SHARE = 4  # with feelings, one person of so many has a name that nobody taught


class Statement(NamedTuple):
    """A sentence about the people of a lesson: its beginning, and the word that ends it."""

    form: str  # what is to be known: "who" and "animal" in the sentence of an answer, "name" and "kind" in three words
    begins: str
    word: str


class Lesson(NamedTuple):
    """A text that introduces people, and statements about them; a space stands before each word that goes on."""

    text: str
    statements: tuple[Statement, ...]


def write_lesson(rng: PortableRandom, n_names: int, *, plain: bool = False, feelings: bool = False) -> Lesson:
    """Write one lesson.

    Args:
        rng: the dice.
        n_names: names and kinds of animals that may come, the same ones every time, at least 3; all where there are
            fewer.
        plain: introduce two people in one short sentence each, not in the many ways of a scene.
        feelings: tell how two of them felt, too, ask what is so and what nobody told, and call some by names that no
            table holds.

    Source: this course. For ch06, section 6.10.
    """
    telling = Telling(rng, _people(rng, n_names, invented=feelings))
    told = _plainly(telling) if plain else telling.introduced(third=rng.below(3) == 0)
    felt = _felt(telling) if feelings else {}
    if felt:
        told += rng.shuffled([_says_how(telling, felt), *_fillers(rng)])
    text = " ".join(sentence[0].upper() + sentence[1:] for sentence in told)
    statements = [one for person in telling.people if person.name in text for one in _of_kind(person)]
    if felt:
        statements += [one for person in felt for one in _of_feeling(person, felt[person])]
        statements += [_yes_or_no(telling, felt), _not_told(rng, felt)]
    return Lesson(text, tuple(rng.shuffled(statements)[:MOST_STATEMENTS]))


@lru_cache(maxsize=1)
def _known() -> tuple[list[tuple[str, str]], list[str]]:
    """All (name, sex) and all kinds of animals, in an order that is drawn once."""
    rng, names = PortableRandom("who is who"), words().names
    return rng.shuffled([(name, sex) for sex in names for name in names[sex]]), rng.shuffled(words().animals)


def _people(rng: PortableRandom, n: int, *, invented: bool) -> tuple[Person, Person, Person]:
    names, kinds = _known()
    named = rng.sample(names[:n], 3)
    for place in range(3):
        if invented and rng.below(INVENTED_SHARE) == 0:
            named[place] = invented_name(rng, [name for name, _ in named]), rng.pick("fm")
    a, b, c = (Person(name, kind, sex) for (name, sex), kind in zip(named, rng.sample(kinds[:n], 3)))
    return a, b, c


def _plainly(telling: Telling) -> list[str]:
    rng, people = telling.rng, telling.rng.shuffled((telling.a, telling.b))
    return [fill(rng.pick(PLAIN), {"A": person.name, "a": person.kind}, rng) for person in people]


def _felt(telling: Telling) -> dict[Person, str]:
    people = telling.rng.shuffled((telling.a, telling.b))
    return dict(zip(people, telling.rng.sample(templates("scenes")["feeling"], 2)))


def _says_how(telling: Telling, felt: dict[Person, str]) -> str:
    (first, one), (_, other) = felt.items()
    return telling.say("feel.both", first is telling.b, f=one, g=other)


def _fillers(rng: PortableRandom) -> list[str]:
    return [fill(line, {}, rng) for line in rng.sample(templates("scenes")["filler"], rng.below(2))]


def _of_kind(person: Person) -> list[Statement]:
    name, kind = person.name, person.kind
    an = with_article(kind).removesuffix(f" {kind}")
    return [
        Statement("who", f" The {kind} is called", f" {name}"),
        Statement("animal", f" In this story, {name} is {an}", f" {kind}"),
        Statement("name", f" The {kind}", f" {name}"),
        Statement("kind", f" {name} the", f" {kind}"),
    ]


def _of_feeling(person: Person, feeling: str) -> list[Statement]:
    return [
        Statement("feeling", f" In this story, {person.name} was", f" {feeling}"),
        Statement("felt", f" Who was {feeling}?", f" {person.name}"),
    ]


def _yes_or_no(telling: Telling, felt: dict[Person, str]) -> Statement:
    """Whether one of two is what one of them is: as often yes as no."""
    rng, (person, other) = telling.rng, telling.rng.shuffled([*felt])
    meant = rng.pick((person, other))
    if rng.below(2):
        asked = f" Is {person.name} {with_article(meant.kind)}?"
    else:
        asked = f" Was {person.name} {felt[meant]}?"
    return Statement("yesno", asked, " Yes" if meant is person else " No")


def _not_told(rng: PortableRandom, felt: dict[Person, str]) -> Statement:
    """A question for somebody of whom the text says nothing."""
    feeling = rng.pick([other for other in templates("scenes")["feeling"] if other not in felt.values()])
    return Statement("unknown", f" Who was {feeling}?", " I do not know")
