"""`python course.py run`: from nothing to a GPT that tells stories, sorts messages and answers questions.

Three stages, one after another, all in `runs/NAME/`: pretraining (with its tokenizer), classifier, assistant. A stage
that is done is reused, one that was interrupted goes on from its last checkpoint, and `report.md` collects every score.
What decides a run is checked first and then kept in `settings.json`; `run.json` holds results and seconds.
"""

import argparse
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import unicodedata
import warnings
from contextlib import contextmanager
from pathlib import Path

from data.durable_folders import json_bytes
from data.files import write_atomically
from shared.commands.command_line import CommandParser, command
from shared.commands.wordings_check import require_wordings

FLAGS = {  # our own names of what decides a run, and how the options are called
    "seed": "seed", "minutes": "minutes", "text": "text", "device": "device", "quick": "quick", "n_layers": "layers",
    "d_model": "width", "n_heads": "heads", "vocab_size": "vocabulary", "context_length": "context",
}  # fmt: skip
SHAPE = ("n_layers", "d_model", "n_heads", "vocab_size", "context_length")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}
PUBLISHED_NAMES = ("smollm2",)
WRITE_ELSEWHERE = "free some space, or move the course to a folder that you may write to"
NAME_LENGTH, NAME_BYTES = 64, 200
NAME_FORM = f"use up to {NAME_LENGTH} letters, digits, dots, dashes and underscores"


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    about = "Train a tokenizer, a GPT, a classifier and an assistant, then talk to it. A second call goes on."
    options = CommandParser("run", about)
    options.add_argument("--name", help="folder in runs/ (default: default; quick for --quick; the file's for --text)")
    options.add_argument("--minutes", type=float, help="how long to pretrain, instead of the recipe's steps")
    options.add_argument(
        "--text", nargs="+", action="extend", metavar="PATH",
        help="pretrain on your own text instead of the stories: UTF-8 files, or folders of .txt, .md and .jsonl",
    )  # fmt: skip
    options.add_argument("--device", help="cpu (default), cuda, mps, or auto")
    options.add_argument("--seed", type=int, help="another number, another model (default 0)")
    options.add_argument("--quick", action="store_true", default=None, help="the whole chain in under a minute")
    options.add_argument("--no-chat", action="store_true", help="end after the report, without a prompt")
    shape = options.add_argument_group("another shape of the GPT")
    shape.add_argument("--layers", dest="n_layers", type=int, metavar="N", help="blocks (default 4)")
    shape.add_argument("--width", dest="d_model", type=int, metavar="N", help="numbers for each token (default 128)")
    shape.add_argument("--heads", dest="n_heads", type=int, metavar="N", help="attention heads of a block (default 4)")
    shape.add_argument("--vocabulary", dest="vocab_size", type=int, metavar="N", help="most tokens (default 3072)")
    shape.add_argument("--context", dest="context_length", type=int, metavar="N", help="tokens it reads (default 320)")
    return options


# ---------------------------------------------------------------- what a run is


