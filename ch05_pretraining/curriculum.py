"""Lessons in order: batches that resume anywhere, a copying exercise, a first reader, and phases one after another.

A loader is any sized iterable of (ids, targets). Those here, and every loader of chapter 2, give the same
batches for the same seed, so the number of steps done is all that a resumed run needs to know.

References: Bengio et al. (2009), "Curriculum learning"; Olsson et al. (2022), "In-context learning and
induction heads" (2209.11895). Taught in ch05, section 5.8.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice

import torch
from torch import Tensor

from ch02_text_data.batches import IGNORE_INDEX, pad_batch


class _BeginsAnywhere:
    """A loader that can begin at any of its batches."""

    start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Begin at batch `start`; every epoch is the same.

        Args:
            epoch: not used.
            start: batches to skip.

        Source: this course.
        """
        self.start = start


class _NumberedBatches(_BeginsAnywhere, ABC):
    """A loader whose batch number n is made on the spot."""

    n_steps = 0

    @abstractmethod
    def _batch(self, number: int) -> tuple[Tensor, Tensor]: ...

    def __len__(self) -> int:
        return self.n_steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self._batch(number) for number in range(self.start, self.n_steps))


class RepeatedTokens(_NumberedBatches):
    """Batches of random tokens that repeat with a hidden period: nothing to learn but copying.

    Args:
        n_steps: batches.
        vocab_size: ids are drawn below it; leave the special tokens out.
        batch_size: rows of a batch, all ranks together.
        length: tokens of a row.
        periods: shortest and longest period.
        seed: batch n is a function of (seed, n) alone.
        rank: which share of the rows is ours.
        world_size: number of shares.

    Shape:
        batches of ids (B, T), targets (B, T); the first, unguessable round is masked.

    Raises:
        ValueError: the periods leave nothing to repeat.

    Source: Olsson et al. (2022), 2209.11895. Taught in ch05, section 5.8.
    """

    def __init__(
        self, n_steps: int, vocab_size: int, batch_size: int = 16, length: int = 64, periods: tuple[int, int] = (2, 23),
        seed: int = 0, rank: int = 0, world_size: int = 1,
    ):  # fmt: skip
        if not 1 <= periods[0] <= periods[1] <= length:
            raise ValueError(f"periods={periods} must be increasing, from 1 to length={length}: choose shorter ones")
        self.n_steps, self.vocab_size, self.batch_size, self.length = n_steps, vocab_size, batch_size, length
        self.periods, self.seed, self.mine = periods, seed, slice(rank, None, world_size)

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        low, high = self.periods
        period = torch.randint(low, high + 1, (self.batch_size, 1), generator=generator)  # (B, 1)
        words = torch.randint(self.vocab_size, (self.batch_size, high), generator=generator)  # (B, high)
        place = torch.arange(self.length + 1) % period  # (B, T + 1)
        row = words.gather(1, place)
        targets = row[:, 1:].masked_fill(torch.arange(self.length) < period - 1, IGNORE_INDEX)
        return row[self.mine, :-1], targets[self.mine]


