"""The recipe of a larger GPT: GPT-2's four sizes or a Llama's shape, on token shards, by one process or by many.

    python course.py tokens FOLDER                                            (text becomes shards, once)
    python -m ch05_pretraining.gpt2_recipe SHARDS --out RUN --shape small     (one process, on whatever is here)
    torchrun --standalone --nproc-per-node 8 -m ch05_pretraining.gpt2_recipe SHARDS --out RUN --shape 1558M --share

The loop is `train` of this chapter. Each process reads rows of its own; the gradients are added up
(`DistributedDataParallel`), or, with `--share`, each process also holds only its share of the weights, the gradients
and the optimizer's numbers (`fully_shard`). Before anything is trained the recipe says what it will take, and refuses
what cannot fit. A training goes on only with the number of processes that began it; any number can read its weights.

Left out: `torch.compile` (on the CPU where it was tried, compiled blocks took as long as plain ones), and building a
model share by share: each process builds the whole one first.

References: Radford et al. (2019); Brown et al. (2020), "Language models are few-shot learners" (2005.14165), table 2.1,
for learning rates and batches; Hoffmann et al. (2022), 2203.15556, for the number of tokens; Zhao et al. (2023),
"PyTorch FSDP" (2304.11277). For ch05, section S.6 of its scaling notebook.
"""

import argparse
import gc
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from ch02_text_data.encoding_files import KeptTokenizer, tokenizer_from_json
from ch02_text_data.shard_loader import TOKENIZER, ShardLoader, read_manifest, require_whole_shards
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig
from ch05_pretraining.checkpoints import copy_tensors, read_parts
from ch05_pretraining.corpus_plan import TrainingPlan, in_words, model_of, plan_training, require_that_it_fits
from ch05_pretraining.documents_apart import loss_of_documents
from ch05_pretraining.evaluation import loss_sum
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.machine import (
    choose_device,
    end_with,
    give_memory_back,
    has_bfloat16,
    is_one_of_many,
    leave_together,
    on_first_rank,
    rank_and_world_size,
    sum_over_ranks,
    wait_to_be_ended,
)
from ch05_pretraining.option_words import OneSentenceParser, count, in_options
from ch05_pretraining.pretraining import TrainConfig, train
from ch05_pretraining.run_state import History, Progress
from ch05_pretraining.saved_models import save_model
from data.durable_folders import json_bytes
from data.files import write_atomically
from data.locks import alone_in

__all__ = ["CORPUS_SHAPES", "CorpusSettings", "train_on_corpus"]

CHECKPOINTS, SETTINGS, MODEL = "checkpoints", "settings.json", "model"
TRIAL_STEPS, WARM_UP = 10, 2  # steps of the trial, of which the first are not timed
EVAL_BATCHES = 20  # of each process, in a look at the validation shards
OPTIONS = {"context_length": "--context", "batch_size": "--batch-size", "accumulation_steps": "--accumulate",
           "max_steps": "--steps", "learning_rate": "--learning-rate", "eval_every": "--eval-every",
           "document_mask": "--document-mask", "world_size": "the number of processes"}  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A model's form, with the learning rate and the tokens of a step that GPT-3 was given at about this size."""

    config: Callable[[int, int], GPTConfig]  # of vocabulary and context
    learning_rate: float
    step_tokens: int


def _gpt2(size: str) -> Callable[[int, int], GPTConfig]:
    return lambda vocabulary, context: replace(
        GPTConfig.gpt2(size), vocab_size=vocabulary, context_length=context, dropout=0.0
    )


CORPUS_SHAPES = {
    "small": Shape(lambda vocabulary, context: GPTConfig(vocabulary, context, 256, 8, 6), 1e-3, 1 << 13),
    "124M": Shape(_gpt2("124M"), 6e-4, 1 << 19),
    "355M": Shape(_gpt2("355M"), 3e-4, 1 << 19),
    "774M": Shape(_gpt2("774M"), 2.5e-4, 1 << 19),
    "1558M": Shape(_gpt2("1558M"), 2e-4, 1 << 20),
    "llama": Shape(
        lambda vocabulary, context: ModernConfig(vocabulary, context, 768, 12, 12, n_kv_heads=4), 6e-4, 1 << 19
    ),
}
"""Models by name: one for a laptop, GPT-2's four, and a Llama of GPT-2's smallest width."""


