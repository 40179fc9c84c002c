"""The recipe of the story GPT: one function for the command, the notebook and `torchrun`.

    python -m ch05_pretraining.story_recipe --name first
    torchrun --standalone --nproc-per-node 2 -m ch05_pretraining.story_recipe --name first

A tokenizer is trained on some of the stories. The model begins with very short stories, which switch on the skill that
keeps a name through a story, and then reads whole stories from their first token.

References: Eldan and Li (2023), "TinyStories" (2305.07759); Olsson et al. (2022),
2209.11895. Taught in ch05, section 5.7.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from ch02_text_data.text_data import (
    SPECIAL_TOKENS,
    BPETokenizer,
    EpochBatches,
    GPTDataset,
    StoryDataset,
    create_story_dataloader,
    pad_batch,
)
from ch04_gpt_model.gpt_model import GPTConfig, GPTModel
from ch05_pretraining.checkpoints import CheckpointError, load_model, save_model
from ch05_pretraining.curriculum import Curriculum, FirstReader
from ch05_pretraining.machine import choose_device, leave_together, rank_and_world_size
from ch05_pretraining.pretraining import History, Progress, TrainConfig, train
from ch05_pretraining.story_scores import StoryScores, evaluate_stories
from data.loaders import load_stories
from data.paths import runs_dir
from data.story_cache import world_hash

__all__ = ["StoryRecipe", "StoryResult", "train_story_gpt"]

HELD_OUT = ("heldout_names", "heldout_objects", "heldout_both")


@dataclass(frozen=True)
class StoryRecipe:
    """Every number of the recipe; `quick` and `minutes` change some of them, and the run's settings keep the result."""

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
    precision: str = "auto"
    eval_every: int = 200
    n_watched: int = 64
    n_validation: int = 500
    n_heldout: int = 200


QUICK = {
    "n_stories": 1_000, "n_tokenizer_stories": 500, "n_minis": 500, "mini_steps": 20,
    "story_steps": 100, "warmup_steps": 10, "precision": "float32", "eval_every": 40, "n_watched": 32,
    "n_validation": 50, "n_heldout": 25,
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
    folder: str | Path, *, seed: int = 0, minutes: float | None = None, text: str | Path | None = None,
    device: str = "cpu", quick: bool = False, on_step: Callable[[Progress], None] | None = None, resume: bool = True,
) -> StoryResult:  # fmt: skip
    """Train the story GPT in a run's folder, or finish what was begun there, or load what is finished.

    Args:
        folder: gets `settings.json`, `tokenizer.json`, `checkpoints/` and, at the end, the model in `story_gpt/`.
        seed: decides the first weights and the order of the stories.
        minutes: training time, above 0, turned into steps once by a short measurement; None for the recipe's steps.
        text: the learner's own text instead of stories: a string, or the path of a UTF-8 file.
        device: "cpu", "cuda", "mps", or "auto" for a GPU that computes what the CPU computes, or else the CPU.
        quick: a first look in a fraction of a minute.
        on_step: called after every step.
        resume: go on where an earlier call with the same settings stopped.

    Raises:
        ValueError: the folder holds a run with other settings, the text is too short, the device is not there.
        TrainingInterrupted: Ctrl-C, after saving.

    Source: this course. Taught in ch05, section 5.7.
    """
    folder, place = Path(folder), choose_device(device)
    own_text = _read_text(text)
    wanted = {"seed": seed, "minutes": minutes, "quick": quick, "text": _hash(own_text), "world": _world(own_text)}
    settings = _stored_settings(folder, wanted, resume)
    if settings and (finished := _finished(folder, settings)):
        return finished
    _on_first_rank(lambda: _prepare(folder, wanted, settings, own_text, place))
    settings = _stored_settings(folder, wanted, True)
    recipe, tokenizer = _recipe_of(settings), BPETokenizer.load(folder / "tokenizer.json")
    model = _new_model(tokenizer, seed).to(place)
    train_loader, val_loader = _loaders(recipe, tokenizer, model.config.context_length, seed, own_text)
    history = train(
        model, train_loader, val_loader, _train_config(recipe, seed),
        checkpoint_dir=folder / "checkpoints", resume=True, on_step=on_step,
    )  # fmt: skip
    scores = _on_first_rank(lambda: _grade_and_save(folder, model, tokenizer, recipe, settings, history, own_text))
    return StoryResult(model.eval(), tokenizer, history, scores or {}, settings, folder)


# ---------------------------------------------------------------- settings: decided once, then kept


