"""`python course.py run`: from nothing to a GPT that tells stories, sorts messages and answers questions.

Three stages, one after another, all in `runs/NAME/`: pretraining (with its tokenizer), classifier, assistant. A stage
that is done is reused, one that was interrupted goes on from its last checkpoint, and `report.md` collects every score.
"""

import argparse
import hashlib
import json
import math
import os
import re
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from data.files import write_atomically

SETTINGS = ("seed", "minutes", "text", "device", "quick")  # what decides a run, once and for all


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = argparse.ArgumentParser(
        prog="course.py run",
        description="Train a tokenizer, a GPT, a classifier and an assistant, then talk to it. A second call goes on.",
    )
    options.add_argument("--name", help="folder in runs/ (default: default; quick for --quick; the file's for --text)")
    options.add_argument("--minutes", type=float, help="how long to pretrain, instead of the recipe's steps")
    options.add_argument("--text", type=Path, metavar="FILE", help="pretrain on your own text instead of the stories")
    options.add_argument("--device", help="cpu (default), cuda, mps, or auto")
    options.add_argument("--seed", type=int, help="another number, another model (default 0)")
    options.add_argument("--quick", action="store_true", default=None, help="the whole chain in under a minute")
    options.add_argument("--no-chat", action="store_true", help="end after the report, without a prompt")
    return options


# ---------------------------------------------------------------- what a run is


