"""Claims about the chat templates of strangers: whatever they do, they take little time and memory."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from ch05_pretraining import template_room
from ch05_pretraining.chat_templates import ChatTemplate
from ch05_pretraining.template_room import ROOM
from tests.sizes import n

ROOT = Path(__file__).resolve().parent.parent
GOOD = "{% for message in messages %}{{ message.content }}{% endfor %}"
ASKED = [{"role": "user", "content": "Why?"}]
MANY = "{% for a in range(99999) %}{% for b in range(99999) %}"
TOO_LONG, TOO_LARGE, TOO_MUCH = "does not end within", "takes more than 512 MB of memory", "characters; at most"
HOSTILE = {
    "loops for ever": (MANY + "{% endfor %}{% endfor %}", TOO_LONG),
    "counts to a number without end": ("{{ 7 ** (7 ** 20) }}", TOO_LONG),
    "a text that doubles": (
        "{% set all = namespace(x='ab') %}{% for n in range(60) %}{% set all.x = all.x ~ all.x %}{% endfor %}",
        TOO_LARGE,
    ),
    "a text of a hundred gigabytes": ("{{ 'a' * 10 ** 11 }}", TOO_LARGE),
    "a list of a hundred gigabytes": ("{{ [0] * 10 ** 11 }}", TOO_LARGE),
    "a number of a hundred gigabytes": ("{{ '%99999999999d' % 1 }}", TOO_LARGE),
    "a wide line": ("{{ 'a'.center(2 ** 36) }}", TOO_LARGE),
    "eleven million characters": ("{{ 'x' * 11 * 10 ** 6 }}", TOO_MUCH),
    "one step of hours": ("{{ lipsum(n=10 ** 9) }}", TOO_LONG),
    "writes for ever": (MANY + "word{% endfor %}{% endfor %}", TOO_LONG),
    "a hundred gigabytes in rows": ("{{ [[0] * 10 ** 6] * 10 ** 10 }}", TOO_LARGE),
    "lists in lists": (
        "{% set a = namespace(x=[0]) %}{% for n in range(60) %}{% set a.x = [a.x, a.x] %}{% endfor %}{{ a.x }}",
        TOO_LARGE,
    ),
}
OFTEN = n(8, len(HOSTILE))  # the others are of the same kinds


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(template_room, "SECONDS", 1.5)


@pytest.fixture
def new_room(monkeypatch):
    """The next request starts a process."""
    ROOM._end()
    yield
    ROOM._end()


@pytest.mark.parametrize("what", list(HOSTILE)[:OFTEN])
def test_a_template_without_measure_is_stopped_with_a_sentence_and_the_next_one_is_served(what):
    source, sentence = HOSTILE[what]
    before, begun = psutil.Process().memory_info().rss, time.perf_counter()
    with pytest.raises(ValueError, match=f"{sentence}|{TOO_LONG}|{TOO_LARGE}") as told:
        ChatTemplate("{{ messages[0].content }}" + source, {})
    assert "\n" not in str(told.value) and len(str(told.value)) < 300
    assert time.perf_counter() - begun < 10 and psutil.Process().memory_info().rss - before < 200 << 20
    assert ChatTemplate(GOOD, {}).render(ASKED) == "Why?"


def test_one_process_serves_all_templates(new_room):
    templates = [ChatTemplate(GOOD + f"{number}", {}) for number in range(9)]
    process = ROOM._process
    assert [template.render(ASKED) for template in templates] == [f"Why?{number}" for number in range(9)]
    assert ROOM._process is process


def test_many_threads_get_their_own_answers(new_room):
    template, wrong = ChatTemplate(GOOD, {}), []

    def ask(name):
        for number in range(n(20, 500)):
            text = f"{name} {number}"
            wrong.extend([text] * (template.render([{"role": "user", "content": text}]) != text))

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_process_that_was_killed_is_replaced():
    template = ChatTemplate(GOOD, {})
    for _ in range(3):
        ROOM._process.kill()
        ROOM._process.wait()
        assert template.render(ASKED) == "Why?"


def test_a_process_that_dies_with_a_question_in_its_hand_is_named(monkeypatch, tmp_path, new_room):
    (tmp_path / "child.py").write_text("import sys\nsys.stdin.readline()\nprint('{', end='')\nsys.exit(9)", "utf-8")
    monkeypatch.setattr(template_room, "CHILD", tmp_path / "child.py")
    with pytest.raises(ValueError, match="its process ended with the status 9"):
        ChatTemplate(GOOD, {})


def test_after_ctrl_c_no_answer_goes_to_the_wrong_question(monkeypatch, new_room):
    template = ChatTemplate(GOOD, {})

    class Interrupted:
        stdin, poll, kill, communicate = ROOM._process.stdin, ROOM._process.poll, ROOM._process.kill, ROOM._process.wait
        returncode = 0

        class stdout:
            @staticmethod
            def readline():
                raise KeyboardInterrupt

    monkeypatch.setattr(ROOM, "_process", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        template.render([{"role": "user", "content": "the old question"}])
    assert template.render(ASKED) == "Why?"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system copies no processes")
def test_a_copy_of_the_program_asks_a_process_of_its_own():
    template, ours = ChatTemplate(GOOD, {}), ROOM._process.pid
    if (copy := os.fork()) == 0:
        right = template.render(ASKED) == "Why?" and ROOM._process.pid != ours
        ROOM._end()
        os._exit(0 if right else 1)
    assert os.waitpid(copy, 0)[1] == 0
    assert template.render(ASKED) == "Why?" and ROOM._process.pid == ours


def test_the_process_ends_with_the_program_that_asked():
    code = (
        "from ch05_pretraining.chat_templates import ChatTemplate\n"
        "from ch05_pretraining.template_room import ROOM\n"
        f"ChatTemplate({GOOD!r}, {{}})\n"
        "print(ROOM._process.pid)"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not psutil.pid_exists(int(done.stdout)) and not done.stderr
