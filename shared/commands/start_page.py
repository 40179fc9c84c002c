"""The page at which `course.py lab` opens JupyterLab: the path and its side rooms, the learner's progress, and help.

It is Markdown, made anew at each start, and JupyterLab shows it as a page: its links open the notebooks, with the mouse
or with Tab and Enter.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from data.files import write_atomically
from shared.commands.class_folder import ROOT, Exercise, course_exercises, read_file
from shared.commands.progress import CORRECT, counts
from shared.site import pages

ROW = re.compile(r"^\| *(\d*) *\| (.+?) \| \[\w+\]\(((ch\d\d_\w+)/\w+\.ipynb)\) \| (\d+) min \|", re.MULTILINE)
HELP = """## When you are stuck

- *A question about what you read:* [the page of questions](../shared/questions.md) leads from your words to a section.
- *An exercise that does not come right:* unfold its hint. After two tries, `solution("3.1")` in a new cell below it
  prints an answer.
- *A message that you do not understand:* look it up in [the README](../README.md#When-something-goes-wrong), or type
  `python course.py doctor` in a terminal.
- *A notebook that went wrong:* `python course.py restore NAME` brings it back as it was released, and keeps yours.

## With the keyboard alone

| keys | what they do |
|---|---|
| Tab, Enter | on this page: go to the next link, open it |
| Shift+Enter | in a notebook: run the cell and go to the next |
| Esc, Enter | leave the cell, so that the arrow keys go from cell to cell; go into it |
| Ctrl+Shift+] | go to the next open tab |
| Ctrl+Shift+C | find a command by its name |

## With a screen reader

JupyterLab is hard to use with one, and nothing here needs it. To read, `python course.py site --open` shows the whole
course as plain pages. To solve exercises, open a terminal in a chapter's folder and type three lines:

```
source ../.venv/bin/activate
jupyter nbconvert --to python exercises.ipynb
python exercises.py
```

On Windows the first line is `..\\.venv\\Scripts\\activate`. The second makes `exercises.py`, a file for any editor,
with each task as a comment above its function. The third says of each exercise whether it is correct; type it again
after each answer.
"""


@dataclass(frozen=True)
class Row:
    """A notebook as the README lists it.

    Args:
        chapter: its number, empty for a side room.
        builds: what is built there.
        path: of the notebook.
        folder: of the chapter.
        minutes: to read and try.
    """

    chapter: str
    builds: str
    path: str
    folder: str
    minutes: str


def rows(root: Path) -> list[Row]:
    """Return the notebooks in the order of the README's table.

    Args:
        root: the course's folder.
    """
    return [Row(*found) for found in ROW.findall((root / "README.md").read_text(encoding="utf-8"))]


def page(root: Path, exercises: dict[str, list[Exercise]]) -> str:
    """Return the start page.

    Args:
        root: the course's folder.
        exercises: see `course_exercises`.
    """
    said = {name: _said(root / name, asked) for name, asked in exercises.items()}
    correct = {name: counts(said[name], asked)[0] for name, asked in exercises.items()}
    n_correct, n_all = sum(correct.values()), sum(map(len, exercises.values()))
    listed = rows(root)
    new = f"New here? Begin with [{_name(root, listed[0])}](../{listed[0].path}), and run its cells with Shift+Enter."
    path = [_on_the_path(root, row, correct, exercises) for row in listed if row.chapter]
    rooms = [_beside(root, row, correct, exercises) for row in listed if not row.chapter]
    return "\n".join(
        [
            "# Build a GPT from scratch\n",
            *([] if n_correct else [f"{new}\n"]),
            f"{_next(said, exercises)} {n_correct} of {n_all} exercises are correct.\n",
            "## The path\n",
            "| chapter | read | you build | minutes | exercises |\n|---|---|---|---|---|",
            *path,
            "\n## Side rooms\n\nNone of them is needed for the path.\n",
            "| after chapter | read | you build | minutes | exercises |\n|---|---|---|---|---|",
            *rooms,
            "",
            *_own_models(root),
            HELP,
        ]
    )


def _said(path: Path, asked: list[Exercise]) -> dict[str, str]:
    found = read_file(path, "", {"": asked})
    return {key: sentence for one in found for key, sentence in one.said.items()}


def _name(root: Path, row: Row) -> str:
    return pages.title(pages.read_notebook(root / row.path)).partition(" · ")[2]


def _on_the_path(root: Path, row: Row, correct: dict[str, int], exercises: dict[str, list[Exercise]]) -> str:
    told = _solved(f"{row.folder}/exercises.ipynb", correct, exercises)
    return f"| {row.chapter} | [{_name(root, row)}](../{row.path}) | {row.builds} | {row.minutes} | {told} |"


def _beside(root: Path, row: Row, correct: dict[str, int], exercises: dict[str, list[Exercise]]) -> str:
    told = _solved(row.path, correct, exercises)
    return f"| {int(row.folder[2:4])} | [{_name(root, row)}](../{row.path}) | {row.builds} | {row.minutes} | {told} |"


def _solved(name: str, correct: dict[str, int], exercises: dict[str, list[Exercise]]) -> str:
    return f"[{correct[name]} of {len(exercises[name])} correct](../{name})" if name in exercises else ""


def _next(said: dict[str, dict[str, str]], exercises: dict[str, list[Exercise]]) -> str:
    left = [(name, one) for name, asked in exercises.items() for one in asked
            if not said[name].get(one.id, "").startswith(CORRECT)]  # fmt: skip
    if not left:
        return "You have solved all exercises."
    name, one = left[0]
    return f"Your next exercise is [{one.id} {one.title}](../{name}); read its chapter first."


def _own_models(root: Path) -> list[str]:
    reports = sorted((root / "runs").glob("*/report.md"))
    if not reports:
        return []
    links = ", ".join(f"[{path.parent.name}]({path.parent.name}/report.md)" for path in reports)
    return [f"## Your own models\n\nThe reports of your trainings: {links}.\n"]


def write(root: Path = ROOT) -> Path:
    """Write the start page below the course's folder, where JupyterLab can open it, and return its path.

    Args:
        root: the course's folder.
    """
    target = root / "runs" / "start.md"
    write_atomically(target, page(root, course_exercises(root)))
    return target
