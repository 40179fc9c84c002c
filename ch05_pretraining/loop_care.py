"""What every training loop takes care of, in one place, so that no loop forgets it.

Pretraining, classifier, assistant, preferences, reward model, GRPO and PPO differ in their loss. All of them train only
what may be trained, meet the model where it is, move no weight by a number that is not finite, end between two steps
when Ctrl-C is pressed, and leave the model's modes and the caller's random numbers as they were.

References: Pascanu et al. (2013), "On the difficulty of training recurrent neural networks", for clipping. Taught in
ch05, sections 5.5 and 5.12.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ch05_pretraining.machine import CtrlC, as_number, own_random_numbers

__all__ = ["TrainingInterrupted"]


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C was pressed; the message says how to go on, `history` holds what happened until then.

    The model has the weights of the last whole step.

    Source: this course. Taught in ch05, section 5.12.
    """

    def __init__(self, message: str, history: object = None):
        super().__init__(message)
        self.history = history


# ---------------------------------------------------------------- around a loop


@contextmanager
def around_training(model: nn.Module, *, dropout: bool = True) -> Iterator[CtrlC]:
    """Give the context of a loop: a mode for the model, random numbers of its own, and Ctrl-C as a flag.

    Args:
        model: its modules get back the modes they had.
        dropout: False trains in evaluation mode, as methods must that compare the model with itself.
    """
    with in_mode(model, training=dropout), own_random_numbers(device_of(model)), CtrlC() as ctrl_c:
        yield ctrl_c


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into training or evaluation mode, and afterwards each of its modules back."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


@contextmanager
def training_only(model: nn.Module, chosen: set[nn.Parameter]) -> Iterator[None]:
    """Let only some of the trainable parameters learn; what was frozen stays frozen, now and afterwards."""
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter, learns in before.items():
            parameter.requires_grad_(learns and parameter in chosen)
        yield
    finally:
        for parameter, learns in before.items():
            parameter.requires_grad_(learns)


def stop_if_pressed(ctrl_c: CtrlC, done: str, history: object) -> None:
    """End a loop that writes no checkpoints between two of its steps; `done` says after which."""
    if ctrl_c.pressed:
        raise TrainingInterrupted(
            f"stopped after {done}; the model keeps what it has learned, and this exception's `history` holds what "
            "happened",
            history,
        )


def require_training_settings(learning_rate: float, **counts: int) -> None:
    """Refuse a learning rate that moves nothing or away from the goal, and numbers of steps below 1."""
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate={learning_rate}: expected a number above 0, for example 1e-3")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}={count}: expected at least 1")


# ---------------------------------------------------------------- what the model is and where


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """List what may be trained; refuse a model in which everything is frozen."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        n_frozen = len(list(model.parameters()))
        raise ValueError(
            f"all {n_frozen} parameters of the model are frozen, so nothing can learn: "
            "call requires_grad_(True) on what shall be trained"
        )
    return trainable


def device_of(model: nn.Module) -> torch.device:
    """Say where a model is."""
    return next(model.parameters()).device


def to_device_of(model: nn.Module, *tensors: Tensor) -> list[Tensor]:
    """Move tensors to where the model is."""
    return [tensor.to(device_of(model)) for tensor in tensors]


def context_length_of(model: nn.Module) -> float:
    """Say how many tokens the GPT in a model reads at most; infinity where there is none."""
    configs = [getattr(part, "config", None) for part in model.modules()]
    return min(getattr(config, "context_length", math.inf) for config in configs)


def require_room(
    n_tokens: int, context_length: float, remedy: str = "make the rows with a smaller max_length"
) -> None:  # fmt: skip
    """Refuse rows that are longer than the context, with the remedy that the caller has."""
    if n_tokens > context_length:
        raise ValueError(f"a row has {n_tokens} tokens, and the model's context holds {context_length}: {remedy}")


# ---------------------------------------------------------------- one step


def seed_dropout(seed: int, step: int, rank: int = 0) -> None:
    """Let a step's dropout depend on nothing but seed, step and process."""
    torch.manual_seed(((seed * 1_000_003 + step) * 1_009 + rank) % 2**64)


def learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, step: int, remedy: str = "lower learning_rate"
) -> float:
    """Take one step down the gradient of a loss, and give the loss as a number; see `guarded_step`."""
    optimizer.zero_grad()
    loss.backward()
    value = loss.item()
    guarded_step(model, [optimizer], value, step, grad_clip=1.0, remedy=remedy)
    return value


def guarded_step(model: nn.Module, optimizers: list, loss: float, step: int, *, grad_clip: float, remedy: str) -> None:
    """Clip the gradients and move the weights; a loss or gradient that is not finite is refused before it moves any.

    Args:
        model: its trainable parameters have their gradients already.
        optimizers: move them.
        loss: the step's loss, in nats.
        step: steps done before, for the message.
        grad_clip: largest norm of the gradient allowed; 0 for no limit.
        remedy: what the caller can change.

    Raises:
        ValueError: loss or gradient is NaN or infinite.

    Source: Pascanu et al. (2013), section 3.2.
    """
    parameters = [p for p in model.parameters() if p.requires_grad and p.grad is not None]
    norm = as_number(nn.utils.clip_grad_norm_(parameters, grad_clip or math.inf))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise ValueError(
            f"the loss is {loss:.3g} and the gradient's norm {norm:.3g} at step {step}, so the weights "
            f"were left as they are: {remedy}"
        )
    for optimizer in optimizers:
        optimizer.step()


# ---------------------------------------------------------------- which rows were read


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """Give a short text that differs where the tensors of a batch differ in values, shape or type."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
