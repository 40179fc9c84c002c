"""Questions and requests whose answers can be marked exactly: fifteen kinds, from reading to grammar to counting.

Seven kinds ask about a short story that stands in the prompt; eight ask for something small to be done
with words. In every kind a pair of words decides the split (a name and an animal, a verb and its subject), so a test
question joins words that were never joined in training.
"""

from .marking import Instruction
from .tasks import PortableRandom, Thing, fill, split_of, templates, with_article, words

INSTRUCTION_SIZES = {"train": 12_000, "validation": 600, "test": 1_200}
NUMBERS = ("zero", "one", "two", "three", "four", "five")
TIMES = {"once": 1, "twice": 2, "three times": 3}


def write_instructions(split: str) -> list[Instruction]:
    """Write the records of a split, as many of each kind, no prompt twice.

    Source: this course. For ch06, section 6.9.
    """
    rng, prompts = PortableRandom(f"instructions-{split}"), set()
    records: list[Instruction] = []
    while len(records) < INSTRUCTION_SIZES[split]:
        kind = INSTRUCTION_KINDS[len(records) % len(INSTRUCTION_KINDS)]
        record, key = WRITERS[kind](kind, rng)
        if split_of(kind, *key) == split and record.prompt not in prompts:
            prompts.add(record.prompt)
            records.append(record)
    return rng.shuffled(records)


# --------------------------------------------------------------------------------------- questions about a short story
def _story(kind: str, rng: PortableRandom) -> tuple[str, dict[str, str]]:
    """A story of two animals and its facts, under the names of the slots in the tables."""
    rules, first = templates("instructions"), rng.person()
    second, thing = rng.person([first["n"]]), _thing(rng)
    animals, feelings = rng.sample(words().animals, 2), rng.sample(rules["feeling"], 2)
    facts = {"A": first["n"], "B": second["n"], "a": animals[0], "b": animals[1], "f": feelings[0], "g": feelings[1]}
    facts.update({f"A{form}": first[form] for form in ("he", "him", "his", "He")})
    facts.update(noun=thing.noun, o=_with_adjective(thing, rng), p=rng.pick(words().places)[0])
    asked = "AaBbf" if kind in ("animal", "who") else rng.pick(("AaBbf", "BbAag"))
    facts.update({slot: facts[source] for slot, source in zip("XxYyh", asked)})  # {h} is how {X} feels
    told = [_line("opening", kind, rng), rng.pick(rules["thing"])]
    if kind == "said" or rng.below(4) == 0:
        facts["speech"] = rng.pick(rules["speech"])
        told += facts["speech"].split(" // ")
    return fill(" ".join([*told, _line("end", kind, rng)]), facts, rng), facts


def _line(part: str, kind: str, rng: PortableRandom) -> str:
    """A line for a part of the story: of its own where the kind of question needs one."""
    rules = templates("instructions")
    return rng.pick(rules.get(f"{part}.{kind}") or rules[part])


