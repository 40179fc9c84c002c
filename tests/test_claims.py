"""Claims are counted under several seeds, and an assert that does not hold does not stop the count."""

import nbformat
import pytest

from shared.maintenance import claims
from shared.maintenance.claims import claims_of, count_claims, modules_reached, recorded, run_seed, table, with_seed

SETUP = "seed = 0\nimport random\ndice = random.Random(seed)"
CELLS = [
    "assert seed < 3, 'claim: small seeds only'",
    "for number in range(3):\n    assert number != seed, f'claim: {number} is not it'",
    "assert 1 == 1",
    "raise KeyError('gone')",
    "assert dice.random() == random.Random(0).random()\nassert True, 'claim: reached'",
]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "small.ipynb"
    code = [nbformat.v4.new_code_cell(source) for source in (SETUP, *CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Small"), *code]), path)
    return path


def test_only_the_set_ups_own_seed_is_replaced():
    assert (
        with_seed("import x\nseed = 0\nother_seed = 0\nf(seed=0)", 4) == "import x\nseed = 4\nother_seed = 0\nf(seed=0)"
    )


def test_claims_are_found_in_loops_and_their_computed_parts_left_open():
    assert claims_of(CELLS) == ["claim: small seeds only", "claim: … is not it", "claim: reached"]


def test_a_cell_without_an_assert_stays_as_it_is_written():
    assert recorded("x = 1  # why", 3) == ("x = 1  # why", [])


def test_a_run_goes_on_after_claims_and_errors(notebook):
    run = run_seed(notebook, 2)
    assert run.held == {"claim: small seeds only": True, "claim: … is not it": False, "claim: reached": True}
    assert run.errors == ["cell 5: KeyError: 'gone'"]
    assert run.others == ["dice.random() == random.Random(0).random()"]  # what the text expects of its own seed


def test_the_count_takes_up_what_is_kept_until_the_notebook_changes(notebook, monkeypatch, capsys):
    assert count_claims([str(notebook)], 3) == {"passed": 1, "failed": 2, "skipped": 0}
    page = capsys.readouterr().out
    assert "| small.ipynb | small seeds only | 2 of 3 |" in page and "| small.ipynb | reached | 3 of 3 |" in page
    with monkeypatch.context() as patch:
        patch.setattr(claims, "run_seed", lambda path, seed: pytest.fail("it was run already"))
        assert count_claims([str(notebook)], 3)["passed"] == 1
    changed = nbformat.read(notebook, as_version=4)
    changed.cells[2].source = "assert True, 'claim: small seeds only'"
    nbformat.write(changed, notebook)
    assert count_claims([str(notebook)], 3)["passed"] == 2


def test_a_version_changes_with_the_code_that_is_reached_and_with_nothing_else(notebook, monkeypatch, tmp_path):
    (tmp_path / "ch09").mkdir()
    files = {"one": '"""Words."""\nfrom ch09.two import y\n\nx = y', "two": "y = 1  # why", "far": "z = 1"}
    for name, source in files.items():
        (tmp_path / "ch09" / f"{name}.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(claims, "ROOT", tmp_path)
    monkeypatch.setitem(claims.MODULE_OF, "far_away", "ch09.far")
    assert [path.stem for path in modules_reached(["from ch09.one import x"])] == ["one", "two"]
    assert [path.stem for path in modules_reached(["%time\nfrom ch09 import two", "from shared import far_away"])] == [
        "far", "two",
    ]  # fmt: skip
    changed = nbformat.read(notebook, as_version=4)
    changed.cells[1].source += "\nfrom ch09.one import x"
    nbformat.write(changed, notebook)
    version = claims.version_of(notebook)
    for name, source, same in (
        ("one", '"""Other words."""\nfrom ch09.two import y\n\nx = y', True),
        ("far", "z = 2", True),
        ("two", "y = 2", False),
    ):
        (tmp_path / "ch09" / f"{name}.py").write_text(source, encoding="utf-8")
        assert (claims.version_of(notebook) == version) is same


def test_what_notebooks_import_from_shared_is_followed_to_its_module():
    reached = {path.stem for path in modules_reached(["from shared import generate, load_stories"])}
    assert {"generation", "gpt_config", "loaders"} <= reached and not reached & {"finetuning", "rewards", "exercises"}


def test_a_notebook_without_a_seed_is_refused(notebook):
    without = nbformat.read(notebook, as_version=4)
    without.cells[1].source = "import random"
    nbformat.write(without, notebook)
    with pytest.raises(ValueError, match="no line 'seed = …'"):
        run_seed(notebook, 1)


def test_the_table_counts_claims_and_those_that_always_held():
    runs = [claims.Run("a.ipynb", seed, "v", {"claim: one": True, "claim: two": seed == 1}) for seed in (1, 2)]
    page = table(runs)
    assert page.startswith("# Claims under other seeds\n\n2 claims, 1 of them held under every seed.")
    assert "What else happened" not in page
