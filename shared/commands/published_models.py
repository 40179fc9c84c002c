"""What the commands that open published models share: the memory that a model needs is told before it is read."""

import sys
from pathlib import Path


def tell_memory(source: str | Path) -> None:
    """Tell on the error output how much memory a published model needs; a model of the course is too small to ask.

    Args:
        source: what the command was given.

    Raises:
        ValueError: it is neither a published model nor one of the course.
    """
    import psutil  # comes with jupyterlab

    from ch05_pretraining.open_weights import is_pretrained, pretrained_bytes

    if is_pretrained(source):
        needed, free = pretrained_bytes(source), psutil.virtual_memory().available
        told = f"{source} needs {needed / 1e9:.2f} GB of memory, and {free / 1e9:.2f} GB are free."
        print(told, file=sys.stderr, flush=True)
