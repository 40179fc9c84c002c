"""Cells that need an optional download: left out where it is not on this machine, and never an error.

Such a cell has the tag `needs-NAME`, by which programs that run notebooks know it, and begins with the comment
`# needs NAME`, by which the notebook itself does: a kernel is not told the tags of its cells.
"""

import importlib.util
from collections.abc import Iterable

from ch05_pretraining.open_weights import FETCHED
from data.paths import CACHE_DIR

TAG, COMMENT = "needs-", "# needs "
PACKAGES = ("gguf", "tokenizers")  # of shared/requirements-models.txt, which comes with each download


def is_here(name: str) -> bool:
    """Say whether a download is on this machine, with the packages that open it.

    Args:
        name: as `python course.py fetch` knows it.

    Raises:
        ValueError: there is no such download.
    """
    if name not in FETCHED:
        raise ValueError(f"found a cell that needs {name!r}; expected one of {', '.join(FETCHED)}: mend its tag")
    return (CACHE_DIR / FETCHED[name]).is_file() and all(map(importlib.util.find_spec, PACKAGES))


def missing(tags: Iterable[str]) -> str | None:
    """Name the download that a cell needs and this machine lacks; None where the cell can run.

    Args:
        tags: of the cell.

    Raises:
        ValueError: a tag names no download.
    """
    needed = [tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)]
    return next((name for name in needed if not is_here(name)), None)


def reason(name: str) -> str:
    """Say in a sentence why a cell was left out, and what to do.

    Args:
        name: the missing download.
    """
    return f"Left out: this needs {name}, which `python course.py fetch {name}` gets."


def leave_out_without(name: str) -> None:
    """Let the cells of this notebook that begin with `# needs NAME` say so, as long as the download is missing.

    Args:
        name: the download; once it is there, the cells run, without a new start.
    """
    from IPython import get_ipython

    def leave_out(lines: list[str]) -> list[str]:
        if lines and lines[0].rstrip() == COMMENT + name and not is_here(name):
            return [f"print({reason(name)!r})\n"]
        return lines

    if shell := get_ipython():
        shell.input_transformers_cleanup.append(leave_out)
