"""One way to use every tokenizer: ours, tiktoken's class with GPT-2's vocabulary, or any object that encodes.

They differ in two things. tiktoken's `encode` refuses a text in which somebody typed a special token, ours reads it as
ordinary characters; and each keeps the ids of its special tokens in its own way.
"""

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import tiktoken
import torch
from torch import Tensor

from ch02_text_data.required_input import Ids, require_row_of_ids, require_specials, require_text

__all__ = ["add_special_tokens", "encode_text", "pad_id_of", "special_id", "special_tokens_of"]

END, PAD = "<|endoftext|>", "<|pad|>"
SPECIAL_TOKENS = (END, PAD, "<|user|>", "<|assistant|>")


class Encodes(Protocol):
    """Anything that turns a text into ids: our tokenizers, or tiktoken's."""

    def encode(self, text: str) -> list[int]: ...


class Tokenizer(Encodes, Protocol):
    """Anything that turns a text into ids and back."""

    def decode(self, ids: list[int], /) -> str: ...


def encode_text(tokenizer: Encodes, text: str) -> list[int]:
    """Turn ordinary text into ids; with a BPETokenizer or tiktoken's class a typed special token stays text.

    Args:
        tokenizer: one of ours, a `tiktoken.Encoding`, or anything with `.encode(str) -> list[int]`.
        text: any string.

    Raises:
        ValueError: `text` is no string, or the tokenizer gives no ids.

    Source: this course. Taught in ch02, section 2.11.
    """
    encode: Any = getattr(tokenizer, "encode_ordinary", None) or getattr(tokenizer, "encode", None)
    try:
        return [operator.index(id_) for id_ in encode(require_text(text))]
    except TypeError as error:
        raise ValueError(
            f"found a {type(tokenizer).__name__} that turned a text into no ids ({error}); expected a tokenizer with "
            ".encode(str) -> list[int]: wrap yours in an object that has it"
        ) from error


def text_ids(source: str | Ids, tokenizer: Encodes | None) -> Tensor:
    """Return the ids of a text, or ids that are there already, as a tensor of int64.

    Args:
        source: a text, or its ids: whole numbers from 0 up in a list, an array or a tensor with one axis.
        tokenizer: what turns a text into ids; it is not asked where `source` holds ids, and may be None then.

    Shape:
        T tokens -> (T,).

    Raises:
        ValueError: `source` is neither text nor ids, or the tokenizer gives no ids.

    Source: this course. Taught in ch02, section 2.14.
    """
    if not isinstance(source, str):
        return require_row_of_ids(source)
    if tokenizer is None:
        raise ValueError("found a text and no tokenizer; expected one that turns it into ids, or the ids themselves")
    return torch.tensor(encode_text(tokenizer, source), dtype=torch.int64)


def special_tokens_of(tokenizer: object) -> dict[str, int]:
    """Return the special tokens of a tokenizer with their ids; none where it does not tell them."""
    if isinstance(tokenizer, tiktoken.Encoding):
        return {token: tokenizer.encode_single_token(token) for token in tokenizer.special_tokens_set}
    specials = getattr(tokenizer, "special_tokens", None)
    return dict(specials) if isinstance(specials, Mapping) else {}


def special_id(tokenizer: object, token: str) -> int:
    """Return the id of a special token; refuse a tokenizer that has none of this name."""
    specials = special_tokens_of(tokenizer)
    if token not in specials:
        raise ValueError(
            f"found a {type(tokenizer).__name__} without the special token {token}; expected a BPETokenizer trained "
            "with SPECIAL_TOKENS, or a tiktoken.Encoding to which add_special_tokens has given them"
        )
    return specials[token]


def pad_id_of(tokenizer: object) -> int:
    """Return the id that fills up short rows: that of <|pad|>, or of <|endoftext|> where there is no <|pad|>.

    A tokenizer with an attribute `pad_id`, such as a published model's, has its own.
    """
    if (own := getattr(tokenizer, "pad_id", None)) is not None:
        return own
    return special_id(tokenizer, PAD if PAD in special_tokens_of(tokenizer) else END)


def add_special_tokens(tokenizer: Any, tokens: Iterable[str] = SPECIAL_TOKENS) -> Any:
    """Return a tokenizer that knows these special tokens too; every id that was there stays as it was.

    New ids follow the highest old one, and a model made for the old tokenizer has no rows for them: it refuses them
    until `grow_vocabulary` of chapter 6 has given it some.

    Args:
        tokenizer: a BPETokenizer, or a `tiktoken.Encoding` such as GPT-2's; it is not changed.
        tokens: different strings; those that the tokenizer knows are passed over.

    Raises:
        ValueError: another kind of tokenizer, or an empty or repeated token.

    Source: this course. Taught in ch02, section 2.11.
    """
    new = [token for token in require_specials(tokens) if token not in special_tokens_of(tokenizer)]
    if isinstance(tokenizer, tiktoken.Encoding):
        ids = special_tokens_of(tokenizer) | {token: tokenizer.n_vocab + n for n, token in enumerate(new)}
        return tiktoken.Encoding(
            f"{tokenizer.name} and {len(new)} more",
            pat_str=tokenizer._pat_str,
            mergeable_ranks=tokenizer._mergeable_ranks,
            special_tokens=ids,
        )
    if not hasattr(tokenizer, "merges"):
        raise ValueError(f"found a {type(tokenizer).__name__}; expected a BPETokenizer or a tiktoken.Encoding")
    return type(tokenizer)(tokenizer.merges, [*tokenizer.special_tokens, *new], tokenizer.numbering)
