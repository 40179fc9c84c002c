"""Run notebooks from top to bottom and store what they show.

    python -m shared.maintenance.execute_notebooks ch03_attention/attention.ipynb …   (no path: all of them)

What is stored is one clean run in a fresh kernel: counts 1…n, streams joined, no timings, no machine's name.
A cell that fails stops the notebook, and the file on disk stays as it was. `shared/released.json` gets the new hash.
The code in folded answers runs between the cells, and what it prints is written into its answer (`folded_answers.py`).
A notebook with cells that need a download (`shared/needed_files.py`) is stored only where the download is.

    python -m shared.maintenance.execute_notebooks PATH … --compare native avx2 sse noise --threads 1 2

stores nothing. It runs the notebooks once under each of these settings and shows, cell by cell, what differs from
what is stored: the numbers that another computer would print. What tests/sanitize.cfg hides is hidden here too.
`noise` stands for the processors that nobody here has: after each step of an optimizer it moves every weight by about
its last binary digit, otherwise each time it is named. A digit that survives it survives other sums as well.
"""

import argparse
import configparser
import dataclasses
import difflib
import hashlib
import itertools
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from shared.commands.test import CELL_TIMEOUT, PROCESSORS, environment
from shared.maintenance.folded_answers import settled, with_answers
from shared.needed_files import missing, reason

ROOT = Path(__file__).resolve().parents[2]

RELEASED = ROOT / "shared" / "released.json"
OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)  # what a carriage return has written over
SHAKE = """
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

@torch.no_grad()
def shake(optimizer, *_):
    for weight in (weight for group in optimizer.param_groups for weight in group["params"]):
        weight *= 1 + torch.finfo(weight.dtype).eps * torch.cos(1e6 * weight + {seed})  # equal weights stay equal

register_optimizer_step_post_hook(shake)
"""
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def notebooks() -> list[Path]:
    """Return every notebook of the course in reading order."""
    return sorted(path for path in ROOT.glob("ch*/*.ipynb") if ".mine-" not in path.name)


class NothingStored(ValueError):
    """A notebook cannot be run as a whole on this machine."""


def left_out(cell) -> str | None:
    """Name the download that a cell needs and this machine lacks."""
    return missing(cell.metadata.get("tags", []))


def join_streams(cell) -> None:
    """Merge neighboring stdout pieces, cut at random places, and keep the last state of a progress line."""
    joined: list = []
    for output in cell.outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream":
            output.text = OVERWRITTEN.sub("", output.text)
    cell.outputs = joined


def tidy(notebook) -> None:
    """Keep only what belongs to the course: no timings, no machine, counts 1…n."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            join_streams(cell)
    run = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count]
    for count, cell in enumerate(run, start=1):  # folded answers were run between them
        cell.execution_count = count
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count


def note_release(path: Path) -> None:
    """Write the hash of a notebook into the list by which learners get it back (`course.py restore`)."""
    released = json.loads(RELEASED.read_text(encoding="utf-8"))
    released[path.relative_to(ROOT).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = {name: digest for name, digest in sorted(released.items()) if (ROOT / name).is_file()}
    RELEASED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8", newline="\n")


def client_of(notebook: nbformat.NotebookNode, path: Path, **options: Any) -> NotebookClient:
    """Make a client that runs a notebook in its own folder, as the tests do."""
    place = {"metadata": {"path": str(path.parent)}}
    return NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", record_timing=False, resources=place, **options
    )


def execute(path: Path) -> float:
    """Run one notebook in its own folder, store its outputs and return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    if needed := next(filter(None, map(left_out, notebook.cells)), None):
        raise NothingStored(reason(needed))
    notebook.cells = with_answers(notebook.cells)
    slow = []
    started: dict[str, float] = {}
    client = client_of(
        notebook,
        path,
        on_cell_execute=lambda cell, cell_index: started.update(now=time.perf_counter()),
        on_cell_executed=lambda cell, cell_index, execute_reply: slow.append(
            (time.perf_counter() - started["now"], cell_index)
        ),
    )
    begin = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - begin
    notebook.cells = settled(notebook.cells)
    tidy(notebook)
    _, notebook = nbformat.validator.normalize(notebook)
    text = nbformat.writes(notebook) + "\n"
    temporary = path.with_suffix(".ipynb.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)
    note_release(path)
    slowest = ", ".join(f"cell {index}: {spent:.1f} s" for spent, index in sorted(slow, reverse=True)[:3])
    print(f"{path.parent.name}/{path.name}: {seconds:.1f} s, {len(text) // 1000} kB (slowest: {slowest})", flush=True)
    return seconds


def hidden() -> list[tuple[str, str]]:
    """Return the patterns that are not compared and what stands for them, as nbval reads them."""
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "sanitize.cfg", encoding="utf-8")
    return [(rules[name]["regex"], rules[name]["replace"]) for name in rules.sections()]


