"""What a class gets holds no answers and needs no git; what a teacher keeps holds them all."""

import json
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("shared.exercises.solutions.ch03", reason="the solutions are not part of this copy")

from shared.commands import classroom  # noqa: E402
from shared.commands.restore import ROOT, differing, restore  # noqa: E402

pytest.importorskip("myst_nb", reason="the site is made with it")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "term"
    assert classroom.main([str(folder), "--seed", "7"]) == 0
    return folder


def test_learners_get_no_answers(made):
    names = {path.relative_to(made / "course").as_posix() for path in (made / "course").rglob("*") if path.is_file()}
    own = ("solutions", "wrong_answers", "shared/teaching", "grade", "hostile", "quiz_pages", "test_quiz")
    for hidden in (*own, ".git/", ".venv/"):
        assert not [name for name in names if hidden in name], hidden
    assert not [name for name in names if name.startswith(("runs/", "data/cache/", "wheels/"))]
    assert {"course.py", "requirements.txt", "ch06_finetuning/exercises.ipynb", "tests/test_exercises.py"} <= names
    assert (made / "course" / "shared" / "exercises" / "class_seed.txt").read_text(encoding="utf-8") == "7"


def test_what_a_teacher_keeps_in_the_folder_of_the_course_goes_to_nobody(tmp_path):
    """Earlier classes, a solved copy, and the file by which git marks a second working tree."""
    root = tmp_path / "whole"
    classroom.hand_out(root)
    plain = {path for path in root.rglob("*") if path.is_file()}
    for name in ("spring/teacher/answers.md", "ch03_attention/exercises-Copy1.ipynb", ".git", "grades.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine", encoding="utf-8")
    classroom.hand_out(tmp_path / "copy", root=root)
    names = {path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*") if path.is_file()}
    assert names == {path.relative_to(root) for path in plain}


def test_learners_get_each_part_of_the_course_but_what_is_hidden(tmp_path):
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    classroom.hand_out(tmp_path)
    given = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in tracked - given if not name.startswith(classroom.HIDDEN)} == set()
    assert {name for name in tracked if name.startswith(classroom.HIDDEN)} & given == set()


def test_notebooks_are_as_released_and_come_back_without_git(made):
    course = made / "course"
    assert differing(course) == []
    (course / "ch03_attention" / "attention.ipynb").write_text("{}", encoding="utf-8")
    restore("attention.ipynb", course)
    assert differing(course) == []
    for path in course.glob("ch*/*.mine-*"):
        path.unlink()


def test_the_site_is_that_of_the_copy(made):
    pages = {path.relative_to(made / "site").as_posix() for path in (made / "site").rglob("*.html")}
    assert {"index.html", "ch03_attention/attention.html", "ch03_attention/exercises.html"} <= pages
    assert not [page for page in pages if "quiz" in page]
    assert "course.py grade" not in (made / "site" / "README.html").read_text(encoding="utf-8")


def test_a_teacher_keeps_answers_and_quizzes(made):
    answers = (made / "teacher" / "answers.md").read_text(encoding="utf-8")
    assert "## 3.1\n" in answers and "## 6r.3\n" in answers and "def look_up(" in answers
    assert len(list((made / "teacher" / "quiz_key").iterdir())) == 6


def test_every_link_of_the_teachers_pages_leads_into_the_copy(made):
    pages = list((made / "teacher" / "pages").glob("*.md"))
    targets = {
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if not link.startswith("http")
    }
    assert {page.stem for page in pages} >= {"README", "syllabus", "ch01", "ch06", "capstone", "self_test"}
    assert len(targets) > 20 and not [one for one in targets if not (one[0].parent / one[1]).exists()]


def test_a_learners_copy_answers_with_the_numbers_of_the_class(made):
    code = (
        "from shared.exercises import solution, verdict; from shared.exercises.class_numbers import class_seed;"
        "solution('3.1'); print(class_seed(), verdict('3.1', lambda *_: None)[:8])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=made / "course", capture_output=True, text=True, check=True)
    assert done.stdout == "3.1: the solution has not been released.\n7 not yet.\n"


def test_the_commands_of_a_copy_are_those_that_its_readme_names(made):
    code = "import course, json; print(json.dumps([row[0] for row in course.available()]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=made / "course", capture_output=True, text=True, check=True)
    commands = set(json.loads(done.stdout))
    assert {"lab", "test", "restore", "update", "progress"} <= commands and not {"grade", "classroom"} & commands
    readme = (made / "course" / "README.md").read_text(encoding="utf-8")
    assert "course.py update" in readme and "course.py grade" not in readme and "course.py classroom" not in readme
    assert "shared/teaching" not in readme and "**Three ways through.**" in readme
    assert sorted(path.name for path in made.iterdir()) == ["course", "site", "teacher"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    assert classroom.main([str(tmp_path)]) == 1
    assert "is not empty: name a new folder" in capsys.readouterr().err and os.listdir(tmp_path) == ["mine.txt"]


# ---------------------------------------------------------------- packages


def test_another_system_is_refused_before_any_work(tmp_path, capsys):
    assert classroom.main([str(tmp_path / "new"), "--wheels", "windows,amiga"]) == 1
    assert "'amiga' is none of windows, macos, linux" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_uv_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(classroom.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
    assert classroom.main([str(tmp_path / "new"), "--wheels", "linux"]) == 1
    assert "-m pip install uv" in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("system", classroom.UV)
def test_each_system_gets_its_own_wheels_and_linux_the_small_pytorch(tmp_path, monkeypatch, system):
    ran = []

    def run(*words):
        ran.append(words)
        if "compile" in words:
            pins = "torch==2.13.0\nnvidia-cublas==1\ntriton==3\nnumpy==2\n"
            (tmp_path / f"wheels-{system}.txt").write_text(pins, encoding="utf-8")
        elif "-r" in words:
            ran.append((tmp_path / f"wheels-{system}.txt").read_text(encoding="utf-8"))

    monkeypatch.setattr(classroom, "_run", run)
    classroom.download(system, "3.12", tmp_path / "wheels")
    first, chosen, got, pins = ran if system == "linux" else [(), *ran]
    assert (classroom.course.CPU_WHEELS in first) == (system == "linux") and not list(tmp_path.glob("*.txt"))
    assert classroom.UV[system] in chosen and "3.12" in chosen and classroom.PIP[system][0] in got
    assert {str(ROOT / name) for names in classroom.course.REQUIREMENTS.values() for name in names} <= set(chosen)
    ordinary = "torch==2.13.0\nnvidia-cublas==1\ntriton==3\nnumpy==2\n"
    assert pins == ("numpy==2\n" if system == "linux" else ordinary)


def test_where_the_small_pytorch_cannot_be_reached_the_ordinary_one_comes_with_all_it_needs(
    tmp_path, monkeypatch, capsys
):
    asked = []

    def run(*words):
        if classroom.course.CPU_WHEELS in words:
            raise ValueError("no network")
        if "compile" in words:
            (tmp_path / "wheels-linux.txt").write_text("torch==2.13.0\ntriton==3\n", encoding="utf-8")
        else:
            asked.append((tmp_path / "wheels-linux.txt").read_text(encoding="utf-8"))

    monkeypatch.setattr(classroom, "_run", run)
    classroom.download("linux", "3.12", tmp_path / "wheels")
    assert asked == ["torch==2.13.0\ntriton==3\n"] and "gigabytes larger" in capsys.readouterr().out
