"""The maintainers' program that runs notebooks: what it stores, and what it finds in runs of other kinds."""

import hashlib
import json

import nbformat
import pytest

from shared.maintenance import execute_notebooks as program

HOME = program.ROOT
STEP = """import torch
weight = torch.nn.Parameter(torch.tensor([0.5, 0.25]))
optimizer = torch.optim.SGD([weight], lr=0.1)
weight.grad = torch.ones(2)
optimizer.step()
print([f"{value:.9f}" for value in weight.tolist()])
print([f"{value:.4f}" for value in weight.tolist()])"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder that stands for the course, with nothing in its list of released notebooks."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "ch09_nothing").mkdir()
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "RELEASED", tmp_path / "shared" / "released.json")
    program.RELEASED.write_text('{"ch01_gone/gone.ipynb": "0"}', encoding="utf-8")
    monkeypatch.delenv("COURSE_RUNS", raising=False)
    return tmp_path


def write(course, *sources: str, tags: tuple[str, ...] = ()):
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {}) for source in sources]
    path = course / "ch09_nothing" / "nothing.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_a_run_is_stored_with_its_hash_and_without_the_machine(course):
    path = write(course, "print('a\\rb')\nprint('c')", "1 + 1")
    assert program.main([str(path)]) == 0
    stored = nbformat.read(path, as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2]
    assert stored.cells[0].outputs[0].text == "b\nc\n" and stored.cells[1].outputs[0].data["text/plain"] == "2"
    assert "execution" not in stored.cells[0].metadata and stored.metadata.language_info == {"name": "python"}
    released = json.loads(program.RELEASED.read_text(encoding="utf-8"))
    assert released == {"ch09_nothing/nothing.ipynb": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_a_folded_answer_says_what_its_code_prints(course):
    answer = "<details><summary>Answer</summary>\n\nThis:\n\n```python\na += 1\nprint(a, 2 * a)\n```\n\n"
    answer += "```text\n?\n```\n\n</details>"
    first = f"import sys; sys.path.insert(0, {str(HOME)!r}); a = 1"
    path = write(course, first, "a")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell(f"**Try it.** Guess.\n\n{answer}\n\n## Next"))
    nbformat.write(notebook, path)
    assert program.main([str(path)]) == 0
    stored = nbformat.read(path, as_version=4).cells
    assert stored[1].source == f"**Try it.** Guess.\n\n{answer.replace('?', '2 4')}\n\n## Next"
    assert [cell.get("execution_count") for cell in stored] == [1, None, 2]
    assert stored[2].outputs[0].data["text/plain"] == "1" and stored[2].outputs[0].execution_count == 2


def test_a_notebook_that_fails_stays_as_it_was(course, capsys):
    path = write(course, "print('a')", "1 / 0")
    before = path.read_bytes()
    assert program.main([str(path)]) == 1
    assert path.read_bytes() == before and "ZeroDivisionError" in capsys.readouterr().err


def test_a_digit_that_hangs_on_rounding_differs_under_noise_and_the_others_do_not(course, capsys):
    path = write(course, STEP)
    assert program.main([str(path)]) == 0
    assert program.main([str(path), "--compare", "native"]) == 0
    assert program.main([str(path), "--compare", "noise"]) == 1
    said = capsys.readouterr().out
    assert "code cell 0 (from 0): noise 1 (1 thread)" in said
    assert "- ['0.400000006', '0.150000006']" in said and "0.4000'" not in said


def test_each_kind_of_run_has_its_settings_and_an_error_stops_only_its_own_cell(course, capsys):
    path = write(course, "import os", "raise ValueError(1)", "print('threads:', os.environ['OMP_NUM_THREADS'])")
    assert program.main([str(path), "--compare", "native", "--threads", "4"]) == 1
    said = capsys.readouterr().out
    assert "native 1 (4 threads)" in said and "+ ValueError: 1" in said and "+ threads: 4" in said


def test_what_a_cell_hides_is_compared_for_errors_alone(course):
    path = write(course, "print('told')", tags=("nbval-ignore-output",))
    assert program.main([str(path), "--compare", "native"]) == 0
    path = write(course, "raise ValueError", tags=("nbval-ignore-output",))
    assert program.main([str(path), "--compare", "native"]) == 1