def shown(cell) -> list[str]:
    """Return the lines that a cell shows and that nbval compares, and the error that stopped it."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "error":
            texts.append(f"{output.ename}: {output.evalue}")
        elif output.output_type == "stream":
            texts.append(output.text)
        else:
            texts.append(output.data.get("text/plain", ""))
    text = "\n".join(texts)
    for pattern, word in hidden():
        text = re.sub(pattern, word, text)
    return text.splitlines()


@dataclasses.dataclass(frozen=True)
class Kind:
    """One way to run a notebook: its name, its environment variables, and code to run before the first cell."""

    name: str
    settings: dict[str, str]
    before: str | None = None


def kinds_of(processors: list[str], threads: list[int]) -> list[Kind]:
    """Return every named way to run a notebook with every number of threads."""
    found = []
    for number, (processor, n) in enumerate(itertools.product(processors, threads)):
        settings = environment(processor if processor in PROCESSORS else None, n)
        before = SHAKE.format(seed=number) if processor == "noise" else None
        found.append(Kind(f"{processor} {number + 1} ({n} thread{'s' if n > 1 else ''})", settings, before))
    return found


def run_under(path: Path, kind: Kind) -> list:
    """Return the code cells of a notebook after a run of this kind; an error stops only its own cell."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if not left_out(cell)]
    if kind.before is not None:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(kind.before))
    client_of(notebook, path, allow_errors=True).execute(env={**os.environ, **kind.settings})
    tidy(notebook)
    return [cell for cell in notebook.cells[kind.before is not None :] if cell.cell_type == "code"]


def differences(before, after) -> list[str]:
    """Return the lines that a cell shows in one run and not in the other; none where only errors count."""
    is_hidden = "nbval-ignore-output" in before.metadata.get("tags", [])
    if is_hidden and all(output.output_type != "error" for output in after.outputs):
        return []
    return [line for line in difflib.ndiff(shown(before), shown(after)) if line[0] in "+-"]


def compare(path: Path, kinds: list[Kind]) -> int:
    """Print what each cell shows differently in each kind of run; return how many cells differ at all."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    stored = [cell for cell in cells if not left_out(cell)]
    different: dict[int, dict[tuple, list[str]]] = {}
    name = f"{path.parent.name}/{path.name}"
    for needed, n in Counter(filter(None, map(left_out, cells))).items():
        print(f"{name}, cells left out: {n}. {reason(needed)}")
    for kind in kinds:
        begin = time.perf_counter()
        for index, (before, after) in enumerate(zip(stored, run_under(path, kind), strict=True)):
            if changes := differences(before, after):
                different.setdefault(index, {}).setdefault(tuple(changes), []).append(kind.name)
        print(f"{name}, {kind.name}: {time.perf_counter() - begin:.0f} s", flush=True)
    for index, by_changes in sorted(different.items()):
        for lines, names in by_changes.items():
            print(f"\n{name}, code cell {index} (from 0): {', '.join(names)}")
            print("".join(f"    {line}\n" for line in lines), end="", flush=True)
    return len(different)


def main(arguments: list[str] | None = None) -> int:
    """Execute the named notebooks, or compare them; return 1 when any of them failed or differs."""
    options = argparse.ArgumentParser(description="Run notebooks and store what they show, or compare it.")
    options.add_argument("names", nargs="*", metavar="PATH", help="notebooks (default: all)")
    options.add_argument(
        "--compare",
        nargs="+",
        choices=("native", *PROCESSORS, "noise"),
        metavar="KIND",
        help=f"store nothing and compare runs of these kinds: native, {', '.join(PROCESSORS)}, noise",
    )
    options.add_argument("--threads", nargs="+", type=int, default=[1], help="with --compare (default: 1)")
    chosen = options.parse_args(arguments)
    paths = [Path(name).resolve() for name in chosen.names] or notebooks()
    with tempfile.TemporaryDirectory(prefix="course-notebooks-") as scratch:
        os.environ["COURSE_RUNS"] = scratch  # what a learner has trained must not show in what is stored
        if chosen.compare:
            kinds = kinds_of(chosen.compare, chosen.threads)
            return 1 if sum(compare(path, kinds) for path in paths) else 0
        return execute_all(paths)


def execute_all(paths: list[Path]) -> int:
    """Execute and store the notebooks; return 1 when any of them failed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the tests: the same numbers in every run
    failed = 0
    for path in paths:
        try:
            execute(path)
        except (CellExecutionError, NothingStored) as error:
            failed += 1
            print(f"{path.parent.name}/{path.name}: stopped, nothing stored\n{error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
