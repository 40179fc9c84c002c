"""What decides a run: checked before any work, then kept in one file, for the command, a notebook and torchrun alike.

A run is a folder. Its `settings.json` is written whole, before the first step of work, after every option was found to
be one that the arithmetic below can hold; `text.txt` beside it holds the learner's own text. So a run that is stopped
in its first second goes on as well as one that is stopped in its last.

Taught in ch05, section 5.7.
"""

import json
import operator
from numbers import Real
from pathlib import Path
from typing import SupportsIndex

from ch01_understanding_llms.understanding_llms import gpt_parameter_count
from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch04_gpt_model.gpt_config import GPTConfig
from data.durable_folders import json_bytes
from data.files import write_atomically
from data.own_texts import OwnText, read_own_text
from data.story_cache import world_hash

__all__ = ["OptionError", "OtherSettings", "story_config"]

DEFAULTS = {"seed": 0, "minutes": None, "quick": False, "device": "cpu"}
PARTS = {*DEFAULTS, "text", "world", "shape", "recipe"}
FORMAT = 2  # 1: runs whose settings stood partly in run.json, and whose own texts had no documents
LARGEST_RUN_SEED = 2**32 - 1  # (seed * 1_000_003 + step) * 1_009 + rank must stay below 2**64
LONGEST_MINUTES = 7 * 24 * 60
MOST_PARAMETERS = 200_000_000  # each needs 16 bytes while it is trained
LEAST_FOR_STORIES = {"context_length": 256, "vocab_size": 512}  # the longest question then fits, with its answer
RANGES = {
    "n_layers": (1, 64),
    "d_model": (8, 2_048),
    "n_heads": (1, 128),
    "vocab_size": (256 + len(SPECIAL_TOKENS), 65_536),
    "context_length": (16, 4_096),
}


class OptionError(ValueError):
    """An option that cannot be used: its name, its value, what is wrong with it and what to use instead."""

    def __init__(self, name: str, value: object, trouble: str, use: str):
        super().__init__(f"{name}={value!r} {trouble}: use {use}")
        self.name, self.value, self.trouble, self.use = name, value, trouble, use


class OtherSettings(ValueError):
    """A run was begun with other settings: its folder, and the old and the new value of each that differs, by name."""

    def __init__(self, folder: Path, changed: dict[str, tuple]):
        told = "; ".join(f"{name} was {then!r}, now {now!r}" for name, (then, now) in changed.items())
        super().__init__(
            f"{folder} holds a run with other settings ({told}): "
            "repeat them to go on, or choose another folder for a new run"
        )
        self.folder, self.changed = folder, changed


# ---------------------------------------------------------------- options


def story_config(**changes: int) -> GPTConfig:
    """Give the shape of the course's own model with some of its numbers changed.

    Args:
        changes: any of n_layers (1 to 64), d_model (8 to 2,048, a multiple of n_heads), n_heads (1 to 128),
            vocab_size (260 to 65,536, as far as the text has enough pairs to merge) and context_length (16 to 4,096).

    Raises:
        OptionError: a number is out of its range, or the heads do not divide the width.

    Source: this course.
    """
    for name, value in changes.items():
        _require_whole(name, value, *RANGES[name])
    numbers = {name: getattr(GPTConfig.story(), name) for name in RANGES} | changes
    if rest := numbers["d_model"] % numbers["n_heads"]:
        below = max(numbers["n_heads"], numbers["d_model"] - rest)
        trouble = f"is no multiple of the {numbers['n_heads']} heads"
        raise OptionError("d_model", numbers["d_model"], trouble, str(below))
    size = gpt_parameter_count(**{name: numbers[name] for name in RANGES if name != "n_heads"})
    if size > MOST_PARAMETERS:
        name = max(changes, key=lambda name: changes[name] / getattr(GPTConfig.story(), name))
        raise OptionError(name, changes[name], f"makes {size:,} parameters, more than {MOST_PARAMETERS:,}", "less")
    return GPTConfig.from_dict(GPTConfig.story().to_dict() | {"d_ff": None} | changes)


def require_run_options(
    seed: int, minutes: float | None, quick: bool, config: GPTConfig | None, own_text: bool
) -> None:
    """Refuse what the arithmetic of a run cannot hold.

    Args:
        seed: 0 to 4,294,967,295.
        minutes: above 0, at most a week; None for the recipe's steps.
        quick: True or False.
        config: the shape; None for the course's own.
        own_text: whether it reads the learner's text and not the course's stories, messages and questions.

    Raises:
        OptionError: names the option, its value and what to use.

    Source: this course.
    """
    _require_whole("seed", seed, 0, LARGEST_RUN_SEED)
    if minutes is not None and not (isinstance(minutes, Real) and 0 < minutes <= LONGEST_MINUTES):
        use = f"a number above 0, at most {LONGEST_MINUTES:,} (a week)"
        raise OptionError("minutes", minutes, "is no time to train in", use)
    if not isinstance(quick, bool):
        raise OptionError("quick", quick, "is neither yes nor no", "True or False")
    if config not in (None, GPTConfig.story()):
        numbers = {name: getattr(config, name) for name in RANGES}
        story_config(**numbers)
        for name, least in ({} if own_text else LEAST_FOR_STORIES).items():
            if numbers[name] < least:
                raise OptionError(name, numbers[name], "is too small for the course's questions", f"{least} or more")