def _prepare(folder: Path, wanted: dict, settings: dict | None, text: str | None, device: torch.device) -> None:
    """Train the tokenizer and decide the number of steps, unless an earlier call has."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tokenizer.json"
    recipe = _recipe_of(settings) if settings else StoryRecipe(**QUICK if wanted["quick"] else {})
    if text is not None:  # nothing but the learner's own words
        recipe = dataclasses.replace(recipe, mini_steps=0)
    if settings is None or not file.exists():
        _train_tokenizer(recipe, text).save(file)
    if settings is None:
        if wanted["minutes"] is not None:
            recipe = _fit_to_minutes(recipe, wanted["minutes"], BPETokenizer.load(file), wanted["seed"], text, device)
        _write_json(folder / "settings.json", wanted | {"recipe": asdict(recipe)})


def _train_tokenizer(recipe: StoryRecipe, text: str | None) -> BPETokenizer:
    stories = load_stories("train", recipe.n_stories)[: recipe.n_tokenizer_stories] if text is None else []
    return BPETokenizer.train([s.text for s in stories] or text, recipe.vocab_size, SPECIAL_TOKENS)


def _stored_settings(folder: Path, wanted: dict, resume: bool) -> dict | None:
    path = folder / "settings.json"
    if not path.exists():
        return None
    if not resume:
        raise ValueError(f"{folder} holds a run already: go on with resume=True, or choose another folder")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        StoryRecipe(**settings["recipe"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged, it holds no settings of a run: bring it back, or choose another folder for a new run"
        ) from error
    changed = [f"{name} was {settings.get(name)!r}, now {value!r}" for name, value in wanted.items()
               if settings.get(name) != value]  # fmt: skip
    if changed:
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed)}): "
            "repeat them to go on, or choose another folder for a new run"
        )
    return settings


def _recipe_of(settings: dict) -> StoryRecipe:
    return StoryRecipe(**settings["recipe"])


def _finished(folder: Path, settings: dict) -> StoryResult | None:
    """Load the finished model of an earlier call; one that is damaged is made again from the last checkpoint."""
    try:
        model, tokenizer = load_model(folder / "story_gpt")
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        report = json.loads((folder / "story_gpt" / "recipe.json").read_text(encoding="utf-8"))
    except (CheckpointError, OSError, ValueError):
        return None
    scores = {split: StoryScores(**values) for split, values in report["scores"].items()}
    return StoryResult(model, tokenizer, History(**history), scores, settings, folder)


def _fit_to_minutes(recipe, minutes: float, tokenizer, seed: int, text: str | None, device) -> StoryRecipe:
    """Scale both phases so that they last so many minutes on this machine."""
    if not minutes > 0:
        raise ValueError(f"minutes={minutes}: expected a number above 0, for example minutes=5")
    sample = dataclasses.replace(recipe, n_stories=min(recipe.n_stories, 50 * recipe.batch_size), n_watched=1)
    model = _new_model(tokenizer, seed).to(device)
    phases = {
        "mini_steps": dataclasses.replace(sample, mini_steps=8, story_steps=0),
        "story_steps": dataclasses.replace(sample, mini_steps=0, story_steps=8),
    }
    seconds = {}
    for name, probe in phases.items():
        if not getattr(recipe, name):
            continue
        loader, _ = _loaders(probe, tokenizer, model.config.context_length, seed, text)
        seconds[name] = getattr(recipe, name) * _seconds_per_step(model, loader, _train_config(probe, seed))
    share = minutes * 60 / sum(seconds.values())
    return dataclasses.replace(recipe, **{name: max(1, round(share * getattr(recipe, name))) for name in seconds})


def _seconds_per_step(model: GPTModel, loader, config: TrainConfig, warm_up: int = 2) -> float:
    stamps = train(model, loader, None, config).seconds
    return (stamps[-1] - stamps[warm_up - 1]) / (len(stamps) - warm_up)


# ---------------------------------------------------------------- model, loaders, grades


def _new_model(tokenizer: BPETokenizer, seed: int) -> GPTModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPTModel(dataclasses.replace(GPTConfig.story(), vocab_size=tokenizer.vocab_size))


def _train_config(recipe: StoryRecipe, seed: int) -> TrainConfig:
    return TrainConfig(
        max_steps=recipe.mini_steps + recipe.story_steps,
        learning_rate=recipe.learning_rate,
        muon_learning_rate=recipe.muon_learning_rate,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        optimizer="muon",
        schedule=recipe.schedule,
        decay_fraction=recipe.decay_fraction,
        precision=recipe.precision,
        products="auto" if recipe.precision == "auto" else "linear",
        eval_every=recipe.eval_every,
        seed=seed,
    )


def _loaders(recipe: StoryRecipe, tokenizer: BPETokenizer, context_length: int, seed: int, text: str | None):
    share = dict(zip(("rank", "world_size"), rank_and_world_size(), strict=True))
    build = _story_loaders if text is None else _text_loaders
    reading, watched = build(recipe, tokenizer, context_length, seed, text, share)
    phases = [(reading, recipe.story_steps)]
    if recipe.mini_steps:
        phases.insert(0, (_first_reader(recipe, tokenizer, context_length, seed, share), recipe.mini_steps))
    return Curriculum(phases, recipe.rehearse_every, recipe.rehearse_share), watched


def _first_reader(recipe, tokenizer, context_length, seed, share) -> FirstReader:
    minis = StoryDataset(load_stories("train", recipe.n_minis, mini=True), tokenizer, context_length)
    alone = round(recipe.alone_share * recipe.mini_steps)
    return FirstReader(
        recipe.mini_steps, minis.rows, recipe.mini_batch_size, alone, recipe.most_minis_in_a_row, context_length,
        seed=seed, **share,
    )  # fmt: skip


def _story_loaders(recipe, tokenizer, context_length, seed, _text, share) -> tuple[DataLoader, DataLoader]:
    options = {"batch_size": recipe.batch_size, "max_length": context_length} | share
    stories = load_stories("train", recipe.n_stories)
    watched = load_stories("validation", recipe.n_watched)
    return (
        create_story_dataloader(stories, tokenizer, seed=seed, **options),
        create_story_dataloader(watched, tokenizer, shuffle=False, drop_last=False, **options),
    )


def _text_loaders(recipe, tokenizer, context_length, seed, text, share) -> tuple[DataLoader, DataLoader]:
    first, last = _split_text(text)
    return (
        _window_loader(first, tokenizer, context_length, recipe.batch_size, seed, share),
        _window_loader(last, tokenizer, context_length, recipe.batch_size, None, share),
    )


def _window_loader(text: str, tokenizer, context_length: int, batch_size: int, seed: int | None, share) -> DataLoader:
    length = min(context_length, (len(tokenizer.encode(text)) - 1) // 2)
    if length < 8:
        raise ValueError(f"a part of the text has only {len(text):,} characters: give a text of several thousand")
    windows = GPTDataset(text, tokenizer, length, length // 2)
    batches = EpochBatches(
        [length] * len(windows), batch_size, shuffle=seed is not None, drop_last=False, seed=seed or 0, **share
    )
    return DataLoader(windows, batch_sampler=batches, collate_fn=pad_batch, generator=torch.Generator())


def _split_text(text: str, share: float = 0.9) -> tuple[str, str]:
    """Nine tenths to learn from, the last tenth to be graded on."""
    cut = int(share * len(text))
    return text[:cut], text[cut:]


def _grade_and_save(folder, model, tokenizer, recipe, settings, history, text) -> dict[str, StoryScores]:
    if text is not None:
        scores = {"validation": evaluate_stories(model, tokenizer, [_split_text(text)[1]])}
    else:
        sizes = {"validation": recipe.n_validation} | dict.fromkeys(HELD_OUT, recipe.n_heldout)
        scores = {split: evaluate_stories(model, tokenizer, load_stories(split, n)) for split, n in sizes.items()}
    _write_json(folder / "history.json", asdict(history))
    report = settings | {
        "scores": {split: asdict(score) for split, score in scores.items()},
        "steps": len(history.steps),
        "seconds": round(history.seconds[-1], 1),
        "torch": torch.__version__.split("+")[0],
    }
    save_model(folder / "story_gpt", model, tokenizer, report, dtype="float32")
    return scores


# ---------------------------------------------------------------- text, processes


def _read_text(text: str | Path | None) -> str | None:
    if isinstance(text, Path):
        try:
            text = text.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{text} is no readable UTF-8 text ({error}): give the path of a plain text file"
            ) from error
    if text is not None and not text.strip():
        raise ValueError(f"the text has {len(text):,} characters and not one word: give a text of several thousand")
    return text


def _hash(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _world(text: str | None) -> str | None:
    return world_hash()[:16] if text is None else None


def _write_json(path: Path, value: object) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _on_first_rank(work: Callable):
    """Let one process do what is to be done once; the others wait for it."""
    rank, world_size = rank_and_world_size()
    result = work() if rank == 0 else None
    if world_size > 1:
        dist.barrier()
    return result


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
    parser.add_argument("--text", type=Path, help="train on this UTF-8 text file instead of stories")
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
        print(f"{split:16} {score.bits_per_word:.3f} bits per word{floor}")
    if rank_and_world_size()[0] == 0:
        print(f"model in {result.folder / 'story_gpt'} after {time.perf_counter() - began:.0f} s")
    if together:
        leave_together()


if __name__ == "__main__":
    main()
