"""Pretraining: the loss, the schedule and the loop that turn random weights into a GPT.

`cross_entropy` stands here in plain arithmetic and is tested equal to PyTorch's, which `train` calls for speed.
Around the loop: `optimizers.py`, `evaluation.py`, `head_loss.py` (the same loss in slices), `curriculum.py` (the order
of lessons), `checkpoints.py`, `hugging_face.py`, `loop_care.py` (what all loops of the course share), `machine.py`
(processes, precision, Ctrl-C) and `story_recipe.py`, which puts them together.

Left out: sharded optimizers, pipelines.
References: Radford et al. (2019); Loshchilov and Hutter (2017), "SGDR" (1608.03983). Taught in ch05.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ch02_text_data.batches import IGNORE_INDEX
from ch05_pretraining.checkpoints import (
    CheckpointError,
    copy_tensors,
    list_checkpoints,
    load_checkpoint,
    load_story_gpt,
    save_checkpoint,
    unique_tensors,
)
from ch05_pretraining.curriculum import batches_from
from ch05_pretraining.evaluation import evaluate, evaluation_totals, loss_sum
from ch05_pretraining.hugging_face import export_hugging_face, load_gpt2
from ch05_pretraining.loop_care import (
    TrainingInterrupted,
    around_training,
    checked_step,
    context_length_of,
    device_of,
    fingerprint,
    require_room,
    seed_dropout,
    to_device_of,
    trainable_parameters,
)
from ch05_pretraining.machine import (
    LossScale,
    arithmetic,
    faster_precision,
    faster_products,
    own_random_numbers,
    rank_and_world_size,
    sum_over_ranks,
)
from ch05_pretraining.optimizers import Muon, adamw_step, clip_gradients, orthogonalize

__all__ = [
    "History", "Muon", "Progress", "TrainConfig", "TrainingInterrupted", "adamw_step", "clip_gradients",
    "cross_entropy", "evaluate", "export_hugging_face", "learning_rate_at", "load_checkpoint", "load_gpt2",
    "load_story_gpt", "make_optimizers", "orthogonalize", "save_checkpoint", "train", "train_plainly",
]  # fmt: skip

BATCHES_KEPT = 32  # whose fingerprints a checkpoint keeps: enough to hold a batch of everything that is mixed in

# ---------------------------------------------------------------- the formulas, by hand


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Average the surprise -log p(target) over every target that is not masked.

    Args:
        logits: raw scores, one for each token of the vocabulary.
        targets: the tokens that came; `IGNORE_INDEX` (-100) leaves a position out.

    Shape:
        logits (..., V), targets (...) -> scalar, in nats per token.

    Raises:
        ValueError: every target is masked.

    Source: Shannon (1948), section 6. Taught in ch05, section 5.1.
    """
    graded = targets != IGNORE_INDEX
    if not graded.any():
        raise ValueError(f"all {targets.numel()} targets are {IGNORE_INDEX}: unmask at least one")
    log_probabilities = logits - logits.logsumexp(dim=-1, keepdim=True)  # (..., V)
    surprise = -log_probabilities[graded].gather(-1, targets[graded].unsqueeze(-1))  # (n, 1)
    return surprise.mean()


