"""Direct speech: a line, a mood, and four ways to lay them out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .cast import Character
from .chooser import Chooser
from .grammar import PRON, tidy
from .people import People
from .template import Say

if TYPE_CHECKING:
    from .engine import StoryWorld


class Speech(People):
    """Lets a character speak to another one, and remembers who spoke last."""

    def __init__(self, world: StoryWorld, chooser: Chooser):
        super().__init__(world, chooser)
        self.speech: list[tuple[Character, Character]] = []  # (speaker, listener) of the line that is being written
        self.spoke: Character | None = None

    def value(self, name: str) -> Any:
        if name == "c":
            return self.arguments[-1]
        if name in ("s", "x"):  # inside a line of speech: who speaks, who is spoken to
            return self.speech[-1][name == "x"]
        return self.bound[name] if name in self.bound else self.lazy(name)

    def say(self, node: Say) -> None:
        speaker = self.value(node.speaker)
        listener = self.value(node.listener) if node.listener else Character("everyone", "m", "child", role="all")
        kept = dict(self.last), self.focus
        self.speech.append((speaker, listener))
        line = tidy(self.capture(self.expand, node.line))
        self.speech.pop()
        self.last, self.focus = kept
        layout = self.chooser.draw([5, 3, 2])
        if layout == 2:
            self._act_and_say(speaker, node.mood, line)
            return
        tags = self.world.tags[node.mood, line[-1]]
        if self.spoke not in (None, speaker) and line[-1] == ".":
            tags = tags + ["replied", "answered"]
        self.spoke = speaker
        if layout == 1:
            tag = self.chooser.pick(tags)
            self.character(speaker, "")
            self.emit(f' {tag}, "{line}"')
        else:
            self._tag_after(speaker, node.mood, line, tags)

    def _act_and_say(self, speaker: Character, mood: str, line: str) -> None:
        self.arguments.append(speaker)
        self.expand("act." + mood)
        self.arguments.pop()
        self.emit(f' "{line}"')
        self.spoke = speaker

    def _tag_after(self, speaker: Character, mood: str, line: str, tags: list[str]) -> None:
        """ "Come in," said Mia. -- or, when the line has two sentences, with the tag between them."""
        rest, parts = "", re.match(r"(.*?(?<!Mr)(?<!Mrs)[.!?]) (.+)$", line)
        if parts and self.chooser.draw([1, 2]) == 0:
            line, rest = parts.groups()
            tags = self.world.tags[mood, line[-1]]
        verb, _, adverb = self.chooser.pick(tags).partition(" ")
        self.emit('"' + (line[:-1] + "," if line[-1] == "." else line) + '"~')
        if self.clear(speaker) and self.chooser.draw([1, 1]):
            self.emit(f"{PRON[speaker.sex][0]} {verb}")
            self.focus = speaker
        else:
            self.emit(f"{verb} {speaker.name}")
            self.mention(speaker)
        self.emit((" " + adverb if adverb else "") + "." + (f' "{rest}"' if rest else ""))
