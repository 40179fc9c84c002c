"""A process of its own for the chat templates of strangers, with an end to what they may take.

It is started when the first template is filled, serves all of them, and ends with this program. Where a template takes
too much, the process is gone, and the next template gets a new one.
"""

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ch05_pretraining.template_child import MOST_BYTES, TOO_MUCH_MEMORY

__all__: list[str] = []  # a tool of ChatTemplate; nothing here is part of the course's vocabulary

SECONDS, MUCH = 5, 1_000_000  # what a template may take, and characters behind which the process is given up
CHILD = Path(__file__).with_name("template_child.py")


class TemplateRoom:
    """Fills templates in another process.

    Source: this course.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner, self._turn = 0, threading.Lock()

    def fill(self, source: str, given: Mapping[str, object]) -> dict[str, str]:
        """Return {"text": …}, or what went wrong: {"unread": …} for what is no template, otherwise {"failed": …}.

        Args:
            source: text of the template.
            given: the names it may use, with values that JSON can hold.
        """
        with self._turn:
            try:
                answer = self._ask(json.dumps({"source": source, "given": dict(given), "seconds": SECONDS}))
                if len(answer.get("text", " " * MUCH)) >= MUCH:  # a failure may have left much in the memory, too
                    self._end()
                return answer
            except BaseException:  # also Ctrl-C between question and answer: the next one would get the wrong answer
                self._end(at_once=True)
                raise

    def _ask(self, request: str) -> dict[str, str]:
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):  # it ended since the last request; the answer is then empty
            process.stdin.write(request + "\n")
            process.stdin.flush()
        answer = process.stdout.readline()
        if answer.endswith("\n"):
            return json.loads(answer)
        return {"failed": _why(self._end())}

    def _started(self) -> "subprocess.Popen[str]":
        """The process; a new one where there is none, where it has ended, and in a copy of this program (a fork)."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            command = [sys.executable, "-P", "-X", "utf8", str(CHILD)]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, encoding="ascii"
            )
            if self._owner != os.getpid():
                atexit.register(self._end)
            self._owner = os.getpid()
        return self._process

    def _end(self, *, at_once: bool = False) -> int:
        """End the process and return its exit status."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return 0
        if at_once:
            process.kill()
        with suppress(OSError):
            process.communicate()
        return process.returncode


def _why(status: int) -> str:
    if status == TOO_MUCH_MEMORY:
        return f"it takes more than {MOST_BYTES >> 20} MB of memory"
    return f"it does not end within {SECONDS} seconds" if status == 1 else f"its process ended with the status {status}"


ROOM = TemplateRoom()
