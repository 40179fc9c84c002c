"""`python course.py test`: check everything, unit tests first, then every notebook, cell by cell, without a network.

`--fast` leaves the notebooks out, `--notebooks` everything else. `--processor` and `--threads` ask whether the numbers
are the same on other computers; `--machines` asks for a list of them, `--seeds` how often each claim holds with other
random numbers, and `--long` tries many more cases. Words behind the options go to pytest: `python course.py test --fast
-k attention`.
"""

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from shared.commands.command_line import whole_number
from shared.commands.restore import differing

ROOT = Path(__file__).resolve().parents[2]
CELL_TIMEOUT = 600  # seconds
WORKERS = 2
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PROCESSORS = {  # older kinds of x86 processor, played by this one: what PyTorch, oneDNN and MKL may use
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "sse": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}


class NotThisProcessor(ValueError):
    """The kind of processor that was asked for cannot be played on this machine."""


def notebooks() -> list[str]:
    """Return every notebook of the course, as paths in its folder; copies that a learner keeps are left alone."""
    paths = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("ch[0-9][0-9]_*/*.ipynb"))
    return [path for path in paths if ".mine-" not in path]


def main_notebooks() -> list[str]:
    """Return the notebook of each chapter that tells its story: the one with the chapter's own name."""
    return [path for path in notebooks() if Path(path).parent.name.split("_", 1)[1] == Path(path).stem]


def chosen_notebooks(names: list[str]) -> list[str]:
    """Return the named notebooks as full paths, or all of the course where none is named.

    Args:
        names: paths from here or from the course's folder.

    Raises:
        ValueError: there is no such notebook.
    """
    found = []
    for name in names:
        path = next((path.resolve() for path in (Path(name), ROOT / name) if path.is_file()), None)
        if path is None or path.suffix != ".ipynb":
            raise ValueError(f"there is no notebook {name}: name one such as {notebooks()[0]}")
        found.append(str(path))
    return found or notebooks()


def capability(settings: dict[str, str]) -> str:
    """Return what PyTorch uses in a fresh process with these environment variables: AVX512, AVX2 or DEFAULT."""
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, check=True)
    return done.stdout.strip()


def environment(processor: str | None = None, threads: int = 1) -> dict[str, str]:
    """Return the environment variables for a kind of processor and a number of threads.

    Args:
        processor: a key of `PROCESSORS`; None takes this machine's processor as it is.
        threads: at least 1.

    Raises:
        NotThisProcessor: this machine is no x86, is older than what is asked for, or PyTorch does not obey.
    """
    settings = dict.fromkeys(THREADS, str(threads))
    if processor is None:
        return settings
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise NotThisProcessor(f"{processor} is a kind of x86 processor, and this is {platform.machine()}")
    settings |= PROCESSORS[processor]
    asked = PROCESSORS[processor]["ATEN_CPU_CAPABILITY"].upper()
    if asked == "AVX2" and capability({}) == "DEFAULT":
        raise NotThisProcessor("this processor has no AVX2")
    if (found := capability(settings)) != asked:
        raise NotThisProcessor(f"PyTorch was asked for {asked} and uses {found}")
    return settings


def unit_tests(settings: dict[str, str], extra: list[str], scratch: Path) -> dict[str, int]:
    """Run the tests of the modules, commands and exercises; return passed, failed and skipped.

    Args:
        settings: environment variables, see `environment`.
        extra: words for pytest.
        scratch: a folder for this run's files.
    """
    return _pytest("unit tests", ["tests", *extra], settings, scratch / "unit.xml")


def notebook_tests(
    paths: list[str], settings: dict[str, str], extra: list[str], scratch: Path, what: str = "notebooks"
) -> dict[str, int]:
    """Run notebooks and compare what their cells show; a connection beyond this machine is a failure.

    Cells that need a download which is not here (`shared/needed_files.py`) are skipped, by name.

    Args:
        paths: the notebooks.
        settings: environment variables, see `environment`.
        extra: words for pytest.
        scratch: a folder for this run's files.
        what: the headline over the results.
    """
    log = scratch / "connections.txt"
    log.unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT / "tests" / "offline"), os.environ.get("PYTHONPATH")]))
    settings = {**settings, "PYTHONPATH": path, "COURSE_OFFLINE_LOG": str(log), "COURSE_RUNS": str(scratch / "runs")}
    words = ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    words += ["--nbval-sanitize-with", "tests/sanitize.cfg", "-p", "no:cacheprovider"]
    words += ["-p", "tests.left_out_cells", "-p", "tests.folded_answers", "-rs", *paths, *extra]
    counts = _pytest(what, words, settings, scratch / "notebooks.xml")
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
    report.unlink(missing_ok=True)
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


