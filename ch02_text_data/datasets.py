"""What a GPT reads: windows of one text or whole stories, a row of ids and the same ids one place later, in batches.

`batches.py` decides which rows make a batch and in which order. Taught in ch02, sections 2.14 to 2.16.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ch02_text_data.any_tokenizer import Encodes, pad_id_of, special_id, text_ids
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches, pad_batch
from ch02_text_data.required_input import Ids


class GPTDataset(Dataset):
    """Windows of one text: the ids a GPT reads, and the same ids one place later as its targets.

    Args:
        txt: the text, or its ids in a list, an array or a tensor with one axis.
        tokenizer: anything with `.encode(str) -> list[int]`; for ids it is not asked and may be None.
        max_length: ids in a window.
        stride: ids from one window's start to the next; `max_length` puts them end to end, less makes them overlap.
        to_end: True adds a window that ends where the text does; without it, up to `stride - 1` ids at the end stand
            in no window, and `n_unread` counts them.

    Shape:
        item -> ids (max_length,), targets (max_length,), both int64.

    Raises:
        ValueError: neither text nor ids, no full window in them, or a number is below 1.

    Source: this course. Taught in ch02, section 2.14.
    """

    def __init__(
        self, txt: str | Ids, tokenizer: Encodes | None, max_length: int, stride: int, *, to_end: bool = False
    ):
        if max_length < 1 or stride < 1:
            raise ValueError(f"found max_length={max_length}, stride={stride}; expected both to be at least 1")
        self.ids = text_ids(txt, tokenizer)
        if len(self.ids) <= max_length:
            raise ValueError(
                f"found a text of {len(self.ids)} tokens; expected at least {max_length + 1}, one window and the token "
                "after it: use a longer text or a smaller max_length"
            )
        self.max_length = max_length
        self.starts: Sequence[int] = range(0, len(self.ids) - max_length, stride)
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
        stories: texts, objects with a `.text`, or the ids of texts without the end-of-text around them.
        tokenizer: a BPETokenizer or a tiktoken.Encoding with `<|endoftext|>` among its special tokens.
        max_length: ids in a row; a longer story is cut, `n_cut` counts them.

    Shape:
        item -> ids (max_length,), targets (max_length,), int64; padding has the target -100.

    Raises:
        ValueError: no stories, one that is empty or neither text nor ids, or a tokenizer without `<|endoftext|>`.

    Source: this course. Taught in ch02, section 2.16.
    """

    def __init__(self, stories: Iterable[Any], tokenizer: Encodes, max_length: int):
        if isinstance(stories, str):
            raise ValueError("found one text; expected a list of stories: put it into square brackets")
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
        ids = text_ids(getattr(story, "text", story), tokenizer)
        if not len(ids):
            raise ValueError(f"found an empty story at position {number}; expected text: leave it out")
        return F.pad(ids, (1, 1), value=end)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        n = self.lengths[index]
        ids = torch.full((self.max_length,), self.pad_id)
        targets = torch.full((self.max_length,), IGNORE_INDEX)
        ids[:n], targets[:n] = self.rows[index][:n], self.rows[index][1 : n + 1]
        return ids, targets


def create_dataloader(
    txt: str | Ids,
    tokenizer: Encodes | None,
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

    Source: this course. Taught in ch02, section 2.15.
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

    Source: this course. Taught in ch02, section 2.16.
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
