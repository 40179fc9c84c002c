"""Text becomes numbers: two tokenizers.

`RegexTokenizer` splits at spaces and punctuation and knows only the words it has seen.
`BPETokenizer` starts from the 256 bytes, learns which neighbors to merge, and reads any text.
Beside this module stand `bpe.py`, which makes BPE fast, `tokenizer_files.py` for tokenizers on disk,
`any_tokenizer.py`, which uses ours and tiktoken's alike, `required_input.py`, which refuses bad input, and
`datasets.py` with the rows and batches that a GPT reads.

Sources: Sennrich et al. (2016), arXiv 1508.07909, after Gage (1994); Radford et al. (2019), section 2.2, for bytes and
the pattern that cuts text into pieces. Taught in ch02.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import tiktoken

from ch02_text_data.any_tokenizer import END
from ch02_text_data.bpe import (
    GPT2_PATTERN,
    Merge,
    Texts,
    apply_merges,
    byte_order,
    count_pieces,
    cut_at_specials,
    learn_merges,
    split_pieces,
)
from ch02_text_data.required_input import require_id, require_specials, require_text
from ch02_text_data.tokenizer_files import bpe_from_json, bpe_to_json, read_tokenizer
from data.files import write_atomically


class RegexTokenizer:
    """Give every word and punctuation mark of one text a number; anything else is unknown.

    Args:
        vocabulary: different token strings; a token's id is its position.

    Raises:
        ValueError: a token stands in the vocabulary twice.

    Source: this course. Taught in ch02, section 2.5.
    """

    def __init__(self, vocabulary: Iterable[str]):
        self.vocabulary = list(vocabulary)
        self.ids = {token: id_ for id_, token in enumerate(self.vocabulary)}
        if len(self.ids) < len(self.vocabulary):
            raise ValueError(f"found {len(self.vocabulary)} tokens, {len(self.ids)} of them different; give each once")

    @classmethod
    def from_text(cls, text: str, special_tokens: Sequence[str] = ("<|endoftext|>", "<|unk|>")) -> "RegexTokenizer":
        """Build the vocabulary of one text: its different words in order of their characters, then the specials."""
        words = set(cls.split(text)) - set(special_tokens)
        if not words:
            raise ValueError("found a text without a word; expected some text to build a vocabulary from")
        return cls([*sorted(words), *special_tokens])

    @staticmethod
    def split(text: str) -> list[str]:
        """Cut a text at white space and punctuation; keep the punctuation, drop the space."""
        return [piece for piece in re.split(r'([,.:;?_!"()\']|--|\s)', text) if piece.strip()]

    @property
    def vocab_size(self) -> int:
        """Number of tokens, the special ones included."""
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids; a word outside the vocabulary becomes `<|unk|>`, or is refused where there is none."""
        words = self.split(require_text(text))
        unknown = [word for word in words if word not in self.ids]
        if unknown and "<|unk|>" not in self.ids:
            raise ValueError(f"found the unknown word {unknown[0]!r}; add the special token <|unk|> to the vocabulary")
        return [self.ids[word] if word in self.ids else self.ids["<|unk|>"] for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into readable text; which spaces stood in the original is lost."""
        text = " ".join(self.vocabulary[require_id(id_, self.vocab_size)] for id_ in ids)
        return re.sub(r'\s+([,.:;?!"()\'])', r"\1", text)


class BPETokenizer:
    """Byte-pair encoding over bytes: reads any text, and writes pieces that it has often seen as one token.

    Ids are the 256 bytes, then the merges in the order they were learned, then the special tokens.

    Args:
        merges: pairs of byte strings; each part is a byte or the result of an earlier merge.
        special_tokens: strings with ids of their own, which no user's text produces.
        numbering: "bytes" gives the bytes their own values as ids, "gpt2" the ids that they have in GPT-2's vocabulary.

    Raises:
        ValueError: a merge has a part that does not exist yet or makes a token that does, a special stands twice, or
            the numbering is unknown.

    Source: Sennrich et al. (2016), section 3.2; Radford et al. (2019), section 2.2. Taught in ch02, section 2.9.
    """

    def __init__(self, merges: Iterable[Merge], special_tokens: Iterable[str] = (END,), numbering: str = "bytes"):
        self.merges = [(first, second) for first, second in merges]
        self.numbering, order = numbering, byte_order(numbering)
        self.tokens = [bytes([byte]) for byte in order]
        self._byte_ids = bytes.maketrans(order, bytes(range(256)))
        self._new_ids: dict[tuple[int, int], int] = {}
        ids = {token: id_ for id_, token in enumerate(self.tokens)}
        for first, second in self.merges:
            if first not in ids or second not in ids or first + second in ids:
                raise ValueError(f"found the merge {first!r} + {second!r}; expected two known parts and a new token")
            self._new_ids[ids[first], ids[second]] = ids[first + second] = len(self.tokens)
            self.tokens.append(first + second)
        self.special_tokens = {token: len(self.tokens) + n for n, token in enumerate(require_specials(special_tokens))}
        self.tokens += [token.encode("utf-8") for token in self.special_tokens]
        self._known_pieces: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls, texts: Texts, vocab_size: int, special_tokens: Iterable[str] = (END,), numbering: str = "bytes"
    ) -> "BPETokenizer":
        """Learn merges from texts: the most frequent pair first, ties to the greatest pair of byte strings.

        Args:
            texts: one text or many; they are read once.
            vocab_size: 256 bytes + merges + special tokens; the result is smaller when no pair is left to merge.
            special_tokens: strings that get the last ids.
            numbering: "bytes" or "gpt2": which ids the bytes have; the merges are the same.

        Raises:
            ValueError: no text, or a vocabulary too small for the bytes and special tokens.
        """
        special_tokens = require_specials(special_tokens)
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(f"found vocab_size={vocab_size}; expected at least {smallest}: 256 bytes and the specials")
        return cls(learn_merges(count_pieces(texts), vocab_size - smallest), special_tokens, numbering)

    @property
    def vocab_size(self) -> int:
        """Number of tokens: bytes, merges and special tokens."""
        return len(self.tokens)

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any string; a lone surrogate is read as U+FFFD.
            allowed_special: special tokens to honor in the text; typed in a text, all others are ordinary characters.

        Raises:
            ValueError: `text` is no string, or an allowed special token does not exist.
        """
        parts, ids = cut_at_specials(require_text(text), allowed_special, self.special_tokens), []
        for number, part in enumerate(parts):
            if number % 2:  # what stands between two cuts is ordinary text, the cuts are special tokens
                ids.append(self.special_tokens[part])
            else:
                for piece in split_pieces(part):
                    ids += self._known_pieces.get(piece) or self._encode_piece(piece)
        return ids

    def encode_iterable(self, texts: Texts, allowed_special: Collection[str] = frozenset()) -> Iterator[int]:
        """Yield the ids of many texts one after another, each text as `encode` reads it by itself.

        Args:
            texts: strings, for example the lines of an open file; only one of them is held at a time.
            allowed_special: see `encode`.

        Raises:
            ValueError: a text is no string, or an allowed special token does not exist.
        """
        for text in [texts] if isinstance(texts, str) else texts:
            yield from self.encode(text, allowed_special)

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; bytes that are no UTF-8, such as half a character, become U+FFFD.

        Raises:
            ValueError: an id is negative or not in the vocabulary.
        """
        return b"".join(self.tokens[require_id(id_, self.vocab_size)] for id_ in ids).decode("utf-8", errors="replace")

    def to_json(self) -> str:
        """Write the tokenizer as the text of a JSON file."""
        return bpe_to_json(self.merges, list(self.special_tokens), self.numbering)

    @classmethod
    def from_json(cls, text: str | bytes) -> "BPETokenizer":
        """Read what `to_json` wrote; a damaged or foreign text is refused.

        Raises:
            ValueError: the text is not JSON, or has another content than a tokenizer's.
        """
        return bpe_from_json(text, cls)

    def save(self, path: str | Path) -> None:
        """Write the tokenizer's JSON into a file, which appears complete or not at all; its folder is made."""
        write_atomically(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> "BPETokenizer":
        """Read what `save` wrote; a missing or damaged file is refused by name."""
        return read_tokenizer(path, cls.from_json)

    def to_tiktoken(self) -> tiktoken.Encoding:
        """Return the same tokenizer as tiktoken's class, written in Rust; `encode_ordinary` gives the same ids."""
        ranks = {token: id_ for id_, token in enumerate(self.tokens[: 256 + len(self.merges)])}
        return tiktoken.Encoding("bpe", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=self.special_tokens)

    def _encode_piece(self, piece: str) -> list[int]:
        ids = apply_merges(piece.encode("utf-8").translate(self._byte_ids), self._new_ids)
        if len(piece) <= 32 and len(self._known_pieces) < 100_000:  # words come back often: remember them
            self._known_pieces[piece] = ids
        return ids
