"""What every notebook promises, read from the files; `course.py test` also runs them and compares each output."""

import ast
import base64
import re
import statistics
from functools import lru_cache
from pathlib import Path

import nbformat
import pytest

from ch05_pretraining.open_weights import FETCHED
from shared.commands import restore
from shared.needed_files import COMMENT, TAG

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path for path in ROOT.glob("ch*/*.ipynb") if ".mine-" not in path.name)
MEDIAN_LINES, MOST_LINES, MOST_FINAL_LINES = 5, 30, 60
USUAL_LINES = 15  # of nine cells in ten
MOST_IGNORED = 0.05
MOST_BYTES = 1_000_000
PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<target>[^)\s]+)[^)]*\)|<img\b(?P<tag>[^>]*)>", re.IGNORECASE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.relative_to(ROOT).as_posix())


@lru_cache
def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source.strip()]


def texts(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def n_lines(cell) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_ignored(cell) -> bool:
    return "nbval-ignore-output" in tags(cell) or "NBVAL_IGNORE_OUTPUT" in cell.source


@each_notebook
def test_the_file_is_a_valid_notebook_of_at_most_a_megabyte(path):
    nbformat.validate(read(path))
    assert path.stat().st_size <= MOST_BYTES


@each_notebook
def test_the_first_code_cell_finds_the_course_from_any_place(path):
    assert re.match(r'import sys(; |\n+)sys\.path\.insert\(0, "\.\."\)', code_cells(path)[0].source)


@each_notebook
def test_what_is_stored_is_one_run_from_top_to_bottom(path):
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_cell_stores_an_error_or_a_warning(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text


@each_notebook
def test_cells_are_short(path):
    for cell in code_cells(path):
        assert n_lines(cell) <= (MOST_FINAL_LINES if "final" in tags(cell) else MOST_LINES), cell.source.split("\n")[0]
    lines = sorted(n_lines(cell) for cell in code_cells(path) if "final" not in tags(cell))
    if path.name != "exercises.ipynb":
        assert statistics.median(lines) <= MEDIAN_LINES
        assert lines[int(0.9 * (len(lines) - 1))] <= USUAL_LINES


@each_notebook
def test_a_cell_that_is_not_compared_is_followed_by_an_assert(path):
    cells = code_cells(path)
    ignored = [k for k, cell in enumerate(cells) if is_ignored(cell)]
    assert len(ignored) <= MOST_IGNORED * len(cells)
    for k in ignored:
        assert "assert" in cells[k].source or (k + 1 < len(cells) and "assert" in cells[k + 1].source), cells[k].source


@each_notebook
def test_no_cell_installs_or_skips(path):
    for cell in code_cells(path):
        assert not re.search(r"^\s*[!%]\s*(pip|conda)\b", cell.source, re.MULTILINE)
        assert not {"nbval-skip", "raises-exception", "nbval-raises-exception"} & set(tags(cell))


@each_notebook
def test_a_cell_that_needs_a_download_says_so_in_its_tag_and_in_its_first_line(path):
    for cell in code_cells(path):
        tagged = [tag.removeprefix(TAG) for tag in tags(cell) if tag.startswith(TAG)]
        begun = [line.removeprefix(COMMENT) for line in cell.source.splitlines()[:1] if line.startswith(COMMENT)]
        assert tagged == begun and set(tagged) <= FETCHED.keys(), cell.source
        assert not tagged or f'leave_out_without("{tagged[0]}")' in code_cells(path)[0].source


def top_level_names(tree: ast.Module) -> set[str]:
    """Names that the statements of a cell bind, without those inside its functions and classes."""
    found, statements = set(), list(tree.body)
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        else:
            inner = list(ast.walk(node))
            found |= {n.id for n in inner if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            found |= {n.asname or n.name.split(".")[0] for n in inner if isinstance(n, ast.alias)}
    return found


def names_from_outside(tree: ast.Module) -> set[str]:
    """Names that a cell reads and binds nowhere itself."""
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return {n.id for n in names} - own - {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}


def leaning(cells: list) -> set[str]:
    """Names that a cell without a tag reads and that a cell with a download was the last to bind."""
    last, found = {}, set()
    for cell in cells:
        tree, needy = ast.parse(cell.source), any(tag.startswith(TAG) for tag in tags(cell))
        if not needy:
            found |= {name for name in names_from_outside(tree) if last.get(name)}
        last |= dict.fromkeys(top_level_names(tree), needy)
    return found


@each_notebook
def test_no_other_cell_leans_on_a_cell_that_needs_a_download(path):
    if any(tag.startswith(TAG) for cell in code_cells(path) for tag in tags(cell)):
        assert not leaning(code_cells(path))


def test_leaning_is_found_in_plain_reading_and_in_a_name_that_is_bound_anew():
    def cell(source, *tags):
        return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})

    assert leaning(
        [cell("a = 1"), cell("def f():\n    a = 2\nb, c = 3, 4", f"{TAG}x"), cell("a; f; b = b + 1; c")]
    ) == {"f", "c"}
    assert leaning([cell("a = 1"), cell("for a in (2, 3): pass", f"{TAG}x"), cell("a")]) == {"a"}
    assert not leaning([cell("from x import a as b"), cell("b", f"{TAG}x"), cell("b")])


@each_notebook
def test_pictures_are_local_and_have_a_text(path):
    for text in texts(path):
        for picture in PICTURE.finditer(text):
            if picture["tag"] is None:
                alt, target = picture["alt"], picture["target"]
            else:
                found = {k: re.search(rf"""{k}=["']([^"']*)""", picture["tag"]) for k in ("alt", "src")}
                alt, target = (match[1] if match else "" for match in found.values())
            assert len(alt.split()) >= 3, f"{target} has no text that says what it shows"
            assert not target.startswith(("http:", "https:", "//")), f"{target} is hot-linked"
            assert (path.parent / target).is_file() or target.startswith("attachment:"), f"{target} is missing"


@each_notebook
def test_local_links_lead_somewhere(path):
    for text in texts(path):
        for link in LINK.finditer(re.sub(r"`[^`]*`", "", text)):
            target = link["target"].split("#")[0]
            if target and not re.match(r"[a-z]+:", target):
                assert (path.parent / target).exists(), f"{link['target']} leads nowhere"


@each_notebook
def test_no_output_names_this_machine(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            shown = output.get("text", "") + str({k: v for k, v in output.get("data", {}).items() if "image" not in k})
            assert not re.search(r"(/home/|/Users/|/work/|/root/|[A-Z]:\\\\Users)", shown), shown[:300]


@each_notebook
def test_figures_are_neither_tiny_nor_huge(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            picture = output.get("data", {}).get("image/png")
            if picture:
                header = base64.b64decode(picture[:64])
                width = int.from_bytes(header[16:20], "big")
                assert 200 <= width <= 2400, f"{width} pixels wide"


def definitions(tree: ast.AST) -> dict[str, str]:
    """Name -> normal form of every function and class, without docstrings."""
    found = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for inner in ast.walk(node):
                if isinstance(inner, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(inner) is not None:
                    inner.body = inner.body[1:] or [ast.Pass()]
            found[node.name] = ast.dump(node)
    return found


@each_notebook
def test_final_cells_define_what_the_module_defines(path):
    final = [cell for cell in code_cells(path) if "final" in tags(cell)]
    modules = [ast.parse(module.read_text(encoding="utf-8")) for module in path.parent.glob("*.py")]
    known = {name: form for module in modules for name, form in definitions(module).items()}
    for cell in final:
        own = definitions(ast.parse(cell.source))
        assert own, f"a cell tagged final defines nothing: {cell.source}"
        for name, form in own.items():
            assert name in known, f"{name} is in no module of {path.parent.name}"
            assert form == known[name], f"{name} differs from the module's"


@pytest.mark.parametrize("chapter", sorted(ROOT.glob("ch[0-9][0-9]_*")), ids=lambda p: p.name)
def test_a_chapter_has_its_notebook_module_and_exercises(chapter):
    subject = chapter.name.split("_", 1)[1]
    for name in (f"{subject}.ipynb", f"{subject}.py", "exercises.ipynb"):
        assert (chapter / name).is_file(), f"{chapter.name}/{name} is missing"


def test_the_list_of_released_notebooks_is_in_step():
    """The hashes by which `course.py restore` finds a notebook are those of what is committed."""
    listed = restore.released()
    try:
        committed = restore._git(ROOT, "ls-files", "ch*/*.ipynb").decode("utf-8").split()
    except ValueError:
        pytest.skip("not a git checkout")
    assert set(committed) == set(listed)
    for name, expected in listed.items():
        content = restore._git(ROOT, "show", f"HEAD:./{name}")
        assert restore.content_hash(content) == expected, (
            f"{name}: run shared/maintenance/execute_notebooks.py and commit both"
        )


def test_what_is_released_was_run_with_the_optional_files():
    """A learner sees what GPT-2's own tokenizer does, fetched or not: the stored output shows it."""
    for name in restore.released():
        try:
            content = restore._git(ROOT, "show", f"HEAD:./{name}").decode("utf-8")
        except ValueError:
            pytest.skip("not a git checkout")
        cells = nbformat.reads(content, as_version=4).cells
        missing = [o for cell in cells for o in cell.get("outputs", []) if "course.py fetch" in o.get("text", "")]
        assert not missing, f"{name}: {missing[0].text.strip()}; then run it again and commit"
