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
import importlib
import json
import os
import shutil
import signal
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
NOTHING_CHOSEN, FELL_OVER = 5, 70  # how pytest ends where no test was left; and where it could not run at all
OURS = ("tests", "shared", "data", "course")
LARGE = ("pytest", "torch", "hypothesis", "tiktoken", "transformers")


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
    """Run tests in a copy until one fails, and return how pytest ended; below 0 where it did not, or not in time."""
    words = ["-x", "-q", "-p", "no:cacheprovider", tests, *(["-k", only] if only else [])]
    if not hasattr(os, "fork"):
        return _in_new_process(folder, words)
    if (child := os.fork()) == 0:  # a copy of this process, in which the large libraries are loaded already
        try:
            os._exit(_in_this_process(folder, words))
        finally:
            os._exit(FELL_OVER)
    until = time.monotonic() + SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(ended[1])


def _in_this_process(folder: Path, words: list[str]) -> int:
    import pytest

    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.chdir(folder)
    sys.dont_write_bytecode = True
    sys.path[:] = [str(folder), *(place for place in sys.path if Path(place or ".").resolve() != ROOT)]
    for name in [name for name in sys.modules if name.split(".")[0] in OURS or name.startswith("ch0")]:
        del sys.modules[name]
    return int(pytest.main(words))


def _in_new_process(folder: Path, words: list[str]) -> int:
    command, silent = [sys.executable, "-P", "-B", "-m", "pytest", *words], subprocess.DEVNULL
    try:
        done = subprocess.run(command, cwd=folder, timeout=SECONDS, check=False, stdout=silent, stderr=silent)
        return done.returncode
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


def all_choices(tests: str, chosen: list[Mutant]) -> str:
    """Return what chooses all the tests of a file that some mutant needs."""
    choices = {mutant.only for mutant in chosen if mutant.tests == tests}
    return "" if "" in choices else " or ".join(sorted(choices))


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
    from tests import conftest  # its settings come before the libraries

    assert conftest.torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
    for name in LARGE if left and hasattr(os, "fork") else ():
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="course-mutants-") as place:
        copy_course(Path(place))
        for number, mutant in enumerate(left):
            if time.monotonic() > until:
                print(f"{len(left) - number} are still to be tried: call this again.")
                return 1
            ended = try_mutant(Path(place), mutant)
            if ended == FELL_OVER:
                raise ValueError(f"pytest could not run {mutant.tests}")
            if ended in (0, NOTHING_CHOSEN):
                survivors.append(mutant)
            else:
                if mutant.tests not in sound:
                    sound[mutant.tests] = run_tests(Path(place), mutant.tests, all_choices(mutant.tests, left))
                if code := sound[mutant.tests]:
                    raise ValueError(f"{mutant.tests} ends with {code} where nothing is planted; expected 0")
                caught[fingerprint(mutant)] = mutant.breaks
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(caught, indent=1), encoding="utf-8")
            word = {0: "SURVIVED", NOTHING_CHOSEN: "NO TEST CHOSEN"}.get(
                ended, "caught" if ended > 0 else "caught: no end"
            )
            print(f"{word}: {mutant.file}: {mutant.breaks}", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants are caught, {len(survivors)} have survived.")
    print(f"{len(chosen) - len(survivors)} passed, {len(survivors)} failed, 0 skipped")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