# ---------------------------------------------------------------- configuration and schedule


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run besides the model and the data.

    Args:
        max_steps: optimizer steps, at least 1.
        learning_rate: AdamW's at its highest, above 0.
        warmup_steps: steps of the linear rise to it.
        min_learning_rate: where the schedule ends.
        weight_decay: for matrices and embeddings; biases and norms are never decayed.
        grad_clip: longest gradient allowed; 0 for no limit.
        optimizer: "adamw", or "muon" for the blocks' matrices with AdamW for the rest.
        muon_learning_rate: Muon's at its highest.
        betas: AdamW's two memories.
        schedule: shape of the fall, "cosine" or "linear", or "constant" for none.
        decay_fraction: share of the run, at its end, in which the learning rate falls; 1 falls right after warm-up.
        accumulation_steps: batches in one optimizer step.
        precision: "float32", "bfloat16", "float16" (its loss is lifted, and a step that overflows is skipped), or
            "auto" for the fastest that suits the device by a short trial.
        products: of float32 on a CPU: "linear" as usual, "convolution" for the same by another routine, or "auto".
        eval_every: steps between two looks at the validation set.
        eval_batches: batches of one look; None for all.
        checkpoint_every: steps between two checkpoints; None for `eval_every`.
        keep_best: end with the weights of the lowest validation loss instead of the last step's.
        seed: decides dropout; the loader has its own.

    Raises:
        ValueError: a value outside its range.

    Source: this course. Taught in ch05, section 5.5.
    """

    max_steps: int
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    min_learning_rate: float = 0.0
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    optimizer: str = "adamw"
    muon_learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    schedule: str = "cosine"
    decay_fraction: float = 1.0
    accumulation_steps: int = 1
    precision: str = "float32"
    products: str = "linear"
    eval_every: int = 100
    eval_batches: int | None = None
    checkpoint_every: int | None = None
    seed: int = 0
    keep_best: bool = False

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))
        choices = {
            "optimizer": ("adamw", "muon"),
            "schedule": ("cosine", "linear", "constant"),
            "precision": ("float32", "bfloat16", "float16", "auto"),
            "products": ("linear", "convolution", "auto"),
        }
        for name, allowed in choices.items():
            _require(getattr(self, name) in allowed, self, name, f"one of {', '.join(allowed)}")
        for name in ("max_steps", "accumulation_steps", "eval_every"):
            _require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("eval_batches", "checkpoint_every"):
            value = getattr(self, name)
            _require(value is None or value >= 1, self, name, "1 or more, or None")
        for name in ("learning_rate", "muon_learning_rate"):
            _require(0 < getattr(self, name) < math.inf, self, name, "above 0 and finite")
        for name in ("warmup_steps", "weight_decay", "grad_clip"):
            _require(0 <= getattr(self, name) < math.inf, self, name, "0 or more")
        _require(0 <= self.min_learning_rate <= self.learning_rate, self, "min_learning_rate", "0 to learning_rate")
        _require(0 < self.decay_fraction <= 1, self, "decay_fraction", "above 0 and at most 1")
        _require(isinstance(self.seed, Integral), self, "seed", "a whole number")


def _require(holds: bool, config: TrainConfig, name: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name}={getattr(config, name)!r}: expected {expected}; change it in TrainConfig")


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Give AdamW's learning rate for a step: a linear rise, a plateau, a fall.

    Args:
        step: optimizer steps done before this one, from 0.
        config: the schedule's numbers.

    Source: Loshchilov and Hutter (2017), 1608.03983. Taught in ch05, section 5.5.
    """
    peak, floor = config.learning_rate, config.min_learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    fall_start = max(config.warmup_steps, config.max_steps * (1 - config.decay_fraction))
    if config.schedule == "constant" or step < fall_start:
        return peak
    done = min(1.0, (step - fall_start) / max(1.0, config.max_steps - fall_start))
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return floor + (peak - floor) * left


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Give each parameter its optimizer: decayed matrices, undecayed vectors and, if asked for, Muon for the blocks.

    Args:
        model: only parameters that require a gradient are taken.
        config: optimizer, learning rates and weight decay.

    Raises:
        ValueError: everything is frozen, or Muon is asked for and no parameter named `blocks.…` is a matrix.

    Source: this course. Taught in ch05, section 5.5.
    """
    trainable_parameters(model)  # refuses a model that is frozen
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    by_muon = {n for n, p in named.items() if config.optimizer == "muon" and p.ndim == 2 and "blocks." in n}
    matrices = [p for n, p in named.items() if p.ndim >= 2 and n not in by_muon]
    vectors = [p for p in named.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    adamw = [torch.optim.AdamW(groups, config.learning_rate, config.betas, fused=True)] if groups else []
    if config.optimizer == "adamw":
        return adamw
    if not by_muon:
        raise ValueError("optimizer='muon' found no matrix in `blocks`: use optimizer='adamw' for this model")
    heads = {f"{name}.qkv_proj.weight": 3 * m.n_heads for name, m in model.named_modules() if hasattr(m, "qkv_proj")}
    by_pieces: dict[int, list] = {}  # queries, keys and values of every head are matrices of their own
    for name in (name for name in named if name in by_muon):
        by_pieces.setdefault(heads.get(name, 1), []).append(named[name])
    groups = [{"params": matrices, "pieces": pieces} for pieces, matrices in by_pieces.items()]
    return [Muon(groups, config.muon_learning_rate, weight_decay=config.weight_decay), *adamw]


# ---------------------------------------------------------------- the loop


def train_plainly(model: nn.Module, loader: Iterable, config: TrainConfig) -> list[float]:
    """Train a model in place by the loop that stands in every training: forward, loss, backward, clip, step.

    The losses are those of `train`, which also validates, saves, resumes, collects gradients over several batches and
    uses 16-bit numbers and other processes; what `config` says about these is left aside here. Dropout draws from
    PyTorch's global generator.

    Args:
        model: maps ids to logits.
        loader: batches of (ids, targets), sized; after the last one comes the first again.
        config: steps, learning rates, optimizer and clipping.

    Shape:
        batches (B, T), (B, T) -> one loss for each step, in nats per token.

    Raises:
        ValueError: an empty loader, or a batch whose targets are all masked.

    Source: this course. Taught in ch05, section 5.5.
    """
    optimizers, losses = make_optimizers(model, config), []
    model.train()  # dropout is on
    for step, (ids, targets) in enumerate(islice(batches_from(loader, 0), config.max_steps)):
        loss = cross_entropy(model(ids), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
        share = learning_rate_at(step, config) / config.learning_rate  # 0 to 1, the same for all optimizers
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * optimizer.defaults["lr"]
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@dataclass
class History:
    """What happened in a run: training loss and seconds for each step, validation loss now and then.

    `skipped` names the steps that moved no weight, because a gradient in float16 had overflowed.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    val_steps: list[int] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)

    @property
    def best_step(self) -> int | None:
        """The step with the lowest validation loss, the earliest of equals; None where nothing was validated."""
        looks = [look for look in zip(self.val_losses, self.val_steps) if not math.isnan(look[0])]
        return min(looks)[1] if looks else None


