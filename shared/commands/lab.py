"""`python course.py lab`: open the course in JupyterLab at its start page, without news pop-ups.

JupyterLab and its kernels inherit the settings that course.py gives every command, so a notebook trains as fast as
`course.py run` does, also on a busy computer.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from data.files import write_atomically
from shared.commands import start_page
from shared.commands.command_line import CommandParser, command, port_number

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
    "@jupyterlab/apputils-extension:notification": {
        "checkForUpdates": False,
        "doNotDisturbMode": True,
        "fetchNews": "false",
    },
}


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("lab", "Open the course in JupyterLab.")
    options.add_argument(
        "chapter", nargs="?", default="", help="chapter to open, for instance ch03 (default: the start page)"
    )
    options.add_argument("--no-browser", action="store_true", help="only print the address")
    told = "port on this machine (default 8888, or the next free)"
    options.add_argument("--port", type=port_number, default=8888, help=told)
    return options


def notebook_of(chapter: str) -> Path:
    """Return the main notebook of a chapter, named by its folder or the beginning of it.

    Args:
        chapter: for instance "ch03", "3" or "ch03_attention".

    Raises:
        ValueError: no chapter has this name.
    """
    wanted = f"ch{int(chapter):02d}" if chapter.isdecimal() else chapter.strip("/\\")
    folders = sorted(folder for folder in ROOT.glob("ch[0-9][0-9]_*") if folder.is_dir())
    for folder in folders:
        notebook = folder / f"{folder.name.split('_', 1)[1]}.ipynb"
        if folder.name.startswith(wanted) and notebook.is_file():
            return notebook
    names = ", ".join(folder.name for folder in folders)
    raise ValueError(f"there is no chapter {chapter!r}: name one of {names}")


def write_settings(prefix: Path) -> None:
    """Write JupyterLab's overrides into an environment, keeping what stands there already.

    Where they cannot be read or written, the news stay on, and pages are shown as their text.

    Args:
        prefix: folder of the environment.
    """
    path = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if isinstance(settings, dict) and not SETTINGS.items() <= settings.items():
            write_atomically(path, json.dumps({**settings, **SETTINGS}, indent=1) + "\n")
    except (OSError, ValueError):
        pass


def first_page() -> Path:
    """Make the start page and return its path; where that fails, say why and return the first notebook's."""
    try:
        return start_page.write()
    except (OSError, ValueError, LookupError) as error:
        print(f"There is no start page this time ({error}).", flush=True)
        return notebook_of("ch01")


@command("lab")
def main(arguments: list[str] | None = None) -> int:
    """Start JupyterLab in the course's folder; return its exit status."""
    options = parser().parse_args(arguments)
    page = notebook_of(options.chapter) if options.chapter else first_page()
    if Path(sys.prefix) == ROOT / ".venv":
        write_settings(Path(sys.prefix))
    command = [sys.executable, "-m", "jupyterlab", f"--port={options.port}", f"--ServerApp.root_dir={ROOT}"]
    command += ["--no-browser"] if options.no_browser else []
    command += ["--allow-root"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # as in most containers
    print("JupyterLab opens in your browser; Ctrl-C here ends it.", flush=True)
    try:
        return subprocess.call([*command, str(page)], cwd=ROOT)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
