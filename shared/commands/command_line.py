"""What the commands of course.py share: options that are checked before any work, and one sentence for what stops it.

Only the standard library is used, so that help and refusals come at once.
"""

import argparse
import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

LARGEST_SEED = 2**64 - 1  # what PyTorch's generators hold


class CommandParser(argparse.ArgumentParser):
    """Reads the options of a command; what it cannot use is a `ValueError`, which `command` says in one sentence.

    Args:
        name: the command's.
        description: what it does, a sentence.
    """

    def __init__(self, name: str, description: str):
        super().__init__(prog=f"course.py {name}", description=description)

    def error(self, message: str):
        """Refuse what was given; `argparse` itself would print the usage and end the program."""
        raise ValueError(f"{message}; {self.prog} --help tells the options")


def whole_number(smallest: int, largest: int | None = None) -> Callable[[str], int]:
    """Give the type of an option that takes a whole number.

    Args:
        smallest: the least that it takes.
        largest: the most that it takes; None for no limit.
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = smallest - 1
        if value < smallest or (largest is not None and value > largest):
            expected = f"from {smallest} to {largest}" if largest is not None else f"of {smallest} or more"
            raise argparse.ArgumentTypeError(f"{_short(text)} is no whole number {expected}")
        return value

    return read


def _short(text: str, shown: int = 40) -> str:
    return repr(text) if len(text) <= shown else f"{text[:shown]!r}…"


seed_number = whole_number(0, LARGEST_SEED)
port_number = whole_number(0, 65_535)


def command(name: str):
    """Make a command's `main`: it returns the exit status, and what stops it is said in one sentence.

    A `ValueError`, a full memory, and a file that cannot be read or written give 1, Ctrl-C 130; a reader that has gone
    away, as `head` does, ends the command in silence.

    Args:
        name: the command's.
    """

    def around(main: Callable[[list[str] | None], int]) -> Callable[[list[str] | None], int]:
        @functools.wraps(main)
        def guarded(arguments: list[str] | None = None) -> int:
            if hasattr(sys.stdout, "reconfigure"):  # a notebook's has not
                sys.stdout.reconfigure(errors="replace")  # half of a character in a path or a text stops no command
            try:
                with _imports_end_whole():
                    return main(arguments)
            except KeyboardInterrupt:
                print()
                return 130
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at the end
                return 1
            except (ValueError, OSError, MemoryError, RuntimeError) as error:
                if (sentence := _sentence(error)) is None:
                    raise
                return _refuse(name, sentence)

        return guarded

    return around


@contextmanager
def _imports_end_whole() -> Iterator[None]:
    """Let Ctrl-C end the program at once while a library is imported, as libraries catch it and go on half made."""
    if threading.current_thread() is not threading.main_thread():  # only there Python lets handle signals
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # somebody else decides
        yield
        return
    signal.signal(signal.SIGINT, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted(number: int, frame: FrameType | None):
    caller = frame
    while caller is not None:
        if caller.f_code.co_filename.startswith("<frozen importlib"):
            os.write(1, b"\n")
            os._exit(130)
        caller = caller.f_back
    signal.default_int_handler(number, frame)


FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # the disk, or this user's share of it


def _sentence(error: Exception) -> str | None:
    """What to tell of an error; None where the program itself is at fault."""
    full = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if full or "DefaultCPUAllocator" in str(error):  # as PyTorch says it
        return "the memory is full: close other programs, or take a smaller model"
    if isinstance(error, OSError):
        remedy = ": free some space, then start the command again" if error.errno in FULL else ""
        return f"{error.filename or 'a file'}: {error.strerror or error}{remedy}"
    return str(error) if isinstance(error, ValueError) else None


def _refuse(name: str, sentence: str) -> int:
    print(f"course.py {name}: {sentence}", file=sys.stderr)
    return 1
