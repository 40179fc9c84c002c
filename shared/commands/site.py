"""`python course.py site`: the course as a site to read, on this machine, on a phone or on any web server.

Sphinx turns the README, the notebooks as they are stored and the pages around them into plain files in `runs/site`.
They need no server and no network: open `index.html`. Nothing is run and nothing is fetched. With `--pdf` a Chromium of
this machine prints each notebook.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import webbrowser
from pathlib import Path

from data.files import write_atomically
from data.paths import runs_dir
from shared.commands.command_line import CommandParser, command
from shared.site.pages import chapters

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "shared" / "site"
NEEDED = ("sphinx", "myst_nb", "sphinx_book_theme", "sphinx_copybutton")
MADE_BY_SPHINX = ".buildinfo"  # a file that it leaves in what it makes
HOME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Build a GPT from scratch</title>
<meta http-equiv="refresh" content="0; url=README.html"></head>
<body><main><h1>Build a GPT from scratch</h1>
<p><a href="README.html">The course begins here.</a></p></main></body></html>
"""
PRINTING = ("--headless", "--disable-gpu", "--no-pdf-header-footer", "--generate-pdf-document-outline")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
BROWSERS_BY_PATH = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)


def parser() -> CommandParser:
    """Describe the options of the command."""
    options = CommandParser("site", "Make the course a site of plain files, to be read without a server or a network.")
    options.add_argument("--output", type=Path, metavar="FOLDER", help="where it goes (default: runs/site)")
    options.add_argument("--pdf", action="store_true", help="print each notebook too, with a Chromium of this machine")
    options.add_argument("--open", action="store_true", help="open it in your browser")
    return options


def require_packages(needed: tuple[str, ...], name: str) -> None:
    """Refuse to begin without what the site or the slides are made with.

    Args:
        needed: names of packages, as they are imported.
        name: of the command that needs them.
    """
    if missing := [package for package in needed if not importlib.util.find_spec(package)]:
        told = (
            f"start it as python course.py {name}, which installs them, or pip install -r tests/requirements-site.txt"
        )
        raise ValueError(f"this is made with {' and '.join(missing)}, not installed in {sys.prefix}: {told}")


def require_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier site.

    Args:
        folder: where the site is to go.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MADE_BY_SPHINX).is_file():
        raise ValueError(f"{folder} holds other files than a site made earlier: name an empty or a new folder")


def build(source: Path, folder: Path, *, strict: bool = False) -> None:
    """Make the site.

    Args:
        source: the course's folder.
        folder: where the site goes.
        strict: fail where Sphinx only warns, for instance of a link that leads nowhere.

    Raises:
        ValueError: Sphinx failed; what it said stands on the screen.
    """
    from sphinx.cmd.build import build_main

    with tempfile.TemporaryDirectory(prefix="course-site-") as scratch:
        made, kept = os.path.join(scratch, "site"), os.path.join(scratch, "kept")  # MyST-NB leaves a folder beside it
        words = ["--quiet", *(["--fail-on-warning"] if strict else []), "-c", str(SETTINGS), "-d", kept]
        if build_main([*words, str(source), made]):
            raise ValueError("Sphinx could not make the site: the reason stands above")
        shutil.copytree(made, folder, dirs_exist_ok=True)
    write_atomically(folder / "index.html", HOME)


def browser() -> str:
    """Return the path of a Chromium, Chrome or Edge.

    Raises:
        ValueError: none is here.
    """
    found = [shutil.which(name) for name in BROWSERS] + [path for path in BROWSERS_BY_PATH if os.path.isfile(path)]
    if path := next(filter(None, found), None):
        return path
    raise ValueError(
        "PDF files are printed by Chromium, Chrome or Edge, and none is here: install one, or leave out --pdf"
    )


def print_page(program: str, page: Path, query: str = "") -> Path:
    """Print a page to a PDF file beside it, with everything unfolded, and return its path.

    Args:
        program: as `browser` gives it.
        page: an HTML file.
        query: what its address says behind a question mark.

    Raises:
        ValueError: the browser wrote none.
    """
    pdf = page.with_suffix(".pdf")
    pdf.unlink(missing_ok=True)
    as_root = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # as in most containers
    with tempfile.TemporaryDirectory(prefix="course-print-", ignore_cleanup_errors=True) as profile:
        command = [program, *PRINTING, f"--user-data-dir={profile}", *as_root]
        command += [f"--print-to-pdf={pdf}", f"{page.resolve().as_uri()}?{query}"]
        done = subprocess.run(command, capture_output=True, check=False)
    if not pdf.is_file():
        raise ValueError(f"{program} printed no {pdf}; it said: {done.stderr.decode('utf-8', 'replace')[-300:]}")
    return pdf


@command("site")
def main(arguments: list[str] | None = None) -> int:
    """Make the site and say where it is; return the exit status."""
    options = parser().parse_args(arguments)
    folder = (options.output or runs_dir() / "site").resolve()
    require_packages(NEEDED, "site")
    require_folder(folder)
    program = browser() if options.pdf else ""
    print(f"Making the site in {folder} …", flush=True)
    build(ROOT, folder)
    if options.pdf:
        pages = [page for pages in chapters(ROOT).values() for page in pages]
        for page in pages:
            print(f"Printed {print_page(program, folder / f'{page}.html')}", flush=True)
    print(f"Open {folder / 'index.html'}")
    if options.open:
        webbrowser.open((folder / "index.html").as_uri())
    return 0


if __name__ == "__main__":
    sys.exit(main())
