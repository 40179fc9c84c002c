"""What learners have handed in: a folder is read into one submission for each learner and notebook, and nothing is run.

Only the standard library is used, and nothing in a file can stop the reading of another: a file that is no notebook
becomes a sentence beside its learner's name.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LARGEST_FILE = 20 << 20  # bytes; a notebook of the course has at most a million
READ = (".ipynb", ".py")
NEITHER = "no notebook (.ipynb) and no program (.py)"
MOODLE = re.compile(r"^(?P<name>.+?)_\d+_assignsubmission_file_")
CHECK = re.compile(r'\bcheck\(\s*["\'](?P<id>[\w.]+)["\']\s*,\s*(?P<name>\w+)')
GIVEN = re.compile(r"^(?:(?:async )?def|class)\s+(\w+)|^(\w+)\s*=", re.MULTILINE)
OWN_NAME = re.compile(r"^NAME\s*=\s*([\"'])(?P<name>[^\"'\n]{1,80})\1", re.MULTILINE)
PERCENT_CELL = re.compile(r"^# ?(?:In\[[ \d]*\]:|%%).*$", re.MULTILINE)
SAID = re.compile(r"^(?P<id>\d+[a-z]?\.\d+): (?P<sentence>correct\.|not yet\..*|not tried yet\.)", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise of a notebook of the course.

    Args:
        id: as `check` takes it, for instance "3.1".
        name: of the function or class that is the answer.
        title: its heading, without the id.
        imported: what the notebook's own set-up takes from the course.
    """

    id: str
    name: str
    title: str
    imported: frozenset[str] = frozenset()


@dataclass
class Submission:
    """What one learner handed in for one notebook.

    Args:
        learner: whose it is.
        notebook: path of the course's notebook that it answers, empty where none was recognized.
        path: the file.
        cells: sources of its code cells.
        said: exercise id -> the sentence of the last check that the file shows.
        trouble: why it cannot be read, empty where it can.
        n_files: how many files of this learner answer this notebook, of which this is the newest.
    """

    learner: str
    notebook: str
    path: Path
    cells: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    n_files: int = 1


def course_exercises(root: Path = ROOT) -> dict[str, list[Exercise]]:
    """Return notebook -> its exercises, in the order of the chapters.

    Args:
        root: the course's folder.
    """
    found = {}
    for path in sorted(root.glob("ch*/*.ipynb")):
        if ".mine-" not in path.name and (exercises := _exercises(json.loads(path.read_text(encoding="utf-8")))):
            found[path.relative_to(root).as_posix()] = exercises
    return found


def _exercises(notebook: dict) -> list[Exercise]:
    exercises: list[Exercise] = []
    title, imported = "", set()
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
            title = headings[-1] if headings else title
        else:
            for names in re.findall(r"^from shared import (.+)$", text, re.MULTILINE):
                imported |= set(re.findall(r"\w+", names.split("#")[0]))
            exercises += [Exercise(m["id"], m["name"], title) for m in CHECK.finditer(text)]
    keep = frozenset(imported)
    return [Exercise(e.id, e.name, e.title.removeprefix(e.id).strip(), keep) for e in exercises]


def read_class(folder: Path, exercises: dict[str, list[Exercise]]) -> list[Submission]:
    """Read a folder of submissions; of several files of a learner for one notebook, the newest counts.

    A learner is a folder inside it (Moodle's names are understood), or a file that lies in it directly. Whoever handed
    in something else, or nothing, is in the list as well.

    Args:
        folder: what was handed in.
        exercises: see `course_exercises`.

    Raises:
        ValueError: the folder is not there, or holds nothing that could be a submission.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give the one that holds what your learners handed in")
    newest: dict[tuple[str, str], Submission] = {}
    for learner, path in _files(folder):
        for submission in read_file(path, learner, exercises):
            key = (submission.learner, submission.notebook)
            earlier = newest.get(key)
            newest[key] = max((submission, earlier or submission), key=_age)
            newest[key].n_files = earlier.n_files + 1 if earlier else 1
    if all(submission.path.is_dir() for submission in newest.values()):
        raise ValueError(f"{folder} holds {NEITHER}: is it the folder you mean?")
    return [newest[key] for key in sorted(newest) if key[1] or not _has_more(key[0], newest)]


def _has_more(learner: str, newest: dict[tuple[str, str], Submission]) -> bool:
    return any(name == learner and notebook for name, notebook in newest)


def _age(submission: Submission) -> tuple[float, str]:
    try:
        return submission.path.stat().st_mtime, submission.path.name
    except OSError:
        return 0.0, submission.path.name


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Give each file that may be a submission with its learner, from one walk that enters no hidden folder."""
    loose: dict[str, int] = {}
    for top in sorted(folder.iterdir()):
        if top.name.startswith((".", "__")):
            continue
        moodle = MOODLE.match(top.name)
        if top.is_dir() and not top.is_symlink():
            learner = moodle["name"] if moodle else top.name
            yield from ((learner, path) for path in list(_inside(top)) or [top])
        elif moodle or top.suffix.lower() in (*READ, ".zip"):
            name = moodle["name"] if moodle else _own_name(top) or top.stem
            loose[name] = loose.get(name, 0) + (not moodle)  # nobody replaces another's file by giving his name
            yield name if loose[name] < 2 else f"{name} ({top.name})", top


