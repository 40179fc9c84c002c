"""tiktoken's tokenizers on disk: GPT-2's and its relatives in one JSON file that needs no vocabulary beside it.

A model that was fine-tuned with such a tokenizer can only be used with the same ids, so they are kept with the model.
`tokenizer_to_json` and `tokenizer_from_json` take both kinds, ours and tiktoken's.
"""

import json

import tiktoken

from ch02_text_data.text_data import BPETokenizer

FORMAT = "tiktoken, version 1"

KeptTokenizer = BPETokenizer | tiktoken.Encoding  # those of which the course makes files


def tokenizer_to_json(tokenizer: KeptTokenizer) -> str:
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


def tokenizer_from_json(content: bytes) -> KeptTokenizer:
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
