"""The recipe of the story GPT: one function for the command, the notebook and `torchrun`.

    python -m ch05_pretraining.story_recipe --name first
    torchrun --standalone --nproc-per-node 2 -m ch05_pretraining.story_recipe --name first

A tokenizer is trained on some of the stories. The model begins with very short stories, which switch on the skill that
keeps a name through a story, and then reads whole stories from their first token. A text of one's own is read in
windows instead (`own_text.py`); what decides a run is checked and kept first of all (`run_settings.py`).

References: Eldan and Li (2023), "TinyStories" (2305.07759); Olsson et al. (2022),
2209.11895. Taught in ch05, section 5.7.
"""

import argparse
import dataclasses
import json
import math
import operator
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.datasets import StoryDataset, create_story_dataloader
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.curriculum import Curriculum, FirstReader
from ch05_pretraining.machine import choose_device, leave_together, on_first_rank, rank_and_world_size
from ch05_pretraining.own_text import text_loaders
from ch05_pretraining.pretraining import TrainConfig, train
from ch05_pretraining.run_settings import (
    FORMAT,
    damaged_settings,
    keep_settings,
    refuse_leftovers,
    refuse_other_settings,
    require_run_options,
    stored_settings,
    world_of,
)
from ch05_pretraining.run_state import History, Progress
from ch05_pretraining.saved_models import load_model, save_model
from ch05_pretraining.story_scores import StoryScores, evaluate_stories
from data.durable_folders import CheckpointError, json_bytes
from data.files import write_atomically
from data.loaders import load_stories
from data.locks import alone_in
from data.own_texts import OwnText, read_own_text
from data.paths import runs_dir

__all__ = ["StoryRecipe", "StoryResult", "begin_story_gpt", "train_story_gpt"]

HELD_OUT = ("heldout_names", "heldout_objects", "heldout_both")


@dataclass(frozen=True)
class StoryRecipe:
    """Every number of the recipe; `quick` and `minutes` change some of them, and the run's settings keep the result.

    Why float32, where bfloat16 is often faster: the recipe was trained once with each, with seed 0 on one processor.
    Both reached 1.003 bits a word on the validation stories. Of 1,200 stories that each told, 1,011 were coherent in
    float32 and 859 in bfloat16; the average over all words did not show it.
    """

    n_stories: int = 20_000
    n_tokenizer_stories: int = 2_000
    vocab_size: int = 3_072
    n_minis: int = 16_000
    mini_steps: int = 500
    alone_share: float = 0.56
    mini_batch_size: int = 24
    most_minis_in_a_row: int = 5
    rehearse_every: int = 12
    rehearse_share: float = 0.5
    batch_size: int = 8
    story_steps: int = 2_900
    learning_rate: float = 1e-2
    muon_learning_rate: float = 2e-2
    warmup_steps: int = 50
    weight_decay: float = 0.0
    schedule: str = "linear"
    decay_fraction: float = 0.6
    precision: str = "float32"
    products: str = "auto"
    eval_every: int = 200
    checkpoint_every: int = 200
    keep_best: bool = False
    n_watched: int = 64
    n_validation: int = 500
    n_heldout: int = 200


QUICK = {
    "n_stories": 1_000, "n_tokenizer_stories": 500, "n_minis": 500, "mini_steps": 20,
    "story_steps": 100, "warmup_steps": 10, "products": "linear", "eval_every": 40, "checkpoint_every": 40,
    "n_watched": 32, "n_validation": 50, "n_heldout": 25,
}  # fmt: skip


@dataclass(frozen=True)
class StoryResult:
    """A trained story GPT with everything worth knowing about its making; scores by split."""

    model: GPTModel
    tokenizer: BPETokenizer
    history: History
    scores: dict[str, StoryScores]
    settings: dict
    folder: Path


