"""What chapter 2 asks of its input before it works with it: each check returns the value or says what was expected."""

import operator
from collections.abc import Iterable


def checked_text(text: str) -> str:
    """Return the text with lone surrogates, which no file can hold, replaced by U+FFFD; refuse what is no string."""
    if not isinstance(text, str):
        raise ValueError(f"found a {type(text).__name__}; expected a str: decode bytes with .decode('utf-8') first")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def checked_id(id_: int, vocab_size: int) -> int:
    """Return the id as a Python integer; refuse what is no id of a vocabulary of this size."""
    try:
        if 0 <= operator.index(id_) < vocab_size:
            return operator.index(id_)
    except TypeError:
        pass  # a float, a string, a whole row of a tensor
    raise ValueError(f"found the id {id_!r}; expected whole numbers from 0 to {vocab_size - 1}, this vocabulary's ids")


def checked_specials(tokens: Iterable[str]) -> list[str]:
    """Return the special tokens as a list; refuse empty and repeated ones."""
    tokens = list(tokens)
    if len(set(tokens)) < len(tokens) or not all(isinstance(token, str) and token for token in tokens):
        raise ValueError(f"found the special tokens {tokens}; expected different strings, none of them empty")
    return tokens
