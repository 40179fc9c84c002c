"""Pretraining: the loss, the schedule, the optimizers, the step and the loop that turn random weights into a GPT.

`train_plainly` is the loop as it is taught. `train` is the same loop with its surroundings: what a run keeps and how it
goes on stands in `run_state.py`, what all loops of the course share in `loop_care.py`, processes, precision and Ctrl-C
in `machine.py`. `cross_entropy` stands here in plain arithmetic; `train` takes the equal losses of `evaluation.py`.

Left out: sharded optimizers, pipelines.
References: Radford et al. (2019); Loshchilov and Hutter (2017), "SGDR" (1608.03983). Taught in ch05.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from ch02_text_data.batches import IGNORE_INDEX
from ch05_pretraining.config_ranges import refuse_out_of_range
from ch05_pretraining.curriculum import batches_from
from ch05_pretraining.evaluation import evaluation_totals, loss_sum
from ch05_pretraining.loop_care import (
    TrainingInterrupted,
    around_training,
    guarded_step,
    require_room,
    seed_dropout,
    to_device_of,
    trainable_parameters,
)
from ch05_pretraining.machine import (
    arithmetic,
    faster_precision,
    faster_products,
    gradients_travel,
    sum_over_ranks,
)
from ch05_pretraining.optimizers import Muon
from ch05_pretraining.run_state import History, Progress, RunState

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
        grad_clip: largest norm of the gradient allowed; 0 for no limit.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        refuse_out_of_range(self)


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
        model: only parameters that require a gradient are taken. For Muon it, or a part of it, says by a method
            `block_matrices()` which matrices its blocks have, and how many lie in each, as `GPTModel` does.
        config: optimizer, learning rates and weight decay.

    Raises:
        ValueError: everything is frozen, or Muon is asked for and no matrix of a block may learn.

    Source: this course. Taught in ch05, section 5.5.
    """
    parameters = trainable_parameters(model)
    by_muon = _matrices_of_blocks(model, parameters) if config.optimizer == "muon" else {}
    matrices = [p for p in parameters if p.ndim >= 2 and p not in by_muon]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    if by_muon:
        of_size = {pieces: [p for p in by_muon if by_muon[p] == pieces] for pieces in by_muon.values()}
        sizes = [{"params": matrices, "pieces": pieces} for pieces, matrices in of_size.items()]
        optimizers.append(Muon(sizes, config.muon_learning_rate, weight_decay=config.weight_decay))
    if groups:
        optimizers.append(torch.optim.AdamW(groups, config.learning_rate, config.betas, fused=True))
    return optimizers


def _matrices_of_blocks(model: nn.Module, parameters: list[nn.Parameter]) -> dict[nn.Parameter, int]:
    """Ask the parts of a model for their blocks' matrices; those that may learn, each with its number of pieces."""
    # a part without the method has no blocks, and so no matrices: dict()
    named: list[dict[nn.Parameter, int]] = [getattr(part, "block_matrices", dict)() for part in model.modules()]
    pieces = {p: n for matrices in named for p, n in matrices.items()}
    found = {p: pieces[p] for p in parameters if p in pieces}
    if not found:
        raise ValueError(
            "optimizer='muon' found no trainable matrix that the model's block_matrices() names: write that method "
            "for a model of your own, unfreeze a block, or use optimizer='adamw'"
        )
    return found


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


def take_step(run: RunState, micro_batches: list, count: int) -> float:
    """Take one optimizer step; its loss is a mean over all targets of all micro-batches and processes.

    Args:
        run: model, optimizers and state; a step whose gradient overflows in float16 moves no weight.
        micro_batches: this process's batches of (ids, targets).
        count: unmasked targets in the batches of all processes.

    Shape:
        batches (B, T), (B, T) -> nats per token, a float.

    Raises:
        ValueError: no target, a row longer than the context, a loss or gradient that is not finite.

    Source: this course.
    """
    if not count:
        raise ValueError(f"all targets of step {run.step} are {IGNORE_INDEX}: give each step a token to predict")
    seed_dropout(run.config.seed, run.step, run.rank)
    share = learning_rate_at(run.step, run.config) / run.config.learning_rate
    for optimizer in run.optimizers:
        optimizer.zero_grad()
        for group in optimizer.param_groups:
            group["lr"] = share * optimizer.defaults["lr"]
    total = 0.0
    for number, (ids, targets) in enumerate(micro_batches, 1):
        total += _backward(run, ids, targets, count, last=number == len(micro_batches))
    loss = sum_over_ranks([total], run.device)[0] / count
    run.note(micro_batches, count)
    if run.loss_scale.overflowed(run.model.parameters(), run.precision) and math.isfinite(loss):
        run.history.skipped.append(run.step + 1)
        return loss
    remedy = "lower learning_rate, or raise warmup_steps"
    remedy += ", or use precision='float32'" if run.precision == "float16" else ""
    guarded_step(run.model, run.optimizers, loss, run.step, grad_clip=run.config.grad_clip, remedy=remedy)
    return loss


