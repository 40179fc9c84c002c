"""`python course.py slides [ch03]`: a chapter as slides for a lecture, each deck one file that needs no network.

The slides come from the cells of the chapter's notebook that are tagged `slide`, with the prose as the speaker's notes,
and from the quiz. They are made in `runs/slides`; with `--pdf` a Chromium of this machine prints them.
"""

import argparse
import re
import sys
import webbrowser
from pathlib import Path

from data.files import write_atomically
from data.paths import runs_dir
from shared.commands.command_line import CommandParser, command
from shared.commands.lab import notebook_of
from shared.commands.quiz_pages import quizzes
from shared.commands.site import ROOT, browser, print_page, require_packages
from shared.site import pages
from shared.site.quiz import LETTERS, Question
from shared.site.slides import Slide, slides_of

NEEDED = ("markdown_it", "mdit_py_plugins", "docutils", "pygments", "jinja2", "sphinx_revealjs")


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("slides", "Make slides of a chapter, each deck one file that needs no network.")
    options.add_argument("chapter", nargs="?", default="", help="for instance ch03 (default: all chapters)")
    options.add_argument("--output", type=Path, metavar="FOLDER", help="where they go (default: runs/slides)")
    options.add_argument("--pdf", action="store_true", help="print each deck too, with a Chromium of this machine")
    options.add_argument("--open", action="store_true", help="open them in your browser")
    return options


def deck(path: Path) -> tuple[str, list[Slide]]:
    """Return the title of a chapter and its slides.

    Args:
        path: the chapter's main notebook.
    """
    notebook = pages.read_notebook(path)
    asked: dict[str, Slide] = {}
    for question in quizzes()[path.parent.name[:4]]:
        if question.notebook == path.stem:
            asked.setdefault(question.section, ask(question))
    return pages.title(notebook), slides_of(notebook, path.parent, asked)


def ask(question: Question) -> Slide:
    """Return a question of the quiz as a slide.

    Args:
        question: its choices come in the order in which the course itself prints them.
    """
    choices = question.shuffled()
    reasons = [f"- {letter}: {choice.why}" for letter, choice in zip(LETTERS, choices)]
    right = [f"**{letter}** {choice.why}" for letter, choice in zip(LETTERS, choices) if choice.right]
    rows = [f"{number}. {choice.text}" for number, choice in enumerate(choices, 1)]
    body = f"{question.ask}\n\n" + "\n".join(rows)
    return Slide(question.section, "What do you think?", body, "\n\n".join(right), "\n".join(reasons))


@command("slides")
def main(arguments: list[str] | None = None) -> int:
    """Make the decks and say where they are; return the exit status."""
    options = parser().parse_args(arguments)
    folder = (options.output or runs_dir() / "slides").resolve()
    everything = [notebook_of(path.name) for path in sorted(ROOT.glob("ch[0-9][0-9]_*"))]
    chosen = [notebook_of(options.chapter)] if options.chapter else everything
    require_packages(NEEDED, "slides")
    require_folder(folder)
    program = browser() if options.pdf else ""
    for path in chosen:
        write(path, target_of(path, folder))
        if options.pdf:
            print(f"Printed {print_page(program, target_of(path, folder), query='print')}", flush=True)
    index = folder / "index.html"
    write_index(index, [path for path in everything if target_of(path, folder).is_file()])
    print(f"Open {index}; in a deck, the key S shows your notes")
    if options.open:
        webbrowser.open(index.as_uri())
    return 0


def require_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but decks made earlier.

    Args:
        folder: where the decks are to go.
    """
    if folder.is_dir() and any(not re.fullmatch(r"(index|ch\d\d)\.(html|pdf)", path.name) for path in folder.iterdir()):
        raise ValueError(f"{folder} holds other files than decks made earlier: name an empty or a new folder")


def target_of(path: Path, folder: Path) -> Path:
    """Return the file of a chapter's deck.

    Args:
        path: the chapter's main notebook.
        folder: where the decks go.
    """
    return folder / f"{path.parent.name[:4]}.html"


def write(path: Path, target: Path) -> None:
    """Write the deck of a notebook and say so.

    Args:
        path: the chapter's main notebook.
        target: the HTML file.
    """
    from shared.site.deck import page

    title, slides = deck(path)
    write_atomically(target, page(title, slides))
    print(f"{title}: {len(slides)} slides in {target}", flush=True)


def write_index(target: Path, notebooks: list[Path]) -> None:
    """Write the page that leads to the decks.

    Args:
        target: the HTML file.
        notebooks: those that have a deck.
    """
    from shared.site.deck import contents

    titles = {target_of(path, target.parent).name: pages.title(pages.read_notebook(path)) for path in notebooks}
    write_atomically(target, contents(titles))


if __name__ == "__main__":
    sys.exit(main())
