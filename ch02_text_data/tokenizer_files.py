"""Tokenizers on disk: the text of our JSON file, and GPT-2's vocabulary from the local cache."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import tiktoken

from data.paths import CACHE_DIR

T = TypeVar("T")

FORMATS = {  # numbering -> what the file says about itself; a reader that knows one only refuses the other
    "bytes": "byte-level BPE, version 1",
    "gpt2": "byte-level BPE in GPT-2's numbering, version 1",
}
GPT2_FILES = {  # tiktoken names a cached file by the sha1 of its address: vocab.bpe, then encoder.json
    "6d1cbeee0f20b3d9449abfede4726ed8212e3aee": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


def bpe_to_json(merges: list[tuple[bytes, bytes]], special_tokens: list[str], numbering: str) -> str:
    """Write merges, special tokens and numbering as the text of a JSON file.

    Args:
        merges: pairs of byte strings in the order they were learned; each byte is written as one character.
        special_tokens: strings in the order of their ids.
        numbering: "bytes" or "gpt2", see `byte_order`.

    Source: this course. Taught in ch02, section 2.10.
    """
    rows = ",\n".join(json.dumps([first.decode("latin-1"), second.decode("latin-1")]) for first, second in merges)
    head = f'"format": {json.dumps(FORMATS[numbering])},\n"special_tokens": {json.dumps(special_tokens)}'
    return f'{{{head},\n"merges": [\n{rows}\n]}}\n'


def bpe_from_json(text: str | bytes, build: Callable[[list[tuple[bytes, bytes]], list[str], str], T]) -> T:
    """Read what `bpe_to_json` wrote and return `build(merges, special_tokens, numbering)`.

    Raises:
        ValueError: the text is not JSON, or has another content than a tokenizer's.

    Source: this course. Taught in ch02, section 2.10.
    """
    try:
        content = json.loads(text)
        numbering = next((name for name, format_ in FORMATS.items() if format_ == content["format"]), None)
        if numbering is None:
            raise ValueError(f"its format is {content['format']!r}")
        merges = [(first.encode("latin-1"), second.encode("latin-1")) for first, second in content["merges"]]
        return build(merges, list(content["special_tokens"]), numbering)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"found a damaged or foreign tokenizer ({found}); expected the format {FORMATS['bytes']!r}: restore its "
            "file or train the tokenizer again"
        ) from error


def read_tokenizer(path: str | Path, read: Callable[[bytes], T]) -> T:
    """Return `read(content)` of a tokenizer's file; what `read` refuses is refused with the file's name.

    Raises:
        ValueError: the file is missing, or `read` refuses what it holds.

    Source: this course. Taught in ch02, section 2.10.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"found no tokenizer file at {path}; expected one written by .save(): train a tokenizer first")
    try:
        return read(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{error}; the file is {path}") from error


def gpt2_tokenizer() -> tiktoken.Encoding:
    """Return GPT-2's tokenizer, 50,257 tokens, from files on this computer; the network is never used.

    The folder is the one named by `TIKTOKEN_CACHE_DIR`, or else `data/cache/tiktoken`.

    Raises:
        ValueError: a file is not there, or its sha256 is not that of GPT-2's.

    Source: Radford et al. (2019), section 2.2. Taught in ch02, section 2.10.
    """
    folder = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or CACHE_DIR / "tiktoken")
    for name, sha256 in GPT2_FILES.items():
        if not (folder / name).is_file():
            raise ValueError(
                f"found no GPT-2 vocabulary in {folder}; fetch it once with: python course.py fetch gpt2-tokenizer"
            )
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sha256:
            raise ValueError(
                f"found a damaged GPT-2 vocabulary {folder / name} (its sha256 is not {sha256[:12]}…); delete it and "
                "fetch it again with: python course.py fetch gpt2-tokenizer"
            )
    return _with_cache_folder(folder)


def _with_cache_folder(folder: Path) -> tiktoken.Encoding:
    """Let tiktoken look into one folder only, then put its setting back."""
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding("gpt2")
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before