def train_story_gpt(
    folder: str | Path, *, seed: int = 0, minutes: float | None = None, text: str | Path | list | OwnText | None = None,
    device: str = "cpu", quick: bool = False, config: GPTConfig | None = None,
    on_step: Callable[[Progress], None] | None = None, resume: bool = True,
) -> StoryResult:  # fmt: skip
    """Train the story GPT in a run's folder, or finish what was begun there, or load what is finished.

    Args:
        folder: gets `settings.json`, `tokenizer.json`, `checkpoints/` and, at the end, the model in `story_gpt/`.
        seed: decides the first weights and the order of the stories, 0 to 4,294,967,295.
        minutes: training time, above 0 and at most a week, turned into steps once by a short measurement; None for
            the recipe's steps.
        text: the learner's own text instead of stories: what `read_own_text` takes (a string, the path of a file or
            folder, a list of them) or gives. About a tenth is kept aside for the grade, and the weights that predict
            that tenth best are kept.
        device: "cpu", "cuda", "mps", or "auto" for a GPU that computes what the CPU computes, or else the CPU.
        quick: a first look in a fraction of a minute.
        config: another shape, as `story_config` gives it; its `vocab_size` is the size that the tokenizer aims at.
        on_step: called after every step.
        resume: go on where an earlier call with the same settings stopped.

    Raises:
        ValueError: an option or the text cannot be used, the folder holds a run with other settings, or another
            process trains there.
        TrainingInterrupted: Ctrl-C, after saving.

    Source: this course. Taught in ch05, section 5.7.
    """
    folder, (wanted, own) = Path(folder), _wanted(seed, minutes, text, device, quick, config)
    begun = _agreed(folder, wanted, resume)
    if begun.get("recipe") and (finished := _finished(folder, begun)):
        return finished
    with alone_in(folder) if rank_and_world_size()[0] == 0 else nullcontext():
        on_first_rank(lambda: _prepare(folder, wanted, own))
        settings = _agreed(folder, wanted)
        recipe, tokenizer = _recipe_of(folder, settings), BPETokenizer.load(folder / "tokenizer.json")
        model = _new_model(settings, tokenizer).to(choose_device(device))
        train_loader, val_loader = _loaders(recipe, tokenizer, model.config.context_length, seed, own)
        history = train(
            model, train_loader, val_loader, _train_config(recipe, seed),
            checkpoint_dir=folder / "checkpoints", resume=True, on_step=on_step,
        )  # fmt: skip
        scores = on_first_rank(lambda: _grade_and_save(folder, model, tokenizer, recipe, settings, history, own))
    return StoryResult(model.eval(), tokenizer, history, scores or {}, settings, folder)


def begin_story_gpt(
    folder: str | Path, *, seed: int = 0, minutes: float | None = None, text: str | Path | list | OwnText | None = None,
    device: str = "cpu", quick: bool = False, config: GPTConfig | None = None,
) -> dict:  # fmt: skip
    """Check what decides a run and keep it in the run's folder, where a run with the same settings may have begun.

    Args:
        folder: gets `settings.json`, and `text.txt` for a text of one's own; nothing is written before all is checked.
        seed, minutes, text, device, quick, config: see `train_story_gpt`.

    Raises:
        ValueError: see `train_story_gpt`; the folder is left as it was.

    Source: this course. Taught in ch05, section 5.7.
    """
    return _begin(Path(folder), *_wanted(seed, minutes, text, device, quick, config))


# ---------------------------------------------------------------- settings: checked, then kept, then worked with


def _wanted(
    seed: int, minutes: float | None, text: str | Path | list | OwnText | None, device: str, quick: bool,
    config: GPTConfig | None,
) -> tuple[dict, OwnText | None]:  # fmt: skip
    """What a caller asks for, checked: a run's settings but for the recipe, and the text."""
    require_run_options(seed, minutes, quick, config, own_text=text is not None)
    place = choose_device(device)
    own = text if text is None or isinstance(text, OwnText) else read_own_text(text)
    return {
        "seed": operator.index(seed),
        "minutes": minutes and float(minutes),
        "quick": quick,
        "device": place.type,
        "text": own and own.hash,
        "world": world_of(own),
        "shape": (config or GPTConfig.story()).to_dict(),
    }, own


def _agreed(folder: Path, wanted: dict, resume: bool = True) -> dict:
    """The settings that a folder's run was begun with, if they are those that are wanted; {} where none was begun."""
    stored = stored_settings(folder)
    if stored is None:
        refuse_leftovers(folder)
        return {}
    if not resume:
        raise ValueError(f"{folder} holds a run already: go on with resume=True, or choose another folder")
    if stored["recipe"] is not None:
        _recipe_of(folder, stored)
    refuse_other_settings(folder, stored, wanted)
    return stored


def _begin(folder: Path, wanted: dict, own: OwnText | None) -> dict:
    """Keep a run's settings in today's form, unless they are there."""
    stored = _agreed(folder, wanted)
    if stored.get("format") == FORMAT:
        return stored
    with alone_in(folder):
        stored = _agreed(folder, wanted)  # another process may have been quicker
        recipe = stored.get("recipe")
        if recipe is None:
            (folder / "tokenizer.json").unlink(missing_ok=True)  # of a run that nobody knows any more
            recipe = None if wanted["minutes"] else asdict(_first_recipe(wanted, own))
        return keep_settings(folder, {"format": FORMAT, **wanted, "recipe": recipe}, own)


