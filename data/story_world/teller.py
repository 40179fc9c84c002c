"""The teller: reads the nodes of a template and says each to whom it belongs.

Its parts stand one upon the other: `writer.py` writes, `cast.py` knows who and what is in the story, `people.py` says
who is meant, `speech.py` lets them speak.
"""

from typing import ClassVar

from .cast import Character, Thing
from .speech import Speech
from .template import Alt, Call, Paragraph, Remember, Row, Say, Slot, plain
from .writer import Writer


class Teller(Speech):
    """Tells one story: keeps who is who, who was mentioned last, and writes the text."""

    def _alt(self, node: Alt) -> None:
        self.tell(self.chooser.pick(node.options))

    def _paragraph(self, node: Paragraph) -> None:
        self.emit("\n")
        self.last, self.focus, self.spoke = {}, None, None

    def _remember(self, node: Remember) -> None:
        self.bound[node.key] = self.facts[node.key] = node.value
        self.flags.add(node.key)

    def _call(self, node: Call) -> None:
        if node.maybe:
            late = self.words > (node.maybe if node.maybe > 1 else self.budget)
            if late or self.chooser.draw([1, 1]):
                return
        name = node.name
        if not isinstance(name, str):
            name = "".join(part if isinstance(part, str) else self.key(part) for part in name)
        if node.argument:
            self.arguments.append(self.value(node.argument))
        self.expand(name)
        if node.argument:
            self.arguments.pop()

    def key(self, slot: Slot) -> str:
        """The part of a rule's name that comes from the story, as in <clap:{c.body}>."""
        value = self.value(slot.name)
        if slot.form == "trait":
            return self.trait()
        if isinstance(value, str):
            return value
        return plain(value.row["home"]) if slot.form == "home" else getattr(value, slot.form)

    def _slot(self, node: Slot) -> None:
        value = self.value(node.name)
        if isinstance(value, str):
            self.emit(value)
        elif isinstance(value, Character):
            self.character(value, node.form)
        elif isinstance(value, Thing):
            self.thing(value, node.form)
        elif node.name == "p" and node.form == "found":
            self.found(value)
        elif node.name == "p" and node.form == "see2":
            self.cell("p", value, "see")
            self.emit(" and ")
            self.cell("p", value, "see")
        else:
            self.cell(node.name, value, node.form or "noun")

    def found(self, place: Row) -> None:
        """Where the lost thing lay: chosen once, then always the same spot."""
        if "found" not in self.facts:
            self.facts["found"] = self.capture(self.cell, "p", place, "spot")
        self.emit(self.facts["found"])

    def thing(self, thing: Thing, form: str) -> None:
        draw = self.chooser.draw
        if form == "play":
            self.cell("o", thing.row, "play")
        elif form == "x":
            self.emit(thing.label if draw([4, 1]) else thing.noun)
        elif form == "the":
            self.emit("the " + (thing.label if draw([5, 1]) else thing.noun))
        else:
            self.emit(
                {
                    "a": lambda: f"a {thing.label}",
                    "n": lambda: thing.noun,
                    "adjn": lambda: thing.label,
                    "pl": lambda: thing.plural,
                    "plx": lambda: f"{thing.adj} {thing.plural}",
                }[form]()
            )

    HANDLERS: ClassVar = {
        str: Writer.emit,
        Alt: _alt,
        Slot: _slot,
        Call: _call,
        Say: Speech.say,
        Remember: _remember,
        Paragraph: _paragraph,
    }
