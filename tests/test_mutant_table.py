"""Claims about the planted mistakes in tests/mutants: each can still be planted, and each has tests that may catch it.

Whether the tests do catch them is what `python -m tests.mutants` finds out, in a quarter of an hour.
"""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.mutants import __main__ as planting
from tests.mutants.__main__ import ROOT, Mutant, mutants

MUTANTS = mutants()


def test_there_are_sixty_and_some_in_each_chapter():
    chapters = [mutant.file[:4] for mutant in MUTANTS]
    assert len(set(MUTANTS)) == len(MUTANTS) >= 60
    assert all(chapters.count(f"ch0{number}") >= 8 for number in range(1, 7))
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_a_mistake_can_be_planted_and_leaves_python(mutant):
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1, "the line was rewritten: write a new mutant for it"
    changed = source.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_there_are_tests_that_may_catch_it(mutant):
    names = re.findall(r"^def (test_\w+)", (ROOT / mutant.tests).read_text(encoding="utf-8"), re.MULTILINE)
    words = mutant.only.split(" or ") if mutant.only else ["test_"]
    assert not [word for word in words if not any(word in name for name in names)]


def test_a_mistake_is_planted_while_its_tests_run_and_then_taken_out(tmp_path, monkeypatch):
    module, seen = tmp_path / "module.py", []
    module.write_text("a = 1\n", encoding="utf-8")
    mutant = Mutant("module.py", "1", "2", "a", "tests/test_module.py")
    monkeypatch.setattr(planting, "run_tests", lambda *_: seen.append(module.read_text(encoding="utf-8")) or 1)
    assert planting.try_mutant(tmp_path, mutant) == 1
    assert seen == ["a = 2\n"] and module.read_text(encoding="utf-8") == "a = 1\n"
    module.write_text("a = 11\n", encoding="utf-8")
    with pytest.raises(ValueError, match="2 times, not once"):
        planting.try_mutant(tmp_path, mutant)


@pytest.mark.parametrize(
    ("code", "status", "told"), [(1, 0, "caught"), (0, 1, "SURVIVED"), (5, 1, "NO TEST"), (-1, 0, "end")]
)
def test_a_survivor_is_told_and_what_was_caught_is_not_tried_again(tmp_path, monkeypatch, capsys, code, status, told):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path))
    monkeypatch.setattr(planting, "mutants", lambda: MUTANTS[:1])
    monkeypatch.setattr(planting, "copy_course", lambda folder: None)
    monkeypatch.setattr(planting, "try_mutant", lambda *_: code)
    monkeypatch.setattr(planting, "run_tests", lambda *_: 0)
    assert planting.main([]) == status
    assert told in capsys.readouterr().out
    assert bool(len(json.loads((tmp_path / "mutants.json").read_text("utf-8"))) if not status else 0) == (not status)
    monkeypatch.setattr(planting, "try_mutant", lambda *_: pytest.fail("tried again"))
    if not status:
        assert planting.main([]) == 0


def test_tests_that_fail_without_a_mistake_prove_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path))
    monkeypatch.setattr(planting, "copy_course", lambda folder: None)
    monkeypatch.setattr(planting, "try_mutant", lambda *_: 1)
    monkeypatch.setattr(planting, "run_tests", lambda *_: 1)
    with pytest.raises(ValueError, match="where nothing is planted; expected 0"):
        planting.main([MUTANTS[0].file])


def test_a_copy_of_the_course_is_whole(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("this copy has no git, which lists the files")
    planting.copy_course(tmp_path)
    for name in ("course.py", "ch03_attention/attention.py", "tests/conftest.py", "data/catalogue.json"):
        assert (tmp_path / name).read_bytes() == Path(ROOT / name).read_bytes()
    assert not (tmp_path / ".venv").exists() and not (tmp_path / "runs").exists()
