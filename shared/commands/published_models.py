"""What the commands that open published models share: an option, and the memory that a model needs, told first."""

import argparse
import sys
from pathlib import Path

BESIDES = "and Python, PyTorch and its tokenizer about half a GB more"
LEARNING = 5  # times the numbers' own size: 2.5 GB were measured for the 0.54 GB of SmolLM2-135M


def add_precision(options: argparse.ArgumentParser) -> None:
    """Add the option `--precision`.

    Args:
        options: of a command that opens published models.
    """
    told = "in which a published model computes (default float32); the others take half the memory"
    options.add_argument("--precision", choices=("float32", "bfloat16", "float16"), default="float32", help=told)


def tell_memory(source: str | Path, precision: str, *, learns: bool = False) -> None:
    """Tell on the error output how much memory a published model needs; a model of the course is too small to ask.

    Args:
        source: what the command was given.
        precision: in which the model is to compute.
        learns: it is to be fine-tuned, which takes several times the memory.

    Raises:
        ValueError: it is neither a published model nor one of the course.
    """
    from ch05_pretraining.free_memory import free_memory
    from ch05_pretraining.open_weights import is_pretrained, pretrained_bytes

    if is_pretrained(source):
        needed, free = pretrained_bytes(source, precision), free_memory()
        more = f"and learning about {LEARNING * needed / 1e9:.1f} GB in all" if learns else BESIDES
        told = f"{source}: its numbers take {needed / 1e9:.2f} GB of memory, {more}; {free / 1e9:.2f} GB are free."
        print(told, file=sys.stderr, flush=True)
