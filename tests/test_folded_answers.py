"""What folded answers promise is what their code prints; `course.py test --notebooks` runs it in the notebooks."""

import ast

import nbformat
import pytest

from shared.commands import test as test_command
from shared.maintenance.folded_answers import ANSWER, folded_answers, run_aside, with_answers
from tests.test_notebooks import NOTEBOOKS, ROOT, names_from_outside, read, texts, top_level_names

RUN = [path for path in NOTEBOOKS if path.parent.name[:4] != "ch06"]
IN_WORDS = {"open_weights": 2, "pretraining": 1, "scaling": 1}  # answers in words
TRY = """**Try it.** Guess.

<details><summary>Answer</summary>

It grows.

```python
b = a + 1
print(b, torch.rand(1).item())
```

```text
{shown}
```

</details>
"""


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_answer_to_something_to_try_runs(path):
    in_words = 0
    for text in texts(path):
        n_tries = text.count("**Try it")
        assert len(ANSWER.findall(text)) == n_tries, text[:80]
        in_words += n_tries - len(folded_answers(text))
    assert in_words == IN_WORDS.get(path.stem, 0), "give the answer code that runs"


def spoiled(cells: list) -> set[str]:
    """Names that an answer binds anew and that a cell below it reads: whoever pastes the answer spoils that cell."""
    names, changed, found = set(), set(), set()
    for cell in with_answers(cells):
        answer = cell.metadata.get("folded_answer") if cell.cell_type == "code" else None
        tree = ast.parse(answer or (cell.source if cell.cell_type == "code" else ""))
        bound = top_level_names(tree)
        if answer:
            changed |= bound & names
        else:
            found |= names_from_outside(tree) & changed
            names, changed = names | bound, changed - bound
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_answer_may_be_pasted_into_a_cell_of_its_own(path):
    assert spoiled(read(path).cells) == set()


def test_an_answer_that_spoils_a_later_cell_is_found():
    above, answer = nbformat.v4.new_code_cell("a = 1\nb = 2"), nbformat.v4.new_markdown_cell(TRY.format(shown="2 0.5"))
    for below, found in (("print(b)", {"b"}), ("b = 3", set()), ("def f(b): return b", set()), ("print(a)", set())):
        assert spoiled([above, answer, nbformat.v4.new_code_cell(below)]) == found


def test_an_answer_leaves_names_and_random_numbers_as_they_are(capsys):
    names = {"a": 1}
    exec("import torch; torch.manual_seed(0)", names)
    run_aside("a = 5\nb = torch.rand(1)\nprint(a)", names)
    following = names["torch"].rand(1)
    names["torch"].manual_seed(0)
    assert capsys.readouterr().out == "5\n"
    assert "b" not in names and names["a"] == 1 and following == names["torch"].rand(1)


def test_an_answer_needs_the_download_that_the_cell_above_it_needs():
    tags = ["needs-smollm2", "nbval-ignore-output"]
    above = nbformat.v4.new_code_cell("a = 1", metadata={"tags": tags})
    cells = with_answers([above, nbformat.v4.new_markdown_cell(TRY.format(shown="2 0.5"))])
    assert [cell.metadata.get("tags") for cell in cells] == [tags, tags[:1], None]


@pytest.fixture
def results(tmp_path):
    """Count what the notebook tests say of a notebook with one answer, by what the answer promises."""

    def run(shown: str) -> dict[str, int]:
        first = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport torch; torch.manual_seed(0); a = 1"
        cells = [
            nbformat.v4.new_code_cell(first, execution_count=1),
            nbformat.v4.new_markdown_cell(TRY.format(shown=shown)),
            nbformat.v4.new_code_cell("print(a, torch.rand(1).item())", execution_count=2),
        ]
        cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="1 0.49625658988952637\n")]
        path = tmp_path / "tries.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return test_command.notebook_tests([str(path)], {}, [], tmp_path)

    return run


def test_a_promise_that_is_kept_passes_and_the_cells_below_notice_nothing(results):
    assert results("2 0.49625658988952637") == {"passed": 3, "failed": 0, "skipped": 0}


def test_a_promise_that_is_broken_fails_alone(results):
    assert results("3 0.49625658988952637") == {"passed": 2, "failed": 1, "skipped": 0}
