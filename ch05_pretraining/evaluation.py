"""The loss of a model over a batch, as `train` lowers it, and over many, every unmasked target counting the same.

Reference: Shannon (1948), section 6. Taught in ch05, section 5.3.
"""

from collections.abc import Callable, Iterable
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch02_text_data.batches import IGNORE_INDEX
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.head_loss import head_loss
from ch05_pretraining.loop_care import context_length_of, in_mode, require_room, to_device_of
from ch05_pretraining.machine import is_shared_out

__all__ = ["evaluate", "loss_of_logits", "loss_sum"]


def loss_sum(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    """Add up the surprise at every unmasked target of a batch: what `train` lowers and `evaluate` measures.

    A GPT's head is a quarter of its work, so it runs only where a target is graded, a slice at a time (`head_loss`).
    Every other model, and a GPT whose way from ids to logits was changed, is asked for its logits (`loss_of_logits`).

    Args:
        model: maps ids to logits.
        ids: the tokens that are read.
        targets: the tokens or classes that came; `IGNORE_INDEX` (-100) leaves one out.

    Shape:
        ids (B, T), targets (B, T), or (B,) for a classifier -> scalar, in nats.

    Raises:
        ValueError: the targets do not fit the predictions, or one of them is no id or class of the model.

    Source: Shannon (1948), section 6. Taught in ch05, section 5.1.
    """
    if not (isinstance(model, GPTModel) and _scores_by_its_head(model)):
        return loss_of_logits(model, ids, targets)
    _require_fit(targets, ids.shape)
    graded = targets != IGNORE_INDEX
    return head_loss(model.hidden(ids)[graded], model.head.weight, targets[graded])


def _scores_by_its_head(model: GPTModel) -> bool:
    """Say whether the logits are still a matrix, the head, times the hidden vectors, and all of it is here."""
    own_way = type(model).forward is not GPTModel.forward
    plain_head = type(model.head) is nn.Linear and model.head.bias is None
    return not own_way and plain_head and not is_shared_out(model)


def loss_of_logits(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    """Add up the surprise at every unmasked target, from all the logits of any model at once.

    Arguments, shapes and errors are those of `loss_sum`.

    Source: Shannon (1948), section 6. Taught in ch05, section 5.1.
    """
    logits = model(ids)  # (B, T, V), or (B, C) from a classifier
    _require_fit(targets, logits.shape[:-1])
    logits = logits.flatten(0, -2).to(torch.promote_types(logits.dtype, torch.float32))
    try:
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    except IndexError as error:
        raise ValueError(
            f"a target lies outside 0 to {logits.shape[-1] - 1}: use the tokenizer or the labels that the model was "
            "made for"
        ) from error


def _require_fit(targets: Tensor, shape: torch.Size) -> None:
    if targets.shape != shape:
        raise ValueError(
            f"the loader's targets have shape {tuple(targets.shape)} and the model's predictions {tuple(shape)}: give "
            "one target for each prediction, and classes to a classifier only"
        )


def evaluate(model: nn.Module, loader: Iterable, max_batches: int | None = None, *, loss: Callable = loss_sum) -> float:
    """Measure the mean loss over a loader, every unmasked target counting the same.

    Args:
        model: put into evaluation mode for the time being.
        loader: batches of (ids, targets).
        max_batches: look at this many batches only; None for all.
        loss: sums over a batch, `loss(model, ids, targets)`, as `loss_sum` does.

    Shape:
        batches (B, T), (B, T) -> nats per token, a float.

    Raises:
        ValueError: no batch, no unmasked target, or targets that do not fit the predictions.

    Source: this course. Taught in ch05, section 5.3.
    """
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches={max_batches} leaves nothing to grade: give 1 or more, or None for all")
    total, count = evaluation_totals(model, loader, max_batches, loss)
    if not count:
        raise ValueError(f"the loader has no target other than {IGNORE_INDEX}: give it at least one batch to grade")
    return total / count


@torch.no_grad()
def evaluation_totals(
    model: nn.Module, loader: Iterable, max_batches: int | None = None, loss: Callable = loss_sum
) -> tuple[float, int]:
    """Sum the loss over a loader, in nats, and count its unmasked targets."""
    total, count, room = 0.0, 0, context_length_of(model)
    with in_mode(model, training=False):
        for ids, targets in islice(loader, max_batches):
            require_room(ids.shape[-1], room)
            total += loss(model, *to_device_of(model, ids, targets)).item()
            count += int((targets != IGNORE_INDEX).sum())
    return total, count
