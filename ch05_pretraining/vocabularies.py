"""The two kinds of published vocabularies that the course reads, and the bytes that their tokens stand for.

*Byte-level BPE*, as in GPT-2, Llama 3, Qwen and OLMo, merges bytes; each byte is written as one letter. *SentencePiece
BPE*, as in Llama 2, TinyLlama, Mistral 7B and Gemma 3, merges characters: a space is written as ▁ (U+2581), a character
that the vocabulary lacks becomes the tokens of its bytes, `<0x00>` to `<0xFF>`, and in most families a text gets a
space in front, so that its first word is the token that it is in the middle of a text.

Left out: `tokenizer.model`, SentencePiece's own file, and its unigram vocabularies.
References: Kudo and Richardson (2018), "SentencePiece"; the tokenizers library.
"""

import re
from collections.abc import Mapping

from ch02_text_data.bpe import byte_order

SPACE = "\u2581"  # how SentencePiece writes a space
TOKENS_AT_MOST = 2**20  # the largest published vocabularies have a quarter of that
TO_TEXT = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
WITHOUT_FIRST_SPACE = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
BYTE_LEVEL_MODELS = "byte-level BPE, as GPT-2, Llama 3, Qwen and SmolLM2 have"


def require_known_kind(definition: dict) -> None:
    """Refuse what is neither byte-level BPE nor SentencePiece BPE, by its name.

    Args:
        definition: content of a `tokenizer.json`.

    Raises:
        ValueError: another kind of vocabulary, or special tokens that swallow the spaces beside them.

    Source: the tokenizers library. For ch04, section M.8.
    """
    kind, in_bytes = (definition.get("model") or {}).get("type"), has_byte_tokens(definition)
    cutters = [cutter["type"] for cutter in _cutters(definition) if "type" in cutter]
    if kind != "BPE" or in_bytes == ("ByteLevel" in cutters):
        raise ValueError(
            f"found a vocabulary of the kind {kind}, cut by {cutters}, {'with' if in_bytes else 'no'} tokens for "
            f"bytes; expected {BYTE_LEVEL_MODELS}, or SentencePiece's, as Llama 2, Mistral and Gemma 3 have: take one "
            "of those models"
        )
    decoder = definition.get("decoder") or {}
    if in_bytes and (steps := decoder.get("decoders", [decoder])) not in (TO_TEXT, [*TO_TEXT, WITHOUT_FIRST_SPACE]):
        types = [step.get("type") for step in steps]
        raise ValueError(f"found a SentencePiece vocabulary that {types} turn into text; expected Replace, "
                         "ByteFallback, Fuse, and Strip in some: take another model")  # fmt: skip
    for token in definition.get("added_tokens", ()):
        if token["special"] and (token["lstrip"] or token["rstrip"] or token["single_word"]):
            raise ValueError(f"found the special token {token['content']!r}, which takes spaces or words beside it; "
                             "expected none of this kind: take another model")  # fmt: skip


def has_byte_tokens(definition: dict) -> bool:
    """Say whether a vocabulary is SentencePiece's, which writes what it lacks in tokens for bytes.

    Args:
        definition: content of a `tokenizer.json`.

    Source: the tokenizers library.
    """
    return bool((definition.get("model") or {}).get("byte_fallback"))


def takes_first_space(definition: dict) -> bool:
    """Say whether the first space of a text is no part of it, because reading has put it there.

    Args:
        definition: content of a `tokenizer.json`.

    Source: the tokenizers library.
    """
    return WITHOUT_FIRST_SPACE in (definition.get("decoder") or {}).get("decoders", ())


def of_later_parts(definition: dict) -> dict | None:
    """Give what reads the part of a text behind a special token, where only the first part gets a space in front.

    Args:
        definition: content of a `tokenizer.json`, as the library writes it.

    Returns:
        Another definition, or None where all parts are read alike.

    Source: the tokenizers library.
    """
    if not any(cutter.get("prepend_scheme") == "first" for cutter in _cutters(definition)):
        return None
    cutters = [cutter | {"prepend_scheme": "never"} if cutter.get("prepend_scheme") == "first" else cutter
               for cutter in _cutters(definition) if cutter["type"] != "Sequence"]  # fmt: skip
    return definition | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": cutters}}


def _cutters(definition: dict) -> list[dict]:
    outer = definition.get("pre_tokenizer") or {}
    return [outer, *outer.get("pretokenizers", ())]


def bytes_of_tokens(ids: Mapping[str, int], definition: dict) -> list[bytes]:
    """Give the bytes of each token, in the order of the ids; nothing for an id that is not used.

    Args:
        ids: all tokens with their ids, as the library numbers them.
        definition: content of a `tokenizer.json`.

    Raises:
        ValueError: an id is out of reach, or not the library's.

    Source: the tokenizers library.
    """
    tokens, added = [b""] * (_last_id(ids, definition) + 1), definition.get("added_tokens", ())
    if has_byte_tokens(definition):
        for token, id_ in ids.items():
            tokens[id_] = _of_sentencepiece(token)
        return tokens
    order = byte_order("gpt2")  # 188 bytes that print as themselves, then 68 that borrow the letters from 256 on
    letters = {byte if n < 188 else 68 + n: byte for n, byte in enumerate(order)}
    for token, id_ in ids.items():
        codes = [ord(letter) for letter in token]
        known = all(code in letters for code in codes)
        tokens[id_] = bytes(letters[code] for code in codes) if known else token.encode("utf-8")
    for token in added:
        tokens[token["id"]] = token["content"].encode("utf-8")
    return tokens


def _of_sentencepiece(token: str) -> bytes:
    if found := re.fullmatch("<0x([0-9A-Fa-f]{2})>", token):
        return bytes.fromhex(found[1])
    return token.replace(SPACE, " ").encode("utf-8")


def _last_id(ids: Mapping[str, int], definition: dict) -> int:
    """The largest id, once all are in reach; the library numbers added tokens anew where their ids do not fit."""
    if (last := max(ids.values(), default=-1)) >= TOKENS_AT_MOST:
        raise ValueError(f"found a token with the id {last}; expected ids below {TOKENS_AT_MOST}: take another model")
    for token in definition.get("added_tokens", ()):
        if token["id"] != (number := ids.get(token["content"])):
            raise ValueError(f"found that the added token {token['content']!r} has the id {token['id']}; expected "
                             f"{number}, which the library gives it: fetch the tokenizer again")  # fmt: skip
    return last
