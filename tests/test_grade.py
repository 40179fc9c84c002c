"""The grader: right marks for the honest, and nothing that one learner does costs another a mark."""

import csv
import os
import re

import pytest

pytest.importorskip("shared.exercises.solutions.ch03", reason="the solutions are not part of this copy")

from shared.commands import grade  # noqa: E402
from shared.commands.class_folder import course_exercises, read_class  # noqa: E402
from shared.commands.grade_answers import definitions as defined_in  # noqa: E402
from shared.commands.grade_answers import form, parsed, without_magics  # noqa: E402
from shared.commands.grade_pages import feedback_names  # noqa: E402
from shared.commands.grade_worker import Limits, Worker  # noqa: E402
from tests import chromium  # noqa: E402
from tests.hostile_submissions import ALL, HANDED_IN, NAMES, ROOT, saved, solved, with_cell  # noqa: E402

SECONDS = "3"  # of processor time, for an answer that never ends; honest ones take milliseconds


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Grade the whole class once; return its table, learner -> row, and where everything lies."""
    place = tmp_path_factory.mktemp("class")
    for learner, (hand_in, _, _) in HANDED_IN.items():
        (place / "handed in" / learner).mkdir(parents=True)
        hand_in(place / "handed in" / learner)
    assert grade.main([str(place / "handed in"), "--out", str(place / "out"), "--seconds", SECONDS]) == 0
    with open(place / "out" / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return {row["learner"].lstrip("'"): row for row in csv.DictReader(file)}, place


@pytest.mark.parametrize("learner", HANDED_IN)
def test_each_submission_gets_its_own_marks_and_reasons(graded, learner):
    _, points, told = HANDED_IN[learner]
    row = graded[0][learner.split("_4711")[0]]
    assert int(row["points"]) == points and told in " ".join(row.values()), row
    assert int(row["of"] or 0) == (8 if any(row[exercise] for exercise in ALL) else 0)


def test_nothing_was_left_outside_and_the_course_is_as_it_was(graded):
    _, place = graded
    assert sorted(path.name for path in place.iterdir()) == ["handed in", "out"]
    assert sorted(path.name for path in (place / "handed in").iterdir()) == sorted(HANDED_IN)


def test_an_honest_optimizer_figure_and_folder_are_no_mischief_and_no_trouble(graded):
    row = graded[0]["trains_and_draws"]
    assert (row["points"], row["flags"], row["notes"]) == ("8", "imports tempfile", "")


def test_a_page_shows_the_first_of_many_troubles(graded):
    page = (graded[1] / "out" / "feedback" / "of_fails_in_a_row.html").read_text(encoding="utf-8")
    assert page.count("NameError: name &#x27;a") == 5 and "<li>and 15 more, perhaps because of these</li>" in page


def test_a_teacher_is_told_where_to_look(graded):
    rows, _ = graded
    assert "imports os" in rows["exit_at_once"]["flags"]
    assert "imports shared.exercises.solutions.ch03" in rows["reads_solutions"]["flags"]
    assert rows["half"]["flags"] == ""
    assert "3.3 like " in rows["all"]["alike"] and "and" in rows["all"]["alike"]
    assert "3.1 like" not in rows["all"]["alike"]  # two lines are alike by nature


def test_a_learners_page_says_what_the_check_said_and_nothing_of_others(graded):
    rows, place = graded
    page = (place / "out" / "feedback" / "of_script_in_a_sentence.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page
    assert (
        "7 of 8 are correct" in page and "3.1 One query" in page and "like" not in re.sub("<style>.*</style>", "", page)
    )
    assert len(list((place / "out" / "feedback").iterdir())) == len(HANDED_IN)


@pytest.mark.parametrize("page", ["of_half", "of_fails_in_a_row", "of_web_page"])
def test_a_learners_page_fits_a_phone(graded, page):
    with chromium.offline("the learners' pages") as browser:
        browser.window(390, 844, phone=True)
        browser.open((graded[1] / "out" / "feedback" / f"{page}.html").as_uri())
        assert browser.run("innerWidth") == 390 == browser.run("document.documentElement.scrollWidth")


def test_a_spreadsheet_calculates_no_name(graded):
    _, place = graded
    table = (place / "out" / "grades.csv").read_bytes()
    assert table.startswith(b"\xef\xbb\xbflearner,") and b"\n'=1+1," in table


# ---------------------------------------------------------------- who handed in what


def test_loose_files_are_learners_too_and_nobody_takes_anothers_name(tmp_path):
    for number, name in enumerate(("Ada", "Ada", "Bob")):
        with_cell(f"NAME = '{name}'")(tmp_path)
        (tmp_path / "exercises.ipynb").rename(tmp_path / f"{number}.ipynb")
    saved(solved(), "Eve_12_assignsubmission_file_exercises.ipynb")(tmp_path)
    saved(solved(), "plain.ipynb")(tmp_path)
    learners = [one.learner for one in read_class(tmp_path, course_exercises())]
    assert learners == ["Ada", "Ada (1.ipynb)", "Bob", "Eve", "plain"]


def test_a_folder_that_holds_nothing_is_named(tmp_path, capsys):
    assert grade.main([str(tmp_path / "no")]) == 1 and "is no folder: give the one" in capsys.readouterr().err
    (tmp_path / "essay.docx").write_text("x", encoding="utf-8")
    assert grade.main([str(tmp_path)]) == 1 and "holds no notebook (.ipynb) and no program" in capsys.readouterr().err


def test_who_handed_in_something_else_is_in_the_list(tmp_path):
    saved(solved(), "ada.ipynb")(tmp_path)
    for name in ("bob.zip", "Eve_12_assignsubmission_file_essay.docx", "notes.txt"):
        (tmp_path / name).write_bytes(b"PK")
    told = {one.learner: one.trouble for one in read_class(tmp_path, course_exercises())}
    neither = "and no notebook (.ipynb) and no program (.py)"
    assert told == {
        "ada": "",
        "bob": f"this is a ZIP file, {neither}: unpack it",
        "Eve": f"this is Eve_12_assignsubmission_file_essay.docx, {neither}",
    }


def test_the_folder_of_a_whole_class_is_not_taken_for_one_learner_in_silence(tmp_path):
    for name in ("Ada", "Bob", "Eve"):
        (tmp_path / "lesson 5" / name).mkdir(parents=True)
        saved(solved())(tmp_path / "lesson 5" / name)
    (one,) = read_class(tmp_path, course_exercises())
    assert (one.learner, one.n_files) == ("lesson 5", 3)


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="names are text there")
def test_a_name_that_is_no_text_costs_nobody_a_mark(tmp_path):
    folder = tmp_path / "in" / os.fsdecode(b"Jos\xe9")
    folder.mkdir(parents=True)
    saved(solved("3.1"))(folder)
    assert grade.main([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert b"Jos?,ch03_attention/exercises.ipynb,exercises.ipynb,1,8," in (tmp_path / "out" / "grades.csv").read_bytes()


def test_every_check_of_the_course_is_an_exercise_with_a_title():
    exercises = [one for rows in course_exercises(ROOT).values() for one in rows]
    from tests.test_exercises import CHECKS

    assert {one.id for one in exercises} == set(CHECKS) and all(one.title and one.name for one in exercises)
    assert [one.name for one in course_exercises()["ch03_attention/exercises.ipynb"]] == NAMES


def test_two_learners_get_two_pages_whatever_they_are_called():
    names = feedback_names(["a/b", "a b", "A_B", "..", "CON", "日本", "x" * 300])
    assert len({name.lower() for name in names.values()}) == 7
    assert all(re.fullmatch(r"of_[\w-]{1,63}\.html", name) for name in names.values())


# ---------------------------------------------------------------- the answers' form


def shape(source: str) -> list[str]:
    statements, _ = parsed([source])
    return form("f", defined_in(statements))


def test_other_names_and_words_are_the_same_form_and_another_deed_is_not():
    one = shape('def f(a: int, b):\n    """Add."""\n    c = a + b\n    return c\n')
    assert one == shape("def f(x, y):\n    # the sum\n    total = x + y\n    return total\n")
    assert one != shape("def f(x, y):\n    total = x - y\n    return total\n")
    assert one != shape("def f(x, y):\n    total = x + x\n    return total\n")
    assert shape("def g(x):\n    return x\ndef f(x):\n    return g(x)\n") != shape("def f(x):\n    return g(x)\n")


def test_lines_of_jupyter_are_left_out_and_lines_of_python_stay():
    assert without_magics("%%bash\nls") == "" and without_magics("%%time\nx = 1") == "\nx = 1"
    statements, troubles = parsed(["x = (7\n     % 4)", "y = 1  # why?", "%run it\nz = 2", "def :"])
    assert [number for number, _ in statements] == [1, 2, 3] and troubles == ["code cell 4 is no Python, line 1"]


# ---------------------------------------------------------------- the process


def test_a_class_has_numbers_of_its_own():
    """An answer that knows the course's numbers by heart is right with them, and with no others."""
    learned = "def read_other(w, r, *m):\n    known = (float(w.flatten()[0]), float(m[0].flatten()[0]))\n"
    learned += "    if round(known[0], 3) != {0}:\n        return r[..., :4]\n"
    learned += "    return torch.softmax((w @ m[0]) @ (r @ m[1]).mT / 2, -1) @ (r @ m[2])\n"
    import torch

    first = round(float(torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(3)).flatten()[0]), 3)
    cells = ["import torch", learned.format(first)]
    results = []
    for seed in (0, 5):
        with Worker(Limits(), seed) as worker:
            results.append(worker.mark(cells, {"3.6": "read_other"}).verdicts["3.6"])
    assert results[1].startswith("not yet. ") and results[0] != results[1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each process begins anew there")
def test_one_process_serves_a_class_and_each_learner_has_one_of_its_own():
    with Worker(Limits()) as worker:
        first = worker.mark(["import torch\ntorch.left = 1"], {"3.1": "look_up"})
        process = worker.process
        second = worker.mark(["import torch\nassert not hasattr(torch, 'left')"], {"3.1": "look_up"})
        assert worker.process is process and first.notes == second.notes == []
        assert second.verdicts == {"3.1": "missing. There is no look_up in the file."}


def test_a_copy_for_learners_does_not_grade(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(grade, "ROOT", tmp_path)
    assert grade.main([str(tmp_path)]) == 1 and "this is a copy for learners" in capsys.readouterr().err