class FirstReader(_NumberedBatches):
    """Batches of very short stories: one in a row at first, later several one after another.

    In a short story a name comes back every few words, so looking it up pays at once; several in a row then carry
    the skill to later positions and past other stories' names.

    Args:
        n_steps: batches.
        rows: token rows of short stories, each from end-of-text to end-of-text.
        batch_size: stories of a batch, all ranks together.
        alone_steps: first batches, with one story a row.
        most_in_a_row: longest chain of stories after that.
        max_length: tokens of a row at most; a longer chain is cut.
        seed: batch n is a function of (seed, n) alone.
        rank: which share of the rows is ours.
        world_size: number of shares.

    Shape:
        batches of ids (B, T), targets (B, T), padding masked; B shrinks as the chains grow.

    Raises:
        ValueError: no rows, or a batch with fewer rows than processes.

    Source: this course, after Bengio et al. (2009). Taught in ch05, section 5.8.
    """

    def __init__(
        self, n_steps: int, rows: Sequence[Tensor], batch_size: int = 32, alone_steps: int = 280,
        most_in_a_row: int = 6, max_length: int = 320, seed: int = 0, rank: int = 0, world_size: int = 1,
    ):  # fmt: skip
        if not rows or batch_size // most_in_a_row < world_size:
            raise ValueError(
                f"{len(rows)} rows, batch_size={batch_size} and chains of {most_in_a_row} leave a batch empty: "
                f"give stories, and a batch_size of at least {most_in_a_row * world_size}"
            )
        self.n_steps, self.rows, self.batch_size = n_steps, rows, batch_size
        self.alone_steps, self.most_in_a_row, self.max_length = alone_steps, most_in_a_row, max_length
        self.seed, self.mine = seed, slice(rank, None, world_size)

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        most = 1 if number < self.alone_steps else self.most_in_a_row
        chain = int(torch.randint(1, most + 1, (), generator=generator))
        picks = torch.randint(len(self.rows), (self.batch_size // chain, chain), generator=generator)
        chains = [self._chain(row) for row in picks.tolist()]
        return pad_batch([(row[:-1], row[1:]) for row in chains[self.mine]])

    def _chain(self, picks: list[int]) -> Tensor:
        last = self.rows[picks[-1]]
        chain = torch.cat([*(self.rows[i][:-1] for i in picks[:-1]), last])  # one end-of-text between two stories
        return chain[: self.max_length + 1]


class Curriculum(_BeginsAnywhere):
    """Loaders one after another, each for a number of batches, with the lesson before rehearsed now and then.

    Args:
        phases: (loader, batches) pairs; a loader that runs out begins its next epoch.
        rehearse_every: in later phases every so-many-th batch comes from the phase before; 0 for never.
        rehearse_share: the share of a phase, from its beginning, in which that happens.

    Raises:
        ValueError: a phase without batches.

    Source: Bengio et al. (2009), "Curriculum learning". Taught in ch05, section 5.8.
    """

    def __init__(self, phases: list[tuple[Iterable, int]], rehearse_every: int = 0, rehearse_share: float = 1.0):
        self.phases = [(loader, n) for loader, n in phases if n]
        if not self.phases or min(n for _, n in self.phases) < 0:
            raise ValueError("a curriculum needs at least one phase of one batch or more")
        self.rehearse_every, self.rehearse_share = rehearse_every, rehearse_share

    def __len__(self) -> int:
        return sum(n for _, n in self.phases)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        skip = self.start
        for number, (loader, n) in enumerate(self.phases):
            if skip < n:
                yield from self._phase(number, loader, skip, n)
            skip = max(0, skip - n)

    def _phase(self, number: int, loader: Iterable, first: int, n: int) -> Iterator:
        every = self.rehearse_every if number else 0
        until = round(self.rehearse_share * n) if every else 0
        rehearsed = min(first, until) // (every or 1)
        lessons = batches_from(loader, first - rehearsed)
        before, taught = self.phases[number - 1] if number else (loader, 0)
        rehearsals = batches_from(before, taught + rehearsed)
        for i in range(first, n):
            yield next(rehearsals if i < until and (i + 1) % every == 0 else lessons)


def n_batches_of(loader: Iterable) -> int:
    """Count the batches of a loader.

    Raises:
        ValueError: it has no length, as an iterator that is used up once it has been read.

    Source: this course.
    """
    if not isinstance(loader, Sized):
        kind = type(loader).__name__
        raise ValueError(f"the loader is a {kind}, which has no length: give a list of batches or a DataLoader")
    return len(loader)


def batches_from(loader: Iterable, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a loader's batches without end, from batch number `start` on, epoch after epoch.

    Args:
        loader: any sized iterable; if it or its `batch_sampler` has `set_epoch(epoch, start)`, no batch is skipped
            by reading it.
        start: batches already used.

    Raises:
        ValueError: the loader is empty or has no length.

    Source: this course. Taught in ch05, section 5.12.
    """
    by_sampler = getattr(getattr(loader, "batch_sampler", None), "set_epoch", None)
    set_epoch = by_sampler or getattr(loader, "set_epoch", None)
    if set_epoch:
        set_epoch(0, 0)
    if not (n_batches := n_batches_of(loader)):
        raise ValueError("the loader has no batches: make it with more text or a smaller batch_size")
    epoch, position = divmod(start, n_batches)
    while True:
        if set_epoch:
            set_epoch(epoch, position)
        yield from loader if set_epoch else islice(loader, position, None)
        epoch, position = epoch + 1, 0
