"""tiktoken's tokenizers on disk: GPT-2's and its relatives in one JSON file that needs no vocabulary beside it.

A model that was fine-tuned with such a tokenizer can only be used with the same ids, so they are kept with the model.

Taught in ch02, section 2.10.
"""

import json
from pathlib import Path

import tiktoken

from data.files import write_atomically

FORMAT = "tiktoken, version 1"


def write_encoding(path: str | Path, encoding: tiktoken.Encoding) -> None:
    """Write a tiktoken tokenizer as JSON; the file appears complete or not at all.

    Args:
        path: where the file goes; its folder is made when absent.
        encoding: any `tiktoken.Encoding`; each byte of a token is written as one character.

    Source: this course. Taught in ch02, section 2.10.
    """
    tokens = {token.decode("latin-1"): rank for token, rank in encoding._mergeable_ranks.items()}
    content = {
        "format": FORMAT,
        "name": encoding.name,
        "pattern": encoding._pat_str,
        "special_tokens": encoding._special_tokens,
        "tokens": tokens,
    }
    write_atomically(Path(path), json.dumps(content, indent=0, ensure_ascii=False) + "\n")


def holds_encoding(path: str | Path) -> bool:
    """Say whether a file begins as `write_encoding` writes it.

    Source: this course. Taught in ch02, section 2.10.
    """
    path = Path(path)
    return path.is_file() and path.read_bytes()[:100].startswith(f'{{\n"format": "{FORMAT}"'.encode())


def read_encoding(path: str | Path) -> tiktoken.Encoding:
    """Read what `write_encoding` wrote.

    Raises:
        ValueError: the file is not JSON, or has another content.

    Source: this course. Taught in ch02, section 2.10.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return tiktoken.Encoding(
            content["name"],
            pat_str=content["pattern"],
            mergeable_ranks={token.encode("latin-1"): rank for token, rank in content["tokens"].items()},
            special_tokens=content["special_tokens"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"found a damaged tokenizer file {path} ({error}): restore it, or make it again") from error