class Run:
    """One folder in `runs/`, its settings and own text if any; its stages' results and seconds stand in `run.json`."""

    def __init__(self, folder: Path, settings: dict, own=None):
        self.folder, self.settings, self.own = folder, settings, own
        self.state: dict[str, dict] = {"seconds": {}, "results": {}}
        kept = _read_json(folder / "run.json")
        if isinstance(kept, dict):  # a damaged part counts as not there
            self.state |= {part: kept[part] for part in self.state if isinstance(kept.get(part), dict)}

    def save(self) -> None:
        """Write `run.json` all at once."""
        write_atomically(self.folder / "run.json", json_bytes(self.state))

    def result(self, stage: str, model: str) -> dict | None:
        """Return a stage's stored result when the model it speaks of is still the one on disk."""
        stored = self.state["results"].get(stage)
        return stored if stored and stored.get("of") == _hash(self.folder / model / "manifest.json") else None

    def keep(self, stage: str, model: str, values: dict) -> dict:
        """Store a stage's result beside the hash of the model it speaks of."""
        values = {"of": _hash(self.folder / model / "manifest.json"), **values}
        self.state["results"][stage] = values
        self.save()
        return values

    @contextmanager
    def timed(self, stage: str):
        """Add the seconds spent inside to a stage, interrupted or not."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.state["seconds"][stage] = self.state["seconds"].get(stage, 0.0) + spent
            self.save()


def folder_of(options: argparse.Namespace, runs: Path) -> Path:
    """Find the folder that the options mean.

    Raises:
        ValueError: the name cannot be a folder everywhere, or differs from another run's in capital letters only.
    """
    if options.text and not all(options.text):
        raise ValueError("--text '' names no file: give the path of a text, or leave the option out")
    name = unicodedata.normalize("NFC", options.name or _default_name(options))
    if trouble := _trouble_with(name):
        raise ValueError(f"--name {name!r} {trouble}: {NAME_FORM}")
    if not (runs / name).exists() and runs.is_dir():
        twins = [path.name for path in runs.iterdir() if path.name.casefold() == name.casefold()]
        if twins:
            raise ValueError(f"--name {name!r} is the run {twins[0]!r} on many systems: write it so, or choose another")
    return runs / name


def _trouble_with(name: str) -> str | None:
    if not name[0].isalnum() or name[-1] == "." or not all(map(_fits, name)):
        return "cannot be a folder in runs/"
    if len(name) > NAME_LENGTH or len(name.encode("utf-8")) > NAME_BYTES:
        return "is too long"
    if name.casefold() == "shipped":
        return "means the models that come with the course"
    if name.casefold() in PUBLISHED_NAMES:
        return "means a published model"
    return "means a device on Windows" if name.split(".")[0].casefold() in RESERVED else None


def _fits(character: str) -> bool:
    return character.isalnum() or character in "._-" or unicodedata.category(character)[0] == "M"


def _default_name(options: argparse.Namespace) -> str:
    """The first text's name, made a valid one, or the name of the recipe."""
    if options.text is None:
        return "quick" if options.quick else "default"
    path, others = Path(os.path.realpath(options.text[0])), len(options.text) - 1
    stem = unicodedata.normalize("NFC", path.name if os.path.isdir(path) else path.stem)
    name = "".join(character if _fits(character) else " " for character in stem)
    name = re.sub(r"\s+", "-", name).lstrip("-._")[: NAME_LENGTH - 16]
    while len(name.encode("utf-8")) > NAME_BYTES - 16:
        name = name[:-1]
    name = (name.rstrip("-._") or "own-text") + (f"-and-{others}-more" if others else "")
    return f"{name}-text" if _trouble_with(name) else name


def open_run(options: argparse.Namespace, runs: Path) -> Run:
    """Find or begin the run that the options mean; nothing is written before everything is checked.

    Raises:
        ValueError: a name, a text or another option that cannot be used, or that contradicts what the run was begun
            with.
    """
    from ch05_pretraining.run_settings import OptionError, OtherSettings, stored_settings
    from ch05_pretraining.story_recipe import begin_story_gpt

    folder = folder_of(options, runs)
    if (folder / "finetune.json").is_file():
        raise ValueError(f"{_shown(folder)} was made by course.py finetune: choose another run with --name NEWNAME")
    stored = stored_settings(folder) or {}
    given = {name: value for name in FLAGS if (value := getattr(options, name)) is not None}
    try:
        wanted = _wanted(folder, stored, given)
        if wanted["text"] is None:
            require_wordings()
        return Run(folder, begin_story_gpt(folder, **wanted), wanted["text"])
    except OptionError as error:
        raise ValueError(f"--{FLAGS[error.name]} {error.value} {error.trouble}: use {error.use}") from error
    except OtherSettings as error:
        raise ValueError(_contradiction(folder, error, given)) from error
    except ValueError as error:
        raise ValueError(re.sub(r"\bdevice='(\w*)'", r"--device \1", str(error))) from error  # the option's own name


def _wanted(folder: Path, stored: dict, given: dict) -> dict:
    """What was given, and what the run was begun with where nothing was, as `train_story_gpt` takes it."""
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch05_pretraining.run_settings import story_config
    from data.own_texts import read_own_text

    wanted = {name: stored[name] for name in ("seed", "minutes", "quick", "device") if name in stored}
    wanted |= {name: value for name, value in given.items() if name not in SHAPE}
    kept = [folder / "text.txt"] if stored.get("text") else []  # the user's own file may have changed or gone since
    paths: list[str | Path] = [Path(path) for path in given.get("text", kept)]
    wanted["text"] = read_own_text(paths) if paths else None
    shape = stored.get("shape")
    if changes := {name: given[name] for name in SHAPE if name in given}:
        begun = {name: shape[name] for name in SHAPE} if shape else {}
        return wanted | {"config": story_config(**begun | changes)}
    return wanted | {"config": GPTConfig.from_dict(shape) if shape else None}


