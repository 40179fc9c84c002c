"""The story world: its tables, its splits and its stories.

Every random decision goes through Chooser, so each story knows the exact probability of its own derivation.
"""

import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from .chooser import Chooser
from .grammar import PRON, finish
from .required_names import require_names
from .teller import Teller
from .template import Row, load_world, plain, word

SPLITS = ("train", "validation", "test", "heldout_names", "heldout_objects", "heldout_both", "all")
SOIL = ("garden", "farm", "meadow", "yard", "orchard", "hill")


class Story(NamedTuple):
    """A story, log2 of the probability with which the world writes it, and the facts a question may ask for.

    The probability is that of the whole world, with no combination held out: a model of the training stories cannot
    know which combinations were kept from it, so this is the best that it can reach on any split. What the story costs
    within its own split, where fewer heroes or things are possible, is `facts["split_bits"]`.
    """

    text: str
    log2_probability: float
    facts: dict[str, Any]


class Tables:
    """The loaded world: tables and rules, and the views of them that casting needs."""

    def __init__(self, folder: Path | None = None):
        world = load_world(folder) if folder else load_world()
        self.tables, self.rules, self.pieces = world
        tables = self.tables
        self.child = next(row for row in tables["kind"] if plain(row["noun"]) == "child")
        self.animals = [row for row in tables["kind"] if row is not self.child]
        self.heroes = {plain(row["sex"]): plain(row["heroes"]).split() for row in tables["name"]}
        self.friends = {plain(row["sex"]): plain(row["friends"]).split() for row in tables["name"]}
        self.names = {sex: self.heroes[sex] + self.friends[sex] for sex in self.heroes}
        self.surnames = plain(tables["surname"][0]["names"]).split()
        self.sexes = {name: sex for sex, names in self.names.items() for name in names}
        self.tags = {
            (plain(row["mood"]), plain(row["end"])): [word(verb) for verb in row["verbs"]] for row in tables["tag"]
        }
        self.casts = {plain(row["name"]): row for row in tables["plot"]}
        self.plots = tuple(name for name in self.casts if not name.startswith("mini."))
        self.minis = tuple(name[5:] for name in self.casts if name.startswith("mini."))
        self.common_adjectives = [row["word"][0] for row in tables["adj"]]
        self._pools: dict[str, list[Row]] = {}
        self._paint()
        require_names(self)

    def _paint(self) -> None:
        """Things that can have any color get the common colors, animals and children the common adjectives."""
        for row in self.tables["kind"]:
            row["adj"] = row["adj"] + self.common_adjectives
        colors = [plain(row["word"]) for row in self.tables["color"]]
        for row in self.tables["obj"]:
            if plain(row["cls"]) != "food":
                own = [word(adjective) for adjective in row["adj"]]
                row["adj"] = row["adj"] + [[color] for color in colors if color not in own]

    def objects(self, plot: str) -> list[Row]:
        """The things a plot can be about."""
        if plot not in self._pools:
            classes = plain(self.casts[plot]["objects"]).split()
            self._pools[plot] = [row for row in self.tables["obj"] if plain(row["cls"]) in classes]
        return self._pools[plot]

    def places(self, flag: str) -> list[Row]:
        rows = self.tables["place"]
        if flag == "soil":
            return [row for row in rows if plain(row["noun"]) in SOIL]
        return [row for row in rows if flag == "-" or flag in plain(row["flag"]).split()]

    def kind_name(self, row: Row, sex: str) -> str:
        return ("girl" if sex == "f" else "boy") if row is self.child else plain(row["noun"])


@lru_cache(None)
def load_tables() -> Tables:
    """The tables of the course's world, read once."""
    return Tables()


