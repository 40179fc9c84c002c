"""A chapter's notebook as slides: a title, its goals, the cells tagged `slide`, and the recall questions.

A tagged text gives a slide for each of its headings and each *Try it*: the heading, the sentence that begins it, and
what stands on lines of its own (pictures, formulas, tables, lists), or where nothing does, a second sentence. A tagged
code cell gives its code and what it shows, or with the tag `slide-output` only what it shows. The whole prose goes into
the speaker's notes, untagged texts into those of the slide before them.
"""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import unescape
from itertools import groupby
from pathlib import Path

from shared.site import pages

SHOWN, SHOWN_OUTPUT = "slide", "slide-output"  # the tags
MOST_LINES, MOST_COLUMNS = 12, 80  # of code on a slide
GOALS, RECALL = "You will be able to", "Recall"
LEFT_OUT = ("Set-up", "Sources")
TRY = "**Try it.**"
PART = re.compile(r"^(?=#{2,3} |\*\*Try it\.\*\*)", re.MULTILINE)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*$\"“(])(?<!al\.\s)")
LINK = re.compile(r"(?<![!\w\])])\[([^\]]+)\]\([^)\s]+\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^):\s]+)\)")
QUESTION = re.compile(r"<details><summary>(?:\d+\. )?(.*?)</summary>(.*?)</details>", re.DOTALL)
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Slide:
    """One slide; all parts are Markdown.

    Args:
        section: heading of the section to which it belongs.
        heading: its own; empty where it goes on with its section.
        body: what it shows.
        answer: what comes with the next key.
        notes: what the speaker reads.
    """

    section: str
    heading: str = ""
    body: str = ""
    answer: str = ""
    notes: str = ""


def slides_of(notebook: dict, folder: Path, asked: dict[str, Slide] | None = None) -> list[Slide]:
    """Return the slides of a notebook.

    Args:
        notebook: as `pages.read_notebook` gives it.
        folder: where it lies; its pictures become part of the slides.
        asked: heading of a section -> a question to ask at its end, if the section has a slide.
    """
    made: list[Slide] = []
    section, texts = "", iter(pages.figure_texts(notebook))
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code":
            made += _of_code(cell, tags, section, texts)
            continue
        parts = PART.split(_with_pictures(cell["source"], folder))
        for part in filter(str.strip, parts):
            section = _heading(part) or section
            if section in LEFT_OUT:
                continue
            found = list(_of_text(part, section, tagged=SHOWN in tags, whole=len(parts) == 1))
            if not found and made:
                made[-1] = replace(made[-1], notes=f"{made[-1].notes}\n\n{_unfolded(part)}".strip())
            made += found
    return list(_with_questions(made, asked or {}))


def _heading(part: str) -> str:
    return LINK.sub(r"\1", part.partition("\n")[0].lstrip("# ")) if part.startswith("#") else ""


def _of_text(part: str, section: str, *, tagged: bool, whole: bool) -> Iterator[Slide]:
    heading, body = _heading(part), part.partition("\n")[2].strip() if part.startswith("#") else part.strip()
    if part.startswith("# "):
        claim, _, needs = body.partition("\n\n")
        yield Slide("", heading, claim, notes=needs)
    elif heading == GOALS:
        yield Slide(section, heading, body)
    elif heading == RECALL:
        yield from (
            Slide(section, "", f"**{question}**", answer.strip()) for question, answer in QUESTION.findall(body)
        )
    elif tagged and part.startswith(TRY):
        question = body.partition("<details>")[0].strip()
        yield Slide(section, "Try it", question.removeprefix(TRY).strip(), notes=_unfolded(body))
    elif tagged and (heading or whole):
        yield Slide(section, heading, _lead(body), notes=_unfolded(body))


def _lead(text: str) -> str:
    """Return the sentence that begins a text and what stands on lines of its own; without that, two sentences."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text.partition("<details>")[0]) if block.strip()]
    own = [block for block in blocks if re.match(r"!\[|\$\$|\||[-*] |\d+\. ", block)]
    prose = [block for block in blocks if block not in own]
    first = " ".join(SENTENCE.split(prose[0])[: 1 if own else 2]) if prose else ""
    return "\n\n".join([first, *own]).strip()


def _of_code(cell: dict, tags: list[str], section: str, texts: Iterator[str]) -> list[Slide]:
    blocks = [code_block(narrow(cell["source"]))] if SHOWN in tags else []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            blocks.append(f"![{next(texts)}](data:image/png;base64,{''.join(data['image/png']).strip()})")
        elif said := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            blocks.append(code_block(said, "text"))
    return [Slide(section, body="\n\n".join(blocks))] if {SHOWN, SHOWN_OUTPUT} & set(tags) else []


def code_block(text: str, language: str = "python") -> str:
    """Return a text as a block of code in Markdown.

    Args:
        text: which may itself hold three backticks in a row.
        language: its name.
    """
    return f"````{language}\n{text}\n````"


def narrow(code: str) -> str:
    """Return code without the comments that end beyond the last column of a slide.

    Args:
        code: Python.
    """
    return "\n".join(
        re.sub(r"\s+# [^\"']*$", "", line) if len(line) > MOST_COLUMNS else line for line in code.splitlines()
    )


def _with_pictures(text: str, folder: Path) -> str:
    """Return a text that holds its pictures itself, and the words of its links only."""

    def held(found: re.Match) -> str:
        path = folder / found[2]
        return f"![{found[1]}](data:{KINDS[path.suffix]};base64,{b64encode(path.read_bytes()).decode()})"

    return PICTURE.sub(held, LINK.sub(r"\1", text))


def _unfolded(text: str) -> str:
    """Return a text for the notes: answers open, pictures left out."""
    plain = re.sub(r"<details>\s*<summary>(.*?)</summary>", r"\n\n**\1:**\n\n", text)
    return re.sub(r"!\[[^\]]*\]\([^)]*\)|</details>|\A#+ .*", "", plain).strip()


def _with_questions(made: list[Slide], asked: dict[str, Slide]) -> Iterator[Slide]:
    for section, slides in groupby(made, key=lambda slide: slide.section):
        yield from slides
        if section in asked:
            yield asked[section]


def plain(markdown: str) -> str:
    """Return a heading without its marks.

    Args:
        markdown: a line.
    """
    return unescape(re.sub(r"[*`]|<[^>]+>", "", markdown))
