"""An invented crawl of the web, for a lesson about cleaning: pages with stories in them, and all the rest.

Stories stand between menus, notices about cookies and footers, on several sites; some are copied, edited, broken or
written by a machine, and beside them stand advertisements, lists and pages in other languages. Every page knows what
it is, so that each step of cleaning can be graded. All sites, people, addresses and numbers are invented.
"""

import html
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from .tasks import PortableRandom, fill_slots, templates, words

LANGUAGES = {"german": "de", "french": "fr", "spanish": "es", "italian": "it"}
PAGES = {"copy": 80, "near copy": 100, "machine": 50, "ruined": 8, "advert": 25, "spam": 25, "list": 25,
         **dict.fromkeys(LANGUAGES, 25)}  # fmt: skip  # of each kind, for each hundred stories
PAGES_OF_A_LEAK = 8
QUOTED = re.compile(r'"([^"\n]*)"')
END_OF_SENTENCE = re.compile(r"(?<=[.!?]) +")


class Page(NamedTuple):
    """A page of the crawl, what it is, and the number of the story that it tells (-1 where it tells none).

    Wanted are the kinds "story", "broken story" (read in a wrong encoding, which can be undone) and "short story".
    The others are "copy" and "near copy" of a story; "leaked", a validation story, numbered by itself; "ruined", a
    story with holes; "machine", "advert", "spam" and "list"; "german", "french", "spanish" and "italian".
    """

    address: str
    html: str
    kind: str
    number: int


def write_crawl(
    stories: Sequence[str], short_stories: Sequence[str], validation: Sequence[str], seed: int = 0
) -> list[Page]:
    """Write the pages of a crawl, in random order; the same arguments give the same pages on every platform.

    Args:
        stories: at least two texts, each on a page of its own; many of them are copied as well.
        short_stories: further texts, each on one page, numbered after the stories.
        validation: texts that leaked, each onto several pages.
        seed: another seed, other pages.

    Raises:
        ValueError: fewer than two stories.

    Source: this course. Taught in ch02, section C.1.
    """
    if len(stories) < 2:
        raise ValueError(f"found {len(stories)} stories; expected two or more, since a crawl holds copies of some")
    writer = _Writer(seed)
    pages = [writer.page(writer.pick(("story",) * 9 + ("broken story",)), story, number)
             for number, story in enumerate(stories)]  # fmt: skip
    pages += [writer.page("short story", story, number) for number, story in enumerate(short_stories, len(stories))]
    for number, story in enumerate(validation):
        pages += [writer.page("leaked", story, number) for _ in range(PAGES_OF_A_LEAK)]
    following = _followers(stories)
    for kind, share in PAGES.items():
        pages += [writer.other_page(kind, stories, following) for _ in range(round(share * len(stories) / 100))]
    return writer.shuffled(pages)


def _followers(stories: Sequence[str]) -> dict[str, list[str]]:
    """What follows each word in some of the stories: all that the machine knows."""
    following: dict[str, list[str]] = {}
    for story in stories[:400]:
        for word, later in pairwise(story.split()):
            following.setdefault(word, []).append(later)
    return following


def _round_quotes(text: str) -> str:
    return QUOTED.sub("\u201c\\1\u201d", text).replace("'", "\u2019")


