"""Quizzes: questions in `shared/teaching/quiz/chNN.toml` become a page to print, its key, and marks for a class.

In a file the right choices may stand anywhere: they are shuffled for print, each class (a seed) in an order of its own.
"""

import csv
import html
import io
from pathlib import Path

from data.files import write_atomically
from shared.commands.class_folder import ROOT
from shared.commands.grade_pages import safe_cell
from shared.site.quiz import LETTERS, Choice, Question, as_html, read_quiz

STYLE = """
body { font: 11pt/1.45 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
li { margin: .25rem 0 } ol.choices { list-style: lower-alpha } section { break-inside: avoid; margin: 1.2rem 0 }
.right { font-weight: 600 } .why { color: #444 } .name { border-bottom: 1px solid #1a1a1a; height: 1.6rem }
code { font-size: .95em }
"""


def quizzes(root: Path = ROOT) -> dict[str, list[Question]]:
    """Return chapter, for instance ch03, -> its questions.

    Args:
        root: the course's folder.

    Raises:
        ValueError: there are none, as in a copy for learners.
    """
    found = {path.stem: read_quiz(path) for path in sorted((root / "shared" / "teaching" / "quiz").glob("ch*.toml"))}
    if not found:
        raise ValueError(
            "this copy of the course has no quizzes (a copy for learners comes without): use the whole one"
        )
    return found


def sheet(chapter: str, questions: list[Question], seed: int = 0, key: bool = False) -> str:
    """Return a page to print: the questions alone, or with what is right and why.

    Args:
        chapter: for instance "ch03".
        questions: the chapter's.
        seed: of the class, which decides the order of the choices.
        key: whether the answers are shown.
    """
    title = f"Quiz of chapter {int(chapter[2:])}{', with answers' * key}"
    name = '<p>Name</p>\n<p class="name"></p>\n' if not key else ""
    about = "One choice is right, or several where it says so.\n" if not key else ""
    parts = [_section(number, question, seed, key) for number, question in enumerate(questions, 1)]
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<meta name="viewport" content="width=device-width">'
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<style>{STYLE}</style>\n<h1>{title}</h1>\n'
        f"{name}<p>{about}The choices are in the order of class {seed}.</p>\n{body}\n</html>\n"
    )


def _section(number: int, question: Question, seed: int, key: bool) -> str:
    several = " (several are right)" if len(question.key()) > 1 else ""
    rows = "\n".join(f"<li{_marked(choice, key)}</li>" for choice in question.shuffled(seed))
    place = f'<p class="why">{question.id}, section {html.escape(question.section)}, goal {question.goal}</p>\n' * key
    asked = f"<p>{number}. {as_html(question.ask)}{several}</p>"
    return f'<section>\n{asked}\n<ol class="choices">\n{rows}\n</ol>\n{place}</section>'


def _marked(choice: Choice, key: bool) -> str:
    if not key:
        return f">{as_html(choice.text)}"
    kind, word = (' class="right"', "Right: ") if choice.right else ("", "")
    return f'{kind}>{as_html(choice.text)}<br><span class="why">{word}{as_html(choice.why)}</span>'


def write_sheets(target: Path, seed: int = 0) -> list[Path]:
    """Write the pages of all chapters and, apart from them, their keys; return the files.

    Args:
        target: the folder.
        seed: of the class.
    """
    written = []
    for chapter, questions in quizzes().items():
        for folder, key in (("quiz", False), ("quiz_key", True)):
            written.append(target / folder / f"{chapter}.html")
            write_atomically(written[-1], sheet(chapter, questions, seed, key))
    return written


def mark_quiz(path: Path, seed: int = 0) -> str:
    """Return a table of marks for a table of answers: a row for each learner, a column for each question.

    Args:
        path: CSV with the column `learner` and columns such as 3q1, with letters such as b or ac in them.
        seed: of the class whose pages were printed.

    Raises:
        ValueError: it is no such table.
    """
    known = {question.id: question for questions in quizzes().values() for question in questions}
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except UnicodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: save the table as CSV in UTF-8") from error
    head = [name.strip() for name in rows[0]] if rows else []
    asked = [name for name in head if name in known]
    if "learner" not in head or not asked:
        raise ValueError(
            f"{path} should begin with a line such as learner,3q1,3q2: it begins with {','.join(head)!r:.60}"
        )
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow(["learner", "points", "of", *asked])
    n_right = dict.fromkeys(asked, 0)
    answers = [dict(zip(head, row)) for row in rows[1:] if any(map(str.strip, row))]
    for answer in answers:
        right = {name: letters(answer.get(name, "")) == known[name].key(seed) for name in asked}
        n_right = {name: n_right[name] + right[name] for name in asked}
        writer.writerow(
            [safe_cell(answer["learner"]), sum(right.values()), len(asked), *(int(right[name]) for name in asked)]
        )
    writer.writerow(["right", "", len(answers), *n_right.values()])
    return target.getvalue()


def letters(answer: str) -> str:
    """Return the letters of an answer in order, whatever stands between them: "C, a" gives "ac".

    Args:
        answer: what a learner wrote.
    """
    return "".join(sorted({letter for letter in answer.lower() if letter in LETTERS}))
