"""What the site adds to the course's own pages, worked out from the files: contents, texts for figures, glossary."""

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

GLOSSARY = "shared/site/glossary"
QUIZZES = "shared/teaching/quiz"
MORE = (GLOSSARY, "shared/questions", "data/README", "data/story_world/sample", "BENCHMARKS", "CHANGELOG",
        "CONTRIBUTING")  # fmt: skip
CALLED = {"shared/questions": "Questions and where they are answered", "data/story_world/sample": "25 stories to read"}
RUN_IT = """

```{container} run-it
This page shows what the notebook printed. To run it and change it you need the course's folder and
[two commands](/README.md#two-commands). Then type `python course.py lab`, and open the notebook PATH there.
```
"""
HEADING_OF_A_NOTEBOOK = re.compile(r"(?<=\.ipynb#)[^)\s]+(?=\))")
LINK_TO_A_FILE = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#:]+)\)")


def anchor(heading: str) -> str:
    """Name a heading as GitHub names those of a Markdown page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def mend_links(text: str, folder: Path) -> str:
    """Let links to a notebook's headings, which JupyterLab names in its own way, lead to the same headings here.

    Args:
        text: in Markdown.
        folder: where it stands; what links to another folder keeps its words only, for a site has no page of it.
    """
    text = HEADING_OF_A_NOTEBOOK.sub(lambda found: anchor(unquote(found[0])), text)
    return LINK_TO_A_FILE.sub(lambda found: found[1] if (folder / found[2]).is_dir() else found[0], text)


def how_to_run(page: str) -> str:
    """Say below the title of a notebook where it can be run, for a page of the site only shows it.

    Args:
        page: its path from the course's folder, without the ending.
    """
    return RUN_IT.replace("PATH", f"`{page}.ipynb`")


def chapters(root: Path) -> dict[str, list[str]]:
    """Return the notebooks of each chapter's folder, in the order of the README's table and without their endings.

    Args:
        root: the course's folder.
    """
    readme = (root / "README.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for page, folder in re.findall(r"\]\(((ch\d\d_\w+)/\w+)\.ipynb\)", readme):
        if page not in found.setdefault(folder, []):
            found[folder].append(page)
    for folder, pages in found.items():
        if (root / folder / "exercises.ipynb").is_file():
            pages.append(f"{folder}/exercises")
    return found


def quiz_page(folder: str, root: Path) -> str | None:
    """Return the name of the page with a chapter's quiz, or nothing where this copy has no quiz.

    Args:
        folder: of the chapter, for instance "ch03_attention".
        root: the course's folder.
    """
    name = f"{QUIZZES}/{folder[:4]}"
    return name if (root / f"{name}.toml").is_file() else None


def further(root: Path) -> list[str]:
    """Return the pages behind the chapters, as far as they are here.

    Args:
        root: the course's folder.
    """
    return [page for page in MORE if (root / f"{page}.md").is_file()]


def contents(root: Path) -> str:
    """Write the lists of pages that make the side bar.

    Args:
        root: the course's folder.
    """
    lists = {}
    for folder, pages in chapters(root).items():
        names = [title(read_notebook(root / f"{page}.ipynb")).partition(" · ")[2] for page in pages]
        rows = [f"{name} </{page}>" for name, page in zip(names, pages, strict=True)]
        asked = quiz_page(folder, root)
        lists[f"Chapter {int(folder[2:4])}"] = [*rows, f"Quiz </{asked}>"] if asked else rows
    lists["Look up"] = [f"{CALLED[page]} </{page}>" if page in CALLED else f"/{page}" for page in further(root)]
    blocks = [f":caption: {caption}\n\n" + "\n".join(rows) for caption, rows in lists.items() if rows]
    return "".join(f"\n\n```{{toctree}}\n:hidden:\n{block}\n```\n" for block in blocks)


def read_notebook(path: Path) -> dict:
    """Read a notebook; sources and texts become single strings.

    Args:
        path: the file.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def texts(notebook: dict) -> list[str]:
    """Return the Markdown cells of a notebook that `read_notebook` gave."""
    return [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]


def title(notebook: dict) -> str:
    """Return the first line of a notebook without its mark."""
    return texts(notebook)[0].partition("\n")[0].removeprefix("# ")


