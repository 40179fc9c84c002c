"""The rules that hold the course together: who may import whom, and the table of public names."""

import ast
import importlib
import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import shared
from tests.test_final_cells import code_lines

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(folder.name for folder in ROOT.glob("ch[0-9][0-9]_*") if folder.is_dir())
CHAPTER_MODULES = sorted(path for folder in CHAPTERS for path in (ROOT / folder).glob("*.py"))
MODULES = [*CHAPTER_MODULES, *(path for folder in ("data", "shared") for path in sorted((ROOT / folder).rglob("*.py"))),
           ROOT / "course.py"]  # fmt: skip
OURS = {*CHAPTERS, "shared", "data", "tests", "course"}
TOP_LEVEL = {*CHAPTERS, "shared", "data", "tests", ".ci", ".github", ".devcontainer"}


def imports(path: Path) -> set[str]:
    """Return the first words of all imports of our own packages, wherever in the file they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in OURS}


def public_names(path: Path) -> set[str]:
    """Return what a module offers: its `__all__`, or its own functions, classes and capital constants."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", CHAPTER_MODULES, ids=module_name)
def test_a_chapter_module_imports_only_its_own_and_earlier_chapters_and_data(path):
    chapter = path.parent.name
    wrong = {
        name for name in imports(path) if name.split(".")[0] not in {"data", *CHAPTERS[: CHAPTERS.index(chapter) + 1]}
    }
    assert not wrong, f"{module_name(path)} imports {wrong}"


def test_data_imports_no_chapter_and_not_shared():
    for path in (ROOT / "data").rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] != "data"}, path


def test_nothing_but_commands_maintenance_and_tests_imports_commands():
    doors = (ROOT / "shared" / "commands", ROOT / "shared" / "maintenance")
    for path in [path for path in MODULES if not path.is_relative_to(doors[0]) and not path.is_relative_to(doors[1])]:
        assert not {name for name in imports(path) if name.startswith("shared.commands")}, path


def private(name: str) -> bool:
    named_tuples = ("_replace", "_asdict", "_fields", "_make")
    return name.startswith("_") and not name.startswith("__") and name not in named_tuples


def given_here(tree: ast.Module) -> set[str]:
    """Return the names that a module defines, assigns or stores on an object."""
    found = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    found |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}


PRIVATE_NAMES = {
    name for path in MODULES for name in given_here(ast.parse(path.read_text(encoding="utf-8"))) if private(name)
}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_uses_a_private_name_of_another_of_ours(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or "").split(".")[0] in OURS]
    taken = [alias.name for node in imported for alias in node.names if private(alias.name)]
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and private(n.attr)} - given_here(tree)
    ours = used & PRIVATE_NAMES
    assert not taken and not ours, f"{taken} {ours}: make them public, or do without"


def test_chapter_folders_are_namespace_packages():
    assert not [folder for folder in CHAPTERS if (ROOT / folder / "__init__.py").exists()]
    assert (ROOT / "shared" / "__init__.py").exists() and (ROOT / "data" / "__init__.py").exists()


def test_there_are_no_other_top_level_folders():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    folders = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    assert folders <= TOP_LEVEL


def assigned(path: Path) -> set[str]:
    """Return the names to which a module gives a value at its top level."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in body if isinstance(node, ast.AnnAssign)]
    names = [name for target in targets for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {name.id for name in names if isinstance(name, ast.Name)}


def built(path: Path) -> set[str]:
    """Return the names that a module makes itself, at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return assigned(path) | {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=module_name)
def test_a_name_is_imported_from_where_it_is_built(path):
    handed_on = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {*CHAPTERS, "data", "shared"}:
            home = ROOT / f"{node.module.replace('.', '/')}.py"
            if home.is_file():  # otherwise a package, whose modules are imported
                handed_on |= {f"{alias.name} from {node.module}" for alias in node.names} - {
                    f"{name} from {node.module}" for name in built(home)
                }
    assert not handed_on, f"import each from where it is built: {', '.join(sorted(handed_on))}"


