"""What a training on a large corpus takes, said before it begins: parameters, memory, tokens, work and hours.

The memory is an estimate: what PyTorch itself takes, and what its allocator keeps, is not in it.

References: Rajbhandari et al. (2020), "ZeRO" (1910.02054), section 3, for the memory of a training. For ch05, section
S.6 of its scaling notebook.
"""

import os
from dataclasses import dataclass

import torch

from ch04_gpt_model.fast_paths import SHORT
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig
from ch05_pretraining.free_memory import free_memory
from ch05_pretraining.head_loss import ROWS_AT_ONCE
from ch05_pretraining.machine import smallest_over_ranks
from ch05_pretraining.model_parts import MODEL_CLASSES
from ch05_pretraining.pretraining import TrainConfig
from ch05_pretraining.scaling import flops_per_token

__all__ = ["TrainingPlan", "plan_training"]


@dataclass(frozen=True)
class TrainingPlan:
    """What a training takes.

    Args:
        n_parameters: of the model.
        world_size: processes, one for each device.
        step_tokens: tokens of a step, over all processes.
        max_steps: steps.
        flops: multiplications and additions of the whole training.
        memory: bytes on each device during a step, by what they hold.
        for_a_moment: bytes of main memory that each process takes to build the model or to write a checkpoint.
        validation_tokens: tokens of a look at the validation shards; 0 where too little text was kept aside.
        seconds_per_step: from a short trial; None before it.

    Source: Rajbhandari et al. (2020), section 3. For ch05, section S.6 of its scaling notebook.
    """

    n_parameters: int
    world_size: int
    step_tokens: int
    max_steps: int
    flops: float
    memory: dict[str, int]
    for_a_moment: int = 0
    validation_tokens: int = 0
    seconds_per_step: float | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes on each device during a step, about."""
        return sum(self.memory.values())

    @property
    def n_bytes_without_gpu(self) -> int:
        """Bytes of main memory that each process takes where it also trains there, about."""
        held = sum(self.memory[name] for name in ("weights", "gradients", "optimizer"))
        return max(self.n_bytes, held + self.for_a_moment)

    def __str__(self) -> str:
        looks = f"up to {self.validation_tokens:,} tokens at each look"
        looks = looks if self.validation_tokens else "none, because too little text was kept aside"
        parts = ", ".join(f"{name} {n / 1e9:.2f}" for name, n in self.memory.items())
        lines = [
            f"parameters   {self.n_parameters:,}",
            f"processes    {self.world_size}",
            f"memory       about {self.n_bytes / 1e9:.2f} GB on each device in a step ({parts})",
            f"main memory  about {self.for_a_moment / 1e9:.2f} GB for a moment, to build the model or to save",
            f"tokens       {self.step_tokens * self.max_steps:,} in {self.max_steps:,} steps of {self.step_tokens:,}",
            f"validation   {looks}",
            f"work         {self.flops:.2e} multiplications and additions",
        ]
        if self.seconds_per_step is None:
            lines.append("time         not known yet; a trial of a few steps will tell")
        else:
            seconds, rate = self.seconds_per_step * self.max_steps, self.step_tokens / self.seconds_per_step
            lines.append(f"time         about {in_words(seconds)} at {rate:,.0f} tokens/s, by a short trial")
        return "\n".join(lines)


def in_words(seconds: float) -> str:
    """Say a stretch of time in seconds, minutes or hours, whichever suits it."""
    if seconds > 7200:
        return f"{seconds / 3600:,.1f} hours"
    return f"{seconds / 60:.0f} min" if seconds > 120 else f"{seconds:.0f} s"


def plan_training(
    shape: GPTConfig, batch_size: int, length: int, config: TrainConfig, *, world_size: int = 1, share: bool = False,
    document_mask: bool = False, device: str = "cpu",
) -> TrainingPlan:  # fmt: skip
    """Estimate what a training takes.

    Weights, gradients and AdamW's two means are four bytes each for every parameter, in any precision: the sixteen bits
    are copies that a product makes, and count among the activations. Between processes `DistributedDataParallel` holds
    every gradient a second time; `fully_shard` divides all of it by the processes and holds one block and the
    embeddings whole while they work: weights and gradients, and each once more as a message. What the forward pass
    keeps for the backward pass is an estimate.

    Args:
        shape: of the model.
        batch_size: rows that one process reads at once.
        length: tokens of a row.
        config: steps, accumulation and precision.
        world_size: processes, one for each device.
        share: each process holds only its share of the model.
        document_mask: each token reads its own document only.
        device: "cpu", "cuda" or "mps".

    Source: Rajbhandari et al. (2020), section 3. For ch05, section S.6 of its scaling notebook.
    """
    with torch.device("meta"):
        model = model_of(shape)
    n = model.n_parameters
    in_blocks = sum(parameter.numel() for parameter in model.blocks.parameters())
    whole = n - in_blocks + in_blocks // shape.n_layers
    held = -(-n // world_size) if share else n
    memory = {"weights": 4 * held, "gradients": 4 * held, "optimizer": 8 * held}
    if world_size > 1:
        memory["on the way"] = 4 * 4 * whole if share else 4 * n
    n_tokens, by_hand = batch_size * length, device == "cpu" and config.precision == "bfloat16" and length <= SHORT
    pairs = shape.n_layers * batch_size * length**2
    memory["activations"] = _bytes_in_blocks(shape, n_tokens, config.precision)
    memory["attention"] = pairs * _bytes_of_a_pair(shape, config.precision, document_mask, by_hand)
    n_rows = n_tokens if world_size > 1 else min(n_tokens, ROWS_AT_ONCE.get(device, 8192))
    memory["logits"] = _bytes_of_logits(shape, n_rows, config.precision, in_slices=world_size == 1)
    step_tokens = batch_size * length * config.accumulation_steps * world_size
    flops = flops_per_token(shape, length) * step_tokens * config.max_steps
    # each process builds the whole model before it is shared out; a checkpoint is made of bytes, and while it is made
    # the optimizer's numbers stand there once more
    for_a_moment = max(4 * n, (4 + 2 * 8) * held)
    return TrainingPlan(n, world_size, step_tokens, config.max_steps, flops, memory, for_a_moment)


def model_of(shape: GPTConfig) -> GPTModel:
    """Build the model of a shape, with weights from PyTorch's global generator."""
    return next(class_ for class_, config in MODEL_CLASSES.values() if config is type(shape))(shape)


