"""What a training loop needs from the machine: other processes, the faster precision, Ctrl-C between steps.

References: Li et al. (2020), "PyTorch distributed" (2006.15704). Taught in ch05, section 5.12, and in its scaling
notebook.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import NoReturn

import torch
import torch.distributed as dist

from ch04_gpt_model.products import LinearBy, linear_by_convolution

__all__: list[str] = []  # the loop's own tools; nothing here is part of the course's vocabulary


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


def leave_together() -> NoReturn:
    """Wait for the other processes, then end this one, without an error and at once; it must be the last call.

    `DistributedDataParallel` leaves threads behind, and with them a process now and then aborts while Python is
    ending, after all of its work is done. So Python's own way of ending is skipped.
    """
    dist.barrier()  # nobody hangs up while another still speaks
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def own_random_numbers(device: torch.device):
    """Leave the caller's random generator as it was, for as long as the returned context is open."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def arithmetic(device: torch.device, precision: str, products: str = "linear"):
    """Give the context in which a forward pass runs in this precision, its products by this routine."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return LinearBy(linear_by_convolution) if products == "convolution" else nullcontext()


def faster_precision(loss_of_one_batch: Callable[[], torch.Tensor], parameters: list, device: torch.device) -> str:
    """Time a forward and backward pass in both precisions; bfloat16 must win clearly, on every process."""
    if device.type == "cuda":
        faster = torch.cuda.is_bf16_supported()
    else:
        faster = _wins(("bfloat16",), ("float32",), loss_of_one_batch, parameters, device)
    return "bfloat16" if _all_agree(faster, device) else "float32"


def faster_products(loss_of_one_batch: Callable[[], torch.Tensor], parameters: list, device: torch.device) -> str:
    """Time both routines for the products of float32 on a CPU; the convolution must win clearly, on every process."""
    choices = ("float32", "convolution"), ("float32", "linear")
    faster = device.type == "cpu" and _wins(*choices, loss_of_one_batch, parameters, device)
    return "convolution" if _all_agree(faster, device) else "linear"


def _all_agree(faster: bool, device: torch.device) -> bool:
    in_favour, processes = sum_over_ranks([faster, 1], device)
    return in_favour == processes


def _wins(challenger: tuple, champion: tuple, loss_of_one_batch, parameters, device) -> bool:
    with own_random_numbers(device):
        seconds = [_fastest_pass(loss_of_one_batch, parameters, device, way) for way in (champion, challenger)]
    return seconds[1] < 0.95 * seconds[0]


def _fastest_pass(loss_of_one_batch, parameters, device, way: tuple, budget: float = 1.0) -> float:
    """Seconds of the fastest of three passes; a single slow one is enough to know."""
    fastest = spent = 0.0
    for _ in range(3):
        begun = time.perf_counter()
        with arithmetic(device, *way):
            loss = loss_of_one_batch()
        torch.autograd.grad(loss, parameters)
        seconds = time.perf_counter() - begun
        fastest, spent = min(fastest or seconds, seconds), spent + seconds
        if spent > budget:
            break
    return fastest


class CtrlC:
    """Turn Ctrl-C into a flag that is read between two steps, so that no step is left half done."""

    def __init__(self):
        self.pressed, self.previous = False, None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_):
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)

    def _press(self, *_):
        if self.pressed:
            raise KeyboardInterrupt  # pressed twice: now
        self.pressed = True

    def call(self, on_step: Callable, *progress: object) -> None:
        """Call back after a step; a callback may press Ctrl-C too, by raising KeyboardInterrupt."""
        try:
            on_step(*progress)
        except KeyboardInterrupt:
            self.pressed = True