@pytest.mark.parametrize("name", sorted(shared.MODULE_OF))
def test_a_name_of_the_facade_is_built_where_the_table_says(name):
    module = importlib.import_module(shared.MODULE_OF[name])
    built = getattr(shared, name)
    assert built is getattr(module, name)
    assert getattr(built, "__module__", None) == module.__name__ or name in assigned(Path(module.__file__))


def test_the_table_names_everything_once():
    names = " ".join(shared._MODULES.values()).split()
    assert len(names) == len(set(names)) == len(shared.__all__)


def test_the_facade_lists_every_public_name_of_the_main_modules():
    paths = [ROOT / folder / f"{folder.split('_', 1)[1]}.py" for folder in CHAPTERS]
    paths += [
        ROOT / "data" / "loaders.py",
        ROOT / "shared" / "figures.py",
        ROOT / "shared" / "exercises" / "__init__.py",
    ]
    missing = {
        f"{name} ({module_name(path)})"
        for path in paths
        for name in public_names(path) - set(shared.MODULE_OF) - {"main", "verdict"}
    }
    assert not missing, f"add to the table in shared/__init__.py: {', '.join(sorted(missing))}"


def test_the_facade_imports_nothing_before_it_is_asked():
    code = (
        "import sys, shared; shared.__dir__(); "
        "print([m for m in sys.modules if m == 'torch' or m.split('.')[0].startswith('ch0')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_chapter_can_be_the_first_that_is_imported(chapter):
    names = [name for name, module in shared.MODULE_OF.items() if module.startswith(chapter)]
    code = f"from shared import {', '.join(names)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="no public name 'GPTmodel'. Did you mean GPTModel?"):
        _ = shared.GPTmodel


def test_the_facade_works_after_the_folder_has_changed(tmp_path):
    code = (
        "import sys, os; sys.path.insert(0, '..'); import shared; "
        f"os.chdir({str(tmp_path)!r}); from shared import MultiHeadAttention; print(MultiHeadAttention.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / CHAPTERS[0], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "MultiHeadAttention", done.stderr


def test_only_exercises_and_stories_are_checked():
    """A function that refuses bad input is called `require_…` or `refuse_…`."""
    judges = ("shared.exercises", "data.story_world.coherence")
    for path in [path for path in MODULES if not module_name(path).startswith(judges)]:
        names = given_here(ast.parse(path.read_text(encoding="utf-8")))
        assert not [name for name in names if name.lstrip("_").startswith(("check_", "checked_"))], path


@pytest.mark.parametrize("path", CHAPTER_MODULES, ids=module_name)
def test_a_module_keeps_its_budget(path):
    most = 300 if path.parent.name.startswith(("ch05", "ch06")) else 150
    n_lines = len(code_lines(path.read_text(encoding="utf-8")))
    assert n_lines <= most, f"{n_lines} lines of code, and {most} are allowed: give a part of it a module of its own"


def test_half_of_the_functions_have_at_most_eight_lines():
    lengths = []
    for path in CHAPTER_MODULES:
        source = path.read_text(encoding="utf-8")
        held, functions = code_lines(source), (ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, functions)]
        lengths += [len(held & set(range(node.lineno, node.end_lineno + 1))) for node in nodes]
    assert statistics.median(lengths) <= 8


@pytest.mark.parametrize("path", CHAPTER_MODULES, ids=module_name)
def test_every_public_function_and_class_of_a_chapter_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith("_")]
    assert not [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", CHAPTER_MODULES, ids=module_name)
def test_a_chapter_module_prints_nothing_and_does_no_work_when_imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    loose = [node for node in tree.body if isinstance(node, (ast.For, ast.While, ast.With))]
    calls = [n for n in tree.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    assert not loose and not calls
