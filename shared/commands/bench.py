"""`python course.py bench`: measure speed and memory on this machine, beside the usual libraries, into BENCHMARKS.md.

Every side runs in a process of its own, and the sides take turns (A B A B), so that whatever else the machine does
hits both. Ratios are formed within a turn; the table gives their median, smallest and largest.
"""

import argparse
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from course import MEMORY, SAY_HOW_TO_WAIT, WAITING
from data.paths import CACHE_DIR
from shared.commands.command_line import CommandParser, command

ROOT = Path(__file__).resolve().parents[2]
OURS, BEFORE, BESIDE = "ours", "before", " beside a busy process"
MEASURES = ("shared.commands.bench_measures", "shared.measures")  # where the course's versions keep what is measured
SMOLLM2 = CACHE_DIR / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
SLOWER = 0.95  # a median ratio below this is no longer the noise of taking turns


# ---------------------------------------------------------------- sides that take turns


def measures_of(folder: Path) -> str:
    """Return the module that measures a copy of the course, whose version may be an older one.

    Raises:
        ValueError: the folder holds no course that can be measured.
    """
    for name in MEASURES:
        if (folder / Path(*name.split("."))).with_suffix(".py").is_file():
            return name
    raise ValueError(f"{folder} holds no copy of the course that can be measured: name the folder of a checkout")


