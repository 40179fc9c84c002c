"""Claims about the page at which `course.py lab` opens: what it lists, and that the keyboard alone leads on from it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.commands import lab, start_page
from shared.commands.class_folder import course_exercises
from tests import chromium
from tests.test_progress import shown

ROOT = Path(__file__).resolve().parent.parent
NAME = "ch03_attention/exercises.ipynb"


@pytest.fixture
def small(tmp_path) -> Path:
    """A course of chapter 3 and a side room, of which one exercise is correct."""
    shown(tmp_path / "ch03_attention", {"3.1": "correct."})
    shutil.copy(ROOT / "ch03_attention" / "attention.ipynb", tmp_path / "ch03_attention")
    shutil.copy(ROOT / "ch03_attention" / "attention.ipynb", tmp_path / "ch03_attention" / "room.ipynb")
    told = "| 3 | heads | [attention](ch03_attention/attention.ipynb) | 110 min | long |\n"
    (tmp_path / "README.md").write_text(f"{told}|  | more | [room](ch03_attention/room.ipynb) | 5 min | short |\n")
    return tmp_path


def page_of(root: Path) -> str:
    return start_page.page(root, {NAME: course_exercises()[NAME]})


def test_the_page_shows_path_side_rooms_and_progress(small):
    told = page_of(small)
    assert "| 3 | [Attention](../ch03_attention/attention.ipynb) | heads | 110 | [1 of 8 correct](../" in told
    assert "| 3 | [Attention](../ch03_attention/room.ipynb) | more | 5 |" in told
    assert f"Your next exercise is [3.2 Who may read whom](../{NAME}); read its chapter first. 1 of 8 exercises" in told
    assert "Your own models" not in told and "New here?" not in told
    shutil.copy(ROOT / NAME, small / NAME)
    assert "New here? Begin with [Attention](../ch03_attention/attention.ipynb)" in page_of(small)


def test_whoever_has_finished_is_told_so_and_sees_the_own_models(small):
    shutil.rmtree(small / "ch03_attention")
    shown(small / "ch03_attention", {exercise.id: "correct." for exercise in course_exercises()[NAME]})
    for name in ("attention", "room"):
        shutil.copy(ROOT / "ch03_attention" / "attention.ipynb", small / "ch03_attention" / f"{name}.ipynb")
    (small / "runs" / "default").mkdir(parents=True)
    (small / "runs" / "default" / "report.md").touch()
    told = page_of(small)
    assert "You have solved all exercises. 8 of 8 exercises are correct." in told
    assert "[default](default/report.md)" in told


def test_every_notebook_of_the_course_is_there_and_every_link_leads_somewhere():
    told = start_page.page(ROOT, course_exercises())
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", told)]
    assert len(links) >= 24 and all((ROOT / "runs" / link).resolve().is_file() for link in links)
    narratives = {path for path in ROOT.glob("ch*/*.ipynb") if ".mine-" not in path.name}
    linked = {(ROOT / "runs" / link).resolve() for link in links}
    assert narratives - linked == set()
    counted = [int(n) for n in re.findall(r"\d+ of (\d+) correct\]", told)]
    assert f" of {sum(counted)} exercises are correct." in told and len(counted) == len(course_exercises())


def test_the_way_for_a_screen_reader_leads_to_a_correct_exercise(tmp_path):
    told = start_page.page(ROOT, course_exercises()).partition("## With a screen reader")[2]
    _, convert, run = re.search(r"```\n(.*?)\n```", told, re.DOTALL)[1].splitlines()
    for_teachers = ROOT / "shared" / "teaching" / "access.md"
    assert not for_teachers.is_file() or convert in for_teachers.read_text(encoding="utf-8")  # a class has none
    assert f"`{convert}`" in (ROOT / "README.md").read_text(encoding="utf-8")
    chapter = tmp_path / "ch03_attention"
    chapter.mkdir()
    shutil.copy(ROOT / NAME, chapter)
    subprocess.run([sys.executable, "-m", *convert.split()], cwd=chapter, check=True, capture_output=True)
    file = chapter / run.split()[1]
    assert re.search(r"# ## 3\.1 .*# Given one `query`.*\ndef look_up", file.read_text(encoding="utf-8"), re.DOTALL)
    answered = "def look_up(query, keys, values):\n    return (keys @ query).softmax(0) @ values\n\n\ndef unanswered"
    file.write_text(file.read_text(encoding="utf-8").replace("def look_up", answered), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # which the file itself looks for one folder up
    words, options = [sys.executable, run.split()[1]], {"capture_output": True, "text": True}
    told = subprocess.run(words, cwd=chapter, env=environment, **options)
    assert told.returncode == 0, told.stderr
    assert "3.1: correct" in told.stdout and "3.2: not tried yet." in told.stdout


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(lab.subprocess, "call", lambda command, cwd: commands.append(command) or 0)
    monkeypatch.setattr(lab, "write_settings", lambda prefix: None)
    return commands


def test_lab_opens_the_page_or_the_chapter_that_is_named(started, monkeypatch, tmp_path):
    monkeypatch.setattr(start_page, "write", lambda: tmp_path / "start.md")
    assert lab.main([]) == lab.main(["3"]) == 0
    assert [command[-1] for command in started] == [
        str(tmp_path / "start.md"), str(ROOT / "ch03_attention" / "attention.ipynb"),
    ]  # fmt: skip


def test_a_broken_notebook_does_not_keep_jupyterlab_from_opening(started, monkeypatch, small, capsys):
    (small / "ch03_attention" / "attention.ipynb").write_text("{")
    monkeypatch.setattr(start_page, "write", lambda: page_of(small))
    assert lab.main([]) == 0
    assert started[0][-1].endswith("understanding_llms.ipynb")
    assert "There is no start page this time (" in capsys.readouterr().out


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def jupyterlab(tmp_path, small):
    """JupyterLab in the small course, with the settings that `course.py lab` writes; gives the address of its page."""
    (small / "runs").mkdir()
    (small / "runs" / "start.md").write_text(page_of(small), encoding="utf-8")
    settings, port = tmp_path / "settings", free_port()
    settings.mkdir()
    (settings / "overrides.json").write_text(json.dumps(lab.SETTINGS))
    options = [f"--ServerApp.port={port}", f"--ServerApp.root_dir={small}", "--IdentityProvider.token=abc",
               f"--LabApp.app_settings_dir={settings}", "--no-browser", "--allow-root"]  # fmt: skip
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR",
                                                   "JUPYTERLAB_WORKSPACES_DIR")}  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env={**os.environ, **own}, **quiet)
    try:
        until = time.monotonic() + 120
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < until and process.poll() is None, "JupyterLab does not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/runs/start.md?token=abc"
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # it waits for its kernel, which ends when it is gone
            process.kill()
            process.wait()


def test_tab_and_enter_open_a_notebook_from_the_page(jupyterlab):
    if chromium.program() is None:
        pytest.skip("there is no Chromium here to open JupyterLab with")
    with chromium.Chromium() as browser:
        browser.window(1280, 900)
        browser.open(jupyterlab)
        browser.wait("document.querySelector('.jp-RenderedMarkdown h1')", 120)
        focused = "document.activeElement.textContent"
        for _ in range(60):
            browser.press("Tab", 9)
            if browser.run(focused) == "Attention":
                break
        assert browser.run(focused) == "Attention", "Tab does not reach the first notebook"
        browser.press("Enter", 13, "\r")
        browser.wait("document.querySelector('.jp-NotebookPanel')", 120)
        assert not [url for url in browser.requests if re.match(r"(?!http://127\.0\.0\.1|data:|blob:)", url)]