class _Writer(PortableRandom):
    def __init__(self, seed: int):
        super().__init__(f"crawl {seed}")
        self.lines, self.things = templates("crawl"), [thing.noun for thing in words().things]

    # ---- what stands on a page
    def other_page(self, kind: str, stories: Sequence[str], following: dict[str, list[str]]) -> Page:
        if kind in ("copy", "near copy", "ruined"):
            number = self.popular(len(stories))
            return self.page(kind, stories[number], -1 if kind == "ruined" else number)
        return self.page(kind, self.babble(following) if kind == "machine" else self.filler(kind))

    def popular(self, n: int) -> int:
        """Draw which story somebody copies: in half of all cases one of the most popular, one in a hundred."""
        return self.below(max(1, n // 100)) if self.below(2) else self.below(n)

    def edited(self, text: str) -> str:
        """The text as somebody changed it: another name, a sentence less, or slips of the pen."""
        change = self.pick((self.renamed, self.shortened, self.mistyped))
        return change(text)

    def renamed(self, text: str) -> str:
        names = [name for sex in "fm" for name in words().names[sex] if re.search(rf"\b{name}\b", text)]
        return re.sub(rf"\b{names[0]}\b", self.pick(words().names["f"]), text) if names else text

    def shortened(self, text: str) -> str:
        lines = [END_OF_SENTENCE.split(line) for line in text.split("\n")]
        line = self.pick(lines)
        line.pop(self.below(len(line)))
        return "\n".join(" ".join(line) for line in lines if line)

    def mistyped(self, text: str) -> str:
        parts = text.split(" ")
        for place in self.sample(range(len(parts)), min(3, len(parts))):
            parts[place] = parts[place][:1] + parts[place]
        return " ".join(parts)

    def babble(self, following: dict[str, list[str]]) -> str:
        """Four lines in which every two neighboring words fit, and nothing else does."""
        lines: list[str] = []
        said = ["Once"]
        while len(lines) < 4:
            said.append(self.pick(following.get(said[-1], ["Once"])))
            if len(said) > 25 and said[-1].endswith((".", '."')):
                lines.append(" ".join(said))
                said = [self.pick(following.get(said[-1], ["Once"]))]
        return "\n".join(lines)

    def filler(self, kind: str) -> str:
        n_lines = {"spam": 9, "list": 14}.get(kind, 6 + self.below(6))
        lines = [self.line(kind, t=self.pick(self.things)) for _ in range(n_lines)]
        return "\n".join(lines) if kind in ("spam", "list") else " ".join(lines)

    def line(self, rule: str, **slots: str) -> str:
        numbers = {"n": str(10 + self.below(40)), "m": str(50 + self.below(49))}
        return fill_slots(self.pick(self.lines[rule]), numbers | slots, self)

    def note(self) -> str:
        """Who sent the story in: an invented person."""
        name, surname = self.pick(words().names[self.pick("fm")]), self.pick(self.lines["surnames"])
        mail, phone = f"{name}.{surname}@mail.example".lower(), f"555-01{self.below(100):02}"
        return self.line("note", n=name, s=surname, mail=mail, phone=phone)

    # ---- the page around it
    def page(self, kind: str, text: str, number: int = -1) -> Page:
        is_copied = kind in ("copy", "near copy", "leaked")
        if kind == "near copy" or (kind == "leaked" and self.below(2)):
            text = self.edited(text)
        site = self.pick(self.lines["mirrors" if is_copied else "sites"])
        parts = [text]
        if number >= 0 and self.below(4) == 0:
            parts.append(self.line("teaser", site=site))
        if number >= 0 and self.below(12) == 0:
            parts.append(self.note())
        body = self.damaged(kind, "\n".join(parts))
        language = LANGUAGES.get(kind, "en") if self.below(3) else ""
        return Page(f"{site}.example/{self.below(10**6):06}", self.layout(site, language, body), kind, number)

    def damaged(self, kind: str, text: str) -> str:
        """The text as the site sends it: half of them set round quotation marks, and some break what they set."""
        if kind == "ruined":
            return "".join("\ufffd" if self.below(12) == 0 else letter for letter in text)
        if kind == "broken story":  # written as UTF-8, read as Latin-1
            return _round_quotes(text).encode("utf-8").decode("latin-1")
        return _round_quotes(text) if self.below(2) else text

    def layout(self, site: str, language: str, body: str) -> str:
        menu = " ".join(f'<a href="/{n}">{fill_slots(line, {}, self)}</a>' for n, line in enumerate(self.lines["menu"]))
        block = self.pick(("p", "div"))
        story = "\n".join(f"<{block}>{html.escape(line, quote=False)}</{block}>" for line in body.split("\n"))
        declared = f' lang="{language}"' if language else ""
        return "\n".join([
            f"<html{declared}><head><title>{site}</title><style>p {{margin: 1em}}</style>",
            f"<script>var page = {self.below(10**6)}; track(page);</script></head><body>",
            f"<nav>{menu}</nav><div>{self.line('cookie')}</div>", story,
            f"<div>{self.links()}</div><footer>{self.line('footer', site=site)}</footer></body></html>\n",
        ])  # fmt: skip

    def links(self) -> str:
        told = (f"The {self.pick(words().animals)} and the {self.pick(self.things)}" for _ in range(4))
        return " ".join(f'<a href="/s/{self.below(10**4)}">{title}</a>' for title in told)
