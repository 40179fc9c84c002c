"""What chapter 2 asks of its input before it works with it: each function gives the value or says what it expected."""

import operator
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from data.files import whole_characters

Ids = Sequence[int] | Tensor | np.ndarray
KINDS = {"U": "text", "S": "bytes", "f": "fractions", "b": "truth values"}  # NumPy's letters for types of numbers


def require_text(text: str) -> str:
    """Return the text with lone surrogates, which no file can hold, replaced by U+FFFD; refuse what is no string."""
    if not isinstance(text, str):
        raise ValueError(f"found a {type(text).__name__}; expected a str: decode bytes with .decode('utf-8') first")
    return whole_characters(text)


def require_id(id_: int, vocab_size: int) -> int:
    """Return the id as a Python integer; refuse what is no id of a vocabulary of this size."""
    try:
        if 0 <= operator.index(id_) < vocab_size:
            return operator.index(id_)
    except TypeError:
        pass  # a float, a string, a whole row of a tensor
    raise ValueError(f"found the id {id_!r}; expected whole numbers from 0 to {vocab_size - 1}, this vocabulary's ids")


def require_specials(tokens: Iterable[str]) -> list[str]:
    """Return the special tokens as a list; refuse empty and repeated ones."""
    tokens = list(tokens)
    if len(set(tokens)) < len(tokens) or not all(isinstance(token, str) and token for token in tokens):
        raise ValueError(f"found the special tokens {tokens}; expected different strings, none of them empty")
    return tokens


def require_row_of_ids(ids: Ids) -> Tensor:
    """Return a text's ids as a new tensor of int64; refuse what is no row of whole numbers from 0 up.

    Shape:
        anything of length T -> (T,).
    """
    array = _array(ids)
    if array.ndim != 1:
        flaw = f"has {array.ndim} axes"
    elif len(array) and array.dtype.kind not in "iu":
        flaw = f"holds {KINDS.get(array.dtype.kind, 'other things than numbers')}"
    elif len(array) and array.astype(np.int64).min() < 0:
        flaw = f"holds {array.min() if array.dtype.kind == 'i' else array.max()}"
    else:
        return torch.from_numpy(array.astype(np.int64))
    raise ValueError(
        f"found a {type(ids).__name__} that {flaw}; expected a text, or its ids: whole numbers from 0 up in a list, an "
        "array or a tensor with one axis"
    )


def _array(ids: Ids) -> np.ndarray:
    """The ids as an array; an array of objects stands for what makes none."""
    try:
        return np.asarray(ids.detach().cpu() if isinstance(ids, Tensor) else ids)
    except (TypeError, ValueError, RuntimeError):  # rows of different lengths, a type that NumPy does not have
        return np.empty(1, dtype=object)
