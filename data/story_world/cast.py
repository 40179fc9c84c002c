"""The cast of a story: its people and things, each chosen when the text first needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .chooser import Chooser
from .grammar import PRON, tidy
from .template import Row, plain, word
from .writer import Writer

if TYPE_CHECKING:
    from .engine import StoryWorld

COVERS = ("umbrella", "blanket", "cape", "scarf", "map", "book", "box")


class Character:
    """Somebody in the story; `row` holds what the tables say about the kind, nothing for family and listeners."""

    def __init__(self, name: str, sex: str, kind: str, row: Row | None = None, role: str = "friend", address: str = ""):
        self.name, self.sex, self.kind, self.role = name, sex, kind, role
        self.row: Row = row or {}
        self.address = address or name  # what others call them: "Mom"
        self.body = plain(self.row["body"]) if "body" in self.row else "hand"

    @property
    def is_child(self) -> bool:
        return self.kind in ("boy", "girl")


class Thing:
    """A thing of the story, with the row of its table."""

    def __init__(self, row: Row, chooser: Chooser):
        self.row, self.chooser = row, chooser
        self._adj: str | None = None
        self.noun, self.plural, self.cls = plain(row["noun"]), plain(row["plural"]), plain(row["cls"])

    @property
    def is_described(self) -> bool:
        """Whether the text has needed the adjective."""
        return self._adj is not None

    @property
    def adj(self) -> str:
        """The adjective, chosen when the text first needs it."""
        if self._adj is None:
            self._adj = word(self.chooser.pick(self.row["adj"]))
        return self._adj

    @property
    def label(self) -> str:
        return f"{self.adj} {self.noun}"


class Cast(Writer):
    """Knows who and what is in the story; nothing is chosen before the text shows it."""

    def __init__(self, world: StoryWorld, chooser: Chooser):
        super().__init__(world, chooser)
        self.bound: dict[str, Any] = {}  # slot -> a character, a thing, a row of a table, or a text
        self.facts: dict[str, Any] = {}
        self.object_pool: tuple[list[Row], str] = [], ""  # things that the plot can be about, and the plot

    @property
    def is_lesson(self) -> bool:
        return self.plot.startswith("mini.")

    def cast(self, plot: str) -> None:
        world = self.world
        row = world.casts[plot]
        self.plot, self.budget, self.traits = plot, int(plain(row["budget"])), plain(row["traits"]).split()
        extras, helper, places = plain(row["extras"]).split(), plain(row["helper"]), plain(row["places"])
        self.flags.add(plot)
        hero = self.new_hero(plot)
        if not hero.is_child:
            self.flags.add("beast")
        self._cast_object(plot, extras)
        self.adults = helper == "any"
        self.places = world.places(places)
        self._cast_extras(extras)

    def _cast_object(self, plot: str, extras: list[str]) -> None:
        pool = self.world.objects(plot)
        if not pool:
            return
        self.flags.add("o")
        self.object_pool = pool, plot
        if "o" in extras:
            thing = self.new_object("o", pool, plot)
            self.flags.update({"food"} if thing.cls == "food" else ())
            self.flags.update({"cover"} if thing.noun in COVERS else ())

    def _cast_extras(self, extras: list[str]) -> None:
        for key in extras:
            if key == "k1":
                self.new_friend("k1", self.bound["h"])
            elif key.startswith("tr"):
                taken = {thing.noun for thing in self.bound.values() if isinstance(thing, Thing)} | {
                    self.lazy("o").noun
                }
                rows = [r for r in self.world.tables["obj"] if plain(r["cls"]) in ("find", "food", "wear")]
                self.new_object(key, [r for r in rows if plain(r["noun"]) not in taken])

    def new_hero(self, plot: str) -> Character:
        """The hero's kind, then a name: the pair decides together with the plot which split the story is in."""
        world, chooser = self.world, self.chooser
        sex = "fm"[chooser.draw([1, 1])]
        row = self._kind_row()
        names = (world.names if self.is_lesson else world.heroes)[sex]
        name = chooser.masked(names, lambda name: world.allows_hero(name, row, plot))
        return self._enter("h", Character(name, sex, world.kind_name(row, sex), row))

    def new_friend(self, key: str, other: Character, adults: bool = False) -> Character:
        """A second character; `adults` lets neighbors with a job come too."""
        world, chooser = self.world, self.chooser
        same, opposite = (2, 1) if self.is_lesson else (1, 2)  # in a lesson "she" must not give it away
        sex = "fm"[chooser.draw([same, opposite] if other.sex == "f" else [opposite, same])]
        if adults and chooser.draw([3, 1]):
            row = chooser.pick(world.tables["job"])
            name = ("Mr. " if sex == "m" else "Mrs. ") + chooser.pick(world.surnames)
            friend = Character(name, sex, plain(row["noun"]), row, "adult")
        else:
            row = self._kind_row()
            taken = {c.name for c in self.bound.values() if isinstance(c, Character)}
            names = (world.names if self.is_lesson else world.friends)[sex]
            name = chooser.pick([n for n in names if n not in taken])
            friend = Character(name, sex, world.kind_name(row, sex), row)
        return self._enter(key, friend)

    def _kind_row(self) -> Row:
        return self.world.child if self.chooser.draw([5, 4]) else self.chooser.pick(self.world.animals)

    def _enter(self, key: str, character: Character) -> Character:
        self.bound[key] = character
        return character

    def new_object(self, key: str, pool: list[Row], plot: str | None = None) -> Thing:
        world = self.world
        row = self.chooser.masked(pool, lambda r: world.allows_object(r, plot)) if plot else self.chooser.pick(pool)
        self.flags.add(key)
        self.bound[key] = Thing(row, self.chooser)
        return self.bound[key]

    def lazy(self, name: str) -> Any:
        """The value of a slot, bound the first time the text uses it."""
        bound, tables = self.bound, self.world.tables
        if name in bound:
            return bound[name]
        if name == "o":
            self.new_object("o", *self.object_pool)
        elif name == "g":
            self.new_friend("g", bound["h"], self.adults)
        elif name == "par":
            row = self.chooser.pick(tables["par"])
            noun = f"{PRON[bound['h'].sex][2]} {plain(row['noun'])}"
            bound["par"] = Character(noun, plain(row["sex"]), plain(row["noun"]), None, "family", plain(row["voc"]))
        elif name == "p":
            bound["p"] = self.chooser.pick(self.places)
            self.facts["place"], self.facts["place_at"] = plain(bound["p"]["noun"]), plain(bound["p"]["at"])
        elif name in tables:
            bound[name] = self.chooser.pick(tables[name])
        else:
            bound[name] = tidy(self.capture(self.expand, name))
            self.flags.add(name)
            if name in ("w", "t"):
                self.facts[name] = bound[name]
        return bound[name]

    def trait(self) -> str:
        if "trait" not in self.facts:
            self.facts["trait"] = self.chooser.pick(self.traits)
        return self.facts["trait"]