@dataclass(frozen=True)
class Progress:
    """One finished step, as `on_step` sees it."""

    step: int
    max_steps: int
    loss: float
    learning_rate: float
    tokens_per_second: float
    seconds_left: float
    val_loss: float | None = None


def train(
    model: nn.Module, train_loader, val_loader, config: TrainConfig, *,
    checkpoint_dir: str | Path | None = None, resume: bool = False,
    on_step: Callable[[Progress], None] | None = None,
) -> History:  # fmt: skip
    """Train a model in place; an interrupted run that is resumed ends in the same bits.

    Args:
        model: maps ids to logits.
        train_loader: batches of (ids, targets); their order must be a function of (seed, epoch).
        val_loader: the same for the validation set; None only without `keep_best`.
        config: steps, learning rates and the rest.
        checkpoint_dir: where checkpoints go; None saves nothing.
        resume: go on from the newest good checkpoint there, if there is one.
        on_step: called after every step.

    Shape:
        batches (B, T), (B, T).

    Raises:
        ValueError: an empty loader, a step without targets, a loss that is not finite, a checkpoint of another run,
            `keep_best` without a validation set.
        TrainingInterrupted: Ctrl-C, after saving.

    Source: this course. Taught in ch05, section 5.5.
    """
    if config.keep_best and val_loader is None:
        raise ValueError("keep_best=True needs a val_loader to tell the best weights by: give one, or keep_best=False")
    run = _Run(model, train_loader, config, checkpoint_dir)
    run.resume_or_start(resume)
    batches = batches_from(train_loader, run.step * config.accumulation_steps)
    with around_training(model) as ctrl_c:
        while run.step < config.max_steps:
            micro_batches = list(islice(batches, config.accumulation_steps))
            count = sum(int((targets != IGNORE_INDEX).sum()) for _, targets in micro_batches)
            count, pressed = sum_over_ranks([count, ctrl_c.pressed], run.device)
            if pressed:
                raise TrainingInterrupted(run.stopped(), run.history)
            loss = run.take_step(micro_batches, count)
            val_loss = run.validate(val_loader)
            run.record(loss, val_loss)
            if on_step:
                ctrl_c.call(on_step, run.progress(loss, val_loss, count))
    if run.best:
        copy_tensors(model, run.best, "the best step")
    return run.history


