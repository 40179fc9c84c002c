"""The options of a program that torchrun may start many times: what is wrong with them is said in one sentence.

For ch05, section S.6 of its scaling notebook.
"""

import argparse
import re
from typing import NoReturn

__all__: list[str] = []  # nothing here is part of the course's vocabulary


class OneSentenceParser(argparse.ArgumentParser):
    """Reads options; what it cannot use is a `ValueError`.

    `argparse` itself would print in each process how the program is called.
    """

    def error(self, message: str) -> NoReturn:
        """Refuse what was given."""
        raise ValueError(f"{message}; --help tells the options")


def count(word: str) -> int:
    """Read a whole number of 1 or more: the type of an option."""
    if not (word.isdecimal() and int(word)):
        raise argparse.ArgumentTypeError(f"{word[:40]!r} is no whole number of 1 or more")
    return int(word)


def in_options(sentence: str, options: dict[str, str]) -> str:
    """Call the settings that a sentence complains of as the options that set them.

    Args:
        sentence: of a function that knows nothing of a command line.
        options: name of a setting -> name of its option.
    """
    found = re.compile(rf"\b({'|'.join(options)})(?==| was |$)")
    return found.sub(lambda name: options[name[1]], sentence.removesuffix("; change it in TrainConfig"))
