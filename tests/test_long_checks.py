"""Claims about the checks that take hours: what was found is kept, and what cannot be had is named."""

import sys

import pytest

from shared.commands import test as course_test
from shared.maintenance import long_runs, machines, outcomes
from shared.maintenance.machines import MACHINES, Machine, ask_all, ask_machines
from shared.maintenance.outcomes import Outcome, ask, kept, with_table


@pytest.fixture(autouse=True)
def _own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))


def says(text, code=0):
    return [sys.executable, "-c", f"print({text!r}); raise SystemExit({code})"]


@pytest.mark.parametrize(
    ("text", "code", "counts"),
    [
        ("3 passed, 0 failed, 1 skipped", 0, (3, 0, 1)),
        ("2 failed, 5 passed, 3 skipped, 1 warning, 1 error in 0.52s", 1, (5, 3, 3)),
        ("=== 12 passed in 1.0s ===", 0, (12, 0, 0)),
        ("4 passed in 1.0s", 3, (4, 1, 0)),  # it ended badly after its count
        ("no count", 0, (0, 1, 0)),
        ("12 passed in 1s\n\n1.0 minutes\n7 passed, 2 failed, 0 skipped", 1, (7, 2, 0)),
    ],
)
def test_the_last_count_of_a_command_is_read(text, code, counts):
    outcome = ask("a", "b", says(text, code), {}, "v")
    assert (outcome.passed, outcome.failed, outcome.skipped) == counts


def test_what_has_passed_is_kept_until_the_course_changes_and_a_failure_is_tried_again():
    good, bad = ask("good", "x", says("1 passed, 0 failed, 0 skipped"), {}, "v"), ask("bad", "x", says(""), {}, "v")
    assert kept("good", "x", "v") == good and kept("good", "x", "w") is None
    assert bad.failed and kept("bad", "x", "v") is None and kept("never", "x", "v") is None


def test_the_fingerprint_changes_with_a_test_and_with_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "ROOT", tmp_path)
    seen = {outcomes.fingerprint()}
    for name in ("tests/test_a.py", "data/story_world/tables/words.txt", "requirements.txt", "ch01_x/x.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x", encoding="utf-8")
        seen.add(outcomes.fingerprint())
    assert len(seen) == 5


def test_a_machine_that_cannot_be_had_is_named_with_its_reason(monkeypatch):
    monkeypatch.setattr(machines, "PARTS", {"words": []})
    (outcome,) = ask_all([Machine("Python 2.0", python="2.0")], "v")
    assert outcome.why_not == "no python2.0 was found on this machine" and not outcome.passed
    monkeypatch.setattr(machines, "_try", lambda command, otherwise: (_ for _ in ()).throw(LookupError(otherwise)))
    (outcome,) = ask_all([Machine("NumPy 0.1", package="numpy==0.1")], "v")
    assert "no environment could be made" in outcome.why_not


def test_what_passed_earlier_stands_where_its_machine_is_gone(monkeypatch):
    monkeypatch.setattr(machines, "PARTS", {"words": [], "numbers": []})
    passed = ask("Python 2.0", "words", says("2 passed, 0 failed, 0 skipped"), {}, "v")
    words, numbers = ask_all([Machine("Python 2.0", python="2.0")], "v")
    assert words == passed and numbers.why_not and not numbers.passed


def test_one_requirement_is_replaced_and_all_others_stay():
    plain, changed = machines._requirements(None), machines._requirements("numpy==2.3.5")
    assert [(a, b) for a, b in zip(plain, changed, strict=True) if a != b] == [("numpy==2.4.6", "numpy==2.3.5")]
    assert not [line for line in plain if "#" in line] and {"nbval==0.11.0", "torch==2.13.0"} <= set(plain)


def test_each_machine_differs_in_one_thing_and_replaces_a_package_that_the_course_has():
    plain = MACHINES[0]
    for machine in MACHINES[1:]:
        fields = ("processor", "threads", "python", "package")
        assert sum(getattr(machine, field) != getattr(plain, field) for field in fields) == 1, machine
        assert not machine.package or machine.package in machines._requirements(machine.package)
    assert len({machine.name for machine in MACHINES}) == len(MACHINES) >= 12


def test_the_table_is_written_between_its_marks_and_a_second_call_asks_nothing(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- machines: begin -->\nold\n<!-- machines: end -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(machines, "PAGE", page)
    monkeypatch.setattr(machines, "fingerprint", lambda: "v")
    monkeypatch.setattr(machines, "PARTS", {"words": ["-h"]})
    asked = []

    def answer(what, part, command, settings, version):
        asked.append((what, settings["OMP_NUM_THREADS"]))
        return outcomes.ask(what, part, says("2 passed, 0 failed, 0 skipped"), settings, version)

    monkeypatch.setattr(machines, "ask", answer)
    rows = [Machine("plain"), Machine("two", threads=2), Machine("none", python="2.0")]
    assert ask_machines(rows) == {"passed": 2, "failed": 0, "skipped": 1} == ask_machines(rows)
    assert asked == [("plain", "1"), ("two", "2")]
    text = page.read_text(encoding="utf-8")
    assert "| two | 2 passed, 0 failed, 0 skipped |" in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("-->\nafter\n")
    with pytest.raises(ValueError, match="lacks <!-- other: begin -->: put both marks back"):
        with_table(text, "other", "")


def test_a_long_run_takes_each_file_with_sizes_of_its_own_and_the_mutants(monkeypatch):
    files = long_runs.long_tests()
    assert {"tests/test_damage.py", "tests/test_checkpoints.py"} <= set(files) and "tests/test_house.py" not in files
    asked = []

    def answer(what, part, command, settings, version):
        asked.append((what, settings))
        return Outcome(
            what, part, version, passed=what != "tests/test_damage.py", failed=what == "tests/test_damage.py"
        )

    monkeypatch.setattr(long_runs, "ask", answer)
    monkeypatch.setattr(long_runs, "long_tests", lambda: ["tests/test_damage.py", "tests/test_data.py"])
    assert long_runs.run_long() == {"passed": 2, "failed": 1, "skipped": 0}
    assert asked[:2] == [(file, {"COURSE_LONG": "1"}) for file in long_runs.long_tests()]
    assert asked[2:] == [("planted mistakes", {})]


def test_the_test_command_hands_over(monkeypatch, capsys):
    monkeypatch.setattr(machines, "ask_machines", lambda: {"passed": 3, "failed": 1, "skipped": 2})
    monkeypatch.setattr(long_runs, "run_long", lambda: {"passed": 4, "failed": 0, "skipped": 0})
    assert course_test.main(["--machines"]) == 1 and "3 passed, 1 failed, 2 skipped" in capsys.readouterr().out
    assert course_test.main(["--long"]) == 0 and "4 passed, 0 failed, 0 skipped" in capsys.readouterr().out
