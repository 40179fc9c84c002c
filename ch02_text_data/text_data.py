"""Text becomes numbers: two tokenizers, two datasets and the loaders that feed a GPT.

`RegexTokenizer` splits at spaces and punctuation and knows only the words it has seen.
`BPETokenizer` starts from the 256 bytes, learns which neighbours to merge, and reads any text.
Helpers stand beside this module: `bpe.py` makes BPE fast, `tokenizer_files.py` keeps tokenizers on disk,
`any_tokenizer.py` uses ours and tiktoken's alike, `batches.py` decides which rows make a batch, `input_checks.py`
refuses bad input.

Sources: Sennrich et al. (2016), arXiv 1508.07909, after Gage (1994); Radford et al. (2019), section 2.2, for bytes and
the pattern that cuts text into pieces. Taught in ch02.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import tiktoken
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ch02_text_data.any_tokenizer import (
    SPECIAL_TOKENS,
    Encodes,
    add_special_tokens,
    encode_text,
    pad_id_of,
    special_id,
)
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches, pad_batch
from ch02_text_data.bpe import (
    GPT2_PATTERN,
    apply_merges,
    count_pieces,
    cut_at_specials,
    learn_merges,
    split_pieces,
)
from ch02_text_data.input_checks import checked_id, checked_specials, checked_text
from ch02_text_data.tokenizer_files import bpe_from_json, bpe_to_json, gpt2_tokenizer, read_tokenizer
from data.files import write_atomically

__all__ = [
    "IGNORE_INDEX",
    "SPECIAL_TOKENS",
    "BPETokenizer",
    "EpochBatches",
    "GPTDataset",
    "RegexTokenizer",
    "StoryDataset",
    "add_special_tokens",
    "create_dataloader",
    "create_story_dataloader",
    "encode_text",
    "gpt2_tokenizer",
    "pad_batch",
]


class RegexTokenizer:
    """Give every word and punctuation mark of one text a number; anything else is unknown.

    Args:
        vocabulary: different token strings; a token's id is its position.

    Raises:
        ValueError: a token stands in the vocabulary twice.

    Source: taught in ch02, section 2.4.
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
        words = self.split(checked_text(text))
        unknown = [word for word in words if word not in self.ids]
        if unknown and "<|unk|>" not in self.ids:
            raise ValueError(f"found the unknown word {unknown[0]!r}; add the special token <|unk|> to the vocabulary")
        return [self.ids[word] if word in self.ids else self.ids["<|unk|>"] for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into readable text; which spaces stood in the original is lost."""
        text = " ".join(self.vocabulary[checked_id(id_, self.vocab_size)] for id_ in ids)
        return re.sub(r'\s+([,.:;?!"()\'])', r"\1", text)


class BPETokenizer:
    """Byte-pair encoding over bytes: reads any text, and writes pieces that it has often seen as one token.

    Ids are the 256 bytes in byte order, then the merges in the order they were learned, then the special tokens.

    Args:
        merges: pairs of byte strings; each part is a byte or the result of an earlier merge.
        special_tokens: strings with ids of their own, which no user's text produces.

    Raises:
        ValueError: a merge has a part that does not exist yet or makes a token that does, or a special stands twice.

    Source: Sennrich et al. (2016), section 3.2; Radford et al. (2019), section 2.2. Taught in ch02, section 2.9.
    """

    def __init__(self, merges: Iterable[tuple[bytes, bytes]], special_tokens: Iterable[str] = ("<|endoftext|>",)):
        self.merges = [tuple(pair) for pair in merges]
        self.tokens = [bytes([byte]) for byte in range(256)]
        self._new_ids: dict[tuple[int, int], int] = {}
        ids = {token: id_ for id_, token in enumerate(self.tokens)}
        for first, second in self.merges:
            if first not in ids or second not in ids or first + second in ids:
                raise ValueError(f"found the merge {first!r} + {second!r}; expected two known parts and a new token")
            self._new_ids[ids[first], ids[second]] = ids[first + second] = len(self.tokens)
            self.tokens.append(first + second)
        self.special_tokens = {token: len(self.tokens) + n for n, token in enumerate(checked_specials(special_tokens))}
        self.tokens += [token.encode("utf-8") for token in self.special_tokens]
        self._known_pieces: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = ("<|endoftext|>",)
    ) -> "BPETokenizer":
        """Learn merges from texts: the most frequent pair first, ties to the greatest pair of byte strings.

        Args:
            texts: one text or many; they are read once.
            vocab_size: 256 bytes + merges + special tokens; the result is smaller when no pair is left to merge.
            special_tokens: strings that get the last ids.

        Raises:
            ValueError: no text, or a vocabulary too small for the bytes and special tokens.
        """
        special_tokens = checked_specials(special_tokens)
        smallest = 256 + len(special_tokens)
        if vocab_size < smallest:
            raise ValueError(f"found vocab_size={vocab_size}; expected at least {smallest}: 256 bytes and the specials")
        return cls(learn_merges(count_pieces(texts), vocab_size - smallest), special_tokens)

    @property
    def vocab_size(self) -> int:
        """Number of tokens: bytes, merges and special tokens."""
        return len(self.tokens)

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: any string; a lone surrogate is read as U+FFFD.
            allowed_special: special tokens to honour in the text; typed in a text, all others are ordinary characters.

        Raises:
            ValueError: `text` is no string, or an allowed special token does not exist.
        """
        parts, ids = cut_at_specials(checked_text(text), allowed_special, self.special_tokens), []
        for number, part in enumerate(parts):
            if number % 2:  # what stands between two cuts is ordinary text, the cuts are special tokens
                ids.append(self.special_tokens[part])
            else:
                for piece in split_pieces(part):
                    ids += self._known_pieces.get(piece) or self._encode_piece(piece)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids into text; bytes that are no UTF-8, such as half a character, become U+FFFD.

        Raises:
            ValueError: an id is negative or not in the vocabulary.
        """
        return b"".join(self.tokens[checked_id(id_, self.vocab_size)] for id_ in ids).decode("utf-8", errors="replace")

    def to_json(self) -> str:
        """Write the tokenizer as the text of a JSON file."""
        return bpe_to_json(self.merges, list(self.special_tokens))

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
        ids = apply_merges(piece.encode("utf-8"), self._new_ids)
        if len(piece) <= 32 and len(self._known_pieces) < 100_000:  # words come back often: remember them
            self._known_pieces[piece] = ids
        return ids


class GPTDataset(Dataset):
    """Windows of one text: the ids a GPT reads, and the same ids one place later as its targets.

    Args:
        txt: the text.
        tokenizer: anything with `.encode(str) -> list[int]`.
        max_length: ids in a window.
        stride: ids from one window's start to the next; `max_length` puts them end to end, less makes them overlap.
        to_end: True adds a window that ends where the text does; without it, up to `stride - 1` ids at the end stand
            in no window, and `n_unread` counts them.

    Shape:
        item -> ids (max_length,), targets (max_length,), both int64.

    Raises:
        ValueError: the text has no full window, or a number is below 1.

    Source: taught in ch02, section 2.14.
    """

    def __init__(self, txt: str, tokenizer: Encodes, max_length: int, stride: int, *, to_end: bool = False):
        if max_length < 1 or stride < 1:
            raise ValueError(f"found max_length={max_length}, stride={stride}; expected both to be at least 1")
        self.ids = torch.tensor(encode_text(tokenizer, txt), dtype=torch.int64)
        if len(self.ids) <= max_length:
            raise ValueError(
                f"found a text of {len(self.ids)} tokens; expected at least {max_length + 1}, one window and the token "
                "after it: use a longer text or a smaller max_length"
            )
        self.max_length = max_length
        self.starts = range(0, len(self.ids) - max_length, stride)
        last = len(self.ids) - max_length - 1  # where the window begins that ends with the text
        if to_end and self.starts[-1] != last:
            self.starts = [*self.starts, last]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        start = self.starts[index]
        window = self.ids[start : start + self.max_length + 1]
        return window[:-1], window[1:]

    @property
    def n_unread(self) -> int:
        """Number of ids that no window holds: after the last one, and between two where the stride is long."""
        nexts = [*self.starts[1:], len(self.ids)]
        return sum(max(0, after - start - self.max_length - 1) for start, after in zip(self.starts, nexts))


class StoryDataset(Dataset):
    """One whole story a row, from its first token: end-of-text opens the row, predicting end-of-text closes it.

    Args:
        stories: texts, or objects with a `.text`.
        tokenizer: a BPETokenizer or a tiktoken.Encoding with `<|endoftext|>` among its special tokens.
        max_length: ids in a row; a longer story is cut, `n_cut` counts them.

    Shape:
        item -> ids (max_length,), targets (max_length,), int64; padding has the target -100.

    Raises:
        ValueError: no stories, an empty one, or a tokenizer without `<|endoftext|>`.

    Source: taught in ch02, section 2.16.
    """

    def __init__(self, stories: Iterable[Any], tokenizer: Encodes, max_length: int):
        end = special_id(tokenizer, "<|endoftext|>")
        self.pad_id = pad_id_of(tokenizer)
        self.max_length = max_length
        self.rows = [self._row(number, story, tokenizer, end) for number, story in enumerate(stories)]
        if not self.rows or max_length < 1:
            raise ValueError(f"found {len(self.rows)} stories, max_length={max_length}; expected at least 1 of each")
        self.n_cut = sum(len(row) > max_length + 1 for row in self.rows)
        self.lengths = [min(len(row) - 1, max_length) for row in self.rows]

    @staticmethod
    def _row(number: int, story: Any, tokenizer: Encodes, end: int) -> Tensor:
        text = getattr(story, "text", story)
        if not text:
            raise ValueError(f"found an empty story at position {number}; expected text: leave it out")
        return torch.tensor([end, *encode_text(tokenizer, text), end])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        n = self.lengths[index]
        ids = torch.full((self.max_length,), self.pad_id)
        targets = torch.full((self.max_length,), IGNORE_INDEX)
        ids[:n], targets[:n] = self.rows[index][:n], self.rows[index][1 : n + 1]
        return ids, targets


def create_dataloader(
    txt: str,
    tokenizer: Encodes,
    *,
    batch_size: int,
    max_length: int,
    stride: int,
    shuffle: bool = True,
    drop_last: bool = True,
    seed: int = 0,
    to_end: bool = False,
) -> DataLoader:
    """Cut one text into windows and serve them in batches.

    Args:
        batch_size: windows in a batch.
        txt, tokenizer, max_length, stride, to_end: see `GPTDataset`.
        shuffle, drop_last, seed: see `EpochBatches`.

    Shape:
        batch -> ids (B, max_length), targets (B, max_length).

    Raises:
        ValueError: the text is too short for a window or for a batch.

    Source: taught in ch02, section 2.15.
    """
    dataset = GPTDataset(txt, tokenizer, max_length, stride, to_end=to_end)
    batches = EpochBatches([max_length] * len(dataset), batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    return DataLoader(dataset, batch_sampler=batches, generator=torch.Generator())


def create_story_dataloader(
    stories: Iterable[Any],
    tokenizer: Encodes,
    *,
    batch_size: int,
    max_length: int,
    shuffle: bool = True,
    drop_last: bool = True,
    seed: int = 0,
    group_by_length: bool = True,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """Serve whole stories in batches, each batch as long as its longest story.

    Args:
        batch_size: stories in a batch, over all processes together.
        stories, tokenizer, max_length: see `StoryDataset`.
        shuffle, drop_last, seed, group_by_length, rank, world_size: see `EpochBatches`.

    Shape:
        batch -> ids (B, T), targets (B, T) with T at most max_length.

    Raises:
        ValueError: no stories, or too few for a batch.

    Source: taught in ch02, section 2.16.
    """
    dataset = StoryDataset(stories, tokenizer, max_length)
    batches = EpochBatches(
        dataset.lengths,
        batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        seed=seed,
        group_by_length=group_by_length,
        rank=rank,
        world_size=world_size,
    )
    return DataLoader(dataset, batch_sampler=batches, collate_fn=pad_batch, generator=torch.Generator())
