"""Showing a text while its tokens are still being written.

A token may end in the middle of a character: in UTF-8 a letter such as é takes two bytes, and a tokenizer of bytes may
part them. What is shown must be whole characters.

Taught in ch02, section 2.6.
"""

from collections.abc import Callable, Iterable, Iterator

__all__ = ["stream_text"]

HALF = "\ufffd"  # what `decode` shows where the bytes of a character are not complete


def stream_text(tokens: Iterable[int], decode: Callable[[list[int]], str]) -> Iterator[str]:
    """Yield the text of tokens piece by piece, each as soon as its characters are complete.

    The pieces join to the text of all tokens; what is half of a character at the very end is shown as U+FFFD.

    Args:
        tokens: ids, as they are written.
        decode: turns all ids so far into their text, for example a tokenizer's `decode`.

    Source: this course. For ch02, section 2.6.
    """
    written, shown = [], ""
    for token in tokens:
        written.append(token)
        text = decode(written)
        if len(text) > len(shown) and not text.endswith(HALF):
            yield text[len(shown) :]
            shown = text
    if rest := decode(written)[len(shown) :]:
        yield rest