class Side:
    """A measurement in a process of its own.

    Args:
        measure: a name of `shared.commands.bench_measures.MEASURES`.
        options: its arguments.
        settings: environment variables; None for those of this process.
        folder: the copy of the course that measures itself.
    """

    def __init__(self, measure: str, options: dict, settings: dict[str, str] | None = None, folder: Path = ROOT):
        self.complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        command = [sys.executable, "-m", measures_of(folder), measure, json.dumps(options)]
        environment = (os.environ if settings is None else settings) | {"PYTHONPATH": str(folder), "PYTHONUTF8": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints,
        )  # fmt: skip
        self.name = f"{measure} {options}"

    def _answer(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.complaints.seek(0)
            last = (self.complaints.read().strip().splitlines() or ["it said nothing"])[-1]
            raise ValueError(f"the measurement {self.name} stopped: {last}")
        return line.strip()

    def wait_until_ready(self) -> None:
        self._answer()

    def round(self) -> dict:
        """Do one round and return what it says."""
        assert self.process.stdin
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:  # the process has ended; its last words are read below
            pass
        return json.loads(self._answer())

    def close(self) -> float | None:
        """End the process and return its peak memory in MB."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        peak = json.loads(self._answer())["peak_mb"]
        self.process.wait()
        self.process.stdout.close()
        self.complaints.close()
        return peak


@dataclass
class Comparison:
    """Rates of each side, one for each turn, the memory of each, and what each said in its last turn."""

    title: str
    rates: dict[str, list[float]]
    peaks: dict[str, float | None] = field(default_factory=dict)
    told: dict[str, dict] = field(default_factory=dict)

    def ratios(self, peer: str, side: str = OURS) -> list[float]:
        """A side's rate, ours by default, over a peer's, turn by turn."""
        return [mine / theirs for mine, theirs in zip(self.rates[side], self.rates[peer])]


def compare(title: str, measure: str, sides: dict[str, dict], rounds: int, *,
            settings: dict[str, dict] | None = None, also_beside: bool = False,
            folders: dict[str, Path] | None = None) -> Comparison:  # fmt: skip
    """Let the sides take turns.

    Args:
        title: what is compared.
        measure: a name of `shared.commands.bench_measures.MEASURES`.
        sides: label -> options.
        rounds: timed turns; one before them is not counted.
        settings: label -> environment variables, where a side has others than this process.
        also_beside: let each side do each turn once more beside a busy process; its rates are at label + BESIDE.
        folders: label -> copy of the course, where a side measures another than this one.
    """
    settings, folders = settings or {}, folders or {}
    running = {
        label: Side(measure, options, settings.get(label), folders.get(label, ROOT)) for label, options in sides.items()
    }
    places: dict[str, Callable] = {"": nullcontext, BESIDE: busy_process} if also_beside else {"": nullcontext}
    rates: dict[str, list[float]] = {label + place: [] for label in running for place in places}
    told: dict[str, dict] = {}
    with _killed_if_interrupted(running.values()):
        for side in running.values():
            side.wait_until_ready()
        for number in range(rounds + 1):
            # every side once, then every side again: what else the machine does meets all of them
            for (label, side), (place, around) in itertools.product(running.items(), places.items()):
                with around():
                    done = side.round()
                told[label + place] = done
                if number:  # the first turn fills caches and makes the memory that later ones use again
                    rates[label + place].append(done["units"] / done["seconds"])
        return Comparison(title, rates, {label: side.close() for label, side in running.items()}, told)


BUSY = """import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(flush=True)
while True: pass
"""


@contextmanager
def busy_process():
    """Keep one core busy with a process that counts for nothing; it ends here, or when this process does."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        process.stdout.readline()  # it has begun
        yield process
    finally:
        process.kill()
        process.communicate()


def alone(measure: str, options: dict) -> dict:
    """Do one round of one side."""
    side = Side(measure, options)
    with _killed_if_interrupted([side]):
        side.wait_until_ready()
        done = side.round()
        side.close()
    return done


@contextmanager
def _killed_if_interrupted(sides: Iterable[Side]):
    """Leave no process behind, whatever stops the measurement."""
    try:
        yield
    except BaseException:
        for side in sides:
            side.process.kill()
        raise


# ---------------------------------------------------------------- groups: each returns lines of Markdown


@dataclass
class Plan:
    """How much is measured."""

    rounds: int = 9
    shapes: tuple = ("story", "124M")
    minutes: tuple = (1, 2, 4)
    texts: tuple = (1_000_000, 10_000_000)
    precisions: tuple = ("float32", "bfloat16")
    batch_sizes: tuple = (1, 16)
    n_new: int = 200
    seconds: float = 1.0  # a round of generation takes at least so long
    yardstick_steps: tuple = (2_000, 500)
    published: Path | None = SMOLLM2
    served: str = "135M"  # shape of the rows on faster answers
    n_stories: int = 20_000
    yardstick_bytes: int = 1_000_000
    vocab_size: int = 2_048
    training: dict = field(default_factory=lambda: {
        "story": {"batch_size": 8, "length": 206, "n_steps": 10},
        "124M": {"batch_size": 2, "length": 256, "n_steps": 2},
        "tiny": {"batch_size": 2, "length": 16, "n_steps": 2},
    })  # fmt: skip


QUICK = Plan(
    rounds=3, shapes=("story",), minutes=(0.25,), texts=(1_000_000,), batch_sizes=(1,), n_new=100,
    yardstick_steps=(200, 100),
)  # fmt: skip
TINY = Plan(
    rounds=2, shapes=("tiny",), minutes=(0.01,), texts=(20_000,), precisions=("float32",), batch_sizes=(1, 2), n_new=4,
    seconds=0.0, published=None, served="tiny", yardstick_steps=(4, 4), n_stories=200, yardstick_bytes=20_000,
    vocab_size=300,
)  # fmt: skip


def training(plan: Plan) -> list[str]:
    """Training tokens a second against transformers' GPT-2."""
    rows, reached, ceilings = [], [], {precision: 0.0 for precision in plan.precisions}
    for shape in plan.shapes:
        for precision in plan.precisions:
            options = _training_options(plan, shape, precision)
            sides = {OURS: {"side": OURS} | options, "transformers": {"side": "transformers"} | options}
            title = f"{shape}, {precision}, {options['batch_size']} rows of {options['length']} tokens"
            comparison = compare(title, "training", sides, plan.rounds)
            rows.append(_compared(comparison, "transformers", "tokens/s"))
            reached.append((precision, _flops(comparison, options)))
            product = alone("ceiling", {"precision": precision, "size": 2048})["units"]
            ceilings[precision] = max(ceilings[precision], product)  # a slow moment of the machine lowers no ceiling
    for row, (precision, flops) in zip(rows, reached):
        row.append(f"{flops / ceilings[precision]:.0%} of {ceilings[precision] / 1e9:.0f} GFLOP/s")
    return [
        _table([*_HEAD, "our share of the matrix-product ceiling"], rows),
        "Both sides: AdamW (fused), gradients clipped, no dropout, random tokens, the same shape and batch; the first "
        "step is not timed; in it ours tries which routine computes the products of float32 faster, and keeps it. The "
        "ceiling is the fastest product of two square matrices here, by either routine, in the same precision, tried "
        "after each row of the table.",
    ]


def against(plan: Plan, folder: Path) -> list[str]:
    """Our own speed against that of another copy of the course: training, generation and tokenizers.

    Args:
        plan: how much is measured.
        folder: the other copy, for example a checkout of the version before a change.
    """
    rows, slower = [], []
    for title, measure, options, unit, scale in _what_both_measure(plan):
        sides = {OURS: {"side": OURS} | options, BEFORE: {"side": OURS} | options}
        comparison = compare(title, measure, sides, plan.rounds, folders={BEFORE: folder})
        rows.append(_compared(comparison, BEFORE, unit, scale))
        if statistics.median(comparison.ratios(BEFORE)) < SLOWER:
            slower.append(title)
    told = f"Below {SLOWER}: {'; '.join(slower)}." if slower else f"No median is below {SLOWER}."
    return [_table(["", "this copy", "the other", *_HEAD[3:]], rows), told]


def _what_both_measure(plan: Plan) -> Iterable[tuple[str, str, dict, str, float]]:
    """Give title, measure, options, unit and units in one of it."""
    for shape in plan.shapes:
        for precision in plan.precisions:
            yield f"training {shape}, {precision}", "training", _training_options(plan, shape, precision), "tokens/s", 1
        for batch_size in plan.batch_sizes:
            options = _generation_options(plan, shape, batch_size) | {"seconds": plan.seconds}
            yield f"generation {shape}, {batch_size} at once", "generation", options, "tokens/s", 1
    for measure in ("bpe_training", "bpe_encoding"):
        options = {"n_bytes": plan.texts[0], "vocab_size": plan.vocab_size}
        yield f"tokenizer, {measure.removeprefix('bpe_')}", measure, options, "MB/s", 1e6


def _training_options(plan: Plan, shape: str, precision: str) -> dict:
    return {"shape": shape, "precision": precision} | plan.training[shape]


def _generation_options(plan: Plan, shape: str, batch_size: int) -> dict:
    return {"shape": shape, "batch_size": batch_size, "n_new": plan.n_new // (5 if shape == "124M" else 1)}


def _flops(comparison: Comparison, options: dict) -> float:
    """Operations a second that our training reached, as a median."""
    from ch05_pretraining.scaling import flops_per_token
    from shared.commands.bench_measures import config_of

    return statistics.median(comparison.rates[OURS]) * flops_per_token(config_of(options["shape"]), options["length"])


def busy(plan: Plan) -> list[str]:
    """Training beside a process that keeps one core busy, for us, without our settings, and for transformers."""
    ours, theirs, spinning = OURS, "transformers", "ours, waiting as PyTorch does by itself"
    with_settings = MEMORY | WAITING | os.environ
    by_itself = {name: value for name, value in with_settings.items() if name not in SAY_HOW_TO_WAIT}
    shape, rows = plan.shapes[0], []
    for precision in plan.precisions:
        options = _training_options(plan, shape, precision)
        sides = {ours: {"side": OURS} | options, spinning: {"side": OURS} | options, theirs: {"side": theirs} | options}
        settings = {ours: with_settings, spinning: by_itself, theirs: with_settings}
        comparison = compare(shape, "training", sides, plan.rounds, settings=settings, also_beside=True)
        rows += [_beside(comparison, label, f"{shape}, {precision}, {label}") for label in (ours, spinning, theirs)]
    told = ", ".join(f"{name}={value}" for name, value in WAITING.items())
    return [
        _table(
            [
                "",
                "alone",
                "beside it",
                "what is left (smallest to largest)",
                "ours over this, alone",
                "ours over this, beside it",
            ],
            rows,
        ),
        "A process of its own counts on one core without an end. PyTorch's threads share every product and wait for "
        "each other; a thread that waits busily takes the turns of the one that it waits for. So course.py lets them "
        f"fall asleep soon ({told}, which Linux heeds; whoever sets it or OMP_WAIT_POLICY decides). All rows have that "
        "setting but those that wait as PyTorch does by itself: what it costs alone and gives beside the busy process "
        "stands in the last two columns. Shape, batch and steps: as in the part on training.",
    ]


def _beside(comparison: Comparison, label: str, title: str) -> list[str]:
    rates = [f"{_short(statistics.median(comparison.rates[name]))} tokens/s" for name in (label, label + BESIDE)]
    against = [_spread(comparison.ratios(label + place, side=OURS + place)) for place in ("", BESIDE)]
    left = _spread(comparison.ratios(label, side=label + BESIDE))
    return [title, *rates, left, *(["", ""] if label == OURS else against)]


def generation(plan: Plan) -> list[str]:
    """Cached generation against transformers' `generate`."""
    rows = []
    for shape in plan.shapes:
        for batch_size in plan.batch_sizes:
            options = _generation_options(plan, shape, batch_size)
            timed = options | {"seconds": plan.seconds}
            sides = {OURS: {"side": OURS} | timed, "transformers": {"side": "transformers"} | timed}
            title = f"{shape}, {batch_size} at once, {options['n_new']} tokens"
            comparison = compare(title, "generation", sides, plan.rounds)
            rows.append([*_compared(comparison, "transformers", "tokens/s"), _share_of_reading(comparison, options)])
    return [
        _table([*_HEAD, "our share of the reading ceiling"], rows),
        "float32, greedy, a prompt of 16 tokens, key-value cache on both sides; each turn writes for at least "
        f"{plan.seconds:g} s. The ceiling: each step has to read every weight and all the keys and values so far; how "
        "fast this machine reads is measured by the sum of a tensor of as many bytes. What is missing to it are the "
        "products, which do more with a number than read it, and what lies between them: Python, and many small "
        "operations.",
    ]


def _share_of_reading(comparison: Comparison, options: dict) -> str:
    from shared.commands.bench_measures import bytes_read

    steps = statistics.median(comparison.rates[OURS]) / options["batch_size"]  # a second
    return _share(steps, bytes_read(**options))


def _share(steps: float, n_bytes: float) -> str:
    """Say how near so many steps a second come to what reading their bytes allows."""
    done = alone("reading", {"n_bytes": n_bytes})
    ceiling = done["units"] / done["seconds"]
    return f"{steps * n_bytes / ceiling:.0%} of {ceiling / 1e9:.0f} GB/s"


def published(plan: Plan) -> list[str]:
    """A published model, one text at a time, against transformers on the same weights."""
    if plan.published is None or not plan.published.exists():
        return ["SmolLM2 was not on this machine: `python course.py fetch smollm2` brings it."]
    with tempfile.TemporaryDirectory() as folder:
        _export(plan.published, Path(folder) / "model")
        sources = {OURS: str(plan.published), "transformers": str(Path(folder) / "model")}
        options = {"n_new": plan.n_new, "seconds": plan.seconds}
        sides = {side: {"side": side, "source": source} | options for side, source in sources.items()}
        comparison = compare(f"{plan.published.stem}, {plan.n_new} tokens", "published", sides, plan.rounds)
    share = _share(statistics.median(comparison.rates[OURS]), comparison.told[OURS]["bytes"])
    row = [*_compared(comparison, "transformers", "tokens/s"), share]
    pairs = zip(*(told["ids"] for told in comparison.told.values()))
    n_equal = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    return [
        _table([*_HEAD, "our share of the reading ceiling"], [row]),
        "The same weights in float32 on both sides (transformers gets them through `export_hugging_face`), one text at "
        f"a time, greedy, a prompt of 16 random tokens, key-value cache on both sides; the first {n_equal} of the "
        f"{plan.n_new} tokens are the same. Each token reads every weight once, which is the ceiling. "
        "llama.cpp is not measured. It computes with the blocks of four and eight bits themselves and so "
        "reads a fifth of the bytes, but of llama-cpp-python the package index holds a source archive only, which each "
        "machine has to compile.",
    ]


def _export(source: Path, folder: Path) -> None:
    """Write a published model's weights as a folder that transformers opens."""
    from ch05_pretraining.hugging_face import export_hugging_face
    from ch05_pretraining.open_weights import load_pretrained

    export_hugging_face(*load_pretrained(source), folder)


def cache(plan: Plan) -> list[str]:
    """With the key-value cache and without."""
    rows = []
    for shape in plan.shapes:
        options = {"side": OURS, "shape": shape, "batch_size": 1, "n_new": plan.n_new, "seconds": plan.seconds}
        sides = {OURS: options, "uncached": options | {"use_cache": False}}
        rounds = 1 if shape == "124M" else plan.rounds
        comparison = compare(f"{shape}, {plan.n_new} tokens", "generation", sides, rounds)
        rows.append(_compared(comparison, "uncached", "tokens/s"))
    return [_table(["", "cached", "uncached", "ratio (smallest to largest)", "peak memory"], rows)]


def answers(plan: Plan) -> list[str]:
    """Faster answers: weights in fewer bits, a draft, and prompts of unequal lengths side by side."""
    n_new = max(1, plan.n_new // 5)
    common = {"shape": plan.served, "n_new": n_new, "seconds": plan.seconds}
    for_stories = {"n_new": plan.n_new, "seconds": plan.seconds, "n_stories": min(plan.n_stories, 1_000)}
    ways = {
        "with a draft": _with_and_without("four stories, a trigram guesses", "drafted", for_stories, plan),
        "at once": _with_and_without(f"{plan.served}, four unequal prompts at once", "unequal", common, plan),
    }
    same = " and ".join(f"{_n_equal(one.told)} of 4 texts {how}" for how, one in ways.items())
    return [
        _table(["", "speed", "over float32 (smallest to largest)", "matrices"], _in_fewer_bits(common, plan)),
        _table(["", "so", "without it", *_HEAD[3:]], [_compared(one, "alone", "tokens/s") for one in ways.values()]),
        f"Greedy, {n_new} new tokens for each text ({plan.n_new} in a story), random weights but for the stories. The "
        f"same tokens came in {same}. The eight-bit products are PyTorch's own, with a scale for each row; Q4_0 is "
        "counted alone, for the course turns it back into float32 before it computes.",
    ]


def _with_and_without(title: str, measure: str, options: dict, plan: Plan) -> Comparison:
    return compare(title, measure, {side: {"side": side} | options for side in (OURS, "alone")}, plan.rounds)


def _in_fewer_bits(options: dict, plan: Plan) -> list[list[str]]:
    """A row for each precision; four bits have a size alone."""
    from shared.commands.bench_measures import weight_bytes

    sides = {side: {"side": side} | options for side in ("float32", "bfloat16", "int8")}
    done = compare(f"{plan.served}, one text", "precision", sides, plan.rounds)
    speeds = {
        name: [f"{_short(statistics.median(done.rates[name]))} tokens/s", _spread(done.ratios("float32", name))]
        for name in sides
    }
    return [
        [f"{plan.served}, {name}", *speed, f"{weight_bytes(plan.served, name) / 1e6:,.1f} MB"]
        for name, speed in (speeds | {"Q4_0": ["", ""]}).items()
    ]


def _n_equal(told: dict[str, dict]) -> int:
    """Count the texts that came out alike on both sides."""
    return sum(one == other for one, other in zip(*(done["ids"] for done in told.values())))


def bpe(plan: Plan) -> list[str]:
    """Tokenizers: training and encoding against Hugging Face's."""
    rows = []
    for n_bytes in plan.texts:
        options = {"n_bytes": n_bytes, "vocab_size": plan.vocab_size}
        sides = {OURS: {"side": OURS} | options, "tokenizers": {"side": "tokenizers"} | options}
        title = f"training, {n_bytes / 1e6:g} MB, vocabulary {plan.vocab_size:,}"
        rows.append(_compared(compare(title, "bpe_training", sides, plan.rounds), "tokenizers", "MB/s", 1e6))
    options = {"n_bytes": plan.texts[0], "vocab_size": plan.vocab_size}
    for label, side in (("through tiktoken", "tiktoken"), ("in plain Python", "ours")):
        sides = {OURS: {"side": side} | options, "tokenizers": {"side": "tokenizers"} | options}
        title = f"encoding {label}, {plan.texts[0] / 1e6:g} MB"
        rows.append(_compared(compare(title, "bpe_encoding", sides, plan.rounds), "tokenizers", "MB/s", 1e6))
    return [_table(_HEAD, rows), "Text: stories of the story world, which have few different words."]


def minutes(plan: Plan) -> list[str]:
    """Loss after some minutes of training, AdamW and Muon."""
    rows = []
    shape = plan.shapes[0]
    for m in plan.minutes:
        options = {"seconds": 60 * m, "shape": shape, "n_stories": plan.n_stories}
        done = [alone("learning", {"optimizer": name} | options) for name in ("adamw", "muon")]
        rows.append([f"{m:g}", *(f"{run['loss']:.2f} ({run['steps']:,} steps)" for run in done)])
    return [
        _table(["minutes", "AdamW: nats per token", "Muon: nats per token"], rows),
        "Whole stories from random weights, float32, products by trial, each run with a schedule of its own length, "
        "one seed; loss on 128 validation stories.",
    ]


def yardstick(plan: Plan) -> list[str]:
    """How much of a plain recipe's time ours needs for the same loss."""
    text = {"n_bytes": plan.yardstick_bytes}
    plain, quick = (
        alone("yardstick", {"recipe": name, "n_steps": n, "every": max(1, min(50, n // 4))} | text)
        for name, n in zip(("plain", "ours"), plan.yardstick_steps)
    )
    goal, whole = plain["losses"][-1], plain["seconds"][-1]
    reached = [seconds for seconds, loss in zip(quick["seconds"], quick["losses"]) if loss <= goal]
    says = f"after {reached[0]:.0f} s, {reached[0] / whole:.0%} of that time" if reached else "not within its steps"
    rows = [
        ["plain AdamW at 1e-3", f"{plan.yardstick_steps[0]:,}", f"{goal:.3f}", f"{whole:.0f} s"],
        ["ours: Muon, falling rate, products by trial", f"{plan.yardstick_steps[1]:,}", f"{quick['losses'][-1]:.3f}",
         f"{quick['seconds'][-1]:.0f} s"],
    ]  # fmt: skip
    return [
        _table(["recipe", "steps", "validation loss, nats per character", "time"], rows),
        f"Ours reaches the plain recipe's loss {says}. Four layers, four heads, width 128, context 64, batches of 12, "
        "characters of 1 MB of stories; time of training alone.",
    ]


GROUPS = {
    "training": ("Training", training),
    "busy": ("Training beside a busy process", busy),
    "generation": ("Generation", generation),
    "published": ("A published model", published),
    "cache": ("With and without the cache", cache),
    "answers": ("Faster answers", answers),
    "bpe": ("Tokenizer", bpe),
    "minutes": ("What some minutes of training reach", minutes),
    "yardstick": ("A character-level yardstick", yardstick),
}


# ---------------------------------------------------------------- the page

_HEAD = ["", "ours", "theirs", "ratio (smallest to largest)", "peak memory"]


def _compared(comparison: Comparison, peer: str, unit: str, scale: float = 1.0) -> list[str]:
    ratios = comparison.ratios(peer)
    rates = [f"{_short(statistics.median(comparison.rates[label]) / scale)} {unit}" for label in (OURS, peer)]
    peaks = " / ".join("?" if comparison.peaks[s] is None else f"{comparison.peaks[s]:,.0f}" for s in (OURS, peer))
    return [comparison.title, *rates, _spread(ratios), f"{peaks} MB"]


def _spread(ratios: list[float]) -> str:
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _load() -> str:
    try:
        return f"{os.getloadavg()[0]:.1f}"
    except (AttributeError, OSError):
        return "unknown"


def heading(plan: Plan, load_before: str) -> str:
    """Say when and on what the page was measured."""
    when = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    packages = ", ".join(_version(name) for name in ("torch", "transformers", "tokenizers", "tiktoken"))
    return (
        "# Benchmarks\n\n"
        f"Written by `python course.py bench{' --quick' if plan is QUICK else ''}`; what is measured and how stands in "
        "`shared/commands/bench_measures.py`.\n\n"
        f"Measured {when} on {platform.system()}, {_processor()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, {packages}. Average load before it began: {load_before} (a quiet machine has "
        "less than 0.5; with more, only the ratios mean something, for the sides take turns). "
        f"{plan.rounds} timed turns each; medians, and the smallest and largest ratio within a turn. Both sides have "
        "the settings of `course.py` for memory and waiting, which help both."
    )


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("bench", "Measure speed and memory on this machine.")
    names = ",".join(GROUPS)
    options.add_argument("--only", default=names, metavar="PARTS", help=f"some of {names}; the rest is left out")
    options.add_argument(
        "--against", type=Path, metavar="FOLDER", help="compare with another copy of the course instead"
    )
    options.add_argument("--quick", action="store_true", help="a first look: fewer turns, small model only")
    options.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # for the tests
    options.add_argument("--output", type=Path, help="file to write (default: BENCHMARKS.md, for a whole run only)")
    return options


def _require_place(output: Path | None) -> None:
    """Refuse a file that cannot be written, before half an hour of measuring and not after it."""
    if output and not (output.is_file() or output.parent.is_dir() and not output.is_dir()):
        raise ValueError(f"--output {output} is no place for a file: name one in a folder that exists")
    if output and not os.access(output if output.exists() else output.parent, os.W_OK):
        raise ValueError(f"--output {output} cannot be written: name a file in a folder of your own that exists")


@command("bench")
def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the page; return the exit status."""
    options = parser().parse_args(arguments)
    wanted, load = options.only.split(","), _load()
    if unknown := [name for name in wanted if name not in GROUPS]:
        raise ValueError(f"there is no part {unknown[0]!r}; choose from {', '.join(GROUPS)}")
    plan = TINY if options.tiny else QUICK if options.quick else Plan()
    groups = {name: GROUPS[name] for name in wanted}
    if options.against is not None:
        folder = options.against.resolve()
        measures_of(folder)  # refuses what is no copy of the course
        groups = {"against": ("This copy against another", lambda plan: against(plan, folder))}
    whole = set(groups) == set(GROUPS) and not (options.quick or options.tiny)
    output = options.output or (ROOT / "BENCHMARKS.md" if whole else None)
    _require_place(output)
    parts = [heading(plan, load)]
    for title, measure in groups.values():
        parts.append("\n\n".join([f"## {title}", *measure(plan)]))
        print(parts[-1] + "\n", flush=True)
    if output:
        output.write_text("\n\n".join(parts) + "\n", encoding="utf-8", newline="\n")
        print(f"Written to {output}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