def _bytes_in_blocks(shape: GPTConfig, n_tokens: int, precision: str) -> int:
    """What the forward pass keeps of so many tokens in all blocks."""
    modern = isinstance(shape, ModernConfig)
    # vectors of a token: kept in 32 bits in any precision (what norms and rotations read), others, and d_ff wide
    exact, others, wide = (8, 8, 4) if modern else (2, 7, 2)
    size = 4 if precision == "float32" else 2
    of_a_token = shape.d_model * (4 * exact + size * others) + size * wide * shape.d_ff
    in_matrices = shape.d_model * (4 * shape.d_model + (3 if modern else 2) * shape.d_ff)
    return shape.n_layers * (n_tokens * of_a_token + (0 if precision == "float32" else 2 * in_matrices))


def _bytes_of_a_pair(shape: GPTConfig, precision: str, document_mask: bool, by_hand: bool) -> int:
    """What attention keeps of a pair of tokens in a block: nothing, or a mask, or the products where they are kept."""
    if document_mask:
        return 4 if precision == "float32" else 2
    return 6 * shape.n_heads if by_hand and not isinstance(shape, ModernConfig) else 0


def _bytes_of_logits(shape: GPTConfig, n_rows: int, precision: str, *, in_slices: bool) -> int:
    """Scores, their logarithms and their gradient, in 32 bits; in slices also the gradient of the head, twice."""
    copy = 0 if precision == "float32" else 2
    return shape.vocab_size * (n_rows * (12 + 2 * copy) + shape.d_model * (copy + (8 if in_slices else 0)))


def require_that_it_fits(plan: TrainingPlan, device: torch.device) -> None:
    """Refuse a training whose estimate is larger than the memory that is free; all processes decide alike.

    Args:
        plan: what it takes on each device.
        device: where it is to run.

    Raises:
        ValueError: less is free.
    """
    of_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of one machine share its memory
    in_main_memory = smallest_over_ranks(free_memory() // of_this_machine, device)
    needed, free = plan.n_bytes_without_gpu, in_main_memory
    if device.type == "cuda":
        needed, free = plan.n_bytes, smallest_over_ranks(torch.cuda.mem_get_info(device)[0], device)
        if plan.for_a_moment > in_main_memory:
            raise ValueError(
                f"each process takes about {plan.for_a_moment / 1e9:.1f} GB of main memory for a moment, and "
                f"{in_main_memory / 1e9:.1f} GB are free for each: start fewer processes, or take a smaller --shape"
            )
    if needed > free:
        raise ValueError(
            f"the training takes about {needed / 1e9:.1f} GB on each device and {free / 1e9:.1f} GB are free: "
            "lower --batch-size or --context, share the model out between more processes (--share), or take a smaller "
            "--shape"
        )
