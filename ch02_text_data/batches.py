"""Which rows make a batch, and in which order: a pure function of seed and epoch, so training can resume exactly."""

import random
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

IGNORE_INDEX = -100  # a target with this value costs nothing: PyTorch's cross_entropy skips it
POOL = 32  # batches that are sorted by length together


class EpochBatches:
    """Lists of row numbers for a DataLoader's `batch_sampler`; the order depends on seed and epoch alone.

    Every iteration of one epoch gives the same order: call `set_epoch` before the next epoch, or before resuming.

    Args:
        lengths: tokens in each row; one number a row.
        batch_size: rows in a batch, over all ranks together.
        shuffle: new order each epoch; otherwise rows come as they are.
        drop_last: leave out the rows that do not fill a batch; `n_dropped` counts those that an epoch leaves out.
        seed: any integer.
        group_by_length: put rows of similar length into one batch, so that little is padded; needs `shuffle`.
        rank: number of this process, 0 to world_size - 1.
        world_size: number of processes; each takes every world_size-th row of the same batch.

    Raises:
        ValueError: no rows, no batch would be left, or a number is out of its range.

    Source: this course. Taught in ch02, section 2.15.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool = True,
        seed: int = 0,
        group_by_length: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ):
        _require_batches(len(lengths), batch_size, drop_last, rank, world_size)
        self.lengths, self.batch_size = lengths, batch_size
        self.shuffle, self.drop_last, self.seed = shuffle, drop_last, seed
        self.group_by_length = group_by_length and shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch whose order comes next, and how many of its batches to skip (0 to len(self))."""
        if epoch < 0 or not 0 <= start <= len(self):
            raise ValueError(f"found epoch={epoch}, start={start}; expected epoch >= 0 and start from 0 to {len(self)}")
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        """Batches in a whole epoch, whatever `start` is."""
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full + (not self.drop_last and rest >= self.world_size)

    @property
    def n_dropped(self) -> int:
        """Rows that an epoch leaves out, other ones in each epoch where the rows are shuffled."""
        return max(0, len(self.lengths) - len(self) * self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._epoch_batches()[self.start :]:
            yield batch[self.rank :: self.world_size]

    def _epoch_batches(self) -> list[list[int]]:
        rows = list(range(len(self.lengths)))
        rng = random.Random(f"order of seed {self.seed}, epoch {self.epoch}")
        if self.shuffle:
            rng.shuffle(rows)
        if self.drop_last:
            rows = rows[: len(self) * self.batch_size]
        if self.group_by_length:
            rows = self._sort_pools(rows)
        batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        batches = [batch for batch in batches if len(batch) >= self.world_size]  # no process goes without a row
        if self.group_by_length:
            rng.shuffle(batches)
        return batches

    def _sort_pools(self, rows: list[int]) -> list[int]:
        size = POOL * self.batch_size
        pools = [rows[i : i + size] for i in range(0, len(rows), size)]
        return [row for pool in pools for row in sorted(pool, key=lambda row: (self.lengths[row], row))]


def _require_batches(n_rows: int, batch_size: int, drop_last: bool, rank: int, world_size: int) -> None:
    if n_rows == 0:
        raise ValueError("found no rows; expected at least one to make batches of")
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"found rank={rank}, world_size={world_size}; expected 0 <= rank < world_size")
    if batch_size < 1:
        raise ValueError(f"found batch_size={batch_size}; expected at least 1")
    if batch_size < world_size:
        raise ValueError(f"found batch_size={batch_size}; expected at least world_size={world_size}, a row a process")
    if n_rows < (batch_size if drop_last else world_size):
        needed = f"one batch of {batch_size}; lower batch_size" if drop_last else f"world_size={world_size}"
        raise ValueError(f"found {n_rows} rows, too few for {needed} or give more")


def pad_batch(items: Sequence[tuple[Tensor, Tensor]], pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths, as long as the longest row that still has a target; padding costs nothing.

    Args:
        items: (ids (T,), targets (T,)) pairs; targets are `IGNORE_INDEX` where nothing is to be learned.
        pad_id: id that fills shorter rows; rows of a `StoryDataset` bring their own filling.

    Shape:
        n times ((T_i,), (T_i,)) -> ids (n, T), targets (n, T).

    Raises:
        ValueError: no items.

    Source: this course. Taught in ch02, section 2.16.
    """
    if not items:
        raise ValueError("found a batch without rows; expected at least one (ids, targets) pair")
    longest = max(_used_length(targets) for _, targets in items)
    ids = torch.full((len(items), longest), pad_id, dtype=torch.int64)
    targets = torch.full((len(items), longest), IGNORE_INDEX, dtype=torch.int64)
    for row, (row_ids, row_targets) in enumerate(items):
        n = min(longest, len(row_ids))
        ids[row, :n], targets[row, :n] = row_ids[:n], row_targets[:n]
    return ids, targets


def _used_length(targets: Tensor) -> int:
    """Position after the last real target, at least 1."""
    used = (targets != IGNORE_INDEX).nonzero()
    return int(used[-1]) + 1 if len(used) else 1
