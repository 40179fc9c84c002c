"""How a story speaks of its people: by name, by pronoun, or as "the little fox", whichever is clear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cast import Cast, Character
from .chooser import Chooser
from .grammar import PRON
from .template import word

if TYPE_CHECKING:
    from .engine import StoryWorld

PRON_FORMS = ("he", "him", "his", "self")


class People(Cast):
    """Remembers who was mentioned last, and chooses how to mention a character again."""

    def __init__(self, world: StoryWorld, chooser: Chooser):
        super().__init__(world, chooser)
        self.last: dict[str, Character] = {}  # the last character of each sex
        self.focus: Character | None = None  # the one the text is about
        self.introduced: list[Character] = []
        self.arguments: list[Character] = []  # the {c} of the rules that are being written, the innermost last

    def clear(self, character: Character) -> bool:
        return self.last.get(character.sex) is character

    def mention(self, character: Character, focus: bool = True) -> None:
        self.last[character.sex] = character
        if character not in self.introduced:
            self.introduced.append(character)
        if character is self.bound.get("g"):
            self.flags.add("g")
        if focus:
            self.focus = character

    def only_one(self, character: Character) -> bool:
        return sum(isinstance(c, Character) and c.kind == character.kind for c in self.bound.values()) == 1

    def character(self, character: Character, form: str) -> None:
        if form in PRON_FORMS:
            return self.pronoun(character, form)
        if form in ("part", "food", "went"):
            return self.body(character, form)
        if form == "v":
            return self.emit(character.address)
        if form == "kind":
            return self.emit(character.kind)
        if form == "trait":
            return self.emit(self.trait())
        if form == "a":
            return self.emit("a " + self.a_kind(character))
        if form == "k":
            return self.emit(self.little(character))
        {
            "": self.subject,
            "n": self.by_name,
            "o": self.object_case,
            "s": self.possessive,
            "nk": self.name_kind,
            "intro": self.introduce,
            "intro0": self.introduce,
        }[form](character, form)
        self.mention(character, focus=form != "o")

    def subject(self, character: Character, form: str) -> None:
        draw = self.chooser.draw
        if not self.clear(character):
            kind = character.role == "friend" and character in self.introduced and self.only_one(character)
            choice = 1 + (draw([11, 1]) if kind else 0)
        elif character.role != "friend":
            choice = draw([5, 4])
        else:
            hero = character is self.bound["h"] and self.focus is not None and self.focus.sex != character.sex
            sure, kind = self.focus is character or hero, self.only_one(character)
            choice = draw([6, 3, 1] if kind else [6, 3]) if sure else 1 + (draw([11, 1]) if kind else 0)
        self.emit((PRON[character.sex][0], character.name, "the ")[choice])
        if choice == 2:
            self.emit(self.little(character))

    def by_name(self, character: Character, form: str) -> None:
        self.emit(character.name)

    def object_case(self, character: Character, form: str) -> None:
        self.emit(PRON[character.sex][1] if self.clear(character) else character.name)

    def possessive(self, character: Character, form: str) -> None:
        self.emit(PRON[character.sex][2] if self.clear(character) else character.name + "'s")

    def pronoun(self, character: Character, form: str) -> None:
        free = self.last.get(character.sex) is None and self.out and self.out[-1] != "\n"
        if self.clear(character) or form == "self" or free and character in self.introduced:
            self.emit(PRON[character.sex][PRON_FORMS.index(form)])
        else:
            self.emit(character.name + ("'s" if form == "his" else ""))
        self.mention(character, focus=form == "he")

    def name_kind(self, character: Character, form: str) -> None:
        if character.is_child:
            here = ("little %s", "young %s", "%s from next door", "%s from school", f"a {character.kind} named %s")
            self.emit(self.chooser.pick(here) % character.name)
        else:
            self.emit(f"{character.name} the {character.kind}")

    def introduce(self, character: Character, form: str) -> None:
        if character.role == "adult":
            here = (f"{character.name} the {character.kind}", f"a {character.kind} named {character.name}")
            return self.emit(self.chooser.pick(here))
        choice = self.chooser.draw([3, 1, 1]) if form == "intro" else 0
        if choice == 0:
            named = self.chooser.pick(("named", "called"))
            return self.emit(f"a {self.a_kind(character)} {named} {character.name}")
        if choice == 2:
            hero = self.bound["h"]
            self.emit(f"{hero.name}'s friend ")
            self.mention(hero, focus=False)
            if character.is_child:
                return self.emit(character.name)
        self.name_kind(character, form)

    def little(self, character: Character) -> str:
        return self.chooser.pick(("", "little ") if character.is_child else ("", "little ", "young ")) + character.kind

    def a_kind(self, character: Character) -> str:
        pick = self.chooser.pick
        choice = self.chooser.draw([3, 2, 2] if character.is_child else [3, 2, 2, 1])
        size = pick(("little", "young", "small")) + " " if choice in (0, 2) else ""
        adj = word(pick(character.row["adj"])) + " " if choice in (1, 2) else ""
        return size + adj + character.kind

    def body(self, character: Character, form: str) -> None:
        if form == "food" and "food" not in character.row:
            return self.emit(self.chooser.pick(("fresh bread", "warm soup", "apple pie", "plum jam")))
        self.arguments.append(character)
        self.cell(character.name, character.row, "moves" if form == "went" else form)
        self.arguments.pop()