def main_notebooks_under_avx2(threads: int, extra: list[str], scratch: Path) -> list[dict[str, int]]:
    """Run each chapter's main notebook as most laptops would, where this processor can do more than they."""
    try:
        settings = environment("avx2", threads)
    except NotThisProcessor as error:
        print(f"\nNothing was repeated with AVX2: {error}.")
        return []
    if capability({}) == "AVX2":
        print("\nNothing was repeated with AVX2: this processor has nothing newer, so all ran with it already.")
        return []
    return [notebook_tests(main_notebooks(), settings, extra, scratch, "main notebooks with AVX2, as on most laptops")]


def _options(arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options and the words for pytest."""
    options = argparse.ArgumentParser(prog="course.py test", description="Check everything: modules and notebooks.")
    part = options.add_mutually_exclusive_group()
    part.add_argument("--fast", action="store_true", help="leave the notebooks out")
    part.add_argument(
        "--notebooks", nargs="*", metavar="PATH", help="only notebooks: these, or all of them where none is named"
    )
    options.add_argument(
        "--processor",
        choices=sorted(PROCESSORS),
        help="run as on an older x86 processor: avx2, as most laptops have, or sse (default: this processor; then "
        "each chapter's main notebook runs with AVX2 as well)",
    )
    options.add_argument("--threads", type=int, choices=(1, 2, 4), default=1, help="of each process (default: 1)")
    options.add_argument(
        "--seeds",
        type=whole_number(1, 100),
        help="run the notebooks under the seeds 1 to SEEDS instead, count how often each claim holds and write "
        "tests/CLAIMS.md; a second call goes on where the first stopped",
    )
    part.add_argument(
        "--machines",
        action="store_true",
        help="run the unit tests and each chapter's main notebook on other kinds of machine, one thing differing at a "
        "time, and write the table of tests/README.md; a second call goes on where the first stopped",
    )
    part.add_argument(
        "--long",
        action="store_true",
        help="try many more cases than at every change, and plant mistakes that a test must see; a second call goes "
        "on where the first stopped",
    )
    return options.parse_known_args(arguments)


def _run(chosen: argparse.Namespace, extra: list[str], scratch: Path) -> list[dict[str, int]]:
    """Run the chosen parts and return the counts of each."""
    if chosen.seeds:
        from shared.maintenance.claims import count_claims  # which imports this module

        return [count_claims(chosen_notebooks(chosen.notebooks or []), chosen.seeds)]
    if chosen.machines:
        from shared.maintenance.machines import ask_machines

        return [ask_machines()]
    if chosen.long:
        from shared.maintenance.long_runs import run_long

        return [run_long()]
    settings = environment(chosen.processor, chosen.threads)
    if chosen.notebooks is not None:
        return [notebook_tests(chosen_notebooks(chosen.notebooks), settings, extra, scratch)]
    parts = [unit_tests(settings, extra, scratch)]
    if not chosen.fast:
        parts.append(notebook_tests(notebooks(), settings, extra, scratch))
        parts += main_notebooks_under_avx2(chosen.threads, extra, scratch) if chosen.processor is None else []
    return parts


def main(arguments: list[str] | None = None) -> int:
    """Run the tests and print one closing line; return 0 only when nothing failed."""
    chosen, extra = _options(arguments)
    missing = [name for name in ("pytest", "nbval") if not importlib.util.find_spec(name)]
    if missing:
        print(f"{' and '.join(missing)} missing: pip install -r tests/requirements-test.txt", file=sys.stderr)
        return 1
    began = time.perf_counter()
    say_what_differs()
    try:
        with tempfile.TemporaryDirectory(prefix="course-test-") as scratch:
            parts = _run(chosen, extra, Path(scratch))
    except ValueError as error:
        print(f"course.py test: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    total = {key: sum(part[key] for part in parts) for key in parts[0]}
    print(f"\n{(time.perf_counter() - began) / 60:.1f} minutes")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
