"""Ask whether the course is the same on other machines: one thing differs at a time, and the rest stays as it is.

    python course.py test --machines        (hours; a second call goes on where the first stopped)

Other kinds of processor and numbers of threads are played on this machine. Another Python or another version of a
package gets an environment of its own, which is deleted again. What cannot be had here is named with the reason. The
table stands in `tests/README.md`, between two marks.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.files import write_atomically
from shared.commands.test import NotThisProcessor, environment, main_notebooks
from shared.maintenance.outcomes import PAGE, ROOT, Outcome, ask, fingerprint, kept, outcome_of, said, with_table

__all__ = ["MACHINES", "PARTS", "Machine", "ask_all", "ask_machines", "table"]

REQUIREMENTS = ("requirements.txt", "tests/requirements-test.txt")


@dataclass(frozen=True)
class Machine:
    """What differs from the machine that is there; everything else stays.

    Args:
        name: for the table.
        processor: a key of `shared.commands.test.PROCESSORS`; None takes this machine's.
        threads: of each process: 1, 2 or 4.
        python: a version such as "3.12"; None takes this one.
        package: a requirement that takes the place of the course's own, such as "numpy==2.3.5".

    Source: this course.
    """

    name: str
    processor: str | None = None
    threads: int = 1
    python: str | None = None
    package: str | None = None


MACHINES = (
    Machine("this machine, one thread"),
    Machine("AVX2 only", processor="avx2"),
    Machine("SSE only", processor="sse"),
    Machine("two threads", threads=2),
    Machine("four threads", threads=4),
    *(Machine(f"Python {version}", python=version) for version in ("3.11", "3.12", "3.13", "3.14")),
    Machine("PyTorch 2.12", package="torch==2.12.1"),
    Machine("PyTorch 2.14", package="torch==2.14.1"),
    Machine("NumPy 2.3", package="numpy==2.3.5"),
    Machine("Matplotlib 3.10", package="matplotlib==3.10.9"),
    Machine("JupyterLab 4.5", package="jupyterlab==4.5.11"),
)
PARTS = {"unit tests": ["--fast"], "main notebooks": ["--notebooks", *main_notebooks()]}


def ask_machines(machines: Sequence[Machine] = MACHINES) -> dict[str, int]:
    """Run the tests on each machine that can be had, and write the table.

    Args:
        machines: rows of the table.

    Returns:
        "passed" and "failed": parts on machines; "skipped": those that could not be run here.

    Source: this course.
    """
    outcomes = []
    for outcome in ask_all(machines, fingerprint()):
        outcomes.append(outcome)
        print(f"{outcome.what}, {outcome.part}: {said(outcome)}", flush=True)
    write_atomically(PAGE, with_table(PAGE.read_text(encoding="utf-8"), "machines", table(outcomes)))
    return outcome_of(outcomes)


def ask_all(machines: Sequence[Machine], version: str) -> Iterator[Outcome]:
    """Give what each part of the tests says on each machine; what is kept of this version is not run again.

    Args:
        machines: rows of the table.
        version: fingerprint of what is tested.

    Source: this course.
    """
    for machine in machines:
        known = {part: kept(machine.name, part, version) for part in PARTS}
        with tempfile.TemporaryDirectory(prefix="course-machine-") as scratch:
            try:
                settings = environment(machine.processor, machine.threads)
                python = sys.executable if all(known.values()) else _python_of(machine, Path(scratch))
            except (LookupError, NotThisProcessor) as error:
                for part in PARTS:
                    yield known[part] or Outcome(machine.name, part, version, why_not=str(error))
                continue
            for part, words in PARTS.items():
                command = [python, "-m", "shared.commands.test", *words, *_options(machine)]
                yield known[part] or ask(machine.name, part, command, settings, version)


def _options(machine: Machine) -> list[str]:
    return ["--threads", str(machine.threads), *(["--processor", machine.processor] if machine.processor else [])]


def _python_of(machine: Machine, scratch: Path) -> str:
    """The Python to ask: this one, or that of a fresh environment in which one thing differs."""
    if not machine.python and not machine.package:
        return sys.executable
    python = shutil.which(f"python{machine.python}") if machine.python else sys.executable
    if python is None:
        raise LookupError(f"no python{machine.python} was found on this machine")
    own = scratch / ".venv"
    _try([python, "-m", "venv", str(own)], f"no environment could be made with {python}")
    inside = str(own / ("Scripts" if os.name == "nt" else "bin") / "python")
    _try([inside, "-m", "pip", "install", "-q", *_requirements(machine.package)], f"{machine.name} cannot be installed")
    return inside


def _requirements(package: str | None) -> list[str]:
    lines = [line.split("#")[0].strip() for name in REQUIREMENTS for line in _lines(name)]
    replaced = package.split("==")[0] if package else None
    return [package if package and line.split("==")[0] == replaced else line for line in lines if line]


def _lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def _try(command: list[str], otherwise: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise LookupError(f"{otherwise}: {said[-1]}")


def table(outcomes: Sequence[Outcome]) -> str:
    """Write what the machines said as a table, a row for each.

    Args:
        outcomes: of all parts of each machine.

    Source: this course.
    """
    lines = [f"| one thing differs | {' | '.join(PARTS)} |", "|---" * (1 + len(PARTS)) + "|"]
    for name in dict.fromkeys(outcome.what for outcome in outcomes):
        of_part = {outcome.part: said(outcome) for outcome in outcomes if outcome.what == name}
        lines.append(f"| {name} | {' | '.join(of_part[part] for part in PARTS)} |")
    return "\n".join(lines)
