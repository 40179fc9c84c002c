"""How far a learner is, and a class: read from what the notebooks show, and never by running them."""

import json
from pathlib import Path

from shared.commands import progress
from shared.commands.class_folder import course_exercises

ROOT = Path(__file__).resolve().parent.parent
NAME = "ch03_attention/exercises.ipynb"


def shown(folder: Path, said: dict[str, str], more: str = "") -> Path:
    """Write the released notebook as it looks after its checks have said something else."""
    notebook = json.loads((ROOT / NAME).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            told = "".join(output["text"])
            output["text"] = [next((f"{id}: {text}\n" for id, text in said.items() if told.startswith(id)), told)]
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": [more], "outputs": []})
    folder.mkdir(parents=True)
    (folder / "exercises.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder


def test_a_learner_sees_what_is_done_and_what_comes_next(tmp_path):
    shown(tmp_path / "ch03_attention", {"3.1": "correct.", "3.3": "not yet. The output should be 1, yours is 2."})
    lines = progress.of_one(tmp_path, {NAME: course_exercises()[NAME]})
    assert lines[1].split() == ["ch03_attention/exercises", "1", "1", "8"]
    assert lines[-1] == f"1 of 8 are correct. Next: 3.2 Who may read whom, in {NAME}"


def test_whoever_has_finished_is_told_so(tmp_path):
    shown(tmp_path / "ch03_attention", {exercise.id: "correct." for exercise in course_exercises()[NAME]})
    assert progress.of_one(tmp_path, {NAME: course_exercises()[NAME]})[-1] == "8 of 8 are correct. That is all."


def test_a_notebook_that_was_taken_away_counts_as_untouched(tmp_path):
    assert progress.of_one(tmp_path, {NAME: course_exercises()[NAME]})[-1].startswith("0 of 8 are correct. Next: 3.1")


def test_without_a_folder_the_whole_course_is_shown(capsys):
    assert progress.main([]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(course_exercises()) + 3 and " are correct." in told[-1]


def test_a_teacher_sees_each_learner_and_the_hard_exercises(tmp_path, capsys):
    ran = tmp_path / "ran"
    shown(tmp_path / "in" / "Ada", {"3.1": "correct.", "3.2": "correct."})
    shown(tmp_path / "in" / "Bob", {"3.1": "correct.", "3.2": "not yet. x"}, f"open({str(ran)!r}, 'w')")
    (tmp_path / "in" / "Eve").mkdir()
    (tmp_path / "in" / "Eve" / "mine.py").write_text("def look_up(q, k, v):\n    return q\n", encoding="utf-8")
    assert progress.main([str(tmp_path / "in")]) == 0
    told = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:4] for line in told.splitlines()[1:4]}
    assert rows == {"Ada": ["2", "0", "8"], "Bob": ["1", "1", "8"], "Eve": ["0", "0", "8"]}
    assert "Eve" in told and "shows no checks" in told and "  1 of 2: 3.2 Who may read whom" in told
    assert "3.1 One" not in told and not ran.exists()


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert progress.main([str(tmp_path / "no")]) == 1
    assert "is no folder: give the one" in capsys.readouterr().err


def test_outputs_of_any_form_stop_nothing(tmp_path):
    folder = shown(tmp_path / "in" / "Ada", {"3.1": "correct."})
    notebook = json.loads((folder / "exercises.ipynb").read_text(encoding="utf-8"))
    for place, outputs in enumerate(
        (None, 7, "x", [7], [{"text": 7}], [{"text": [7, None]}], {"text": "3.2: correct."})
    ):
        notebook["cells"].insert(0, {"cell_type": "code", "source": "", "outputs": outputs})
        (folder / f"{place}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    assert progress.main([str(tmp_path / "in")]) == 0
