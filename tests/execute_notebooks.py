"""Run notebooks from top to bottom and store what they show.

    python tests/execute_notebooks.py ch03_attention/attention.ipynb …   (no path: all of them)

What is stored is one clean run in a fresh kernel: counts 1…n, streams joined, no timings, no machine's name.
A cell that fails stops the notebook, and the file on disk stays as it was. `shared/released.json` gets the new hash.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "shared" / "released.json"
CELL_TIMEOUT = 600  # seconds
OVERWRITTEN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)  # what a carriage return has written over
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def notebooks() -> list[Path]:
    """Return every notebook of the course in reading order."""
    return sorted(path for path in ROOT.glob("ch*/*.ipynb") if ".mine-" not in path.name)


def join_streams(cell) -> None:
    """Merge neighbouring stdout pieces, cut at random places, and keep the last state of a progress line."""
    joined = []
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
    """Keep only what belongs to the course: no timings, no machine, empty cells without counts."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            join_streams(cell)


def note_release(path: Path) -> None:
    """Write the hash of a notebook into the list by which learners get it back (`course.py restore`)."""
    released = json.loads(RELEASED.read_text(encoding="utf-8"))
    released[path.relative_to(ROOT).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    kept = {name: digest for name, digest in sorted(released.items()) if (ROOT / name).is_file()}
    RELEASED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8", newline="\n")


def execute(path: Path) -> float:
    """Run one notebook in its own folder, store its outputs and return the seconds it took."""
    notebook = nbformat.read(path, as_version=4)
    slow = []
    started: dict[str, float] = {}
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_execute=lambda cell, cell_index: started.update(now=time.perf_counter()),
        on_cell_executed=lambda cell, cell_index, execute_reply: slow.append(
            (time.perf_counter() - started["now"], cell_index)
        ),
    )
    begin = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - begin
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


def main(names: list[str]) -> int:
    """Execute the named notebooks; return 1 when any of them failed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in the tests: the same numbers in every run
    failed = 0
    with tempfile.TemporaryDirectory(prefix="course-notebooks-") as scratch:
        os.environ["COURSE_RUNS"] = scratch  # what a learner has trained must not show in what is stored
        for path in [Path(name).resolve() for name in names] or notebooks():
            try:
                execute(path)
            except CellExecutionError as error:
                failed += 1
                print(f"{path.parent.name}/{path.name}: stopped, nothing stored\n{error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
