"""What a grader writes: a table that every spreadsheet opens, and a page for each learner, which a browser prints."""

import csv
import html
import io
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.commands.class_folder import Exercise
    from shared.commands.grade import Grade

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would calculate what begins so
SHOWN = 3  # learners named beside a likeness
MOST_NOTES = 5  # shown of a file; what failed first is why the rest fails
STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .4rem .6rem }
tr { border-bottom: 1px solid #bbb } td:nth-child(2) { white-space: nowrap } .correct { font-weight: 600 }
h1, h2, li, td:last-child { overflow-wrap: anywhere } @media (max-width: 30rem) { th, td { padding: .3rem } }
"""


def grades_table(grades: "list[Grade]", exercises: "dict[str, list[Exercise]]") -> str:
    """Return the table as CSV, a row for each learner and notebook.

    Args:
        grades: of the class.
        exercises: notebook -> its exercises.
    """
    marked = [name for name in exercises if any(grade.submission.notebook == name for grade in grades)]
    ids = [exercise.id for name in marked for exercise in exercises[name]]
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\r\n")
    writer.writerow(["learner", "notebook", "file", "points", "of", *ids, "notes", "flags", "alike"])
    for grade in grades:
        asked = {exercise.id for exercise in exercises.get(grade.submission.notebook, [])}
        results = [grade.result(id) if id in asked else "" for id in ids]
        notes = [f"not counted: {grade.marked.tampered}"] * bool(grade.marked.tampered) + first(grade.marked.notes)
        alike = [f"{id} like {_some(names)}" for id, names in sorted(grade.alike.items())]
        head = [grade.submission.learner, grade.submission.notebook, grade.submission.path.name]
        row = [
            *head,
            grade.points,
            len(asked),
            *results,
            *("; ".join(part) for part in (notes, grade.marked.flags, alike)),
        ]
        writer.writerow([safe_cell(cell) for cell in row])
    return target.getvalue()


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def first(notes: list[str]) -> list[str]:
    """Return the first notes and how many more there are: one name that is missing fails every cell that uses it.

    Args:
        notes: what went wrong, in the order of the file.
    """
    rest = len(notes) - MOST_NOTES
    return [*notes[:MOST_NOTES], f"and {rest} more, perhaps because of these"] if rest > 0 else notes


def safe_cell(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula, on one line.

    Args:
        cell: a number, or what somebody wrote.
    """
    if not isinstance(cell, str):
        return cell
    text = " ".join(cell.split()) if cell[:1] not in FORMULA else f"'{' '.join(cell.split())}"
    return text[:2_000]


def feedback_names(learners: list[str]) -> dict[str, str]:
    """Return learner -> a file name that every system takes and that no other learner has.

    Args:
        learners: their names, in any order.
    """
    names: dict[str, str] = {}
    for learner in dict.fromkeys(learners):
        letters = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFKC", learner))
        stem, number = f"of_{letters[:60]}", 1
        while (name := f"{stem}{f'_{number}' * (number > 1)}.html").lower() in map(str.lower, names.values()):
            number += 1
        names[learner] = name
    return names


def feedback_page(learner: str, grades: "list[Grade]", exercises: "dict[str, list[Exercise]]") -> str:
    """Return a learner's page; flags and likeness stay with the teacher.

    Args:
        learner: whose page.
        grades: theirs.
        exercises: notebook -> its exercises.
    """
    parts = [_part(grade, exercises.get(grade.submission.notebook, [])) for grade in grades]
    title = f"Exercises of {html.escape(learner)}"
    head = f'<meta charset="utf-8">\n<title>{title}</title>\n<meta name="viewport" content="width=device-width">'
    body = "\n".join([f"<h1>{title}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<style>{STYLE}</style>\n{body}\n</html>\n'


def _part(grade: "Grade", asked: "list[Exercise]") -> str:
    title = html.escape(grade.submission.notebook or grade.submission.path.name)
    if not asked:
        return f"<h2>{title}</h2>\n<p>This file could not be marked: {html.escape('; '.join(grade.marked.notes))}.</p>"
    rows = "\n".join(_row(grade, exercise) for exercise in asked)
    notes = "".join(f"<li>{html.escape(note)}</li>\n" for note in first(grade.marked.notes))
    if grade.marked.tampered:
        notes = (
            f"<li>Nothing is counted: {html.escape(grade.marked.tampered)}. Please talk to your teacher.</li>\n{notes}"
        )
    noted = f"<p>What went wrong while your file was read:</p>\n<ul>\n{notes}</ul>\n" if notes else ""
    return (
        f"<h2>{title}</h2>\n<p>{grade.points} of {len(asked)} are correct.</p>\n{noted}"
        f'<table>\n<tr><th scope="col">Exercise</th><th scope="col">Result</th><th scope="col">Why</th></tr>\n'
        f"{rows}\n</table>"
    )


def _row(grade: "Grade", exercise: "Exercise") -> str:
    result = grade.result(exercise.id)
    why = grade.marked.verdicts.get(exercise.id, "").removeprefix(f"{result}.").strip()
    cells = [f"{exercise.id} {exercise.title}", result, why]
    kind = ' class="correct"' if result == "correct" else ""
    return f"<tr{kind}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