def _about_story(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    """A story, a question about it, and the pair that decides its split."""
    story, facts = _story(kind, rng)
    answers, key, slots = STORY_ANSWERS[kind](facts, rng)
    question = fill(rng.pick(templates("instructions")[f"ask.{kind}"]), {**facts, **slots}, rng)
    return Instruction(kind, f"{story}\n{question}", answers[0], tuple(answers)), key


Answered = tuple[list[str], tuple[str, ...], dict[str, str]]  # answers, key of the split, more slots of the question


def _who(facts: dict[str, str], rng: PortableRandom) -> Answered:
    animal, name = facts["x"], facts["X"]
    answers = [f"It is the {animal} {name}.", name, f"It is {name}.", f"The {animal} is called {name}."]
    return answers, (animal, name), {}


def _what(facts: dict[str, str], rng: PortableRandom) -> Answered:
    noun, thing = facts["noun"], facts["o"]
    answers = [with_article(thing), thing, f"the {thing}", noun, with_article(noun), f"the {noun}"]
    return answers, (thing, facts["A"]), {}


def _where(facts: dict[str, str], rng: PortableRandom) -> Answered:
    place = facts["p"]
    return [place, f"{facts['X']} was {place}", f"They were {place}"], (place, facts["A"]), {}


def _animal(facts: dict[str, str], rng: PortableRandom) -> Answered:
    animal = with_article(facts["x"])
    answers = [f"In this story, {facts['X']} is {animal}.", animal, facts["x"], f"{facts['X']} is {animal}"]
    return answers, (facts["x"], facts["X"]), {}


def _feeling(facts: dict[str, str], rng: PortableRandom) -> Answered:
    feeling, name = facts["h"], facts["X"]
    return [f"In the end, {name} was {feeling}.", feeling, f"{name} was {feeling}"], (feeling, name), {}


def _said(facts: dict[str, str], rng: PortableRandom) -> Answered:
    line = fill(rng.pick(facts["speech"].split(" // ")), facts, rng)
    said, speaker = line.split('"')[1], line.rstrip(".").split()[-1]
    said = said[:-1] + "." if said.endswith(",") else said
    return [line, speaker, f"It was {speaker}.", f"{speaker} said it."], (said, speaker), {"said": said}


def _first(facts: dict[str, str], rng: PortableRandom) -> Answered:
    return [f"It is {facts['A']}.", facts["A"], f"It was {facts['A']}."], (facts["A"], facts["B"]), {}


STORY_ANSWERS = {
    "who": _who,
    "what": _what,
    "where": _where,
    "animal": _animal,
    "feeling": _feeling,
    "said": _said,
    "first": _first,
}


# ------------------------------------------------------------------------------------------- small things with words
def _asked(
    kind: str, rng: PortableRandom, slots: dict[str, str], answers: list[str], *key: str
) -> tuple[Instruction, tuple[str, ...]]:
    prompt = fill(rng.pick(templates("instructions")[f"ask.{kind}"]), slots, rng)
    return Instruction(kind, prompt, answers[0], tuple(answers)), key


def _past(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    now, then = rng.pick(templates("instructions")["past"]).split()
    animal, thing = rng.pick(words().animals), _with_adjective(_thing(rng), rng)
    slots = {"now": f"The {animal} {now} the {thing}."}
    return _asked(kind, rng, slots, [f"The {animal} {then} the {thing}."], now, animal)


def _plural(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    thing = _thing(rng)
    adjective = rng.pick(thing.adjectives)
    many = f"{adjective} {thing.plural}"
    return _asked(kind, rng, {"o": f"{adjective} {thing.noun}"}, [f"two {many}", many], adjective, thing.noun)


def _opposite(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    word, other = rng.shuffled(rng.pick(templates("instructions")["opposite"]).split())
    noun = _thing(rng).noun
    answers = [f"The {noun} is {other}.", other, f"It is {other}.", f"a {other} {noun}", f"an {other} {noun}"]
    return _asked(kind, rng, {"noun": noun, "word": word}, answers, word, noun)


def _swap(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    one, two = (f"the {_with_adjective(thing, rng)}" for thing in rng.sample(words().things, 2))
    return _asked(kind, rng, {"one": one, "two": two}, [f"{two} and {one}"], one.split()[-1], two.split()[-1])


def _count(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    """The answer counts aloud, one thing after the other."""
    things = rng.sample(_short_nouns(), 2 + rng.below(4))
    n = NUMBERS[len(things)]
    aloud = " ".join(f"{NUMBERS[i].capitalize()}: {thing}." for i, thing in enumerate(things, start=1))
    answers = [f"{aloud} There are {n}.", n, str(len(things)), f"There are {n}.", f"{n} things"]
    return _asked(kind, rng, {"list": ", ".join(things)}, answers, *things[:2])


def _last(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    things = rng.sample(_short_nouns(), 3 + rng.below(3))
    answers = [f"It is {things[-1]}.", things[-1], f"The {things[-1]}"]
    return _asked(kind, rng, {"list": ", ".join(things)}, answers, *things[-2:])


def _group(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    rules = templates("instructions")
    name, *others = rng.sample([name for name in rules if name.startswith("group.")], 3)
    word, *rest = (rng.pick(rules[group][0].split()) for group in (name, *others))
    slots = {"group": name.removeprefix("group."), "list": ", ".join(rng.shuffled([word, *rest]))}
    return _asked(kind, rng, slots, [f"It is {word}.", word], word, min(rest))


def _repeat(kind: str, rng: PortableRandom) -> tuple[Instruction, tuple[str, ...]]:
    thing, times = _thing(rng), rng.pick(list(TIMES))
    phrase = f"the {_with_adjective(thing, rng)}"
    slots = {"phrase": phrase, "times": times}
    return _asked(kind, rng, slots, [", ".join([phrase] * TIMES[times])], phrase, times)


def _short_nouns() -> list[str]:
    return [thing.noun for thing in words().things if " " not in thing.noun]


def _thing(rng: PortableRandom) -> Thing:
    return rng.pick(words().things)


def _with_adjective(thing: Thing, rng: PortableRandom) -> str:
    return f"{rng.pick(thing.adjectives)} {thing.noun}"


WRITERS = {
    **{kind: _about_story for kind in STORY_ANSWERS},
    "past": _past,
    "plural": _plural,
    "opposite": _opposite,
    "swap": _swap,
    "count": _count,
    "last": _last,
    "group": _group,
    "repeat": _repeat,
}
INSTRUCTION_KINDS = tuple(WRITERS)
