"""What a training loop needs from the machine: a device, other processes, the faster precision, Ctrl-C between steps.

References: Li et al. (2020), "PyTorch distributed" (2006.15704); Micikevicius et al. (2018), "Mixed precision training"
(1710.03740). Taught in ch05, section 5.12, and in its scaling notebook.
"""

import ctypes
import json
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from ch04_gpt_model.fast_paths import LinearBy, fast_attention, linear_by_convolution
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel

__all__: list[str] = []  # the loop's own tools; nothing here is part of the course's vocabulary

WHEELS = "https://download.pytorch.org/whl/"  # builds of PyTorch that its ordinary index does not have
NEWER_GPUS, OLDER_GPUS = "cu130", "cu126"  # builds for GPUs from NVIDIA's Turing (2018) on, and for older ones too
TURING = (7, 5)
PATIENCE = 10.0  # seconds; torchrun looks ten times a second whether a process has ended
LossOfOneBatch = Callable[[], torch.Tensor]
Result = TypeVar("Result")


# ---------------------------------------------------------------- the device


def choose_device(name: str) -> torch.device:
    """Give the device of this name after it has shown that it computes what the CPU computes.

    Args:
        name: "cpu", "cuda", "mps" (the GPU of a Mac), or "auto" for a GPU that passes, or else the CPU.

    Raises:
        ValueError: the name is unknown, or the device is not there, cannot compute or computes other numbers.
    """
    if name == "auto":
        return next(device for device in map(_usable, ("cuda", "mps", "cpu")) if device)
    if name not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device={name!r} is unknown: use one of auto, cpu, cuda, mps")
    missing = {"cpu": lambda: None, "cuda": _why_no_cuda, "mps": _why_no_mps}[name]()
    if missing:
        raise ValueError(f"device={name!r} is not available: {missing}, or use device='cpu'")
    device = torch.device(name, int(os.environ.get("LOCAL_RANK", 0))) if name == "cuda" else torch.device(name)
    if name != "cpu":
        require_cpu_numbers(device)
    return device


def _usable(name: str) -> torch.device | None:
    try:
        return choose_device(name)
    except ValueError:
        return None


def build_command(build: str) -> str:
    """Give the command that installs PyTorch's build for another machine, such as "cu130", in place of this one."""
    version = torch.__version__.split("+")[0]
    return f"{sys.executable} -m pip install torch=={version}+{build} --index-url {WHEELS}{build}"


def _why_no_cuda() -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch warns of is said below, in a sentence
        if torch.cuda.is_available():
            return None
    if not torch.version.cuda and not torch.version.hip:
        return f"this PyTorch is a build for the CPU; an NVIDIA GPU needs another, {build_command(NEWER_GPUS)}"
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    reason = _why_cuda_does_not_begin()
    if shown is not None and "driver" not in reason:
        return f"CUDA_VISIBLE_DEVICES={shown!r} hides the GPUs; correct that setting or take it away"
    return f"PyTorch says {reason!r}; install the newest driver of your GPU"


def _why_cuda_does_not_begin() -> str:
    try:
        torch.cuda.init()
        return "no GPU"
    except (RuntimeError, AssertionError) as error:
        return _first_sentence(error)


def _why_no_mps() -> str | None:
    if torch.backends.mps.is_available():
        return None
    return "only a Mac with Apple silicon and macOS 14 or newer has it; take another device"


def require_cpu_numbers(device: torch.device) -> None:
    """Refuse a device that cannot compute a small GPT, or whose loss or gradient is not the CPU's.

    Raises:
        ValueError: with what PyTorch said, and what to do.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        model = GPTModel(GPTConfig(64, 32, 32, 2, 2))
    right = _loss_and_gradient(model, torch.device("cpu"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _loss_and_gradient(model, device)
    except RuntimeError as error:
        remedy = f"install another PyTorch with {build_command(OLDER_GPUS)}, or " if _is_too_old(device) else ""
        raise ValueError(
            f"device={str(device)!r} cannot compute here, PyTorch says {_first_sentence(error)!r}: "
            f"{remedy}use device='cpu'"
        ) from error
    if not torch.allclose(right, found, rtol=1e-3, atol=1e-4):
        raise ValueError(f"device={str(device)!r} computes other numbers than the CPU here: use device='cpu'")


def _loss_and_gradient(model: GPTModel, device: torch.device) -> torch.Tensor:
    model.to(device).zero_grad()
    ids = torch.arange(64, device=device).reshape(2, 32)
    loss = model(ids).float().logsumexp(-1).mean()
    loss.backward()
    gradient = model.token_embedding.weight.grad
    assert gradient is not None
    return torch.stack([loss.detach().cpu(), gradient.norm().cpu()])


def _is_too_old(device: torch.device) -> bool:
    """Say whether this is an NVIDIA GPU for which PyTorch's ordinary build holds no code."""
    try:
        return device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) < TURING
    except RuntimeError:  # not even that can be asked
        return False


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")