def _length(loader) -> int:
    if not hasattr(loader, "__len__"):
        kind = type(loader).__name__
        raise ValueError(f"train_loader is a {kind}, which has no length: give a list of batches or a DataLoader")
    return len(loader)


class _Run:
    """The state of one training run: model, optimizers, history and the number of steps done."""

    def __init__(self, model: nn.Module, train_loader, config: TrainConfig, checkpoint_dir: str | Path | None):
        self.model, self.config, self.history = model, config, History()
        self.folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.device, self.rank, self.world_size = device_of(model), *rank_and_world_size()
        self.optimizers = make_optimizers(model, config)
        self.network = DistributedDataParallel(model) if self.world_size > 1 else model
        self.loader, self.n_batches, self.room = train_loader, _length(train_loader), context_length_of(model)
        self.read: deque[str] = deque(maxlen=BATCHES_KEPT)  # fingerprints of the newest batches
        self.precision, self.products, self.loss_scale = config.precision, config.products, LossScale()
        self.seconds_before, self.begun, self.tokens = 0.0, time.perf_counter(), 0
        self.best: dict[str, Tensor] = {}  # with keep_best: the weights of the lowest validation loss so far

    @property
    def step(self) -> int:
        return len(self.history.steps)

    def take_step(self, micro_batches: list, count: int) -> float:
        """One optimizer step; the loss is a mean over all targets of all micro-batches and ranks."""
        if not count:
            raise ValueError(f"all targets of step {self.step} are {IGNORE_INDEX}: give each step a token to predict")
        seed_dropout(self.config.seed, self.step, self.rank)
        scale = learning_rate_at(self.step, self.config) / self.config.learning_rate
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = scale * (optimizer.defaults["lr"])
        total = 0.0
        for number, (ids, targets) in enumerate(micro_batches, 1):
            total += self._backward(ids, targets, count, last=number == len(micro_batches))
        loss = sum_over_ranks([total], self.device)[0] / count
        self.tokens += int(count)
        if self.folder is not None and self.rank == 0:
            self.read.extend(map(fingerprint, micro_batches))
        if self.loss_scale.overflowed(self.model.parameters(), self.precision) and math.isfinite(loss):
            self.history.skipped.append(self.step + 1)
            return loss
        remedy = "lower learning_rate, or raise warmup_steps"
        remedy += ", or use precision='float32'" if self.precision == "float16" else ""
        checked_step(self.model, self.optimizers, loss, self.step, grad_clip=self.config.grad_clip, remedy=remedy)
        return loss

    def _backward(self, ids: Tensor, targets: Tensor, count: int, last: bool) -> float:
        require_room(ids.shape[-1], self.room)
        wait = self.world_size > 1 and not last  # gradients travel between ranks once a step
        with self.network.no_sync() if wait else nullcontext():
            if "auto" in (self.precision, self.products):
                self._choose_by_trial(ids, targets)
            with arithmetic(self.device, self.precision, self.products):
                part = loss_sum(self.network, *to_device_of(self.model, ids, targets))
            lifted = part * (self.world_size / count * self.loss_scale.factor_in(self.precision))
            lifted.backward()  # DDP averages over ranks; we want their sum
        return part.item()

    def _choose_by_trial(self, ids: Tensor, targets: Tensor) -> None:
        sample = to_device_of(self.model, *(part[:8][..., :256] for part in (ids, targets)))
        trial = (lambda: loss_sum(self.model, *sample)), trainable_parameters(self.model), self.device
        if self.precision == "auto":
            self.precision = faster_precision(*trial)
        if self.products == "auto":
            self.products = faster_products(*trial) if self.precision == "float32" else "linear"

    def validate(self, val_loader) -> float | None:
        done = self.step + 1
        if val_loader is None or (done % self.config.eval_every and done < self.config.max_steps):
            return None
        totals = evaluation_totals(self.model, val_loader, self.config.eval_batches)
        total, count = sum_over_ranks(totals, self.device)
        if not count:
            raise ValueError(f"the validation loader has no target other than {IGNORE_INDEX}: give it one to grade")
        return total / count

    def record(self, loss: float, val_loss: float | None) -> None:
        history, done = self.history, self.step + 1
        history.steps.append(done)
        history.losses.append(loss)
        history.seconds.append(self.seconds_before + time.perf_counter() - self.begun)
        if val_loss is not None:
            history.val_steps.append(done)
            history.val_losses.append(val_loss)
            if self.config.keep_best and history.best_step == done:
                self.best = {name: tensor.detach().clone() for name, tensor in unique_tensors(self.model).items()}
        if done % (self.config.checkpoint_every or self.config.eval_every) == 0 or done == self.config.max_steps:
            self.save()

    def progress(self, loss: float, val_loss: float | None, count: int) -> Progress:
        recent = [self.seconds_before, *self.history.seconds][-50:]
        pace = (recent[-1] - recent[0]) / max(1, len(recent) - 1)
        here = time.perf_counter() - self.begun
        rate = learning_rate_at(self.step - 1, self.config)
        left = (self.config.max_steps - self.step) * pace
        return Progress(self.step, self.config.max_steps, loss, rate, self.tokens / here, left, val_loss)

    def save(self) -> None:
        if self.folder is not None and self.rank == 0:
            extra = {"config": asdict(self.config), "n_batches": self.n_batches, "history": asdict(self.history),
                     "precision": self.precision, "products": self.products,
                     "loss_scale": asdict(self.loss_scale),
                     "read": {"by_processes": self.world_size, "newest": list(self.read)}}  # fmt: skip
            save_checkpoint(self.folder, self.step, self.model, self.optimizers, extra, self.best)

    def stopped(self) -> str:
        stopped = f"stopped after step {self.step} of {self.config.max_steps}"
        if self.folder is None:
            return f"{stopped}; nothing was saved: give checkpoint_dir to be able to go on"
        self.save()
        return f"{stopped}; everything is saved in {self.folder}: call train again with resume=True to go on"

    def resume_or_start(self, resume: bool) -> None:
        if self.folder is None or not list_checkpoints(self.folder):
            return
        if not resume:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of an earlier run: pass resume=True to go on, or use another folder"
            )
        checkpoint = load_checkpoint(self.folder)
        self._refuse_other_run(checkpoint)
        self._refuse_other_rows(checkpoint)
        checkpoint.restore(self.model, self.optimizers)
        self.best = {name: tensor.to(self.device) for name, tensor in checkpoint.best.items()}
        self.history = History(**checkpoint.extra["history"])
        self.precision, self.products = checkpoint.extra["precision"], checkpoint.extra["products"]
        self.loss_scale = LossScale(**checkpoint.extra.get("loss_scale", {}))
        self.seconds_before = self.history.seconds[-1] if self.history.seconds else 0.0

    def _refuse_other_run(self, checkpoint) -> None:
        now = asdict(self.config) | {"betas": list(self.config.betas), "n_batches": self.n_batches}
        unset = {setting.name: setting.default for setting in fields(TrainConfig)}  # younger than the checkpoint
        then = unset | checkpoint.extra["config"] | {"n_batches": checkpoint.extra["n_batches"]}
        free = {"eval_every", "eval_batches", "checkpoint_every"}
        changed = [f"{k} was {then.get(k)!r}, now {now[k]!r}" for k in now if k not in free and now[k] != then.get(k)]
        if changed:
            raise CheckpointError(
                f"{checkpoint.folder} belongs to another run ({'; '.join(changed)}): "
                "use the same values to go on, or another folder to start anew"
            )

    def _refuse_other_rows(self, checkpoint) -> None:
        """Read the newest batches once more; every process has rows of its own, and those of the first were kept."""
        kept = checkpoint.extra.get("read", {"by_processes": None, "newest": []})
        first, other = checkpoint.step * self.config.accumulation_steps - len(kept["newest"]), 0
        if self.rank == 0 and kept["by_processes"] == self.world_size:
            with own_random_numbers(self.device):
                now = map(fingerprint, batches_from(self.loader, first))
                other = next((n for n, pair in enumerate(zip(kept["newest"], now), first + 1) if len(set(pair)) > 1), 0)
            self.read.extend(kept["newest"])
        if other := int(sum_over_ranks([other], self.device)[0]):
            raise CheckpointError(
                f"{checkpoint.folder} belongs to a run with other data: the loader's batch number {other} is not the "
                "one that was learned from; use the same texts, tokenizer, row lengths, batch size and seed to go on, "
                "or another folder to start anew"
            )
