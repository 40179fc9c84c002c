"""What is taught is shown: how many of the core modules' lines stand, word for word, in cells tagged `final`."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

from tests.test_notebooks import ROOT, code_cells, definitions, tags

TARGET = 75  # percent of a module's lines
FLOORS = {  # what a module shows at least; one below the target may only rise
    "ch01_understanding_llms/understanding_llms.py": TARGET,
    "ch02_text_data/text_data.py": TARGET,
    "ch02_text_data/datasets.py": TARGET,
    "ch02_text_data/corpus.py": TARGET,
    "ch03_attention/attention.py": TARGET,
    "ch04_gpt_model/gpt_config.py": TARGET,
    "ch04_gpt_model/gpt_model.py": TARGET,
    "ch04_gpt_model/generation.py": TARGET,
    "ch04_gpt_model/modern_gpt.py": TARGET,
    "ch04_gpt_model/inference.py": TARGET,
    "ch04_gpt_model/quantization.py": TARGET,
    "ch04_gpt_model/mixture_of_experts.py": TARGET,
    "ch04_gpt_model/other_attention.py": TARGET,
    "ch05_pretraining/pretraining.py": TARGET,
    "ch06_finetuning/finetuning.py": TARGET,
    "ch06_finetuning/reasoning.py": TARGET,
}
LOOPS = {  # functions that are read from top to bottom where they are taught
    "train_preferences": "ch06_finetuning/dpo.py",
    "train_grpo": "ch06_finetuning/grpo.py",
    "ppo_step": "ch06_finetuning/ppo.py",
}
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code: neither blank nor comment nor docstring."""
    held, scopes = set(), (ast.Module, ast.FunctionDef, ast.ClassDef)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            held |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, scopes) and ast.get_docstring(node) is not None:
            held -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return held


def sizes(source: str) -> dict[str, int]:
    """Name -> number of code lines of every function and class, decorators included."""
    held, found = code_lines(source), {}
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            start = min(part.lineno for part in (node, *node.decorator_list))
            found[node.name] = len(held & set(range(start, node.end_lineno + 1)))
    return found


def shown(folder: Path) -> set[tuple[str, str]]:
    """Name and normal form of every definition in the final cells of a chapter."""
    cells = [cell for path in sorted(folder.glob("*.ipynb")) if ".mine-" not in path.name for cell in code_cells(path)]
    return {item for cell in cells if "final" in tags(cell) for item in definitions(ast.parse(cell.source)).items()}


def coverage(module: Path) -> tuple[float, list[str]]:
    """Percent of a module's definition lines that are shown, and the names that are not."""
    source = module.read_text(encoding="utf-8")
    lines, seen = sizes(source), shown(module.parent)
    hidden = [name for name, form in definitions(ast.parse(source)).items() if (name, form) not in seen]
    return 100 * (1 - sum(lines[name] for name in hidden) / sum(lines.values())), hidden


@pytest.mark.parametrize("module", FLOORS)
def test_what_a_core_module_defines_stands_in_final_cells(module):
    percent, hidden = coverage(ROOT / module)
    assert percent >= FLOORS[module], f"{percent:.0f} % of {module} are shown; not: {', '.join(hidden)}"


@pytest.mark.parametrize("name", LOOPS)
def test_a_training_loop_stands_whole_in_a_final_cell(name):
    assert name not in coverage(ROOT / LOOPS[name])[1]


def test_lines_are_counted_without_blanks_comments_and_docstrings():
    source = '''"""A module."""

import math


@cached
def area(
    radius,  # two lines
):
    """Say what a circle holds.

    More words.
    """
    # why
    text = """two
    lines"""

    def inner():
        """Nothing."""

    return math.pi * radius**2


class Empty:
    """Nothing."""
'''
    assert sizes(source) == {"area": 8, "Empty": 1}


def test_a_changed_line_is_not_shown(tmp_path):
    notebook = (ROOT / "ch03_attention" / "attention.ipynb").read_text(encoding="utf-8")
    (tmp_path / "attention.ipynb").write_text(notebook, encoding="utf-8")
    source = (ROOT / "ch03_attention" / "attention.py").read_text(encoding="utf-8")
    assert source.count(".tril(n_keys - n_queries)") == 1
    (tmp_path / "attention.py").write_text(source.replace(".tril(n_keys - n_queries)", ".tril()"), encoding="utf-8")
    percent, hidden = coverage(tmp_path / "attention.py")
    assert hidden == ["causal_mask"] and 90 < percent < 100
