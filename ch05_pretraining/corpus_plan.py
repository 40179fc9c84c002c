"""What a training on a large corpus takes, said before it begins: parameters, memory, tokens, work and hours.

References: Rajbhandari et al. (2020), "ZeRO" (1910.02054), section 3, for the memory of a training. For ch05, section
S.6 of its scaling notebook.
"""

import os
from dataclasses import dataclass

import torch

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.free_memory import free_memory
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
        memory: bytes on each device, by what they hold.
        seconds_per_step: from a short trial; None before it.

    Source: Rajbhandari et al. (2020), section 3. For ch05, section S.6 of its scaling notebook.
    """

    n_parameters: int
    world_size: int
    step_tokens: int
    max_steps: int
    flops: float
    memory: dict[str, int]
    seconds_per_step: float | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes on each device, about."""
        return sum(self.memory.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {n / 1e9:.2f}" for name, n in self.memory.items())
        lines = [
            f"parameters   {self.n_parameters:,}",
            f"processes    {self.world_size}",
            f"memory       about {self.n_bytes / 1e9:.2f} GB on each device ({parts})",
            f"tokens       {self.step_tokens * self.max_steps:,} in {self.max_steps:,} steps of {self.step_tokens:,}",
            f"work         {self.flops:.2e} multiplications and additions",
        ]
        if self.seconds_per_step is not None:
            hours = self.seconds_per_step * self.max_steps / 3600
            rate = self.step_tokens / self.seconds_per_step
            lines.append(f"time         about {hours:.2f} hours at {rate:,.0f} tokens/s, by a short trial")
        return "\n".join(lines)


def plan_training(
    shape: GPTConfig, batch_size: int, length: int, config: TrainConfig, *, world_size: int = 1, share: bool = False
) -> TrainingPlan:
    """Estimate what a training takes.

    Weights, gradients and AdamW's two means are four bytes each for every parameter, in any precision: the sixteen bits
    are copies that a product makes. Between processes `DistributedDataParallel` holds every gradient a second time;
    `fully_shard` divides all of it by the processes and holds one block and the embeddings whole while they work.
    What the forward pass keeps for the backward pass is an estimate.

    Args:
        shape: of the model.
        batch_size: rows that one process reads at once.
        length: tokens of a row.
        config: steps, accumulation and precision.
        world_size: processes, one for each device.
        share: each process holds only its share of the model.

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
        memory["on the way"] = 2 * 4 * whole if share else 4 * n
    memory["activations"] = _activation_bytes(shape, batch_size * length, config.precision)
    step_tokens = batch_size * length * config.accumulation_steps * world_size
    flops = flops_per_token(shape, length) * step_tokens * config.max_steps
    return TrainingPlan(n, world_size, step_tokens, config.max_steps, flops, memory)


def model_of(shape: GPTConfig) -> GPTModel:
    """Build the model of a shape, with weights from PyTorch's global generator."""
    return next(class_ for class_, config in MODEL_CLASSES.values() if config is type(shape))(shape)


def _activation_bytes(shape: GPTConfig, n_tokens: int, precision: str) -> int:
    """What the forward pass keeps of so many tokens: in each block the inputs of its products, and all the logits."""
    size = 4 if precision == "float32" else 2
    # two norms, queries, keys and values, attention, two sums, each of width D; and the middle of the feed-forward part
    in_block = 9 * shape.d_model + 3 * shape.d_ff
    logits = 3 * 4 * shape.vocab_size  # scores, their logarithms and their gradient, in 32 bits
    return n_tokens * (shape.n_layers * in_block * size + logits)


def require_that_it_fits(plan: TrainingPlan, device: torch.device) -> None:
    """Refuse a training whose estimate is larger than the memory that is free.

    Args:
        plan: what it takes on each device.
        device: where it is to run.

    Raises:
        ValueError: less is free.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = free_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of one machine share its memory
    if plan.n_bytes > free:
        raise ValueError(
            f"the training takes about {plan.n_bytes / 1e9:.1f} GB on each device and {free / 1e9:.1f} GB are free: "
            "lower --batch-size or --context, share the model out between more processes (--share), or take a smaller "
            "--shape"
        )
