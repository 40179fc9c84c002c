"""Run notebooks under several seeds and count how often each of their claims holds.

    python course.py test --seeds 5                                   (every notebook; hours, and it can be interrupted)
    python course.py test --seeds 5 --notebooks ch03_attention/attention.ipynb

A claim is an `assert` whose message begins `claim:`. A run gives the notebook's `seed` another value, compares no
output, and goes on after an assert that does not hold. What a run found is kept in the folder of runs, so a second call
makes only what is missing or was made with another version of the notebook's or the course's code. The table stands in
`tests/CLAIMS.md`.
"""

import ast
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import nbformat

from data.files import write_atomically
from data.paths import runs_dir
from shared import MODULE_OF
from shared.maintenance.execute_notebooks import ROOT, client_of, left_out

__all__ = [
    "Run", "claims_of", "count_claims", "modules_reached", "recorded", "run_all", "run_seed", "table", "version_of",
    "with_seed",
]  # fmt: skip

TABLE = ROOT / "tests" / "CLAIMS.md"
SEED = re.compile(r"^seed = \d+", re.MULTILINE)
MARK = "claim:"
KEPT = "the asserts of this run: "
RECORD = f"""
_asserts = []
def _note_assert(number, holds):
    _asserts.append((number, bool(holds)))
def _show_asserts():
    import json
    print({KEPT!r} + json.dumps(_asserts))
"""


@dataclass
class Run:
    """What one run of a notebook under one seed found.

    Args:
        notebook: path in the course's folder.
        seed: what the notebook's `seed` was.
        version: fingerprint of the notebook and of the course's code.
        held: for each claim whether it held, each time that it was reached.
        others: other asserts that did not hold: what the text expects of its own seed.
        errors: cells that stopped with another error, each as "cell N: error".

    Source: this course.
    """

    notebook: str
    seed: int
    version: str
    held: dict[str, bool] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def with_seed(source: str, seed: int) -> str:
    """Give a set-up cell's `seed` another value.

    Args:
        source: a cell.
        seed: at least 0.

    Source: this course.
    """
    return SEED.sub(f"seed = {seed}", source)


def claims_of(sources: Iterable[str]) -> list[str]:
    """Return the messages of all claims in these cells, in their order; what a message computes is shown as "…".

    Args:
        sources: code cells.

    Source: this course.
    """
    asserts = (node for source in sources for node in ast.walk(_tree(source)) if isinstance(node, ast.Assert))
    return [text for text in map(_message, asserts) if text.startswith(MARK)]


def recorded(source: str, first: int) -> tuple[str, list[str]]:
    """Write a cell so that its asserts are noted instead of stopping it.

    Args:
        source: a cell.
        first: number of its first assert.

    Returns:
        The cell, and the message of each assert in it, the condition where there is none.

    Source: this course.
    """
    tree, noter = _tree(source), _Noter(first)
    changed = ast.fix_missing_locations(noter.visit(tree))
    return (ast.unparse(changed), noter.messages) if noter.messages else (source, [])


class _Noter(ast.NodeTransformer):
    """Turns `assert condition, message` into a call that notes whether the condition holds."""

    def __init__(self, first: int):
        self.first, self.messages = first, list[str]()

    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        number = ast.Constant(self.first + len(self.messages))
        self.messages.append(_message(node))
        return ast.Expr(ast.Call(ast.Name("_note_assert", ast.Load()), [number, node.test], []))


def _tree(source: str) -> ast.Module:
    return ast.parse(re.sub(r"^[%!].*", "pass", source, flags=re.MULTILINE))  # what only IPython understands


def _message(node: ast.Assert) -> str:
    if isinstance(node.msg, ast.Constant):
        return str(node.msg.value)
    if isinstance(node.msg, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.msg.values)
    return ast.unparse(node.msg or node.test)


