"""Messages to classify: which of four things does the writer do, here and now?

A message asks for help, says thanks, says sorry, or invites; and most messages also tell of one or two of the others:
"Tom said sorry to me, and I thanked him. Can you help me with the tent?" The words of all four are in it. Who does
what, and when, decides.
"""

from typing import NamedTuple

from .tasks import PortableRandom, Thing, fill, split_of, templates, words

MESSAGE_LABELS = ("help", "thanks", "sorry", "invite")
MESSAGE_SIZES = {"train": 4_000, "validation": 500, "test": 1_000}
TOLD = (0, 1, 1, 2, 2)  # how many other acts a message tells of
QUOTED = 0.25  # share of the told acts that are a quotation, word for word what a writer would say


class Message(NamedTuple):
    """A message and what its writer does in it."""

    text: str
    label: str


def write_messages(split: str) -> list[Message]:
    """Write the messages of a split, as many of each label, without two that are the same.

    Source: this course. Taught in ch06, section 6.2.
    """
    rng, texts = PortableRandom(f"messages-{split}"), set()
    messages: list[Message] = []
    while len(messages) < MESSAGE_SIZES[split]:
        label = MESSAGE_LABELS[len(messages) % len(MESSAGE_LABELS)]
        text, key = _message(label, rng)
        if split_of(*key) == split and text not in texts:
            texts.add(text)
            messages.append(Message(text, label))
    return rng.shuffled(messages)


def _message(label: str, rng: PortableRandom) -> tuple[str, tuple[str, ...]]:
    """One message, and the combination that decides its split: its wordings and what the own act is about."""
    rules = templates("messages")
    others = rng.sample([other for other in MESSAGE_LABELS if other != label], rng.pick(TOLD))
    acts = [rng.pick(rules[f"own.{label}"]), *(_told(other, rng) for other in others)]
    things, taken = rng.sample(_things(), len(acts) + 1), [person["n"] for person in (rng.person(), rng.person())]
    parts = [_part(act, thing, taken, rng) for act, thing in zip(acts, things)]
    if rng.below(3) == 0 or len(acts) == 1:
        parts.append(_part(rng.pick(rules["aside"]), things[-1], taken, rng))
    parts = rng.shuffled(parts)
    if rng.below(2):
        parts.insert(0, fill(rng.pick(rules["hello"]), {"r": taken[0]}, rng))
    if rng.below(3) == 0:
        parts.append(fill(rng.pick(rules["bye"]), {"w": taken[1]}, rng))
    return " ".join(parts), (*acts, things[0].noun)


def _told(label: str, rng: PortableRandom) -> str:
    """A template in which the act is not the writer's: somebody else's, past, denied, or in quotation marks."""
    rules = templates("messages")
    if rng.random() >= QUOTED:
        return rng.pick(rules[f"told.{label}"])
    frame, quoted = rng.pick(rules["quote"]), rng.pick(rules[f"own.{label}"])
    if frame.startswith('"{q}" said') and quoted.endswith("."):
        quoted = quoted[:-1] + ","
    return frame.replace("{q}", quoted)


def _part(template: str, thing: Thing, taken: list[str], rng: PortableRandom) -> str:
    """One sentence or two about a thing, an event, a place and a person who is not in the message yet."""
    rules, person = templates("messages"), rng.person(taken)
    if "{n}" in template:
        taken.append(person["n"])
    slots = {"o": f"{rng.pick(thing.adjectives)} {thing.noun}", "e": rng.pick(rules["event"])}
    return fill(template, {**person, **slots, "p": rng.pick(words().places)[0], "t": rng.pick(rules["time"])}, rng)


def _things() -> list[Thing]:
    return [thing for thing in words().things if thing.kind != "food"]
