"""Run the tests that can try many more cases than at every change, each file by itself, and the planted mistakes.

    python course.py test --long            (hours; a second call goes on where the first stopped)

`COURSE_LONG=1` sets the sizes; `tests/README.md` says what they are.
"""

import sys
from collections.abc import Iterator

from shared.commands.test import WORKERS
from shared.maintenance.outcomes import ROOT, Outcome, ask, fingerprint, kept, outcome_of, said

__all__ = ["long_tests", "run_all", "run_long"]

LONG = {"COURSE_LONG": "1"}
PART = "long"


def long_tests() -> list[str]:
    """Return the test files with sizes of their own for a long run, as pytest takes them.

    Source: this course.
    """
    files = sorted((ROOT / "tests").glob("test_*.py"))
    return [f"tests/{file.name}" for file in files if "from tests.sizes import" in file.read_text(encoding="utf-8")]


def run_long() -> dict[str, int]:
    """Run every long test that has not passed since the course last changed.

    Returns:
        "passed" and "failed": files; "skipped": 0.

    Source: this course.
    """
    outcomes = []
    for outcome in run_all(long_tests(), fingerprint()):
        outcomes.append(outcome)
        print(f"{outcome.what}: {said(outcome)}", flush=True)
    return outcome_of(outcomes)


def run_all(files: list[str], version: str) -> Iterator[Outcome]:
    """Give what each file of tests says in a long run, and then what became of the planted mistakes.

    Args:
        files: as `long_tests` returns them.
        version: fingerprint of what is tested.

    Source: this course.
    """
    for file in files:
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(WORKERS), file]
        yield kept(file, PART, version) or ask(file, PART, command, LONG, version)
    mutants = [sys.executable, "-m", "tests.mutants"]
    yield kept("planted mistakes", PART, version) or ask("planted mistakes", PART, mutants, {}, version)
