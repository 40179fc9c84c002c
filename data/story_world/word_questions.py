"""Small things to do with words, and what one says in a talk."""

from collections.abc import Callable
from dataclasses import dataclass

from .reading_questions import NUMBERS, SAYS_NOT
from .scene import a_thing
from .tasks import PortableRandom, templates, words

TIMES = {"once": 1, "twice": 2, "three times": 3}
GREETING = "Hello! You can ask me about a short story, or I can tell you one."
WELCOME = "You are welcome!"
ABOUT = "I am a small language model. I have read many stories, and I answer short questions."
ABILITIES = "I can answer questions about a short story, tell you a story, count things and play with words."


@dataclass
class Worded:
    """The slots of a request and what marks its answer; `key` decides the split, or where it is empty the prompt."""

    slots: dict[str, str]
    accepted: tuple[str, ...]
    key: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    rivals: tuple[str, ...] = SAYS_NOT


def _past(rng: PortableRandom) -> Worded:
    present, past = rng.pick(templates("word_lists")["past"]).split()
    _, noun = a_thing(rng)
    animal = rng.pick(words().animals)
    subject = rng.pick((f"The {animal}", rng.person()["n"], "My friend"))
    sentence = f"{subject} {past} the {noun}."
    return Worded({"now": f"{subject} {present} the {noun}."}, (sentence, past), (past, noun), (f"{past} the {noun}",))


def _plural(rng: PortableRandom) -> Worded:
    thing = rng.pick(words().things)
    adjective = rng.pick(thing.adjectives)
    many = f"{adjective} {thing.plural}"
    answers = (f"Two {many}.", many, f"You have two {many}.", f"two {thing.plural}", thing.plural)
    return Worded({"o": f"{adjective} {thing.noun}"}, answers, (adjective, thing.noun), (f"two {many}",))


def _opposite(rng: PortableRandom) -> Worded:
    word, other = rng.shuffled(rng.pick(templates("word_lists")["opposite"]).split())
    noun = rng.pick(words().things).noun
    answers = (f"The opposite of {word} is {other}.", other, f"The {noun} is {other}.")
    return Worded({"noun": noun, "word": word}, answers, (), (other,), ("not", *SAYS_NOT))


def _swap(rng: PortableRandom) -> Worded:
    one, two = (f"the {rng.pick(thing.adjectives)} {thing.noun}" for thing in rng.sample(words().things, 2))
    both = f"{two} and {one}"
    return Worded(
        {"one": one, "two": two}, (f"{both[0].upper()}{both[1:]}.",), (one.split()[-1], two.split()[-1]), (both,)
    )


def _list(rng: PortableRandom, things: list[str]) -> str:
    if rng.below(3) == 0:
        return f"{', '.join(things[:-1])} and {things[-1]}"
    return ", ".join(things)


def _some_things(rng: PortableRandom, least: int, choices: int) -> list[str]:
    nouns = [thing.noun for thing in words().things if " " not in thing.noun]
    return rng.sample([*nouns, *words().animals], least + rng.below(choices))


def _count(rng: PortableRandom) -> Worded:
    """The answer counts aloud, one thing after the other."""
    things = _some_things(rng, 2, 4)
    n, digit = NUMBERS[len(things)], str(len(things))
    aloud = " ".join(f"{NUMBERS[i].capitalize()}: {thing}." for i, thing in enumerate(things, start=1))
    short = (n, digit, f"There are {n}.", f"There are {n} things.", f"{n} things", f"There are {digit}.")
    return Worded({"list": _list(rng, things)}, (f"{aloud} There are {n}.", *short), tuple(things[:2]))


def _last(rng: PortableRandom) -> Worded:
    things = _some_things(rng, 3, 3)
    last, others = things[-1], tuple(things[:-1])
    accepted = (f"The last word is {last}.", last, f"It is {last}.")
    return Worded({"list": _list(rng, things)}, accepted, tuple(things[-2:]), (last,), (*others, *SAYS_NOT))


def _group(rng: PortableRandom) -> Worded:
    rules = templates("word_lists")
    name, *others = rng.sample([name for name in rules if name.startswith("group.")], 3)
    word, *rest = (rng.pick(rules[group][0].split()) for group in (name, *others))
    slots = {"group": name.removeprefix("group."), "list": _list(rng, rng.shuffled([word, *rest]))}
    accepted = (f"It is {word}.", word, f"The {word}.")
    return Worded(slots, accepted, (word, min(rest)), (word,), (*rest, *SAYS_NOT))


def _repeat(rng: PortableRandom) -> Worded:
    label, _ = a_thing(rng)
    times = rng.pick(list(TIMES))
    said = ", ".join([f"the {label}"] * TIMES[times])
    return Worded({"phrase": f"the {label}", "times": times}, (f"{said[0].upper()}{said[1:]}.",), (label, times))


TALK_WANTED = {
    "greeting": ("hello", "hi", "good morning", "good evening", "good night"), "thanks": ("welcome", "my pleasure"),
    "you": ("language model", "computer", "program", "assistant"), "can": ("I can", "you can ask"),
}  # fmt: skip
TALK_ANSWERS = {"greeting": GREETING, "thanks": WELCOME, "you": ABOUT, "can": ABILITIES}


def talk(kind: str) -> Worded:
    """What one says in a talk: always the same answer, whatever the wording."""
    return Worded({}, (TALK_ANSWERS[kind],), (), TALK_WANTED[kind])


WORD_KINDS: dict[str, Callable[[PortableRandom], Worded]] = {
    "past": _past, "plural": _plural, "opposite": _opposite, "swap": _swap, "count": _count, "last": _last,
    "group": _group, "repeat": _repeat,
}  # fmt: skip
TALK_KINDS = tuple(TALK_ANSWERS)
