"""What a training run remembers: its history, what a checkpoint keeps of it, and how it goes on from there.

Everything that decides the future is a function of the settings and the number of steps done, or is kept. A run is only
gone on with under the same settings and with the same rows. Taught in ch05, section 5.12.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ch05_pretraining.checkpoints import (
    Checkpoint,
    copy_tensors,
    list_checkpoints,
    load_checkpoint,
    part_name,
    save_checkpoint,
    step_folder,
    unique_tensors,
)
from ch05_pretraining.curriculum import batches_from, n_batches_of
from ch05_pretraining.loop_care import context_length_of, device_of, fingerprint
from ch05_pretraining.machine import (
    LossScale,
    is_shared_out,
    own_random_numbers,
    own_share,
    rank_and_world_size,
    show_shares,
    smallest_over_ranks,
    sum_over_ranks,
)
from data.durable_folders import CheckpointError

if TYPE_CHECKING:
    from ch05_pretraining.pretraining import TrainConfig

BATCHES_KEPT = 32  # whose fingerprints a checkpoint keeps: enough to hold a batch of everything that is mixed in


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


class TrainOptions(TypedDict, total=False):
    """What `train` may be given beside model, batches and config, for those that pass it on to `train`."""

    checkpoint_dir: str | Path | None
    resume: bool
    on_step: Callable[[Progress], None] | None


class RunState:
    """The state of one training run: model, optimizers, history, and all that a later process needs to go on.

    Args:
        model: maps ids to logits.
        optimizers: move its weights.
        train_loader: sized batches of (ids, targets).
        loss: sums over a batch, in nats.
        config: a `TrainConfig`.
        checkpoint_dir: where checkpoints go; None saves nothing.

    Raises:
        ValueError: the loader has no length.

    Source: this course. Taught in ch05, section 5.12.
    """

    def __init__(
        self, model: nn.Module, optimizers: list, train_loader: Iterable, loss: Callable,
        config: "TrainConfig", checkpoint_dir: str | Path | None,
    ):  # fmt: skip
        self.model, self.config, self.history = model, config, History()
        self.device, self.rank, self.world_size = device_of(model), *rank_and_world_size()
        self.optimizers, self.loss, self.is_shared_out = optimizers, loss, is_shared_out(model)
        self.folder = None if checkpoint_dir is None else Path(checkpoint_dir)
        if self.folder is not None and self.is_shared_out:  # each process keeps what only it holds
            self.folder = self.folder / part_name(self.rank, self.world_size)
        self.saves = self.rank == 0 or self.is_shared_out
        self.network = DistributedDataParallel(model) if self.world_size > 1 and not self.is_shared_out else model
        self.loader, self.n_batches, self.room = train_loader, n_batches_of(train_loader), context_length_of(model)
        self.read: deque[str] = deque(maxlen=BATCHES_KEPT)  # fingerprints of the newest batches
        self.precision, self.products, self.loss_scale = config.precision, config.products, LossScale()
        self.seconds_before, self.begun, self.tokens = 0.0, time.perf_counter(), 0
        self.best: dict[str, Tensor] = {}  # with keep_best: the weights of the lowest validation loss so far

    @property
    def step(self) -> int:
        """Number of steps done."""
        return len(self.history.steps)

    def note(self, micro_batches: list, count: int) -> None:
        """Keep in mind what a step has read: the number of its targets and, for a checkpoint, which rows they were."""
        self.tokens += int(count)
        if self.folder is not None and self.saves:
            self.read.extend(map(fingerprint, micro_batches))

    def record(self, loss: float, val_loss: float | None) -> None:
        """Write a step into the history, keep its weights if they are the best, and save when a checkpoint is due."""
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

    def progress(self, learning_rate: float, val_loss: float | None) -> Progress:
        """Say how far the run has come, for `on_step`."""
        recent = [self.seconds_before, *self.history.seconds][-50:]
        pace = (recent[-1] - recent[0]) / max(1, len(recent) - 1)
        left = (self.config.max_steps - self.step) * pace
        per_second = self.tokens / (time.perf_counter() - self.begun)
        loss = self.history.losses[-1]
        return Progress(self.step, self.config.max_steps, loss, learning_rate, per_second, left, val_loss)

    def save(self) -> None:
        """Write a checkpoint, where the run has a folder."""
        if self.folder is not None and self.saves:
            show_shares(self.model)
            extra = {"config": asdict(self.config), "n_batches": self.n_batches, "history": asdict(self.history),
                     "precision": self.precision, "products": self.products,
                     "loss_scale": asdict(self.loss_scale),
                     "shared_out": [name for name, tensor in unique_tensors(self.model).items()
                                    if own_share(tensor) is not tensor],
                     "read": {"by_processes": self.world_size, "newest": list(self.read)}}  # fmt: skip
            save_checkpoint(self.folder, self.step, self.model, self.optimizers, extra, self.best)

    def stopped(self) -> str:
        """Save after Ctrl-C, and say how to go on."""
        stopped = f"stopped after step {self.step} of {self.config.max_steps}"
        if self.folder is None:
            return f"{stopped}; nothing was saved: give checkpoint_dir to be able to go on"
        self.save()
        return f"{stopped}; everything is saved in {self.folder}: call train again with resume=True to go on"

    def take_best(self) -> None:
        """Give the model its best weights, where they were kept."""
        if self.best:
            copy_tensors(self.model, self.best, "the best step")

    def resume_or_start(self, resume: bool) -> None:
        """Take up the newest checkpoint, if there is one; refuse one of another run or of other data."""
        if self.folder is None or (newest := self._newest_step(self.folder)) < 0:
            return
        if not resume:
            raise CheckpointError(
                f"{self.folder} holds checkpoints of an earlier run: pass resume=True to go on, or use another folder"
            )
        checkpoint = load_checkpoint(step_folder(self.folder, newest) if self.is_shared_out else self.folder)
        self._refuse_other_run(checkpoint)
        self._refuse_other_rows(checkpoint)
        checkpoint.restore(self.model, self.optimizers)
        self.best = {name: tensor.to(self.device) for name, tensor in checkpoint.best.items()}
        self.history = History(**checkpoint.extra["history"])
        self.precision, self.products = checkpoint.extra["precision"], checkpoint.extra["products"]
        self.loss_scale = LossScale(**checkpoint.extra.get("loss_scale", {}))
        self.seconds_before = self.history.seconds[-1] if self.history.seconds else 0.0

    def _newest_step(self, folder: Path) -> int:
        """Give the newest step of which every process has kept its share; -1 where there is none."""
        kept = list_checkpoints(folder)
        newest = int(kept[0].name.removeprefix("step-")) if kept else -1
        return smallest_over_ranks(newest, self.device) if self.is_shared_out else newest

    def _refuse_other_run(self, checkpoint: Checkpoint) -> None:
        now = asdict(self.config) | {"betas": list(self.config.betas), "n_batches": self.n_batches}
        unset = {setting.name: setting.default for setting in fields(self.config)}  # younger than the checkpoint
        then = unset | checkpoint.extra["config"] | {"n_batches": checkpoint.extra["n_batches"]}
        free = {"eval_every", "eval_batches", "checkpoint_every"}
        changed = [f"{k} was {then.get(k)!r}, now {now[k]!r}" for k in now if k not in free and now[k] != then.get(k)]
        if changed:
            raise CheckpointError(
                f"{checkpoint.folder} belongs to another run ({'; '.join(changed)}): "
                "use the same values to go on, or another folder to start anew"
            )

    def _refuse_other_rows(self, checkpoint: Checkpoint) -> None:
        """Read the newest batches once more; every process has rows of its own, and those of the first were kept."""
        kept = checkpoint.extra.get("read", {"by_processes": None, "newest": []})
        first, other = checkpoint.step * self.config.accumulation_steps - len(kept["newest"]), 0
        if self.saves and kept["by_processes"] == self.world_size:
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