@dataclass(frozen=True)
class CorpusSettings:
    """What decides a training on token shards; None is filled in from the shape and the shards.

    Args:
        shape: one of `CORPUS_SHAPES`.
        context_length: tokens of a row.
        batch_size: rows that one process reads at once.
        accumulation_steps: such batches in a step; None takes as many as GPT-3's batch at this size needs.
        max_steps: None takes 20 tokens for each parameter, at most one round through the shards.
        learning_rate: None takes GPT-3's at this size.
        precision: "float32", "bfloat16", "float16", or "auto": sixteen bits on a GPU, of the kind it computes fast.
        share: let each of several processes hold only its share of the model (`fully_shard`).
        document_mask: let a token read its own document only, not the end of another one that stands in its row.
        eval_every: steps between two looks at the validation shards, and between two checkpoints.
        seed: of the weights and of the order of the rows.

    Source: Brown et al. (2020), table 2.1; Hoffmann et al. (2022). For ch05, section S.6 of its scaling notebook.
    """

    shape: str = "small"
    context_length: int = 256
    batch_size: int = 8
    accumulation_steps: int | None = None
    max_steps: int | None = None
    learning_rate: float | None = None
    precision: str = "auto"
    share: bool = False
    document_mask: bool = False
    eval_every: int = 200
    seed: int = 0


def train_on_corpus(
    shards: str | Path, folder: str | Path, settings: CorpusSettings, *, device: str = "auto",
    on_plan: Callable[[TrainingPlan], None] | None = None, on_step: Callable[[Progress], None] | None = None,
) -> History:  # fmt: skip
    """Train a GPT on token shards, or go on where an earlier call stopped; the model ends in `folder/model`.

    Args:
        shards: where `write_token_shards` wrote.
        folder: gets settings, checkpoints and the model; a call with the same settings and number of processes goes
            on. Processes on several machines need a folder that all of them see.
        settings: shape, batches, steps and precision.
        device: "cpu", "cuda", "mps" or "auto"; under torchrun each process takes a GPU of its own.
        on_plan: called twice before the training begins: with what it takes, and again with the time of a trial.
        on_step: called after every step.

    Raises:
        ValueError: the shards are not there, a setting is out of its range, the folder holds a training with other
            settings, another call is at work in it, or the memory is too small.
        TrainingInterrupted: Ctrl-C, after saving.

    Source: Radford et al. (2019); Zhao et al. (2023). For ch05, section S.6 of its scaling notebook.
    """
    folder, (rank, world_size) = Path(folder), rank_and_world_size()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder for the training, which may be new")
    place = _chosen(device, settings, world_size)
    if settings.shape not in CORPUS_SHAPES:
        raise ValueError(f"shape={settings.shape!r} is unknown: choose one of {', '.join(CORPUS_SHAPES)}")
    manifest = read_manifest(shards)
    settings = _filled_in(settings, manifest, place, world_size)
    shape = CORPUS_SHAPES[settings.shape].config(manifest["vocab_size"], settings.context_length)
    reading = _loader(shards, settings, "train", settings.batch_size)
    n_rows = _rows_at_a_look(manifest, settings)
    watched = _loader(shards, settings, "validation", n_rows) if n_rows else None
    tokenizer = tokenizer_from_json((Path(shards) / TOKENIZER).read_bytes())
    config = _train_config(settings)
    plan = _plan(shape, settings, config, watched, place)
    read = hashlib.sha256("".join(shard["sha256"] for shard in manifest["train"]).encode()).hexdigest()
    wanted = asdict(settings) | {"world_size": world_size, "tokenizer": manifest["tokenizer"], "shards": read}
    _refuse_other_settings(folder, wanted)
    require_that_it_fits(plan, place)  # each process waits here for the others, so that none writes if one refuses
    with alone_in(folder) if rank == 0 else nullcontext():
        on_first_rank(lambda: _keep_settings(folder, wanted))
        if not (folder / SETTINGS).is_file():
            raise ValueError(
                f"process {rank + 1} of {world_size} does not see {folder}: give a folder that all can see"
            )
        loss = loss_of_documents(manifest["end_id"]) if settings.document_mask else loss_sum
        if on_plan:
            on_plan(plan)
            on_plan(replace(plan, seconds_per_step=_trial(shape, settings, reading, config, loss, place)))
        model = _new_model(shape, settings, place)
        history = train(model, reading, watched, config, loss=loss, checkpoint_dir=folder / CHECKPOINTS, resume=True,
                        on_step=on_step)  # fmt: skip
        whole = None if settings.share else model
        del model
        gc.collect()  # shares go before one process puts the whole model together
        on_first_rank(lambda: _save(folder, whole or _put_together(folder, shape), tokenizer, wanted, history))
        return history


