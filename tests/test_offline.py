"""Nothing that is taught needs a network; the guard under which `course.py test` runs the notebooks does guard."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUARD = ROOT / "tests" / "offline"


@pytest.fixture
def guarded(tmp_path):
    """Run code in a Python that may not leave this machine; return its output and what it tried to reach."""

    def run(code: str) -> tuple[str, str]:
        log = tmp_path / "connections.txt"
        paths = os.pathsep.join([str(GUARD), str(ROOT)])
        settings = {**os.environ, "PYTHONPATH": paths, "COURSE_OFFLINE_LOG": str(log)}
        done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, log.read_text(encoding="utf-8") if log.exists() else ""

    return run


def test_the_guard_stops_and_notes_a_connection(guarded):
    code = """
import socket, urllib.request
for attempt in (
    lambda: socket.create_connection(("example.org", 80), timeout=1),
    lambda: socket.socket().connect(("93.184.216.34", 80)),
    lambda: urllib.request.urlopen("https://example.org", timeout=1),
):
    try:
        attempt()
    except OSError as error:
        print("no network here" in str(error))
"""
    printed, tried = guarded(code)
    assert printed.split() == ["True"] * 3
    assert "example.org" in tried and "93.184.216.34" in tried


def test_the_guard_leaves_loopback_open(guarded):
    code = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listener.getsockname(), timeout=5).close()
print("open")
"""
    assert guarded(code) == ("open\n", "")


def test_the_whole_facade_and_all_data_come_without_a_network(guarded):
    code = """
import shared
for name in dir(shared):
    getattr(shared, name)
from data.loaders import load_instructions, load_messages, load_preferences, load_stories
load_stories("validation", 5), load_messages("test"), load_instructions("test"), load_preferences("test")
print("all here")
"""
    assert guarded(code) == ("all here\n", "")


def test_the_shipped_models_come_without_a_network(guarded):
    code = """
from shared import load_assistant, load_story_gpt
model, tokenizer = load_story_gpt()
print(bool(load_assistant().reply("Hello!")))
"""
    printed, tried = guarded(code)
    assert printed.split()[-1] in ("True", "False") and tried == ""
