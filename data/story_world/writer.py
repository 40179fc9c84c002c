"""The writing of a story: variants of rules become text, and none comes back before all others have come."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .chooser import Chooser
from .template import Nodes, Row, plain

if TYPE_CHECKING:
    from .engine import StoryWorld


class Writer:
    """Writes what templates say, counts the words, and remembers which variants it has used."""

    HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {}  # kind of node -> what writes it; the teller fills it

    def __init__(self, world: StoryWorld, chooser: Chooser):
        self.world, self.chooser = world, chooser
        self.out: list[str] = []
        self.words, self.budget = 0, 70
        self.flags: set[str] = set()
        self.used: defaultdict[str, set[int]] = defaultdict(set)

    def emit(self, text: str) -> None:
        self.out.append(text)
        self.words += text.count(" ")

    def capture(self, write: Callable[..., None], *args: Any) -> str:
        """What a call would write, without writing it."""
        kept, self.out = self.out, []
        write(*args)
        text, self.out = "".join(self.out), kept
        return text

    def tell(self, nodes: Nodes) -> None:
        for node in nodes:
            self.HANDLERS[type(node)](self, node)

    def expand(self, name: str) -> None:
        """Write one variant of a rule; a variant comes back only when all others have been used."""
        variants, used = self.world.rules[name], self.used[name]
        possible = [i for i, v in enumerate(variants) if all((flag in self.flags) == want for want, flag in v.guards)]
        fresh = [i for i in possible if i not in used] or possible
        choice = fresh[self.chooser.draw([variants[i].weight for i in fresh])] if len(fresh) > 1 else fresh[0]
        used.add(choice)
        self.tell(variants[choice].nodes)

    def cell(self, name: str, row: Row, field: str) -> None:
        if field.endswith("2"):  # the second mention: "a blue butterfly" becomes "the blue butterfly"
            self.emit(re.sub(r"^an? ", "the ", plain(row[field[:-1]])))
            return
        cells, used = row[field], self.used[f"{name}.{field}"]
        fresh = [i for i in range(len(cells)) if i not in used] or list(range(len(cells)))
        choice = self.chooser.pick(fresh)
        used.add(choice)
        self.tell(cells[choice])