def _first_recipe(settings: dict, own: OwnText | None) -> StoryRecipe:
    """The recipe before it is fitted to minutes."""
    recipe = StoryRecipe(**{**(QUICK if settings["quick"] else {}), "vocab_size": settings["shape"]["vocab_size"]})
    if own is None:
        return recipe
    length = settings["shape"]["context_length"]
    watched = min(recipe.n_watched * length, sum(map(len, own.split()[1])) // 3)  # tokens, about
    cheap = math.ceil(watched / (0.15 * recipe.batch_size * length))  # steps between looks: they cost a twentieth
    looks = min(max(10, cheap), recipe.eval_every, max(1, recipe.story_steps // 10))
    return dataclasses.replace(recipe, mini_steps=0, keep_best=True, eval_every=looks)


def _recipe_of(folder: Path, settings: dict) -> StoryRecipe:
    try:
        kept = settings["recipe"]  # an earlier course kept no products
        return StoryRecipe(**{"products": "auto" if kept["precision"] == "auto" else "linear", **kept})
    except (TypeError, KeyError) as error:
        raise damaged_settings(folder / "settings.json") from error


def _prepare(folder: Path, wanted: dict, own: OwnText | None) -> None:
    """Keep the settings, train the tokenizer and decide the number of steps, unless an earlier call has."""
    settings, file = _begin(folder, wanted, own), folder / "tokenizer.json"
    recipe = _recipe_of(folder, settings) if settings["recipe"] else _first_recipe(settings, own)
    if not file.exists():
        _train_tokenizer(recipe, own).save(file)
    if settings["recipe"] is None:
        recipe = _fit_to_minutes(recipe, settings, BPETokenizer.load(file), own)
        keep_settings(folder, settings | {"recipe": asdict(recipe)})


def _train_tokenizer(recipe: StoryRecipe, own: OwnText | None) -> BPETokenizer:
    if own is not None:
        return BPETokenizer.train(own.split()[0], recipe.vocab_size, SPECIAL_TOKENS)  # nothing of what is kept aside
    stories = load_stories("train", recipe.n_stories)[: recipe.n_tokenizer_stories]
    return BPETokenizer.train([s.text for s in stories], recipe.vocab_size, SPECIAL_TOKENS)


def _finished(folder: Path, settings: dict) -> StoryResult | None:
    """Load the finished model of an earlier call; one that is damaged is made again from the last checkpoint."""
    try:
        model, tokenizer = load_model(folder / "story_gpt")
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        report = json.loads((folder / "story_gpt" / "recipe.json").read_text(encoding="utf-8"))
    except (CheckpointError, OSError, ValueError):
        return None
    assert isinstance(tokenizer, BPETokenizer)  # a run trains its own
    scores = {split: StoryScores(**values) for split, values in report["scores"].items()}
    return StoryResult(model, tokenizer, History(**history), scores, settings, folder)


def _fit_to_minutes(recipe: StoryRecipe, settings: dict, tokenizer: BPETokenizer, own: OwnText | None) -> StoryRecipe:
    """Scale both phases so that they last so many minutes on this machine, if minutes are given."""
    if settings["minutes"] is None:
        return recipe
    sample = dataclasses.replace(recipe, n_stories=min(recipe.n_stories, 50 * recipe.batch_size), n_watched=1)
    model = _new_model(settings, tokenizer).to(choose_device(settings["device"]))
    phases = {
        "mini_steps": dataclasses.replace(sample, mini_steps=8, story_steps=0),
        "story_steps": dataclasses.replace(sample, mini_steps=0, story_steps=8),
    }
    seconds = {}
    for name, probe in phases.items():
        if not getattr(recipe, name):
            continue
        loader, _ = _loaders(probe, tokenizer, model.config.context_length, settings["seed"], own)
        config = dataclasses.replace(_train_config(probe, settings["seed"]), keep_best=False)
        seconds[name] = getattr(recipe, name) * _seconds_per_step(model, loader, config)
    share = settings["minutes"] * 60 / sum(seconds.values())
    return dataclasses.replace(recipe, **{name: max(1, round(share * getattr(recipe, name))) for name in seconds})


def _seconds_per_step(model: GPTModel, loader: Iterable, config: TrainConfig, warm_up: int = 2) -> float:
    stamps = train(model, loader, None, config).seconds
    return (stamps[-1] - stamps[warm_up - 1]) / (len(stamps) - warm_up)


# ---------------------------------------------------------------- model, loaders, grades


def _new_model(settings: dict, tokenizer: BPETokenizer) -> GPTModel:
    shape = settings["shape"] | {"vocab_size": tokenizer.vocab_size}  # fewer where no pair was left to merge
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        return GPTModel(GPTConfig.from_dict(shape))


def _train_config(recipe: StoryRecipe, seed: int) -> TrainConfig:
    return TrainConfig(
        max_steps=recipe.mini_steps + recipe.story_steps, warmup_steps=recipe.warmup_steps, optimizer="muon",
        learning_rate=recipe.learning_rate, muon_learning_rate=recipe.muon_learning_rate,
        weight_decay=recipe.weight_decay, schedule=recipe.schedule, decay_fraction=recipe.decay_fraction,
        precision=recipe.precision, products=recipe.products,
        eval_every=recipe.eval_every, checkpoint_every=recipe.checkpoint_every, keep_best=recipe.keep_best, seed=seed,
    )  # fmt: skip


def _loaders(
    recipe: StoryRecipe, tokenizer: BPETokenizer, context_length: int, seed: int, own: OwnText | None
) -> tuple[Curriculum, DataLoader]:
    rank, world_size = rank_and_world_size()
    if own is None:
        create = partial(create_story_dataloader, tokenizer=tokenizer, batch_size=recipe.batch_size,
                         max_length=context_length, rank=rank, world_size=world_size)  # fmt: skip
        reading = create(load_stories("train", recipe.n_stories), seed=seed)
        watched = create(load_stories("validation", recipe.n_watched), shuffle=False, drop_last=False)
    else:
        reading, watched = text_loaders(
            own, tokenizer, context_length, recipe.batch_size, recipe.n_watched,
            seed=seed, rank=rank, world_size=world_size,
        )  # fmt: skip
    phases: list[tuple[Iterable, int]] = [(reading, recipe.story_steps)]
    if recipe.mini_steps:
        phases.insert(0, (_first_reader(recipe, tokenizer, context_length, seed), recipe.mini_steps))
    return Curriculum(phases, recipe.rehearse_every, recipe.rehearse_share), watched


def _first_reader(recipe: StoryRecipe, tokenizer: BPETokenizer, context_length: int, seed: int) -> FirstReader:
    minis = StoryDataset(load_stories("train", recipe.n_minis, mini=True), tokenizer, context_length)
    alone, (rank, world_size) = round(recipe.alone_share * recipe.mini_steps), rank_and_world_size()
    return FirstReader(
        recipe.mini_steps, minis.rows, recipe.mini_batch_size, alone, recipe.most_minis_in_a_row, context_length,
        seed=seed, rank=rank, world_size=world_size,
    )  # fmt: skip


def _grade_and_save(
    folder: Path, model: GPTModel, tokenizer: BPETokenizer, recipe: StoryRecipe, settings: dict, history: History,
    own: OwnText | None,
) -> dict[str, StoryScores]:  # fmt: skip
    if own is not None:
        scores = {"validation": evaluate_stories(model, tokenizer, own.split()[1])}
    else:
        sizes = {"validation": recipe.n_validation} | dict.fromkeys(HELD_OUT, recipe.n_heldout)
        scores = {split: evaluate_stories(model, tokenizer, load_stories(split, n)) for split, n in sizes.items()}
    write_atomically(folder / "history.json", json_bytes(asdict(history)))
    report = settings | {
        "scores": {split: asdict(score) for split, score in scores.items()},
        "steps": len(history.steps),
        "kept_step": history.best_step if recipe.keep_best else len(history.steps),
        "seconds": round(history.seconds[-1], 1),
        "torch": torch.__version__.split("+")[0],
    }
    save_model(folder / "story_gpt", model, tokenizer, report, dtype="float32")
    return scores


# ---------------------------------------------------------------- processes, command line


def _show(progress: Progress) -> None:
    if rank_and_world_size()[0] == 0 and (progress.step % 20 == 0 or progress.val_loss is not None):
        watched = "" if progress.val_loss is None else f"   validation {progress.val_loss:.3f}"
        print(
            f"step {progress.step:5} of {progress.max_steps}   loss {progress.loss:.3f}   "
            f"{progress.tokens_per_second:,.0f} tokens/s   {progress.seconds_left:.0f} s left{watched}",
            flush=True,
        )


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the story GPT.")
    parser.add_argument("--name", default="story", help="folder in runs/")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="training time instead of the recipe's steps")
    parser.add_argument("--text", type=Path, nargs="+", help="train on these UTF-8 text files or folders instead")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto")
    parser.add_argument("--quick", action="store_true", help="a first look in a fraction of a minute")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Train from the command line; started by torchrun, all its processes train together."""
    options = vars(_arguments(words))
    together = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if together:
        dist.init_process_group("nccl" if options["device"] == "cuda" else "gloo")
    began = time.perf_counter()
    result = train_story_gpt(runs_dir() / options.pop("name"), **options, on_step=_show)
    for split, score in result.scores.items():
        floor = f", {score.times_floor:.2f} times the floor" if score.floor_bits_per_word else ""
        print(f"{split:16} {score.bits_per_word:.3f} bits per word, {score.bits_per_byte:.3f} bits per byte{floor}")
    if rank_and_world_size()[0] == 0:
        print(f"model in {result.folder / 'story_gpt'} after {time.perf_counter() - began:.0f} s")
    if together:
        leave_together()


if __name__ == "__main__":
    main()
