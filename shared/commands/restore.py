"""`python course.py restore NAME`: bring a notebook back as it was released; your copy is kept beside it.

`shared/released.json` lists the hash of every released notebook. Its content comes from `shared/released/`, which a
class's hand-out has, or from the course's git history; a copy without either is told where to get it instead. Nothing
of yours is ever lost.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from data.files import replace, write_durably
from shared.commands.command_line import CommandParser, command

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "shared" / "released.json"
OTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
ANOTHER_COPY = "download the course again into another folder and copy the file from there (rename yours first)"


def content_hash(content: bytes) -> str:
    """Hash a notebook's bytes, whatever its line ends.

    Args:
        content: the file's bytes.
    """
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def released(root: Path = ROOT) -> dict[str, str]:
    """Return path -> hash of every released notebook.

    Args:
        root: the course's folder.

    Raises:
        ValueError: the list is missing or damaged.
    """
    path = root / "shared" / "released.json"
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if listed and isinstance(listed, dict):
            return listed
    except (OSError, ValueError):
        pass
    raise ValueError(f"{path}, the list of the released notebooks, is missing or damaged: {ANOTHER_COPY}")


def differing(root: Path = ROOT) -> list[str]:
    """Return the notebooks that are not as they were released, missing ones among them.

    Args:
        root: the course's folder.
    """
    return [name for name, expected in released(root).items() if not _is_released(root / name, expected)]


def _is_released(path: Path, expected: str) -> bool:
    return path.is_file() and content_hash(path.read_bytes()) == expected


def find(name: str, names: list[str]) -> str:
    """Find the one released notebook that somebody means.

    Args:
        name: a path, a file name, or a part of either.
        names: all released notebooks.

    Raises:
        ValueError: none or several fit.
    """
    wanted = name.replace("\\", "/").lstrip("./")
    exact = [path for path in names if wanted in (path, Path(path).name, Path(path).stem)]
    fitting = exact if len(exact) == 1 else [path for path in names if wanted and wanted in path]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(f"no notebook is called {name!r}: name one of {', '.join(names)}")
    raise ValueError(f"{name!r} can mean {', '.join(fitting)}: write more of its path")


def released_content(name: str, expected: str, root: Path = ROOT) -> bytes:
    """Return the content of a released notebook: from a hand-out's own copy, or from the git history.

    Args:
        name: its path in the course.
        expected: its hash.
        root: the course's folder.

    Raises:
        ValueError: neither holds it, see `from_git`.
    """
    kept = root / "shared" / "released" / name
    return kept.read_bytes() if _is_released(kept, expected) else from_git(name, expected, root)


def from_git(name: str, expected: str, root: Path = ROOT) -> bytes:
    """Return the content of a released notebook from the git history.

    Args:
        name: its path in the course.
        expected: its hash.
        root: the course's folder.

    Raises:
        ValueError: git is missing or refuses, or the history does not hold it; the message says which.
    """
    wrote = "--diff-filter=AMT"  # and not those that took it away
    for commit in _git(root, "log", "--all", "--full-history", wrote, "--format=%H", "--", name).decode().split():
        content = _git(root, "show", f"{commit}:./{name}")
        if content_hash(content) == expected:
            return content
    shallow = _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true"
    remedy = "git fetch --unshallow brings it, then start again; or " if shallow else ""
    part = "part of the git history that is here" if shallow else "git history of this folder"
    raise ValueError(f"the {part} does not hold the released {name}: {remedy}{ANOTHER_COPY}")


def _git(root: Path, *words: str) -> bytes:
    """Ask git in the course's folder, and nowhere else, whatever the settings of other programs say."""
    environment = {name: value for name, value in os.environ.items() if name not in OTHER_REPOSITORY}
    try:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, check=False, env=environment | {"LC_ALL": "C"}
        )
    except OSError as error:
        raise ValueError(
            "git cannot be started, and the released notebooks come from the course's git history: install it from "
            f"git-scm.com, or {ANOTHER_COPY}"
        ) from error
    if done.returncode:
        raise ValueError(_what_git_said(root, done.stderr.decode("utf-8", "replace")))
    return done.stdout


def _what_git_said(root: Path, said: str) -> str:
    said = " ".join(said.replace("fatal:", "").replace("error:", "").split()) or "nothing"
    if "not a git repository" in said and not (root / ".git").exists():
        return f"this copy of the course came without git history, which holds the released notebooks: {ANOTHER_COPY}"
    return f"git refuses to read the history of this folder, it says: {said[:500]}"


def restore(name: str, root: Path = ROOT) -> str:
    """Bring one notebook back, keep the learner's copy, and return what was done.

    Args:
        name: which one, see `find`.
        root: the course's folder.

    Raises:
        ValueError: no such notebook, or its released content cannot be had.
    """
    listed = released(root)
    path = root / find(name, list(listed))
    name = path.relative_to(root).as_posix()
    if _is_released(path, listed[name]):
        return f"{name} is as it was released; nothing to do."
    content = released_content(name, listed[name], root)
    part = path.with_name(f".{path.name}.part")  # beside it and whole, before anything of the learner's is moved
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        write_durably(part, content)
        kept = keep_copy(path)
        replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return f"{name} is as it was released." + (f" Your copy: {kept.relative_to(root).as_posix()}" if kept else "")


def keep_copy(path: Path) -> Path | None:
    """Move a learner's notebook aside under a name that is free, and return that; None where there is none.

    Args:
        path: the notebook.
    """
    if not os.path.lexists(path):
        return None
    stamp, number = time.strftime("%Y-%m-%d"), 1
    while os.path.lexists(kept := path.with_name(f"{path.stem}.mine-{stamp}{f'-{number}' * (number > 1)}.ipynb")):
        number += 1
    replace(path, kept)
    return kept


@command("restore")
def main(arguments: list[str] | None = None) -> int:
    """Bring back one notebook, or list what differs; return the exit status."""
    options = CommandParser("restore", __doc__.split("\n")[0])
    options.add_argument("name", nargs="?", help="a notebook, for instance attention or ch03_attention/exercises.ipynb")
    name = options.parse_args(arguments).name
    try:
        if name is None:
            print("\n".join(["Notebooks that differ from the released ones:", *(differing() or ["none"])]))
        else:
            print(restore(name))
    except OSError as error:
        remedy = "close what holds the file, or move the course to a folder that you may write to"
        raise ValueError(f"{error.filename}: {error.strerror or error}: {remedy}") from error
    return 0


if __name__ == "__main__":
    sys.exit(main())
