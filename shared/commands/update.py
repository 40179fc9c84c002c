"""`python course.py update FOLDER|ZIP`: bring a new release of the course into this copy, without git and network.

A notebook that you have edited is kept beside the new one as `NAME.mine-DATE.ipynb`; what else is replaced goes into
`runs/before-update-DATE/`. Your runs, downloads and environment are left alone, and nothing of yours is ever lost.
"""

import json
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from data.files import write_atomically
from shared.commands.command_line import CommandParser, command
from shared.commands.restore import ROOT, content_hash, keep_copy, released

YOURS = ("runs", ".venv", ".git", "data/cache", "wheels")  # a release never writes into these
LAST = "shared/released.json"  # it says what this copy is, so it comes when all else is there
NO_COURSE = "give the folder or the ZIP file of a newer release of this course"


@command("update")
def main(arguments: list[str] | None = None) -> int:
    """Bring a release in and return the exit status."""
    options = CommandParser("update", "Bring a new release of the course into this copy; your notebooks are kept.")
    options.add_argument("source", type=Path, metavar="FOLDER|ZIP", help="the new release, as you got it")
    source = options.parse_args(arguments).source
    with opened(source) as folder:
        print("\n".join(update(folder)))
    return 0


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """Give the folder of a release; a ZIP file is unpacked for the time being.

    Args:
        source: a folder or a ZIP file.

    Raises:
        ValueError: it is neither, or holds no course.
    """
    if source.is_dir():
        yield _course_in(source)
    elif zipfile.is_zipfile(source):
        with TemporaryDirectory() as place, zipfile.ZipFile(source) as archive:
            for name in archive.namelist():
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts:
                    raise ValueError(f"{source} holds the path {name!r:.80}, which leads out of it: {NO_COURSE}")
            archive.extractall(place)
            yield _course_in(Path(place))
    else:
        raise ValueError(f"{source} is no folder and no ZIP file: {NO_COURSE}")


def _course_in(folder: Path) -> Path:
    """Return the folder with course.py: this one, or the only one in it, as a ZIP file from the web has it."""
    places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    found = [place for place in places if (place / "course.py").is_file() and (place / LAST).is_file()]
    if not found:
        raise ValueError(f"{folder} holds no course.py with its list of notebooks: {NO_COURSE}")
    return found[0]


def update(source: Path, root: Path = ROOT) -> list[str]:
    """Bring a release into a copy, and return what was done, a line for each kept file.

    Args:
        source: folder of the new release.
        root: folder of the copy.

    Raises:
        ValueError: both are the same folder.
    """
    if source.resolve() == root.resolve():
        raise ValueError(f"{source} is this copy of the course itself: {NO_COURSE}")
    known, coming = released(root), json.loads((source / LAST).read_text(encoding="utf-8"))
    names = sorted(_files(source), key=lambda name: name == LAST)
    before = root / "runs" / f"before-update-{time.strftime('%Y-%m-%d-%H%M%S')}"
    kept, n_new, n_replaced = [], 0, 0
    for name in names:
        content, path = (source / name).read_bytes(), root / name
        if path.is_file() and content_hash(path.read_bytes()) == content_hash(content):
            continue
        n_new += 1
        if name in known or name in coming:
            kept += _keep_notebook(path, known.get(name, ""))
        elif path.is_file():
            n_replaced += 1
            write_atomically(before / name, path.read_bytes())
        write_atomically(path, content)
    told = [f"kept: {path.relative_to(root).as_posix()}" for path in kept]
    told += [f"replaced files that are no notebooks: {before.relative_to(root).as_posix()}"] if n_replaced else []
    return [f"{n_new} of {len(names)} files are new or changed, and are here now.", *told]


def _keep_notebook(path: Path, expected: str) -> list[Path]:
    """Move a notebook aside if its learner has edited it, and return where it is now."""
    edited = path.is_file() and content_hash(path.read_bytes()) != expected
    kept = keep_copy(path) if edited else None
    return [kept] if kept else []


def _files(source: Path) -> list[str]:
    """Return the paths of a release's files, without what is a learner's own and what Python and Jupyter leave."""
    found = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        own = any(name == yours or name.startswith(f"{yours}/") for yours in YOURS)
        left = "__pycache__" in name or ".ipynb_checkpoints" in name or ".mine-" in path.name
        if path.is_file() and not own and not left:
            found.append(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