def _require_whole(name: str, value: SupportsIndex, low: int, high: int) -> None:
    try:
        fits = not isinstance(value, bool) and low <= operator.index(value) <= high
    except TypeError:
        fits = False
    if not fits:
        raise OptionError(name, value, "is out of range", f"a whole number from {low:,} to {high:,}")


# ---------------------------------------------------------------- the file


def world_of(text: object) -> str | None:
    """Give the hash of the story world for a run that reads its stories, and None for one with a text of its own."""
    return world_hash()[:16] if text is None else None


def stored_settings(folder: Path) -> dict | None:
    """Read what a run was begun with; None where none was begun.

    Raises:
        ValueError: the settings are damaged, or of a version of the course that this one does not go on with.

    Source: this course.
    """
    path = folder / "settings.json"
    if not path.exists():
        return _begun_in_format_1(folder)
    settings = _read_object(path) or {}
    if isinstance(settings.get("format"), int) and settings["format"] > FORMAT:
        raise ValueError(f"{path} has format {settings['format']}, this course reads up to {FORMAT}: update the course")
    if settings.get("format") == FORMAT and PARTS <= settings.keys():
        return settings
    if "format" not in settings and isinstance(settings.get("recipe"), dict) and "seed" in settings:
        return _from_format_1(folder, settings)
    raise damaged_settings(path)


def damaged_settings(path: Path) -> ValueError:
    """Say that a run's settings cannot be read."""
    return ValueError(f"{path} is damaged: bring it back, or choose another folder for a new run")


def keep_settings(folder: Path, settings: dict, own: OwnText | None = None) -> dict:
    """Write a run's settings, and its text before them, each all at once; return the settings."""
    if own is not None:
        write_atomically(folder / "text.txt", own.text)
    write_atomically(folder / "settings.json", json_bytes(settings))
    return settings


def refuse_other_settings(folder: Path, stored: dict, wanted: dict) -> None:
    """Refuse to go on with other settings than those that a run was begun with.

    Raises:
        OtherSettings: names each setting that differs.
        ValueError: the story world has changed since.

    Source: this course.
    """
    if stored["world"] and wanted["world"] and stored["world"] != wanted["world"]:
        raise ValueError(
            f"the course's stories have changed since {folder} was begun, so it cannot go on: "
            "begin another run, or delete that folder"
        )
    then, now = ({**settings, **settings["shape"]} for settings in (stored, wanted))
    changed = {name: (then.get(name), now[name]) for name in now if name != "shape" and then.get(name) != now[name]}
    if changed:
        raise OtherSettings(folder, changed)


def refuse_leftovers(folder: Path) -> None:
    """Refuse to begin a run among the results of one whose settings are gone.

    Raises:
        ValueError: names what lies there.

    Source: this course.
    """
    for name in ("checkpoints", "story_gpt"):
        if (folder / name).exists():
            raise ValueError(
                f"{folder} holds {name}, but that run's settings.json is gone: bring it back, or choose another folder"
            )


def _read_object(path: Path) -> dict | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _from_format_1(folder: Path, settings: dict) -> dict:
    """The same settings with all of today's parts; the device stood in run.json, the shape was always the course's."""
    if settings.get("text") is not None:
        raise ValueError(
            f"{folder} was begun by an earlier version of the course, which cut texts in another way, so its training "
            f"cannot go on: what is finished there still opens, and {folder / 'text.txt'} can begin another run"
        )
    begun = (_read_object(folder / "run.json") or {}).get("settings", {})
    kept = {name: settings.get(name) for name in ("seed", "minutes", "quick", "text", "world", "recipe")}
    return {"format": 1, **kept, "device": begun.get("device", "cpu"), "shape": GPTConfig.story().to_dict()}


def _begun_in_format_1(folder: Path) -> dict | None:
    """The settings of an earlier version's run that was stopped before anything was decided: they stood in run.json."""
    begun = (_read_object(folder / "run.json") or {}).get("settings")
    if begun is None:
        return None
    text = read_own_text(folder / "text.txt").hash if begun.get("text") else None
    kept = {name: begun.get(name, default) for name, default in DEFAULTS.items()}
    shape = GPTConfig.story().to_dict()
    return {"format": 1, **kept, "text": text, "world": world_of(text), "shape": shape, "recipe": None}