# ---------------------------------------------------------------- settings


def _chosen(device: str, settings: CorpusSettings, world_size: int) -> torch.device:
    """Choose the device; several processes have no common Mac's GPU, and one alone has nobody to share with."""
    place = choose_device(device)
    if settings.share and world_size == 1:
        raise ValueError("sharing divides a model among processes, and this is one: start several with torchrun")
    if world_size > 1 and place.type == "mps":
        raise ValueError(f"{world_size} processes cannot train on one Mac's GPU: use one process, or device='cpu'")
    return place


def _filled_in(settings: CorpusSettings, manifest: dict, place: torch.device, world_size: int) -> CorpusSettings:
    """Put numbers where the caller left the choice to the rules."""
    shape = CORPUS_SHAPES[settings.shape]
    at_once = settings.batch_size * settings.context_length * world_size
    by_rule = max(1, round(shape.step_tokens / max(1, at_once)))
    steps = by_rule if settings.accumulation_steps is None else settings.accumulation_steps
    n_tokens = sum(shard["tokens"] for shard in manifest["train"])
    with torch.device("meta"):
        config = shape.config(manifest["vocab_size"], settings.context_length)
        n_parameters = model_of(config).n_parameters
    rounds = max(1, n_tokens // max(1, at_once * steps))
    wanted = max(1, 20 * n_parameters // max(1, at_once * steps))
    precision = settings.precision
    if precision == "auto":
        precision = "float32" if place.type != "cuda" else "bfloat16" if has_bfloat16(place) else "float16"
    max_steps = min(rounds, wanted) if settings.max_steps is None else settings.max_steps
    learning_rate = shape.learning_rate if settings.learning_rate is None else settings.learning_rate
    return replace(
        settings, accumulation_steps=steps, max_steps=max_steps, precision=precision, learning_rate=learning_rate
    )


def _train_config(settings: CorpusSettings) -> TrainConfig:
    assert settings.max_steps is not None and settings.learning_rate is not None  # `_filled_in` has seen to it
    assert settings.accumulation_steps is not None
    return TrainConfig(
        settings.max_steps, settings.learning_rate, warmup_steps=max(1, settings.max_steps // 50),
        min_learning_rate=settings.learning_rate / 10, accumulation_steps=settings.accumulation_steps,
        precision=settings.precision, eval_every=settings.eval_every, eval_batches=EVAL_BATCHES, seed=settings.seed,
    )  # fmt: skip


def _refuse_other_settings(folder: Path, wanted: dict) -> None:
    """Refuse a folder in which another training was begun."""
    path = folder / SETTINGS
    if not path.is_file():
        return
    try:
        then = asdict(CorpusSettings()) | json.loads(path.read_text(encoding="utf-8"))  # some are younger than the file
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged: choose another folder") from error
    then = {"shards": wanted["shards"]} | then  # not written down by earlier versions
    if any(then.get(key) != wanted[key] for key in ("shards", "tokenizer")):
        raise ValueError(f"{folder} holds a training on other shards: give those, or another folder to start anew")
    changed = [f"{key} was {then.get(key)!r}, now {wanted[key]!r}" for key in wanted if then.get(key) != wanted[key]]
    if changed:
        raise ValueError(
            f"{folder} holds a training with other settings ({'; '.join(changed)}): use the same to go on, or "
            "another folder to start anew"
        )


def _keep_settings(folder: Path, wanted: dict) -> None:
    """Write down what decides the training; a folder that has it already has the same."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTINGS).is_file():
        write_atomically(folder / SETTINGS, json_bytes(wanted))


def _loader(shards: str | Path, settings: CorpusSettings, split: str, batch_size: int) -> ShardLoader:
    """Rows of this process."""
    rank, world_size = rank_and_world_size()
    return ShardLoader(
        shards, settings.context_length, batch_size, split=split, shuffle=split == "train",
        seed=settings.seed, rank=rank, world_size=world_size,
    )  # fmt: skip


def _rows_at_a_look(manifest: dict, settings: CorpusSettings) -> int:
    """How many validation rows each process reads at once: as many as in training, or what there is; 0 for none."""
    n_windows = sum(-(-(shard["tokens"] - 1) // settings.context_length) for shard in manifest["validation"])
    return min(settings.batch_size, n_windows // rank_and_world_size()[1])


def _plan(
    shape: GPTConfig, settings: CorpusSettings, config: TrainConfig, watched: ShardLoader | None, place: torch.device
) -> TrainingPlan:
    """What the training takes on each device, and how much text each look at the validation shards reads."""
    world_size = rank_and_world_size()[1]
    plan = plan_training(
        shape, settings.batch_size, settings.context_length, config, world_size=world_size, share=settings.share,
        document_mask=settings.document_mask, device=place.type,
    )  # fmt: skip
    rows = min(EVAL_BATCHES, len(watched)) * watched.batch_size * world_size if watched else 0
    return replace(plan, validation_tokens=rows * settings.context_length)


# ---------------------------------------------------------------- model


def _new_model(config: GPTConfig, settings: CorpusSettings, place: torch.device) -> GPTModel:
    """Build a model with the weights of its seed; shared out, each process keeps its rows of every matrix."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed % 2**64)
        model = model_of(config)
    if settings.share:
        devices = init_device_mesh(place.type, (rank_and_world_size()[1],))
        for part in (*model.blocks, model):
            fully_shard(part, mesh=devices)  # part by part to the device, which never holds the whole
    return model.to(place)


def _trial(
    config: GPTConfig, settings: CorpusSettings, loader: ShardLoader, training: TrainConfig, loss: Callable,
    place: torch.device,
) -> float:  # fmt: skip
    """Seconds of a step, from ten with a model that is thrown away; the same number in every process."""
    few = replace(training, max_steps=TRIAL_STEPS, eval_every=TRIAL_STEPS)
    stamps = train(_new_model(config, settings, place), loader, None, few, loss=loss).seconds
    gc.collect()  # what runs between processes refers to itself, and with it to the model
    seconds = (stamps[-1] - stamps[WARM_UP - 1]) / (TRIAL_STEPS - WARM_UP)
    total, n = sum_over_ranks([seconds, 1], place)
    return total / n


def _put_together(folder: Path, config: GPTConfig) -> GPTModel:
    """Build the whole model from the shares that the processes have kept."""
    model = model_of(config)
    copy_tensors(model, read_parts(folder / CHECKPOINTS), folder)
    return model


def _save(folder: Path, model: GPTModel, tokenizer: KeptTokenizer, wanted: dict, history: History) -> None:
    write_atomically(folder / "history.json", json_bytes(asdict(history)))
    last = {"val_loss": history.val_losses[-1]} if history.val_losses else {}
    save_model(folder / MODEL, model.cpu(), tokenizer, wanted | last, dtype="float32")


# ---------------------------------------------------------------- command line


def _show(progress: Progress) -> None:
    if rank_and_world_size()[0] == 0 and (progress.step % 10 == 0 or progress.val_loss is not None):
        watched = "" if progress.val_loss is None else f"   validation {progress.val_loss:.3f}"
        print(
            f"step {progress.step:,} of {progress.max_steps:,}   loss {progress.loss:.3f}   "
            f"{progress.tokens_per_second:,.0f} tokens/s   {in_words(progress.seconds_left)} left{watched}",
            flush=True,
        )


def _show_plan(plan: TrainingPlan) -> None:
    """Print all of it before the trial, which may take minutes, and its last line afterward."""
    if rank_and_world_size()[0] == 0:
        print(plan if plan.seconds_per_step is None else str(plan).splitlines()[-1], flush=True)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = OneSentenceParser(
        prog="python -m ch05_pretraining.gpt2_recipe", description="Train a GPT on token shards."
    )
    parser.add_argument("shards", type=Path, help="folder that python course.py tokens has written")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; the same again goes on")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps or auto (default)")
    parser.add_argument("--shape", default="small", choices=CORPUS_SHAPES)
    parser.add_argument("--context", type=count, default=256, dest="context_length", metavar="TOKENS")
    parser.add_argument("--batch-size", type=count, default=8, metavar="ROWS", help="rows a process reads at once")
    parser.add_argument("--accumulate", type=count, dest="accumulation_steps", metavar="N", help="batches in a step")
    told = "(default: 20 tokens for each parameter, at most all tokens once)"
    parser.add_argument("--steps", type=count, dest="max_steps", metavar="N", help=told)
    parser.add_argument("--learning-rate", type=float, metavar="RATE", help="(default: GPT-3's at this size)")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--share", action="store_true", help="each process holds only its share of the model")
    told = "a token reads its own document only (default: all of its row before it)"
    parser.add_argument("--document-mask", action="store_true", help=told)
    told = "steps between looks and checkpoints"
    parser.add_argument("--eval-every", type=count, default=200, metavar="N", help=told)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check-shards", action="store_true", help="read every byte of the shards first")
    return parser.parse_args(words)


def _join(place: torch.device) -> None:
    """Meet the other processes that torchrun has started."""
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")


def _stopped(folder: Path, stop: KeyboardInterrupt) -> str:
    """Say what Ctrl-C has left."""
    if not any((folder / CHECKPOINTS).glob("**/step-*")):
        return "Stopped before anything was trained. The same command begins again."
    saved = "everything is saved" if isinstance(stop, TrainingInterrupted) else "the last checkpoint stands"
    return f"Stopped; {saved} in {folder}. The same command goes on."


def main(words: Sequence[str] | None = None) -> int:
    """Train from the command line; started by torchrun, all its processes train together."""
    folder = Path()
    try:
        options = vars(_arguments(words))
        words_of_others = ("shards", "out", "device", "check_shards")
        shards, folder, device, reads_all = (options.pop(name) for name in words_of_others)
        if options["share"]:
            give_memory_back()
        if is_one_of_many():
            _join(choose_device(device))
        if reads_all:
            require_whole_shards(shards)
        settings = CorpusSettings(**options)
        train_on_corpus(shards, folder, settings, device=device, on_plan=_show_plan, on_step=_show)
    except KeyboardInterrupt as stop:
        if rank_and_world_size()[0] == 0:
            return end_with(f"\n{_stopped(folder, stop)}", 130)
        return 130
    except (ValueError, OSError, torch.OutOfMemoryError) as error:
        remedy = ": lower --batch-size or --context" if isinstance(error, torch.OutOfMemoryError) else ""
        return end_with(f"gpt2_recipe: {in_options(str(error), OPTIONS)}{remedy}", 1)
    except RuntimeError:
        wait_to_be_ended()
        raise
    if rank_and_world_size()[0] == 0:
        print(f'model in {folder / MODEL}: python course.py sample "…" --model {folder / MODEL}')
    if is_one_of_many():
        leave_together()
    return 0


if __name__ == "__main__":
    sys.exit(main())