def _contradiction(folder: Path, error, given: dict) -> str:
    if "text" in error.changed and "text" not in given:
        return f"{_shown(folder / 'text.txt')} was changed after the run had begun: bring it back, or begin another run"
    name = next((name for name in given if name in error.changed), None)
    if name is None:  # a number that has no option, of a run that a notebook has begun
        return str(error)
    then = error.changed[name][0]
    was = f"without --{name}" if then is None or then is False else f"with --{FLAGS[name]} {then}"
    was = "with another text" if name == "text" and then else was
    return (
        f"{_shown(folder)} was begun {was}: leave the option out to go on with it, "
        "or begin another run with --name NEWNAME"
    )


def _read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _hash(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


# ---------------------------------------------------------------- what is seen meanwhile


COUNTED = {"classifier": "messages"}  # what a stage grades one by one, where it is no token


class ProgressLine:
    """One line that says how a stage goes: rewritten in place on a terminal, every ten seconds anywhere else."""

    def __init__(self, stage: str, stream=None, pause: float | None = None):
        self.stage, self.stream = stage, stream or sys.stdout
        self.moving = self.stream.isatty()
        self.pause = (0.2 if self.moving else 10.0) if pause is None else pause
        self.shown_at, self.val_loss, self.width, self.last = -float("inf"), None, 0, None

    def __call__(self, progress) -> None:
        self.val_loss = self.val_loss if progress.val_loss is None else progress.val_loss
        self.last = progress
        if time.monotonic() - self.shown_at >= self.pause or progress.step == progress.max_steps:
            self.shown_at = time.monotonic()
            self._show(self.sentence(progress))

    def sentence(self, progress) -> str:
        """Say step, loss, speed and time left."""
        parts = [f"{self.stage}  step {progress.step:,}/{progress.max_steps:,}", f"loss {progress.loss:.3f}"]
        if self.val_loss is not None:
            parts.append(f"validation {self.val_loss:.3f}")
        speed = f"{progress.tokens_per_second:,.0f} {COUNTED.get(self.stage, 'tokens')}/s"
        return "  ".join([*parts, speed, f"{clock(progress.seconds_left)} left"])

    def _show(self, text: str) -> None:
        if self.moving:
            self.stream.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def end(self) -> None:
        """Leave the line as it stands."""
        if self.moving and self.width:
            self.stream.write("\n")
            self.stream.flush()


def clock(seconds: float) -> str:
    """Write seconds as minutes:seconds.

    Args:
        seconds: 0 or more.
    """
    seconds = max(0, round(seconds))
    return f"{seconds // 60}:{seconds % 60:02d}"


@contextmanager
def stage(run: Run, name: str, what: str):
    """Announce a stage, time it, and give its progress line."""
    print(f"{name}: {what}", flush=True)
    line = ProgressLine(name)
    try:
        with run.timed(name):
            yield line
    finally:
        line.end()


# ---------------------------------------------------------------- the stages


def pretrain(run: Run):
    """Train tokenizer and story GPT, or load what is done; return what `train_story_gpt` returns."""
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch05_pretraining.story_recipe import train_story_gpt

    options = {name: run.settings[name] for name in ("seed", "minutes", "quick", "device")}
    options["config"] = GPTConfig.from_dict(run.settings["shape"])
    source = "your text" if run.own else "stories, very short ones to begin with"
    if (run.folder / "story_gpt" / "manifest.json").is_file():
        print("pretraining: done earlier")
        return train_story_gpt(run.folder, text=run.own, **options)
    if run.own:
        print("\n".join([*run.own.notes, advice(run)]), flush=True)
    with stage(run, "pretraining", f"a tokenizer first, then the GPT reads {source}") as line:
        return train_story_gpt(run.folder, text=run.own, on_step=line, **options)


def advice(run: Run) -> str:
    """Say which shape and how much training suit a run's own text."""
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch05_pretraining.own_text import text_advice
    from ch05_pretraining.story_recipe import StoryRecipe

    recipe = run.settings["recipe"] or {"batch_size": StoryRecipe.batch_size, "story_steps": None}
    shape = GPTConfig.from_dict(run.settings["shape"])
    return text_advice(run.own.n_bytes, shape, recipe["batch_size"], recipe["story_steps"])


def score_stories(run: Run, trained) -> dict:
    """Grade the pretrained model: against the floor, against n-grams, and by the stories it tells."""
    from shared.commands import run_report as report

    if stored := run.result("stories", "story_gpt"):
        return stored
    with stage(run, "scores", "bits per word, n-gram models of the same stories, and 600 stories of its own"):
        values = report.story_scores(trained, quick=run.settings["quick"])
    return run.keep("stories", "story_gpt", values)


def score_text(run: Run, trained) -> dict:
    """Grade the model of an own text: against n-grams and lzma, by a verdict, and by what it writes."""
    from shared.commands import run_report as report

    if stored := run.result("text", "story_gpt"):
        return stored
    with stage(run, "scores", "bits per byte, n-gram models and lzma on the same text, and what the model writes"):
        values = report.text_scores(trained)
    return run.keep("text", "story_gpt", values)


def finetune(run: Run, name: str, what: str, train, summary) -> dict:
    """Fine-tune a copy of the story GPT in one way, or take what is done, and return its scores."""
    done = (run.folder / name / "manifest.json").is_file()
    damaged = done and _is_damaged(run.folder / name)
    if done and not damaged and (stored := run.result(name, name)):
        print(f"{name}: done earlier")
        return stored
    options = {key: run.settings[key] for key in ("seed", "quick", "device")}
    if damaged:
        print(f"{name}: {_shown(run.folder / name)} is damaged, so it is made again")
        options["resume"] = False
    with stage(run, name, what) as line:
        outcome = train(run.folder / name, run.folder / "story_gpt", on_step=line, **options)
    return run.keep(name, name, summary(outcome))


def _is_damaged(folder: Path) -> bool:
    from data.durable_folders import CheckpointError, read_folder

    try:
        read_folder(folder)
    except CheckpointError:
        return True
    return False


def run_stages(run: Run) -> None:
    """Do everything that is not done yet and write the report."""
    from shared.commands import run_report as report

    trained = pretrain(run)
    if run.settings["text"]:
        graded = score_text(run, trained)
    else:
        from ch06_finetuning.recipes import finetune_assistant, finetune_classifier

        graded = score_stories(run, trained)
        about = "the same weights learn to sort messages"
        finetune(run, "classifier", about, finetune_classifier, report.classifier_scores)
        about = "the same weights learn to answer"
        finetune(run, "assistant", about, finetune_assistant, report.assistant_scores)
    report.draw_losses(run.folder / "loss.png", trained, graded)
    text = report.write_report(run.folder, run.state, trained)
    print(f"\n{text}\nEverything is in {_shown(run.folder)}: report.md, loss.png, stories.txt and the models.")


def say_how_to_go_on(run: Run | None, arguments: list[str]) -> str:
    """Return what is printed after Ctrl-C: the command that goes on, or the same again when nothing was begun."""
    if run is None:
        words = subprocess.list2cmdline(arguments) if os.name == "nt" else shlex.join(arguments)
        return f"\nStopped before anything was begun; begin with: python course.py run {words}".rstrip()
    name = "" if run.folder.name == "default" else f" --name {run.folder.name}"
    return f"\nStopped. What is done is saved in {_shown(run.folder)}; go on with: python course.py run{name}"


@command("run")
def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, report, and talk; return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, run = parser().parse_args(arguments), None
    try:
        from data.locks import alone_in
        from data.paths import runs_dir

        run = open_run(options, runs_dir())
        with alone_in(run.folder), warnings.catch_warnings():
            # a warning is a sentence for the user, not a line of source code
            warnings.showwarning = lambda message, *_: print(f"course.py run: {message}", file=sys.stderr)
            run_stages(run)
    except KeyboardInterrupt:
        print(say_how_to_go_on(run, arguments), flush=True)
        return 130
    except BrokenPipeError:  # an OSError too, but nothing that free space would mend: `command` ends quietly on it
        raise
    except OSError as error:
        remedy = f"{WRITE_ELSEWHERE}; the same command then goes on"
        raise ValueError(f"{error.filename or runs_dir()}: {error.strerror or error}: {remedy}") from error
    if sys.stdin.isatty() and not options.no_chat and not run.own:
        from shared.commands import chat

        return chat.main([run.folder.name])
    prompt = "" if run.own else ' "Once upon a time"'
    print(f"Let it tell something: python course.py sample{prompt} --run {run.folder.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
