"""Cells that need a download: run where it is, left out by name where it is not, and never an error."""

import nbformat
import pytest
from nbclient import NotebookClient

from shared import needed_files
from shared.commands import test as test_command
from shared.maintenance import execute_notebooks as program

NEEDY = "# needs no-such-model\nprint('the model speaks')"
SENTENCE = "Left out: this needs no-such-model, which `python course.py fetch no-such-model` gets."
BEGIN = f"""import sys; sys.path.insert(0, {str(program.ROOT)!r})
from pathlib import Path
from shared import needed_files
needed_files.FETCHED = {{"no-such-model": "no-such-model"}}
needed_files.PACKAGES = ()
needed_files.CACHE_DIR = Path.cwd()
needed_files.leave_out_without("no-such-model")"""


def cell(source: str, shown: str | None = None, tags: tuple[str, ...] = ()):
    made = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, execution_count=1 if shown else None)
    made.outputs = [nbformat.v4.new_output("stream", name="stdout", text=shown)] if shown else []
    return made


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """A notebook whose second cell needs a download, with what it showed where the download was."""
    monkeypatch.setattr(needed_files, "FETCHED", {"no-such-model": "no-such-model"})
    monkeypatch.setattr(needed_files, "CACHE_DIR", tmp_path)
    monkeypatch.setattr(needed_files, "PACKAGES", ())
    cells = [
        cell("print(1)", "1\n"),
        cell(NEEDY, "the model speaks\n", ("needs-no-such-model",)),
        cell("print(2)", "2\n"),
    ]
    path = tmp_path / "needy.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def shown(sources: list[str], folder) -> list[str]:
    """Run cells in one kernel, as "Run All Cells" does, and return what each shows; an error stops the test."""
    made = nbformat.v4.new_notebook(cells=[cell(source) for source in sources])
    NotebookClient(made, resources={"metadata": {"path": str(folder)}}).execute()
    return ["".join(output.text for output in done.outputs) for done in made.cells]


def test_run_all_cells_says_in_place_of_each_missing_cell_what_to_fetch_and_goes_on(tmp_path):
    assert shown([BEGIN, NEEDY, "print(2)"], tmp_path)[1:] == [f"{SENTENCE}\n", "2\n"]


def test_the_cells_run_as_soon_as_the_download_is_there(tmp_path):
    fetch = "Path('no-such-model').touch()"
    assert shown([BEGIN, NEEDY, fetch, NEEDY], tmp_path)[1:] == [f"{SENTENCE}\n", "", "the model speaks\n"]


def test_a_download_without_the_packages_that_open_it_is_missing(notebook, monkeypatch):
    (notebook.parent / "no-such-model").touch()
    assert needed_files.missing(["final", "needs-no-such-model"]) is None
    monkeypatch.setattr(needed_files, "PACKAGES", ("no_such_package",))
    assert needed_files.missing(["final", "needs-no-such-model"]) == "no-such-model"
    assert needed_files.missing(["final"]) is None


def test_a_tag_that_names_no_download_is_refused():
    with pytest.raises(ValueError, match="found a cell that needs 'nothing'; expected one of smollm2: mend its tag"):
        needed_files.missing(["needs-nothing"])


def test_a_notebook_is_stored_only_where_all_of_it_ran(notebook, monkeypatch, capsys):
    monkeypatch.setattr(program, "ROOT", notebook.parent)
    monkeypatch.setattr(program, "RELEASED", notebook.parent / "released.json")
    program.RELEASED.write_text("{}", encoding="utf-8")
    before = notebook.read_bytes()
    assert program.main([str(notebook)]) == 1
    assert notebook.read_bytes() == before and SENTENCE in capsys.readouterr().err
    (notebook.parent / "no-such-model").touch()
    assert program.main([str(notebook)]) == 0
    assert nbformat.read(notebook, as_version=4).cells[1].outputs[0].text == "the model speaks\n"


def test_a_comparison_leaves_out_what_is_missing_and_counts_it(notebook, capsys):
    assert program.main([str(notebook), "--compare", "native"]) == 0
    assert f"needy.ipynb, cells left out: 1. {SENTENCE}" in capsys.readouterr().out


@pytest.mark.parametrize(("is_here", "counts"), [(False, (2, 0, 1)), (True, (3, 0, 0))])
def test_the_test_command_skips_what_is_missing_by_name(notebook, monkeypatch, capfd, is_here, counts):
    cells = nbformat.read(notebook, as_version=4)
    cells.cells[1].metadata["tags"] = ["needs-smollm2"]
    nbformat.write(cells, notebook)
    if is_here:
        cached = notebook.parent / "smollm2.gguf"
        cached.touch()
    plugin = notebook.parent / "which_files.py"  # the process that runs the notebook is another one
    plugin.write_text(
        "from pathlib import Path\nfrom shared import needed_files\n"
        f"needed_files.CACHE_DIR, needed_files.PACKAGES = Path({str(notebook.parent)!r}), ()\n"
        "needed_files.FETCHED = {'smollm2': 'smollm2.gguf'}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(notebook.parent))
    found = test_command.notebook_tests([str(notebook)], test_command.environment(), ["-n0", "-p", "which_files"],
                                        notebook.parent)  # fmt: skip
    assert tuple(found.values()) == counts
    said = capfd.readouterr().out
    assert ("this needs smollm2, which `python course.py fetch smollm2` gets" in said) is not is_here