class Run:
    """One folder in `runs/` with its settings, its stages' results and seconds, kept in `run.json`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.state = {"settings": {}, "seconds": {}, "results": {}}
        kept = _read_json(folder / "run.json")
        if isinstance(kept, dict):  # a damaged part counts as not there
            self.state |= {part: kept[part] for part in self.state if isinstance(kept.get(part), dict)}

    @property
    def settings(self) -> dict:
        return self.state["settings"]

    def save(self) -> None:
        """Write `run.json` all at once."""
        write_atomically(self.folder / "run.json", json.dumps(self.state, indent=1) + "\n")

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


def open_run(options: argparse.Namespace, runs: Path) -> Run:
    """Find or begin the run that the options mean.

    Raises:
        ValueError: a bad name, a text that cannot be read, or options that contradict what the run was begun with.
    """
    name = options.name or _default_name(options)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == "shipped":
        raise ValueError(f"--name {name!r} cannot be a folder in runs/: use letters, digits, dots and dashes")
    if options.minutes is not None and not 0 < options.minutes < math.inf:
        raise ValueError(f"--minutes {options.minutes:g} is no time to train in: give a number above 0, such as 5")
    run = Run(runs / name)
    given = {key: value for key in SETTINGS if (value := getattr(options, key)) is not None}
    text = _read_text(given["text"]) if "text" in given else None
    if text is not None:
        given["text"] = hashlib.sha256(text).hexdigest()
    defaults = {"seed": 0, "minutes": None, "text": None, "device": "cpu", "quick": False}
    kept = run.folder / "settings.json"  # what train_story_gpt keeps, whoever has called it
    begun = _read_json(kept)
    if not (begun and isinstance(begun, dict)) and kept.exists():
        raise ValueError(f"{_shown(kept)} is damaged: bring it back, or begin another run with --name NEWNAME")
    if begun:
        run.state["settings"] = {key: begun.get(key, value) for key, value in defaults.items()} | run.settings
        _refuse_contradiction(run, given)
        _refuse_another_world(run, begun)
    else:
        run.state["settings"] = {**defaults, **given}
    run.save()
    if text is not None:
        (run.folder / "text.txt").write_bytes(text)
    return run


def _default_name(options: argparse.Namespace) -> str:
    if options.text is not None:
        return re.sub(r"[^A-Za-z0-9._-]+", "-", options.text.stem).strip("-._") or "own-text"
    return "quick" if options.quick else "default"


def _refuse_contradiction(run: Run, given: dict) -> None:
    for key, value in given.items():
        kept = run.settings.get(key)
        if value != kept:
            was = f"without --{key}" if kept is None or kept is False else f"with --{key} {kept}"
            was = "with another text" if key == "text" and kept else was
            raise ValueError(
                f"{_shown(run.folder)} was begun {was}: leave the option out to go on with it, "
                "or begin another run with --name NEWNAME"
            )


def _refuse_another_world(run: Run, begun: dict) -> None:
    from data.story_cache import world_hash

    if begun.get("world") and not world_hash().startswith(begun["world"]):
        raise ValueError(
            f"the course's stories have changed since {_shown(run.folder)} was begun, so it cannot go on: "
            "begin another run with --name NEWNAME, or delete that folder"
        )


def _read_text(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}): save it as plain text in UTF-8") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): give the path of a plain text file") from error
    return content


@contextmanager
def alone_in(folder: Path):
    """Hold the run's lock, which the system lets go of when this process ends in whatever way.

    Raises:
        ValueError: another process trains in this folder.
    """
    with open(folder / ".lock", "a+b") as lock:
        try:
            _lock(lock)
        except OSError as error:
            raise ValueError(f"another process is training in {_shown(folder)}: wait for it or stop it") from error
        yield


def _lock(file) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


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
        return "  ".join(
            [*parts, f"{progress.tokens_per_second:,.0f} tokens/s", f"{clock(progress.seconds_left)} left"]
        )

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
    from ch05_pretraining.story_recipe import train_story_gpt

    settings = dict(run.settings)
    own_text = run.folder / "text.txt" if settings.pop("text") else None
    source = "your text" if own_text else "stories, very short ones to begin with"
    if (run.folder / "story_gpt" / "manifest.json").is_file():
        print("pretraining: done earlier")
        return train_story_gpt(run.folder, text=own_text, **settings)
    with stage(run, "pretraining", f"a tokenizer first, then the GPT reads {source}") as line:
        return train_story_gpt(run.folder, text=own_text, on_step=line, **settings)


def score_stories(run: Run, trained) -> dict:
    """Grade the pretrained model: against the floor, against n-grams, and by the stories it tells."""
    from shared import report

    if stored := run.result("stories", "story_gpt"):
        return stored
    with stage(run, "scores", "bits per word, n-gram models of the same stories, and 200 stories of its own"):
        values = report.story_scores(trained, quick=run.settings["quick"], own_text=bool(run.settings["text"]))
    return run.keep("stories", "story_gpt", values)


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
    from ch05_pretraining.checkpoints import CheckpointError, read_folder

    try:
        read_folder(folder)
    except CheckpointError:
        return True
    return False


def run_stages(run: Run) -> None:
    """Do everything that is not done yet and write the report."""
    from shared import report

    trained = pretrain(run)
    score_stories(run, trained)
    if not run.settings["text"]:
        from ch06_finetuning.recipes import finetune_assistant, finetune_classifier

        about = "the same weights learn to sort messages"
        finetune(run, "classifier", about, finetune_classifier, report.classifier_scores)
        about = "the same weights learn to answer"
        finetune(run, "assistant", about, finetune_assistant, report.assistant_scores)
    report.draw_losses(run.folder / "loss.png", trained, run.state["results"]["stories"])
    text = report.write_report(run.folder, run.state, trained)
    print(f"\n{text}\nEverything is in {_shown(run.folder)}: report.md, loss.png, stories.txt and the models.")


def say_how_to_go_on(run: Run) -> str:
    """Return what is printed after Ctrl-C."""
    name = "" if run.folder.name == "default" else f" --name {run.folder.name}"
    return f"\nStopped. What is done is saved in {_shown(run.folder)}; go on with: python course.py run{name}"


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, report, and talk; return the exit status."""
    options = parser().parse_args(arguments)
    from data.paths import runs_dir

    try:
        run = open_run(options, runs_dir())
        with alone_in(run.folder), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"course.py run: {message}", file=sys.stderr)
            run_stages(run)
    except KeyboardInterrupt:
        print(say_how_to_go_on(run), flush=True)
        return 130
    except ValueError as error:
        print(f"course.py run: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        remedy = "free some space, or move the course to a folder that you may write to; the same command then goes on"
        print(f"course.py run: {error.filename or runs_dir()}: {error.strerror or error}: {remedy}", file=sys.stderr)
        return 1
    if sys.stdin.isatty() and not options.no_chat and not run.settings["text"]:
        from shared.commands import chat

        return chat.main([run.folder.name])
    name = "" if run.folder.name == "default" else f" --run {run.folder.name}"
    print(f'Let it tell something: python course.py sample "Once upon a time"{name or " --run default"}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
