"""Requests for a short story with two answers, a good one and a spoiled copy of it, and a reward that tells them apart.

The reward reads the request and the story and nothing else, so it can judge what a model writes. It is a list of simple
rules, which makes it easy to understand and possible to cheat: chapter 6 does both.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from .engine import load_tables
from .tasks import PortableRandom, fill, split_of, templates, with_article, words

PREFERENCE_SIZES = {"train": 4_000, "validation": 400, "test": 800}
HAPPY = frozenset("happy happily glad laughed smile smiled danced sang friends hugged cheered joy proud".split())
SAD = frozenset("sad cried alone nobody never unhappy lonely lost tears".split())
UNKIND = frozenset("stupid hate ugly hit".split())
LONGEST = 100  # words; each one above costs a hundredth
PRONOUNS = {"m": {"he", "him", "his", "himself"}, "f": {"she", "her", "hers", "herself"}}
SWAPPED = {"he": "she", "she": "he", "his": "her", "him": "her", "her": "his", "He": "She", "She": "He"}
SENTENCE_END = re.compile(r'(?<=[.!?]) (?=[A-Z"])|(?<=[.!?]") (?=[A-Z"])')


class Preference(NamedTuple):
    """A request, the better story, the worse one, and what was done to the worse one."""

    prompt: str
    chosen: str
    rejected: str
    corruption: str


def write_preferences(split: str) -> list[Preference]:
    """Write the pairs of a split, no request with the same hero and thing in two splits, no story twice.

    Source: this course. Taught in ch06, section 6.14.
    """
    rng, stories = PortableRandom(f"preferences-{split}"), set()
    pairs: list[Preference] = []
    while len(pairs) < PREFERENCE_SIZES[split]:
        facts = _facts(rng)
        if split_of("preference", facts["A"], facts["t"]) == split:
            pair = _pair(facts, CORRUPTIONS[len(pairs) % len(CORRUPTIONS)], rng)
            if pair.chosen not in stories:
                stories.add(pair.chosen)
                pairs.append(pair)
    return rng.shuffled(pairs)


def _facts(rng: PortableRandom) -> dict[str, str]:
    """Who and what the story is about."""
    hero, (animal, other) = rng.person(), rng.sample(words().animals, 2)
    friend, thing = rng.person([hero["n"]]), rng.pick([thing for thing in words().things if thing.kind != "food"])
    facts = {**hero, "A": hero["n"], "a": animal, "B": friend["n"], "b": other, "t": thing.noun}
    place, way = rng.pick(words().places)
    return {**facts, "o": f"{rng.pick(thing.adjectives)} {thing.noun}", "p": place, "to": way, "kind": thing.kind}


def _pair(facts: dict[str, str], corruption: str, rng: PortableRandom) -> Preference:
    rules = templates("preferences")
    plots = rules["plot"] + (rules["plot.hard"] if facts["kind"] in ("toy", "ride", "frag") else [])
    plot = rng.pick(plots).split(" // ")
    sentences = [fill(sentence, facts, rng) for sentence in [*plot, rng.pick(rules["end"])]]
    spoiled = SPOILERS[corruption](list(sentences), facts, rng)
    prompt = fill(rng.pick(rules["request"]), facts, rng)
    return Preference(prompt, " ".join(sentences), spoiled, corruption)


# ----------------------------------------------------------------------------------------------- ways to spoil a story
def _other_name(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    """After the first sentence, the hero is called something else."""
    other = rng.person([facts["A"], facts["B"]])["n"]
    return " ".join([sentences[0], *(re.sub(rf"\b{facts['A']}\b", other, s) for s in sentences[1:])])


def _other_thing(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    """The story is about another thing than the one asked for."""
    text = " ".join(sentences)
    nouns = [t.noun for t in words().things if t.kind != "food" and t.noun not in text and facts["t"] not in t.noun]
    adjective, other = facts["o"][: -len(facts["t"])].strip(), rng.pick(nouns)
    return re.sub(rf"\b{re.escape(facts['t'])}\b", other, text) if adjective else text


def _sad_end(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    return " ".join([*sentences[:-1], fill(rng.pick(templates("preferences")["sad"]), facts, rng)])


def _said_twice(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    at = rng.below(len(sentences))
    return " ".join([*sentences[: at + 1], *sentences[at:]])


def _cut_short(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    """The story stops in the middle of a sentence."""
    text = " ".join(sentences).split()
    kept = len(text) // 2 + rng.below(len(text) // 2 - 3)
    return " ".join(text[:kept]).rstrip('.!?,"')


def _other_pronoun(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    """He is she and she is he."""
    return re.sub(r"\b(he|she|his|him|her|He|She)\b", lambda match: SWAPPED[match.group()], " ".join(sentences))


def _unkind(sentences: list[str], facts: dict[str, str], rng: PortableRandom) -> str:
    return " ".join([*sentences[:-1], fill(rng.pick(templates("preferences")["unkind"]), facts, rng)])


SPOILERS = {
    "name": _other_name,
    "object": _other_thing,
    "sad": _sad_end,
    "repeat": _said_twice,
    "cut": _cut_short,
    "pronoun": _other_pronoun,
    "unkind": _unkind,
}
CORRUPTIONS = tuple(SPOILERS)


# ---------------------------------------------------------------------------------------------------------- the reward
def story_reward(prompt: str, text: str) -> float:
    """Judge a story by what was asked for: the sum of `reward_parts`, at most 4.

    Args:
        prompt: a request as in `load_preferences`, with a hero, an animal and a thing.
        text: the story to judge.

    Raises:
        ValueError: the prompt does not ask for a story about somebody and something.

    Source: this course. Taught in ch06, rewards.ipynb, section R.1.
    """
    return sum(reward_parts(prompt, text).values())


def reward_parts(prompt: str, text: str) -> dict[str, float]:
    """Judge a story point by point: what it has of the request, and what is wrong with it.

    Args:
        prompt: a request as in `load_preferences`.
        text: the story to judge.

    Raises:
        ValueError: the prompt does not ask for a story about somebody and something.

    Source: this course. Taught in ch06, rewards.ipynb, section R.1.
    """
    name, animal, thing = _request(prompt)
    sentences, said = SENTENCE_END.split(text.strip()), set(_words(text))
    last = set(_words(sentences[-1]))
    return {
        "hero": 1.0 if _times(name, text) >= 2 else 0.0,
        "animal": 1.0 if _times(animal, text) else 0.0,
        "thing": 1.0 if _times(thing, text) else 0.0,
        "happy end": float(bool(last & HAPPY)) - float(bool(last & SAD)),
        "strangers": -1.0 * max(0, len(_names(text)) - 2),
        "pronouns": -1.0 if _wrong_pronoun(name, text) else 0.0,
        "said twice": -1.0 * (len(sentences) - len(set(sentences))),
        "unfinished": 0.0 if re.search(r'[.!?]"?$', text.strip()) else -1.0,
        "unkind": -1.0 if said & UNKIND else 0.0,
        "too long": -0.01 * max(0, len(text.split()) - LONGEST),
    }


def _request(prompt: str) -> tuple[str, str, str]:
    """The hero's name, the animal and the noun that a prompt asks for."""
    match = re.search(r"\babout (\w+) the (\w+) and an? ([\w -]+?)(?: that ends well)?\.", prompt)
    nouns = [noun for noun in _nouns() if match and match.group(3).endswith(noun)]
    if not match or not nouns:
        raise ValueError(f'found the prompt {prompt[:80]!r}; expected "… about NAME the ANIMAL and a THING."')
    return match.group(1), match.group(2), max(nouns, key=len)


@lru_cache(maxsize=1)
def _nouns() -> tuple[str, ...]:
    return tuple(thing.noun for thing in words().things)


def _times(word: str, text: str) -> int:
    return len(re.findall(rf"\b{re.escape(word)}\b", text))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _names(text: str) -> list[str]:
    """The first names of the world in a text, in order of appearance."""
    return list(dict.fromkeys(word for word in re.findall(r"\b[A-Z][a-z]+\b", text) if word in load_tables().sexes))


def _wrong_pronoun(name: str, text: str) -> bool:
    """Whether the hero, while alone in the text, is once he and once she, or not what the name says."""
    others = [other for other in _names(text) if other != name]
    alone = text[: text.index(others[0])] if others else text
    return bool(set(_words(alone)) & PRONOUNS["f" if load_tables().sexes.get(name) == "m" else "m"])


def describe(name: str, animal: str, thing: str) -> str:
    """Write a request of your own in the form that `story_reward` understands."""
    return f"Tell a short story with a happy end about {name} the {animal} and {with_article(thing)}."
