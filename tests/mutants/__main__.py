"""Mutants: planted mistakes in the chapters' modules, each of which the tests of its module must catch.

    python -m tests.mutants             all of them, about ten seconds each
    python -m tests.mutants ch03 lora   those with a word in their file's name

A mutant is a table in chNN.toml beside this file: in `file`, the text `old`, which stands there once, becomes `new`. It
`breaks` something. Then `tests` are run, of which pytest takes those that `only` describes. Where none of them
fails, the mutant has survived: a test is missing. The change is made in a copy, so the course itself stays as it is.

What was caught is kept in `runs/mutants.json`; a second call tries again what has survived or changed since.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TABLES = sorted(Path(__file__).parent.glob("ch0[1-6].toml"))
SECONDS = 300  # for the tests of one mutant; a mistake may make a loop endless
FAILED, NOTHING_CHOSEN = 1, 5  # how pytest ends


class Mutant(NamedTuple):
    """One planted mistake."""

    file: str
    old: str
    new: str
    breaks: str
    tests: str
    only: str = ""


def mutants() -> list[Mutant]:
    """Return all of them, by chapter."""
    return [Mutant(**row) for path in TABLES for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutants"]]


def fingerprint(mutant: Mutant) -> str:
    """Return a hash of the mutant, of its module and of the tests that should catch it."""
    parts = [json.dumps(mutant).encode(), *((ROOT / name).read_bytes() for name in (mutant.file, mutant.tests))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def copy_course(folder: Path) -> None:
    """Copy what git knows, and what is new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode("utf-8").split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def run_tests(folder: Path, tests: str, only: str) -> int:
    """Run tests in a copy until one fails, and return how pytest ended; -1 where it did not in time."""
    command = [sys.executable, "-P", "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    command += ["-k", only] if only else []
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.run(command, cwd=folder, timeout=SECONDS, check=False, **silent).returncode
    except subprocess.TimeoutExpired:
        return -1


def try_mutant(folder: Path, mutant: Mutant) -> int:
    """Plant a mistake in a copy, run its tests, take it out again; return how pytest ended."""
    path = folder / mutant.file
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} holds {mutant.old!r} {source.count(mutant.old)} times, not once")
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8", newline="")
    try:
        return run_tests(folder, mutant.tests, mutant.only)
    finally:
        path.write_text(source, encoding="utf-8", newline="")


def main(arguments: list[str] | None = None) -> int:
    """Try the chosen mutants, one line each; return 0 where none has survived."""
    options = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Plant mistakes; tests must see them."
    )
    options.add_argument(
        "words", nargs="*", metavar="WORD", help="only mutants of files with one of these in their name"
    )
    options.add_argument("--minutes", type=float, default=1e9, help="stop after so long; a second call goes on")
    settings = options.parse_args(arguments)
    until = time.monotonic() + 60 * settings.minutes
    kept = Path(os.environ.get("COURSE_RUNS") or ROOT / "runs") / "mutants.json"
    caught = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    chosen = [m for m in mutants() if not settings.words or any(word in m.file for word in settings.words)]
    left = [mutant for mutant in chosen if caught.get(fingerprint(mutant)) != mutant.breaks]
    survivors, sound = [], {}
    with tempfile.TemporaryDirectory(prefix="course-mutants-") as place:
        copy_course(Path(place))
        for number, mutant in enumerate(left):
            if time.monotonic() > until:
                print(f"{len(left) - number} are still to be tried: call this again.")
                return 1
            code = try_mutant(Path(place), mutant)
            if code == 0 or code == NOTHING_CHOSEN:
                survivors.append(mutant)
            else:
                if (which := (mutant.tests, mutant.only)) not in sound:
                    sound[which] = run_tests(Path(place), *which)
                if sound[which]:
                    raise ValueError(f"{which} ends with {sound[which]} where nothing is planted; expected 0")
                caught[fingerprint(mutant)] = mutant.breaks
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(caught, indent=1), encoding="utf-8")
            word = {0: "SURVIVED", NOTHING_CHOSEN: "NO TEST CHOSEN", -1: "caught: no end"}.get(code, "caught")
            print(f"{word}: {mutant.file}: {mutant.breaks}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants are caught, {len(survivors)} have survived.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