def run_seed(path: Path, seed: int) -> Run:
    """Run a notebook under a seed and note which asserts hold.

    Args:
        path: the notebook.
        seed: at least 0.

    Raises:
        ValueError: the notebook has no line `seed = …`.

    Source: this course.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and not left_out(cell)]
    if not any(SEED.search(cell.source) for cell in notebook.cells):
        raise ValueError(f"{path.name} has no line 'seed = …' in its set-up: give it one, from which every draw comes")
    run, messages = Run(_name(path), seed, version_of(path)), list[str]()
    for cell in notebook.cells:
        cell.source, more = recorded(with_seed(cell.source, seed), len(messages))
        messages += more
    notebook.cells = [_cell(RECORD), *notebook.cells, _cell("_show_asserts()")]
    with tempfile.TemporaryDirectory(prefix="course-claims-") as scratch:  # what a learner has trained stays out of it
        env = {"OMP_NUM_THREADS": "1", **os.environ, "COURSE_RUNS": scratch}
        client_of(notebook, path, allow_errors=True).execute(env=env)
    return _filled(run, notebook.cells, messages)


def _filled(run: Run, cells: list, messages: list[str]) -> Run:
    for index, cell in enumerate(cells):
        run.errors += [f"cell {index}: {o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"]
    shown = "".join(output.get("text", "") for output in cells[-1].outputs)
    for number, holds in json.loads(shown.split(KEPT)[1]) if KEPT in shown else []:
        message = messages[number]
        if message.startswith(MARK):
            run.held[message] = run.held.get(message, True) and holds
        elif not holds:
            run.others.append(message)
    return run


def _cell(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source)


def _name(path: Path) -> str:
    return path.resolve().relative_to(ROOT).as_posix() if path.resolve().is_relative_to(ROOT) else path.name


def version_of(path: Path) -> str:
    """Return a fingerprint of what a run computes: the notebook's code, the modules that it reaches, and the data.

    Comments and docstrings of modules do not count.

    Args:
        path: the notebook.

    Source: this course.
    """
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    digest = hashlib.sha256("\0".join(cells).encode())
    for module in modules_reached(cells):
        digest.update(_without_docstrings(_tree(module.read_text(encoding="utf-8"))).encode())
    for file in sorted([*ROOT.glob("data/story_world/**/*.txt"), *ROOT.glob("data/*/model.safetensors")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def modules_reached(sources: Iterable[str]) -> list[Path]:
    """Return the modules of chapters and data that these cells import, and those that these import in turn.

    Args:
        sources: code cells; what they import from `shared` counts as imported from where it is built.

    Source: this course.
    """
    reached, waiting = set[Path](), [(source, ROOT) for source in sources]
    while waiting:
        source, folder = waiting.pop()
        for name in _imports(_tree(source), folder):
            file = ROOT / (name.replace(".", "/") + ".py")
            if re.match(r"(ch\d|data)", name) and file.is_file() and file not in reached:
                reached.add(file)
                waiting.append((file.read_text(encoding="utf-8"), file.parent))
    return sorted(reached)


def _imports(tree: ast.Module, folder: Path) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = _name(folder).replace("/", ".") + "." if node.level else ""
            yield (module := here + (node.module or ""))
            yield from (f"{module}.{alias.name}" for alias in node.names)  # a module of a package
            yield from (MODULE_OF[alias.name] for alias in node.names if module == "shared" and alias.name in MODULE_OF)


def _without_docstrings(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree)


def run_all(paths: Sequence[Path], n_seeds: int) -> list[Run]:
    """Run notebooks under the seeds 1 to `n_seeds`, keep what each run found, and say what is left to do.

    Args:
        paths: notebooks.
        n_seeds: at least 1.

    Source: this course.
    """
    runs, began, made = [], time.perf_counter(), 0
    wanted = [(path, seed) for path in paths for seed in range(1, n_seeds + 1)]
    missing = sum(_kept(path, seed) is None for path, seed in wanted)
    for path, seed in wanted:
        run = _kept(path, seed)
        if run is None:
            run, made = _keep(run_seed(path, seed)), made + 1
            left = (time.perf_counter() - began) / made * (missing - made) / 60
            held = f"{sum(run.held.values())} of {len(run.held)} claims held"
            print(f"{run.notebook}, seed {seed}: {held}; {left:.0f} minutes left", flush=True)
        runs.append(run)
    return runs


def _file(path: Path, seed: int) -> Path:
    return runs_dir() / "claims" / f"{path.stem}-{seed}.json"


def _kept(path: Path, seed: int) -> Run | None:
    """What an earlier call found, if it stands for today's notebook and code."""
    try:
        run = Run(**json.loads(_file(path, seed).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return run if run.version == version_of(path) else None


def _keep(run: Run) -> Run:
    file = _file(ROOT / run.notebook, run.seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(asdict(run), indent=1) + "\n")
    return run


def table(runs: Sequence[Run]) -> str:
    """Write what runs found as a page: a row for each claim, and below what else happened.

    Args:
        runs: of any notebooks and seeds.

    Source: this course.
    """
    rows, notes, n_claims, n_always = [], [], 0, 0
    for notebook in dict.fromkeys(run.notebook for run in runs):
        mine = [run for run in runs if run.notebook == notebook]
        for claim in dict.fromkeys(claim for run in mine for claim in run.held):
            held = sum(run.held.get(claim, False) for run in mine)
            n_claims, n_always = n_claims + 1, n_always + (held == len(mine))
            rows.append(f"| {notebook} | {claim.removeprefix(MARK).strip()} | {held} of {len(mine)} |")
        notes += [f"- {notebook}, seed {run.seed}, {error}" for run in mine for error in run.errors]
        notes += [f"- {notebook}, seed {run.seed}, did not hold: {other}" for run in mine for other in run.others]
    head = f"{n_claims} claims, {n_always} of them held under every seed. Made by `python course.py test --seeds N`."
    lines = ["# Claims under other seeds", "", head, "", "| notebook | claim | held |", "|---|---|---|", *rows]
    return "\n".join([*lines, *(["", "## What else happened", "", *notes] if notes else []), ""])


def count_claims(paths: Sequence[str], n_seeds: int) -> dict[str, int]:
    """Run notebooks under several seeds, write `tests/CLAIMS.md` where all were run, and count the claims.

    Args:
        paths: notebooks, as paths from the course's folder; those with exercises are left out.
        n_seeds: at least 1.

    Returns:
        "passed": claims that held under every seed, "failed": the others, "skipped": 0.

    Source: this course.
    """
    told = [ROOT / path for path in paths if Path(path).stem != "exercises"]  # exercises claim nothing
    runs = run_all(told, n_seeds)
    page = table(runs)
    print(page)
    if {*ROOT.glob("ch*/*.ipynb")} <= {*told, *ROOT.glob("ch*/exercises.ipynb"), *ROOT.glob("ch*/*.mine-*.ipynb")}:
        write_atomically(TABLE, page)
    always = {(run.notebook, claim): True for run in runs for claim in run.held}
    for run in runs:
        always |= {(run.notebook, claim): False for claim, holds in run.held.items() if not holds}
    n_held = sum(always.values())
    return {"passed": n_held, "failed": len(always) - n_held, "skipped": 0}
