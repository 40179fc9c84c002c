"""The questions of a quiz, read from `shared/teaching/quiz/chNN.toml`, and their page in the site.

A copy for learners comes without the files, and its site without the pages.
"""

import html
import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from shared.site.pages import anchor

LETTERS = "abcdefgh"
ABOUT = """Choose an answer before you open one: behind each choice stands whether it is right, and why. In print all of
them are open. The section behind a question answers it."""


@dataclass(frozen=True)
class Choice:
    """One choice of a question.

    Args:
        text: what it says.
        why: why it is right or wrong.
        right: whether it is one of the right ones.
    """

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with its choices.

    Args:
        id: chapter, q and number, for instance "3q1".
        section: heading of the section that answers it, without marks.
        notebook: the notebook that holds the section, by its name.
        goal: the chapter's goal that it tests, counted from 1.
        ask: the question.
        choices: in the order of the file.
    """

    id: str
    section: str
    notebook: str
    goal: int
    ask: str
    choices: tuple[Choice, ...]

    def shuffled(self, seed: int = 0) -> list[Choice]:
        """Return the choices in the order of a class.

        Args:
            seed: of the class.
        """
        choices = list(self.choices)
        random.Random(f"{self.id} {seed}").shuffle(choices)
        return choices

    def key(self, seed: int = 0) -> str:
        """Return the letters of the right choices, for instance "b" or "ac".

        Args:
            seed: of the class.
        """
        return "".join(letter for letter, choice in zip(LETTERS, self.shuffled(seed)) if choice.right)


def read_quiz(path: Path) -> list[Question]:
    """Read the questions of one chapter.

    Args:
        path: a file of `shared/teaching/quiz/`.
    """
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
    return [Question(**row | {"choices": tuple(Choice(**choice) for choice in row["choices"])}) for row in rows]


def as_html(markdown: str) -> str:
    """Return a sentence as HTML; what stands between backticks is code.

    Args:
        markdown: the sentence.
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(markdown, quote=False))


def page(path: Path, folder: str) -> str:
    """Write the page of a quiz in Markdown; each choice is folded around its reason, which needs no JavaScript.

    Args:
        path: the file with the questions.
        folder: of the chapter, for instance "ch03_attention".
    """
    parts = [_question(number, question, folder) for number, question in enumerate(read_quiz(path), 1)]
    return "\n\n".join([f"# Quiz of chapter {int(folder[2:4])}", ABOUT, *parts]) + "\n"


def _question(number: int, question: Question, folder: str) -> str:
    several = " *Several choices are right.*" if len(question.key()) > 1 else ""
    rows = "\n".join(f"<li>{_folded(choice)}</li>" for choice in question.shuffled())
    place = f"[{question.section}](/{folder}/{question.notebook}.ipynb#{anchor(question.section)})"
    return (
        f"## Question {number}\n\n{question.ask}{several}\n\n"
        f'<ol class="choices" type="a">\n{rows}\n</ol>\n\nTo read again: {place}'
    )


def _folded(choice: Choice) -> str:
    verdict = '<strong class="right">Right.</strong>' if choice.right else "<strong>Wrong.</strong>"
    return f"<details><summary>{as_html(choice.text)}</summary><p>{verdict} {as_html(choice.why)}</p></details>"
