"""tiktoken's tokenizers on disk: GPT-2's and its relatives in one JSON file that needs no vocabulary beside it.

A model that was fine-tuned with such a tokenizer can only be used with the same ids, so they are kept with the model.
`tokenizer_to_json` and `tokenizer_from_json` take both kinds, ours and tiktoken's.
"""

import json
from pathlib import Path

import tiktoken

from ch02_text_data.text_data import BPETokenizer
from data.files import write_atomically

FORMAT = "tiktoken, version 1"


def tokenizer_to_json(tokenizer: BPETokenizer | tiktoken.Encoding) -> str:
    """Write a tokenizer of ours or of tiktoken's class as the text of a JSON file.

    Raises:
        ValueError: a tokenizer of another class.
    """
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.to_json()
    if isinstance(tokenizer, tiktoken.Encoding):
        return encoding_to_json(tokenizer)
    raise ValueError(
        f"found a tokenizer of the class {type(tokenizer).__name__}, of which this course makes no file: give the "
        "BPETokenizer or the tiktoken.Encoding that the model was trained with"
    )


def tokenizer_from_json(content: bytes) -> BPETokenizer | tiktoken.Encoding:
    """Read the bytes of a file that holds what `tokenizer_to_json` wrote.

    Raises:
        ValueError: the content is not JSON, or not that of a tokenizer.
    """
    is_encoding = f'"format": "{FORMAT}"'.encode() in content[:100]
    return encoding_from_json(content) if is_encoding else BPETokenizer.from_json(content)


def encoding_to_json(encoding: tiktoken.Encoding) -> str:
    """Write a tiktoken tokenizer as the text of a JSON file.

    Args:
        encoding: any `tiktoken.Encoding`; each byte of a token is written as one character.
    """
    tokens = {token.decode("latin-1"): rank for token, rank in encoding._mergeable_ranks.items()}
    content = {
        "format": FORMAT,
        "name": encoding.name,
        "pattern": encoding._pat_str,
        "special_tokens": encoding._special_tokens,
        "tokens": tokens,
    }
    return json.dumps(content, indent=0, ensure_ascii=False) + "\n"


def encoding_from_json(text: str | bytes) -> tiktoken.Encoding:
    """Read what `encoding_to_json` wrote.

    Raises:
        ValueError: the text is not JSON, or has another content.
    """
    try:
        content = json.loads(text)
        return tiktoken.Encoding(
            content["name"],
            pat_str=content["pattern"],
            mergeable_ranks={token.encode("latin-1"): rank for token, rank in content["tokens"].items()},
            special_tokens=content["special_tokens"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"found a damaged tokenizer ({error}): restore its file, or make it again") from error


def write_encoding(path: str | Path, encoding: tiktoken.Encoding) -> None:
    """Write a tiktoken tokenizer into a JSON file, which appears complete or not at all; its folder is made."""
    write_atomically(Path(path), encoding_to_json(encoding))


def holds_encoding(path: str | Path) -> bool:
    """Say whether a file begins as `write_encoding` writes it."""
    path = Path(path)
    return path.is_file() and path.read_bytes()[:100].startswith(f'{{\n"format": "{FORMAT}"'.encode())


def read_encoding(path: str | Path) -> tiktoken.Encoding:
    """Read what `write_encoding` wrote.

    Raises:
        ValueError: the file is not JSON, or has another content.
    """
    try:
        return encoding_from_json(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"found a damaged tokenizer file {path} ({error})") from error
