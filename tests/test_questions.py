"""The page of questions: every link opens a file of the course at a heading that exists."""

import re
from pathlib import Path
from urllib.parse import unquote

from tests.test_notebooks import LINK, ROOT, texts

PAGE = ROOT / "shared" / "questions.md"
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def notebook_anchor(heading: str) -> str:
    """Name a heading of a notebook as JupyterLab does, and GitHub's view of a notebook."""
    return re.sub(r"[*`]", "", heading).replace(" ", "-")


def page_anchor(heading: str) -> str:
    """Name a heading of a Markdown page as GitHub does."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    if path.suffix == ".ipynb":
        return {notebook_anchor(heading) for text in texts(path) for heading in HEADING.findall(text)}
    return {page_anchor(heading) for heading in HEADING.findall(path.read_text(encoding="utf-8"))}


def wrong_links(page: str, folder: Path) -> list[str]:
    wrong = []
    for link in LINK.finditer(page):
        name, _, anchor = link["target"].partition("#")
        path = (folder / name).resolve()
        if not path.is_file() or unquote(anchor) not in anchors(path):
            wrong.append(link["target"])
    return wrong


def test_every_question_leads_to_a_heading():
    page = PAGE.read_text(encoding="utf-8")
    questions = [line for line in page.splitlines() if line.startswith("- ")]
    assert len(questions) >= 80 and all(LINK.search(line) for line in questions)
    assert not wrong_links(page, PAGE.parent)


def test_a_link_to_nowhere_is_found():
    good = "[3.1](../ch03_attention/attention.ipynb#3.1-One-query) [README](../README.md#two-commands)"
    wrong = ["../ch03_attention/attention.ipynb#3.1-Two-queries", "../README.md#Two-commands", "../no.md#a"]
    assert wrong_links(good + "".join(f" [x]({target})" for target in wrong), PAGE.parent) == wrong


def test_the_readme_leads_to_the_questions():
    assert "](shared/questions.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
