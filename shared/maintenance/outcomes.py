"""What a long check has found is kept, so that it can be interrupted: one file for each part, in the folder of runs.

What is kept stands until any module, test, notebook or requirement of the course changes.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from data.files import write_atomically
from data.paths import runs_dir

__all__ = ["Outcome", "ask", "fingerprint", "kept", "outcome_of", "said", "with_table"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "tests" / "README.md"
CLOSING = re.compile(r"^\D*\d+ (?:passed|failed|error|skipped).*", re.MULTILINE)  # ours, or pytest's own
PARTS_OF_THE_COURSE = (
    "*.py", "ch*/*.py", "ch*/*.ipynb", "data/**/*.py", "data/**/*.txt", "shared/**/*.py", "tests/**/*.py",
    "tests/**/*.toml", "requirements.txt", "tests/requirements-test.txt",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What the tests said of one thing, or why they were not run.

    Args:
        what: the row of a table.
        part: which part of the tests.
        version: fingerprint of what was tested.
        passed, failed, skipped: as the test command counts.
        why_not: the reason where nothing was run, else empty.

    Source: this course.
    """

    what: str
    part: str
    version: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    why_not: str = ""

    @property
    def is_good(self) -> bool:
        return self.passed > 0 and not self.failed


def fingerprint() -> str:
    """Return a fingerprint of every module, test, table, notebook and requirement of the course.

    Source: this course.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in PARTS_OF_THE_COURSE for path in ROOT.glob(pattern)}):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def ask(what: str, part: str, command: list[str], settings: dict[str, str], version: str) -> Outcome:
    """Run a command that closes with a count of tests, keep its words in a log, and keep the count.

    Args:
        what: the row of a table.
        part: which part of the tests.
        command: program and words.
        settings: environment variables that differ.
        version: fingerprint of what is tested.

    Source: this course.
    """
    environment = os.environ | settings | {"PYTHONPATH": "."}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    log = _file(what, part).with_suffix(".log")
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    closing = (CLOSING.findall(done.stdout) or ["1 failed"])[-1]
    passed, failed, skipped, errors = (
        sum(map(int, re.findall(rf"(\d+) {word}", closing))) for word in ("passed", "failed", "skipped", "error")
    )
    outcome = Outcome(what, part, version, passed, failed + errors or int(done.returncode not in (0, 5)), skipped)
    if not outcome.is_good:
        print(f"{what}, {part}: see {log} (exit code {done.returncode})", file=sys.stderr, flush=True)
    write_atomically(_file(what, part), json.dumps(asdict(outcome), indent=1) + "\n")
    return outcome


def kept(what: str, part: str, version: str) -> Outcome | None:
    """Return what an earlier call found of this version, or None; a failure is always tried again.

    Args:
        what: the row of a table.
        part: which part of the tests.
        version: fingerprint of what is tested.

    Source: this course.
    """
    try:
        outcome = Outcome(**json.loads(_file(what, part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return outcome if outcome.version == version and outcome.is_good else None


def outcome_of(outcomes: list[Outcome]) -> dict[str, int]:
    """Return how many of these are good, not good and not run, under the names of the test command's counts.

    Args:
        outcomes: of any parts.

    Source: this course.
    """
    n_run = sum(not outcome.why_not for outcome in outcomes)
    n_good = sum(outcome.is_good for outcome in outcomes)
    return {"passed": n_good, "failed": n_run - n_good, "skipped": len(outcomes) - n_run}


def said(outcome: Outcome) -> str:
    """Say an outcome in the words of a table.

    Args:
        outcome: of one part.

    Source: this course.
    """
    if outcome.why_not:
        return f"not run: {outcome.why_not}".replace("|", "/")
    return f"{outcome.passed:,} passed, {outcome.failed:,} failed, {outcome.skipped:,} skipped"


def with_table(page: str, name: str, rows: str) -> str:
    """Put a table between the two marks of a page that have its name.

    Args:
        page: text that holds both marks, each once.
        name: of the marks.
        rows: the table.

    Raises:
        ValueError: a mark is missing.

    Source: this course.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begins, rest = page.partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise ValueError(f"{PAGE.name} lacks {end if begins else begin}: put both marks back, in this order")
    return f"{before}{begin}\n{rows}\n{end}{after}"


def _file(what: str, part: str) -> Path:
    folder = runs_dir() / "checked"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (re.sub(r"\W+", "-", f"{what} {part}".lower()).strip("-") + ".json")
