"""The grader's side of the process that runs what a learner wrote: it gives a plan, waits, stops what takes too long.

What the child reports is one line for each step: a secret of this plan, a blank, and a list in JSON. Where an answer
never ends, or ends the process, that answer has failed, and a new process marks the others.
"""

import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

CHILD = Path(__file__).with_name("grade_child.py")
LONGEST_LINE, MOST_LINES, WAITING_LINES = 1 << 18, 20_000, 100  # of a report, into which an answer could write, too
WAIT = 10  # for a machine that is busy with other things
START = 600.0  # seconds for a process to begin, PyTorch's import on a busy machine included
KEPT = ("PATH", "SYSTEMROOT", "SYSTEMDRIVE", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Limits:
    """What a submission may take.

    Args:
        seconds: of processor time for each exercise and for the cells before; by the clock `WAIT` times as many.
        memory: bytes of a process (not on Windows).
    """

    seconds: float = 30.0
    memory: int = 4 << 30


@dataclass
class Marked:
    """What came of one submission.

    Args:
        verdicts: exercise id -> the sentence of its check.
        notes: what went wrong on the way; a learner may read them.
        flags: what a teacher should look at.
        forms: exercise id -> the answer's form, see `grade_answers.form`.
        tampered: what the submission changed so that the checks cannot be trusted, empty where nothing.
    """

    verdicts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    forms: dict[str, list[str]] = field(default_factory=dict)
    tampered: str = ""


class Worker:
    """Marks one submission after the other, each in a process of its own.

    Args:
        limits: of each.
        seed: of the class.
        hidden: folders that no answer may read.
    """

    def __init__(self, limits: Limits, seed: int = 0, hidden: tuple[Path, ...] = ()):
        self.limits, self.seed, self.hidden = limits, seed, [str(path) for path in hidden]
        self.process: subprocess.Popen | None = None
        self.lines: queue.Queue[bytes | None] = queue.Queue()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def mark(self, cells: list[str], exercises: dict[str, str], allowed: frozenset[str] = frozenset()) -> Marked:
        """Return what came of one submission.

        Args:
            cells: sources of its code cells.
            exercises: exercise id -> the released name of its answer.
            allowed: names of the course that need no flag.
        """
        marked, loose, stops = Marked(), True, 0
        while True:
            plan = {"cells": cells, "exercises": exercises, "allowed": sorted(allowed), "loose": loose}
            step, how = self._run(plan | {"skip": list(marked.verdicts)}, marked)
            if how == "finished":
                return marked
            stops += 1
            if step == "loose":
                loose = False
                marked.notes.append(f"the cells between the definitions {how}; they were left out")
            elif step in exercises and step not in marked.verdicts:
                marked.verdicts[step] = f"stopped. Your answer {how}."
            if step not in (*exercises, "loose") or stops > len(exercises) + 1:
                marked.notes.append(f"the file {how} while it was read")
                return marked

    def _run(self, plan: dict, marked: Marked) -> tuple[str, str]:
        """Let a child go through a plan; return the step in which it was at the end, and how it ended."""
        secret, step, pid = secrets.token_hex(16), "", 0
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
            rest = {"secret": secret, "work": work, "seed": self.seed, "memory": self.limits.memory}
            rest["seconds"] = self.limits.seconds
            self._begin()
            self._send(plan | rest | {"hidden": self.hidden})
            seconds, finished = START, False
            for _ in range(MOST_LINES):
                try:
                    line = self.lines.get(timeout=seconds)
                except queue.Empty:
                    self._kill(pid)
                    return step, "did not end in time"
                if line is None:
                    self._stop()
                    return step, "finished" if finished else "ended the program"
                kind, *content = _content(line, secret)
                if kind == "ended":
                    return step, "finished" if finished else _ending(content[0])
                pid = content[0] if kind == "pid" else pid
                finished = finished or kind == "finished"
                if kind in ("definitions", "loose", "exercise"):
                    step, seconds = content[0] if content else kind, WAIT * self.limits.seconds
                _note(marked, kind, content)
            self._kill(pid)
            return step, "wrote without end"

    def _begin(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        home = tempfile.gettempdir()
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        environment |= {"MPLCONFIGDIR": matplotlib.get_cachedir()}  # its list of fonts, made once
        environment |= {"HOME": home, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-I", "-B", "-X", "utf8", str(CHILD)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, cwd=home, **pipes)
        self.lines = queue.Queue(WAITING_LINES)
        threading.Thread(target=_read, args=(self.process.stdout, self.lines), daemon=True).start()

    def _send(self, plan: dict) -> None:
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write(json.dumps(plan).encode() + b"\n")
        self.process.stdin.flush()

    def _kill(self, pid: int) -> None:
        """End what a submission runs; the process that waits for it goes on, or is ended where it cannot."""
        for kill in (os.killpg, os.kill) if pid and hasattr(os, "killpg") else ():
            with contextlib.suppress(OSError):
                kill(pid, signal.SIGKILL)
        self._stop()

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(OSError):
                if self.process.stdin is not None:
                    self.process.stdin.close()
            self.process = None


def _read(report: Any, lines: queue.Queue) -> None:
    """Hand on the lines of a report; a line that never ends comes in pieces that nobody takes for one."""
    with report:
        while line := report.readline(LONGEST_LINE):
            lines.put(line)
    lines.put(None)


def _content(line: bytes, secret: str) -> list:
    """Return what a line of the report says, nothing where the child did not write it."""
    try:
        return json.loads(line[len(secret) :]) if line.startswith(secret.encode()) else [""]
    except ValueError:
        return [""]


def _ending(code: int) -> str:
    if -code == getattr(signal, "SIGPROF", None):
        return "did not end in time"
    return "ended the program" if code >= 0 else f"was ended by the system (signal {-code}), perhaps for its memory"


def _note(marked: Marked, kind: str, content: list) -> None:
    """Write down what one line of the report says."""
    if kind == "verdict":
        exercise, sentence, tampered = content
        marked.verdicts[exercise] = sentence
        marked.tampered = marked.tampered or tampered
    elif kind == "form":
        marked.forms[content[0]] = content[1]
    elif kind in ("note", "flag"):
        known = marked.notes if kind == "note" else marked.flags
        known += [content[0]] if content[0] not in known else []