def figure_texts(notebook: dict) -> list[str]:
    """Say for each stored figure what its title and axes say, for who cannot see it; … stands for computed words.

    Args:
        notebook: as `read_notebook` gives it.
    """
    with_figures = [
        cell["source"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    return [_said_by_plot(source) for source in with_figures]


def _said_by_plot(source: str) -> str:
    words: dict[str, None] = {}
    try:
        tree = ast.parse(source)
    except SyntaxError:  # changed since it was run, or more than Python
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            values = [key.value for key in node.keywords if key.arg in ("title", "xlabel", "ylabel")]
            if name in ("new_axes", "set_title", "suptitle", "set_xlabel", "set_ylabel"):
                values = [*node.args[:1], *values]
            words.update((_literal(value), None) for value in values)
    told = "; ".join(word for word in words if word.strip("… "))
    return f"Figure: {told}" if told else "Figure; the text around it says what to see"


def _literal(value: ast.expr) -> str:
    if isinstance(value, ast.Constant):
        return str(value.value).replace("\n", " ")
    if isinstance(value, ast.JoinedStr):
        return "".join(_literal(part) for part in value.values)
    return "…"


@dataclass
class Entry:
    """A word of the course: what it is in code, its symbol, and the places that teach it, each as a link."""

    code: str
    symbol: str
    places: list[str] = field(default_factory=list)


def glossary(root: Path) -> str:
    """Write the list of all words in the notebooks' recap tables, with links back to where they are taught.

    Args:
        root: the course's folder.
    """
    entries: dict[str, Entry] = {}
    for page in [page for pages in chapters(root).values() for page in pages]:
        notebook = read_notebook(root / f"{page}.ipynb")
        for word, code, symbol in recap_rows(notebook):
            entry = entries.setdefault(word, Entry(code, symbol))
            entry.places += [
                f"[{heading}](/{page}.ipynb#{anchor(heading)})" for heading in taught_in(notebook, word, code)
            ]
            entry.places.append(f"[recap of {title(notebook).partition(' · ')[2]}](/{page}.ipynb#recap)")
    rows = []
    for word in sorted(entries, key=lambda word: word.replace("-", " ").lower().removeprefix("a ")):
        entry = entries[word]
        told = "; ".join(filter(None, [f"in code {entry.code}" if entry.code else "", entry.symbol]))
        paragraphs = filter(None, [told, " · ".join(entry.places)])
        rows.append(f"{word}\n  " + "\n\n  ".join(paragraphs) + "\n")
    return "```{glossary}\n" + "\n".join(rows) + "```\n"


def recap_rows(notebook: dict) -> list[list[str]]:
    """Return the rows of the table in a notebook's recap: word, code, symbol; an exercise sheet has none.

    Args:
        notebook: as `read_notebook` gives it.
    """
    recap = "".join(re.findall(r"^## Recap$.*?(?=^## |\Z)", "\n\n".join(texts(notebook)), re.DOTALL | re.MULTILINE))
    rows = [line.strip().strip("|") for line in recap.splitlines() if line.startswith("|")]
    return [[part.strip().replace(r"\|", "|") for part in re.split(r"(?<!\\)\|", row)] for row in rows[2:]]


def taught_in(notebook: dict, word: str, code: str) -> list[str]:
    """Return the heading of the section that is named after a word, or of the first that speaks of it or uses it.

    Args:
        notebook: as `read_notebook` gives it.
        word: for instance "query, key, value", of which the first is looked for.
        code: what stands for it in code, in Markdown, of which the first name is looked for.

    Returns:
        One heading, or none.
    """
    first = re.escape(re.split(r"[,;:(]", word)[0].strip().removeprefix("a "))
    spoken, used = re.compile(rf"\b{first}", re.IGNORECASE), re.search(r"`\W*(\w+)", code)
    found = sections(notebook)
    named = [heading for heading, _, _ in found if spoken.search(heading)]
    named += [heading for heading, prose, _ in found if spoken.search(prose)]
    named += [heading for heading, _, cells in found if used and re.search(rf"\b{used[1]}\b", cells)]
    return named[:1]


def sections(notebook: dict) -> list[tuple[str, str, str]]:
    """Return heading, prose and code of each numbered section.

    Args:
        notebook: as `read_notebook` gives it.
    """
    found: list[tuple[str, str, str]] = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            found[-1:] = [(heading, prose, f"{code}\n{cell['source']}") for heading, prose, code in found[-1:]]
            continue
        before, *parts = re.split(r"^## ", cell["source"], flags=re.MULTILINE)
        found[-1:] = [(heading, f"{prose}\n{before}", code) for heading, prose, code in found[-1:]]
        found += [(part.partition("\n")[0], part.partition("\n")[2], "") for part in parts]
    return [part for part in found if re.match(r"[A-Z\d]+\.\d+ ", part[0])]