# ---------------------------------------------------------------- the processes


def rank_and_world_size() -> tuple[int, int]:
    """Say which of how many processes this is; (0, 1) when there is only one."""
    ready = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if ready else (0, 1)


def sum_over_ranks(values: Iterable[float], device: torch.device) -> list[float]:
    """Add numbers up over all processes; with one process they are already the sums."""
    if rank_and_world_size()[1] == 1:
        return list(values)
    sums = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def smallest_over_ranks(value: int, device: torch.device) -> int:
    """Give the smallest of a number that every process has."""
    if rank_and_world_size()[1] == 1:
        return value
    smallest = torch.tensor(value, device=device)
    dist.all_reduce(smallest, dist.ReduceOp.MIN)
    return int(smallest)


def is_shared_out(model: nn.Module) -> bool:
    """Say whether each process holds only its share of a model's weights, as `fully_shard` leaves it."""
    return any(hasattr(parameter, "to_local") for parameter in model.parameters())


def gradients_travel(network: nn.Module, now: bool) -> AbstractContextManager:
    """Let gradients travel between the processes with the last batch of a step only.

    Those of a model that is shared out travel with each batch: to wait, each process would have to hold all of them.
    """
    return network.no_sync() if isinstance(network, DistributedDataParallel) and not now else nullcontext()


def show_shares(model: nn.Module) -> None:
    """Let every parameter be this process's share again: after a forward pass some are still whole."""
    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def own_share(tensor: torch.Tensor) -> torch.Tensor:
    """Give what this process holds of a tensor: its share, or all of an ordinary one."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def as_number(tensor: torch.Tensor) -> float:
    """Give a scalar as a number, added up over the processes where each holds only a share of it."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).item()


def on_first_rank(work: Callable[[], Result]) -> Result | None:
    """Let one process do what is to be done once; the others wait for it."""
    rank, world_size = rank_and_world_size()
    result = work() if rank == 0 else None
    if world_size > 1:
        dist.barrier()
    return result


def leave_together() -> NoReturn:
    """Wait for the other processes, then end this one, without an error and at once; it must be the last call.

    `DistributedDataParallel` leaves threads behind, and with them a process now and then aborts while Python is
    ending, after all of its work is done. So Python's own way of ending is skipped.
    """
    dist.barrier()  # nobody hangs up while another still speaks
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def end_with(sentence: str, status: int) -> int:
    """Print why this process ends, and give its exit status; of many, the first on each machine speaks for all.

    As soon as one process ends, torchrun ends the others. So the others wait for that, and speak only if it does not
    happen: then they alone have something to say. torchrun shows the sentence again at the end of its own lines.
    """
    if is_one_of_many():
        if int(os.environ.get("LOCAL_RANK", "0")):
            time.sleep(PATIENCE)
        if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            told = {"message": sentence, "extraInfo": {"timestamp": str(int(time.time()))}}  # as PyTorch's `record`
            Path(path).write_text(json.dumps({"message": told}), encoding="utf-8")
        sentence += "\n(What torchrun prints below says only that its processes have ended.)"
    print(sentence, file=sys.stderr, flush=True)
    if is_one_of_many():
        os._exit(status)  # at once: Python's own way of ending may take longer than the others wait
    return status


def wait_to_be_ended() -> None:
    """Wait after an error that may come from another process: torchrun then ends this one before it can complain."""
    if is_one_of_many():
        time.sleep(PATIENCE)


def is_one_of_many() -> bool:
    """Say whether torchrun has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def give_memory_back(from_bytes: int = 1 << 20) -> None:
    """Let Linux have the memory of large tensors back as soon as they are freed, for the rest of this process.

    Its C library otherwise keeps much of it for later ones, which is faster and may take twice the memory where tensors
    of many sizes come and go, as in a model that is shared out. This outdoes `course.py`, which asks for the opposite.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(-4, 65_536)  # M_MMAP_MAX: so many tensors may have pages of their own
        set_option(-3, from_bytes)  # M_MMAP_THRESHOLD: those that are this large have them


# ---------------------------------------------------------------- precision and products


def own_random_numbers(device: torch.device) -> AbstractContextManager:
    """Leave the caller's random generator as it was, for as long as the returned context is open."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def arithmetic(device: torch.device, precision: str, products: str = "linear") -> AbstractContextManager:
    """Give the context in which a forward pass runs in this precision, its products by this routine."""
    if precision != "float32":
        sixteen_bits = torch.autocast(device.type, getattr(torch, precision))
        return fast_attention(sixteen_bits) if precision == "bfloat16" else sixteen_bits
    return LinearBy(linear_by_convolution) if products == "convolution" else nullcontext()


def faster_precision(loss_of_one_batch: LossOfOneBatch, parameters: list, device: torch.device) -> str:
    """Time a forward and backward pass in 32 bits and in 16, which must win clearly, on every process.

    The sixteen bits are bfloat16, or float16 on GPUs that PyTorch lets only imitate bfloat16, which is slow.
    """
    sixteen = "bfloat16" if _all_agree(has_bfloat16(device), device) else "float16"
    faster = _wins((sixteen,), ("float32",), loss_of_one_batch, parameters, device)
    return sixteen if _all_agree(faster, device) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Say whether bfloat16 may be tried: NVIDIA's GPUs have it from the generation Ampere (2020) on."""
    return device.type != "cuda" or bool(torch.version.hip) or torch.cuda.get_device_capability(device) >= (8, 0)