def _backward(run: RunState, ids: Tensor, targets: Tensor, count: int, *, last: bool) -> float:
    require_room(ids.shape[-1], run.room)
    with gradients_travel(run.network, last):
        if "auto" in (run.precision, run.products):
            _choose_by_trial(run, ids, targets)
        with arithmetic(run.device, run.precision, run.products):
            part = run.loss(run.network, *to_device_of(run.model, ids, targets))
        lifted = part * (run.world_size / count * run.loss_scale.factor_in(run.precision))
        lifted.backward()  # both kinds of network average over processes; we want the sum
    return part.item()


def _choose_by_trial(run: RunState, ids: Tensor, targets: Tensor) -> None:
    sample = to_device_of(run.model, *(part[:8][..., :256] for part in (ids, targets)))
    trial = (lambda: run.loss(run.model, *sample)), trainable_parameters(run.model), run.device
    if run.precision == "auto":
        run.precision = faster_precision(*trial)
    if run.products == "auto":
        run.products = faster_products(*trial) if run.precision == "float32" else "linear"


def validate(run: RunState, val_loader: Iterable | None) -> float | None:
    """Measure the validation loss over all processes where a step is due for it; None elsewhere.

    Args:
        run: the run, with the step that was just taken not yet recorded.
        val_loader: batches of (ids, targets), or None.

    Shape:
        batches (B, T), (B, T) -> nats per token, a float.

    Raises:
        ValueError: no unmasked target.

    Source: this course. Taught in ch05, section 5.7.
    """
    done, config = run.step + 1, run.config
    if val_loader is None or (done % config.eval_every and done < config.max_steps):
        return None
    totals = evaluation_totals(run.model, val_loader, config.eval_batches, run.loss)
    total, count = sum_over_ranks(totals, run.device)
    if not count:
        raise ValueError(f"the validation loader has no target other than {IGNORE_INDEX}: give it one to grade")
    return total / count


def train(
    model: nn.Module, train_loader: Iterable, val_loader: Iterable | None, config: TrainConfig, *,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = loss_sum,
    checkpoint_dir: str | Path | None = None, resume: bool = False,
    on_step: Callable[[Progress], None] | None = None,
) -> History:  # fmt: skip
    """Train a model in place; an interrupted run that is resumed ends in the same bits.

    Args:
        model: maps ids to logits.
        train_loader: batches of (ids, targets); their order must be a function of (seed, epoch).
        val_loader: the same for the validation set; None only without `keep_best`.
        config: steps, learning rates and the rest.
        loss: sums over a batch in nats, `loss(model, ids, targets)`; the default is next-token prediction, or
            classification where the model gives one row of logits for each text. Give the same when resuming.
        checkpoint_dir: where checkpoints go; None saves nothing.
        resume: go on from the newest good checkpoint there, if there is one.
        on_step: called after every step.

    Shape:
        batches (B, T), (B, T).

    Raises:
        ValueError: an empty loader, a step without targets, a loss that is not finite, a checkpoint of another run,
            `keep_best` without a validation set.
        TrainingInterrupted: Ctrl-C, after saving.

    Source: this course. Taught in ch05, section 5.7.
    """
    if config.keep_best and val_loader is None:
        raise ValueError("keep_best=True needs a val_loader to tell the best weights by: give one, or keep_best=False")
    run = RunState(model, make_optimizers(model, config), train_loader, loss, config, checkpoint_dir)
    run.resume_or_start(resume)
    batches = batches_from(train_loader, run.step * config.accumulation_steps)
    with around_training(model) as ctrl_c:
        while run.step < config.max_steps:
            micro_batches = list(islice(batches, config.accumulation_steps))
            here = sum(int((targets != IGNORE_INDEX).sum()) for _, targets in micro_batches)
            count, pressed = sum_over_ranks([here, ctrl_c.pressed], run.device)
            if pressed:
                raise TrainingInterrupted(run.stopped(), run.history)
            step_loss = take_step(run, micro_batches, int(count))
            val_loss = validate(run, val_loader)
            run.record(step_loss, val_loss)
            if on_step:
                ctrl_c.call(on_step, run.progress(learning_rate_at(run.step - 1, config), val_loss))
    run.take_best()
    return run.history