class StoryWorld:
    """Writes stories; the same seed and split give the same stories on every platform.

    Args:
        seed: any integer.
        split: "train"; "validation" and "test", whose (plot, hero's name, hero's kind) never occur in train;
            "heldout_names", "heldout_objects", "heldout_both", whose (plot, hero's name) or (plot, object) pairs never
            do; or "all", with nothing held out.

    Raises:
        ValueError: no such split, plot or mini story.
    """

    def __init__(self, seed: int = 0, split: str = "train"):
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is unknown; use one of {', '.join(SPLITS)}")
        self.split, self.rng = split, random.Random(f"story world {seed} {split}")
        shared = load_tables()
        self.tables, self.rules, self.names, self.surnames = shared.tables, shared.rules, shared.names, shared.surnames
        self.heroes, self.friends = shared.heroes, shared.friends
        self.child, self.animals, self.tags, self.casts = shared.child, shared.animals, shared.tags, shared.casts
        self.objects, self.places, self.kind_name = shared.objects, shared.places, shared.kind_name
        self.plots, self.minis = shared.plots, shared.minis
        self._plot_index = {plot: i for i, plot in enumerate(self.casts)}
        self._name_index = {name: i for names in self.names.values() for i, name in enumerate(names)}
        self._kind_index = {id(row): i for i, row in enumerate(self.tables["kind"])}

    # ---- held-out combinations
    def name_is_held(self, name: str, plot: str) -> bool:
        """A tenth of the (hero's name, plot) pairs is held out."""
        return (self._name_index[name] + 3 * self._plot_index[plot]) % 10 == 0

    def object_is_held(self, row: Row, plot: str) -> bool:
        """A tenth of the (object, plot) pairs is held out, in plots that always name their object."""
        if not self.names_object(plot):
            return False
        place = next(i for i, other in enumerate(self.objects(plot)) if other is row)
        return (place + 7 * self._plot_index[plot]) % 10 == 0

    def names_object(self, plot: str) -> bool:
        return plain(self.casts[plot]["named"]) == "always"

    def triple_class(self, name: str, row: Row, plot: str) -> int:
        """(plot, name, kind) in eight classes of equal size: 0 is validation, 1 is test, the others train."""
        return (self._name_index[name] // 3 + 3 * self._kind_index[id(row)] + 5 * self._plot_index[plot]) % 8

    def allows_hero(self, name: str, row: Row, plot: str) -> bool:
        if self.split == "all":
            return True
        held = self.name_is_held(name, plot)
        if self.split in ("heldout_names", "heldout_both"):
            return held
        group = self.triple_class(name, row, plot)
        return not held and {"validation": group == 0, "test": group == 1}.get(self.split, group > 1)

    def allows_object(self, row: Row, plot: str) -> bool:
        if self.split == "all":
            return True
        return self.object_is_held(row, plot) == (self.split in ("heldout_objects", "heldout_both"))

    def allows_plot(self, plot: str) -> bool:
        """The object splits leave out plots that may not name their object."""
        return self.split not in ("heldout_objects", "heldout_both") or self.names_object(plot)

    # ---- stories
    def tell(
        self, plot: str | None = None, mini: bool = False, replay: Sequence[int] = ()
    ) -> tuple[Teller, str, Chooser]:
        """One story as (teller, text, chooser); `replay` repeats the choices of an earlier one."""
        chooser = Chooser(self.rng, replay)
        teller = Teller(self, chooser)
        prefix, plots = ("mini.", self.minis) if mini else ("", self.plots)
        if plot is not None and plot not in plots:
            raise ValueError(f"plot={plot!r} is unknown; use one of {', '.join(plots)}")
        plot = prefix + (plot or chooser.masked(plots, lambda name: self.allows_plot(prefix + name)))
        teller.cast(plot)
        teller.expand(plot if mini else "plot." + plot)
        return teller, finish("".join(teller.out)), chooser

    def story(self, plot: str | None = None, mini: bool = False) -> Story:
        """Write the next story.

        Args:
            plot: one of `.plots` (with mini=True: of `.minis`), or None for any.
            mini: write a story of about four sentences instead.
        """
        teller, text, chooser = self.tell(plot, mini)
        return Story(text, -chooser.free_bits, _facts(teller, chooser))


def _facts(teller: Teller, chooser: Chooser) -> dict[str, Any]:
    bound = teller.bound
    facts = dict(teller.facts)
    hero, named = bound["h"], [c for c in teller.introduced if c.role != "family"]
    facts.update(plot=teller.plot, free_bits=chooser.free_bits, split_bits=chooser.bits, choices=len(chooser.trace))
    facts["hero"] = {"name": hero.name, "kind": hero.kind, "sex": hero.sex, "pronoun": PRON[hero.sex][0]}
    facts["characters"] = [c.name for c in named]
    facts["kinds"] = {c.name: c.kind for c in named}
    facts["pronoun"] = {c.name: PRON[c.sex][0] for c in named}
    facts["family"] = [c.kind for c in teller.introduced if c.role == "family"]
    if "g" in bound:
        facts["helper"] = bound["g"].name
    if "o" in bound:
        thing = bound["o"]
        facts["object"], facts["noun"] = (thing.label if thing.is_described else thing.noun), thing.noun
    return facts