def faster_products(loss_of_one_batch: Callable[[], torch.Tensor], parameters: list, device: torch.device) -> str:
    """Time both routines for the products of float32 on a CPU; the convolution must win clearly, on every process."""
    choices = ("float32", "convolution"), ("float32", "linear")
    faster = device.type == "cpu" and _wins(*choices, loss_of_one_batch, parameters, device)
    return "convolution" if _all_agree(faster, device) else "linear"


def _all_agree(faster: bool, device: torch.device) -> bool:
    in_favor, processes = sum_over_ranks([faster, 1], device)
    return in_favor == processes


def _wins(
    challenger: tuple, champion: tuple, loss_of_one_batch: LossOfOneBatch, parameters: list, device: torch.device
) -> bool:
    with own_random_numbers(device):
        seconds = [_fastest_pass(loss_of_one_batch, parameters, device, way) for way in (champion, challenger)]
    return seconds[1] < 0.95 * seconds[0]


def _fastest_pass(
    loss_of_one_batch: LossOfOneBatch, parameters: list, device: torch.device, way: tuple, budget: float = 1.0
) -> float:
    """Seconds of the fastest of three passes; a single slow one is enough to know."""
    if device.type != "cpu":  # a GPU's first pass loads its code, which says nothing about the others
        _seconds_of_a_pass(loss_of_one_batch, parameters, device, way)
    fastest = spent = 0.0
    for _ in range(3):
        seconds = _seconds_of_a_pass(loss_of_one_batch, parameters, device, way)
        fastest, spent = min(fastest or seconds, seconds), spent + seconds
        if spent > budget:
            break
    return fastest


def _seconds_of_a_pass(loss_of_one_batch: LossOfOneBatch, parameters: list, device: torch.device, way: tuple) -> float:
    _wait_for(device)
    begun = time.perf_counter()
    with arithmetic(device, *way):
        loss = loss_of_one_batch()
    torch.autograd.grad(loss, parameters, allow_unused=True)  # a classifier does not use the GPT's own head
    _wait_for(device)
    return time.perf_counter() - begun


def _wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for: it takes orders faster than it works."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@dataclass
class LossScale:
    """The factor by which a loss in float16 is lifted, because small gradients would vanish in that precision.

    A gradient that overflows costs its step and halves the factor; a long time without one doubles it.

    Args:
        factor: at least 1.
        calm_steps: steps since the factor changed.

    Source: Micikevicius et al. (2018), section 3.2.
    """

    factor: float = 2.0**16
    calm_steps: int = 0

    def factor_in(self, precision: str) -> float:
        """Give the factor for a loss in this precision; only float16 needs one."""
        return self.factor if precision == "float16" else 1.0

    def overflowed(self, parameters: Iterable[nn.Parameter], precision: str) -> bool:
        """Take the factor off the gradients, and say whether they overflowed and a lower factor can mend it."""
        if precision != "float16":
            return False
        gradients = [p.grad for p in parameters if p.grad is not None]
        for gradient in gradients:
            gradient.mul_(1 / self.factor)
        if math.isfinite(as_number(nn.utils.get_total_norm(gradients))):
            self._grow()
            return False
        can_be_mended = self.factor > 1
        self.factor, self.calm_steps = max(1.0, self.factor / 2), 0
        return can_be_mended

    def _grow(self, after: int = 2_000) -> None:
        self.calm_steps += 1
        if self.calm_steps == after:
            self.factor, self.calm_steps = 2 * self.factor, 0


# ---------------------------------------------------------------- Ctrl-C


class CtrlC:
    """Turn Ctrl-C into a flag that is read between two steps, so that no step is left half done."""

    def __init__(self) -> None:
        self.pressed = False
        self.previous: Callable | int | None = None

    def __enter__(self) -> "CtrlC":
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _press(self, *_: object) -> None:
        if self.pressed:
            raise KeyboardInterrupt  # pressed twice: now
        self.pressed = True

    def call(self, on_step: Callable, *progress: object) -> None:
        """Call back after a step; a callback may press Ctrl-C too, by raising KeyboardInterrupt."""
        try:
            on_step(*progress)
        except KeyboardInterrupt:
            self.pressed = True