def _inside(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _inside(path)
        elif path.suffix.lower() in READ:
            yield path


def _own_name(path: Path) -> str:
    _, cells, _ = _content(path)
    found = OWN_NAME.search("\n".join(cells))
    return found["name"].strip() if found else ""


def read_file(path: Path, learner: str, exercises: dict[str, list[Exercise]]) -> list[Submission]:
    """Read one file into a submission for each notebook of the course that it answers.

    Args:
        path: a notebook or a program.
        learner: whose it is.
        exercises: see `course_exercises`.
    """
    trouble, cells, said = _content(path)
    text = "\n".join(cells)
    asked = {match["id"] for match in CHECK.finditer(text)}
    given = {name for pair in GIVEN.findall(text) for name in pair if name}
    fitting = [name for name, rows in exercises.items() if asked & {row.id for row in rows}]
    fitting = fitting or [name for name, rows in exercises.items() if given & {row.name for row in rows}]
    if not fitting:
        return [Submission(learner, "", path, trouble=trouble or "no exercise of the course is in this file")]
    return [Submission(learner, notebook, path, cells, said) for notebook in fitting]


def _content(path: Path) -> tuple[str, list[str], dict[str, str]]:
    """Return why a file cannot be read, the sources of its code cells, and what its checks said."""
    if path.suffix.lower() not in READ or path.is_dir():
        return _there(path), [], {}
    try:
        if path.is_symlink() or not path.is_file():
            return "this is a link or no ordinary file", [], {}
        if path.stat().st_size > LARGEST_FILE:
            return f"the file has more than {LARGEST_FILE >> 20} MB: clear its outputs and hand it in again", [], {}
        text = _decoded(path.read_bytes())
    except OSError as error:
        return f"the file cannot be read ({error.strerror})", [], {}
    if path.suffix.lower() == ".py":
        return "", PERCENT_CELL.split(text), {}
    try:
        cells = [cell for cell in _cells(json.loads(text)) if cell.get("cell_type") == "code"]
        sources = ["".join(cell.get("source", cell.get("input", ""))) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "this is not a notebook", [], {}
    return "", sources, {m["id"]: m["sentence"] for cell in cells for m in SAID.finditer(_printed(cell))}


def _cells(notebook: dict) -> list[dict]:
    """Return the cells, which before 2014 stood in worksheets."""
    if "cells" in notebook:
        return notebook["cells"]
    return [cell for sheet in notebook["worksheets"] for cell in sheet["cells"]]


def _there(path: Path) -> str:
    """Say what was handed in instead of a notebook."""
    if path.suffix.lower() == ".zip":
        return f"this is a ZIP file, and {NEITHER}: unpack it"
    if not path.is_dir() or path.is_symlink():
        return f"this is {path.name}, and {NEITHER}"
    names = sorted(one.name for one in path.rglob("*") if one.is_file())
    return f"this folder holds {', '.join(names[:3])}, and {NEITHER}" if names else "this folder is empty"


def _decoded(content: bytes) -> str:
    for encoding in ("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeError:
            continue
    return content.decode("utf-8", "replace")


def _printed(cell: dict) -> str:
    """Return what a cell has printed, where its outputs are as Jupyter writes them."""
    outputs = cell.get("outputs")
    texts = [output.get("text") for output in outputs if isinstance(output, dict)] if isinstance(outputs, list) else []
    return "\n".join("".join(text) for text in texts if isinstance(text, (str, list)) and all(map(_is_text, text)))


def _is_text(part: object) -> bool:
    return isinstance(part, str)
