"""Messages to classify: which of four things does the writer do, here and now?

A message asks for help, says thanks, says sorry, or invites; and most messages also tell of one or two of the others:
"Tom said sorry to me, and I thanked him. Can you help me with the tent?" The words of all four are in it. Who does
what, and when, decides.
"""

from typing import NamedTuple

from .tasks import Dice, Thing, fill, split_of, templates, words

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

    Source: Taught in ch06, section 6.2.
    """
    dice, texts, messages = Dice(f"messages-{split}"), set(), []
    while len(messages) < MESSAGE_SIZES[split]:
        label = MESSAGE_LABELS[len(messages) % len(MESSAGE_LABELS)]
        text, key = _message(label, dice)
        if split_of(*key) == split and text not in texts:
            texts.add(text)
            messages.append(Message(text, label))
    return dice.shuffled(messages)


def _message(label: str, dice: Dice) -> tuple[str, tuple[str, ...]]:
    """One message, and the combination that decides its split: its wordings and what the own act is about."""
    rules = templates("messages")
    others = dice.sample([other for other in MESSAGE_LABELS if other != label], dice.pick(TOLD))
    acts = [dice.pick(rules[f"own.{label}"]), *(_told(other, dice) for other in others)]
    things, taken = dice.sample(_things(), len(acts) + 1), [person["n"] for person in (dice.person(), dice.person())]
    parts = [_part(act, thing, taken, dice) for act, thing in zip(acts, things)]
    if dice.below(3) == 0 or len(acts) == 1:
        parts.append(_part(dice.pick(rules["aside"]), things[-1], taken, dice))
    parts = dice.shuffled(parts)
    if dice.below(2):
        parts.insert(0, fill(dice.pick(rules["hello"]), {"r": taken[0]}, dice))
    if dice.below(3) == 0:
        parts.append(fill(dice.pick(rules["bye"]), {"w": taken[1]}, dice))
    return " ".join(parts), (*acts, things[0].noun)


def _told(label: str, dice: Dice) -> str:
    """A template in which the act is not the writer's: somebody else's, past, denied, or in quotation marks."""
    rules = templates("messages")
    if dice.random() >= QUOTED:
        return dice.pick(rules[f"told.{label}"])
    frame, quoted = dice.pick(rules["quote"]), dice.pick(rules[f"own.{label}"])
    if frame.startswith('"{q}" said') and quoted.endswith("."):
        quoted = quoted[:-1] + ","
    return frame.replace("{q}", quoted)


def _part(template: str, thing: Thing, taken: list[str], dice: Dice) -> str:
    """One sentence or two about a thing, an event, a place and a person who is not in the message yet."""
    rules, person = templates("messages"), dice.person(taken)
    if "{n}" in template:
        taken.append(person["n"])
    slots = {"o": f"{dice.pick(thing.adjectives)} {thing.noun}", "e": dice.pick(rules["event"])}
    return fill(template, {**person, **slots, "p": dice.pick(words().places)[0], "t": dice.pick(rules["time"])}, dice)


def _things() -> list[Thing]:
    return [thing for thing in words().things if thing.kind != "food"]
