"""`python course.py restore NAME`: bring a notebook back as it was released; your copy is kept beside it.

`shared/released.json` lists the hash of every released notebook. Its content comes from the course's git history, so a
copy of the course that was downloaded without git is told where to get it instead. Nothing of yours is ever lost.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "shared" / "released.json"


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
    """
    return json.loads((root / "shared" / "released.json").read_text(encoding="utf-8"))


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
    fitting = exact if len(exact) == 1 else [path for path in names if wanted in path]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise ValueError(f"no notebook is called {name!r}: name one of {', '.join(names)}")
    raise ValueError(f"{name!r} can mean {', '.join(fitting)}: write more of its path")


def from_git(name: str, expected: str, root: Path = ROOT) -> bytes:
    """Return the content of a released notebook from the git history.

    Args:
        name: its path in the course.
        expected: its hash.
        root: the course's folder.

    Raises:
        ValueError: there is no git, or the history does not hold it.
    """
    commits = _git(root, "log", "--format=%H", "--", name)
    for commit in commits.decode("ascii", "replace").split() if commits else []:
        content = _git(root, "show", f"{commit}:./{name}")
        if content is not None and content_hash(content) == expected:
            return content
    raise ValueError(
        f"this copy of the course holds no git history with the released {name}: download the course again into "
        "another folder and copy the file from there (rename yours first)"
    )


def _git(root: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


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
    content = from_git(name, listed[name], root)
    kept = _keep_copy(path)
    path.write_bytes(content)
    return f"{name} is as it was released." + (f" Your copy: {kept.relative_to(root).as_posix()}" if kept else "")


def _keep_copy(path: Path) -> Path | None:
    """Move a learner's notebook aside under a name that is free."""
    if not path.exists():
        return None
    stamp, number = time.strftime("%Y-%m-%d"), 1
    while (kept := path.with_name(f"{path.stem}.mine-{stamp}{f'-{number}' if number > 1 else ''}.ipynb")).exists():
        number += 1
    path.replace(kept)
    return kept


def main(arguments: list[str] | None = None) -> int:
    """Bring back one notebook, or list what differs; return the exit status."""
    options = argparse.ArgumentParser(prog="course.py restore", description=__doc__.split("\n")[0])
    options.add_argument("name", nargs="?", help="a notebook, for instance attention or ch03_attention/exercises.ipynb")
    name = options.parse_args(arguments).name
    try:
        if name:
            print(restore(name))
        else:
            print("\n".join(["Notebooks that differ from the released ones:", *(differing() or ["none"])]))
    except ValueError as error:
        print(f"course.py restore: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        remedy = "close what holds the file, or move the course to a folder that you may write to"
        print(f"course.py restore: {error.filename}: {error.strerror or error}: {remedy}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
