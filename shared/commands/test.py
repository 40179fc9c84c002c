"""`python course.py test`: check everything, unit tests first, then every notebook, cell by cell, without a network.

`--fast` leaves the notebooks out. Words behind the options go to pytest: `python course.py test --fast -k attention`.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from shared.commands.restore import differing

ROOT = Path(__file__).resolve().parents[2]
CELL_TIMEOUT = 600  # seconds
WORKERS = 2
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def notebooks() -> list[str]:
    """Return every notebook of the course, as paths in its folder; copies that a learner keeps are left alone."""
    paths = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("ch[0-9][0-9]_*/*.ipynb"))
    return [path for path in paths if ".mine-" not in path]


def unit_tests(extra: list[str], scratch: Path) -> dict[str, int]:
    """Run the tests of the modules, commands and exercises; return passed, failed and skipped.

    Args:
        extra: words for pytest.
        scratch: a folder for this run's files.
    """
    return _pytest("unit tests", ["tests", *extra], ONE_THREAD, scratch / "unit.xml")


def notebook_tests(extra: list[str], scratch: Path) -> dict[str, int]:
    """Run every notebook and compare what its cells show; a connection beyond this machine is a failure.

    Args:
        extra: words for pytest.
        scratch: a folder for this run's files.
    """
    log = scratch / "connections.txt"
    path = os.pathsep.join(filter(None, [str(ROOT / "tests" / "offline"), os.environ.get("PYTHONPATH")]))
    settings = {**ONE_THREAD, "PYTHONPATH": path, "COURSE_OFFLINE_LOG": str(log), "COURSE_RUNS": str(scratch / "runs")}
    words = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    words += ["--nbval-sanitize-with", "tests/sanitize.cfg", "-p", "no:cacheprovider", *notebooks(), *extra]
    counts = _pytest("notebooks", words, settings, scratch / "notebooks.xml")
    if log.exists():
        tried = ", ".join(sorted(set(log.read_text(encoding="utf-8").split("\n")) - {""}))
        print(f"A notebook tried to leave this machine: {tried}")
        counts["failed"] += 1
    return counts


def _pytest(what: str, words: list[str], settings: dict[str, str], report: Path) -> dict[str, int]:
    """Run pytest in a process of its own and count what it reports."""
    workers = ["-n", str(WORKERS), "--dist", "loadfile"] if importlib.util.find_spec("xdist") else []
    command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *workers, *words]
    print(f"\n=== {what} ===", flush=True)
    code = subprocess.call(command, cwd=ROOT, env={**os.environ, **settings})
    counts = _count(report) if report.exists() else {"passed": 0, "failed": 0, "skipped": 0}
    if code not in (0, 5) and not counts["failed"]:
        counts["failed"] += 1  # pytest itself stopped, for instance at a file that cannot be read
    return counts


def _count(report: Path) -> dict[str, int]:
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in suites:
        for name in totals:
            totals[name] += int(suite.get(name, 0))
    failed = totals["failures"] + totals["errors"]
    return {"passed": totals["tests"] - failed - totals["skipped"], "failed": failed, "skipped": totals["skipped"]}


def say_what_differs() -> None:
    """List the notebooks that the learner has changed, because their cells may well show something else."""
    if changed := differing():
        print("Not as released (bring one back with python course.py restore NAME; your copy is kept):")
        print("".join(f"  {name}\n" for name in changed), end="")


def main(arguments: list[str] | None = None) -> int:
    """Run the tests and print one closing line; return 0 only when nothing failed."""
    options = argparse.ArgumentParser(prog="course.py test", description="Check everything: modules and notebooks.")
    options.add_argument("--fast", action="store_true", help="leave the notebooks out (under 4 minutes)")
    chosen, extra = options.parse_known_args(arguments)
    missing = [name for name in ("pytest", "nbval") if not importlib.util.find_spec(name)]
    if missing:
        print(f"{' and '.join(missing)} missing: pip install -r tests/requirements-test.txt", file=sys.stderr)
        return 1
    began = time.perf_counter()
    say_what_differs()
    try:
        with tempfile.TemporaryDirectory(prefix="course-test-") as scratch:
            parts = [unit_tests(extra, Path(scratch))]
            parts += [] if chosen.fast else [notebook_tests(extra, Path(scratch))]
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    total = {key: sum(part[key] for part in parts) for key in parts[0]}
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
