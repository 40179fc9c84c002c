"""Batches from token shards, in an order that nobody has to write down: a function of seed, epoch and place.

A shuffled list of a billion windows would take gigabytes. A cipher needs none: it turns each place into another one,
no two into the same. So the position in a training is its step alone, and resuming is exact.

Reference: Black and Rogaway (2002), "Ciphers with arbitrary finite domains", for the shuffle. For ch05, section
S.6 of its scaling notebook.
"""

import bisect
import hashlib
import json
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ch02_text_data.batches import pad_batch

__all__ = ["ShardLoader", "document_mask", "require_whole_shards", "shuffled_place"]

ROUNDS = 4
FORMAT, MANIFEST, TOKENIZER = 1, "manifest.json", "tokenizer.json"
SPLITS = ("train", "validation")


def shuffled_place(place: int, n_places: int, key: str) -> int:
    """Say which of `n_places` stands at this place after a shuffle, without shuffling; no two places give the same.

    Args:
        place: 0 to n_places - 1.
        n_places: at least 1.
        key: another text, another order.

    Source: Black and Rogaway (2002): a Feistel network, and cycle walking. For ch05, section S.6 of its
    scaling notebook.
    """
    half = max(1, ((n_places - 1).bit_length() + 1) // 2)  # bits
    while True:
        left, right = place >> half, place & ((1 << half) - 1)
        for number in range(ROUNDS):
            digest = hashlib.blake2b(f"{key} {number} {right}".encode(), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(digest, "big") & ((1 << half) - 1))
        place = left << half | right
        if place < n_places:  # the square of the halves is a little larger than the list: walk on until inside
            return place


def document_mask(ids: Tensor, end_id: int) -> Tensor:
    """Let each token read its own document only, up to itself; the end token begins the document behind it.

    Args:
        ids: rows of a stream of documents.
        end_id: the id that parts them.

    Shape:
        ids (B, T) -> (B, 1, T, T) bool, True = may attend.

    Source: Grattafiori et al. (2024), "The Llama 3 herd of models", section 3.2. For ch05, section S.6 of its
    scaling notebook.
    """
    document = (ids == end_id).cumsum(dim=1)  # (B, T)
    same = document.unsqueeze(2) == document.unsqueeze(1)  # (B, T, T)
    return same.tril().unsqueeze(1)


class ShardLoader:
    """Batches of windows from token shards; every epoch reads each window once, in an order of its own.

    A window is a stretch of a shard. The last one of a shard may be shorter; padding costs nothing. Each row is mapped
    into memory for the moment in which it is copied, so that memory stays flat however large the shards are.

    Args:
        folder: where `write_token_shards` wrote.
        context_length: ids in a row, at least 1.
        batch_size: rows in a batch of each process.
        split: "train" or "validation".
        shuffle: a new order in each epoch; otherwise rows come as they stand.
        seed: any integer.
        rank: number of this process, 0 to world_size - 1.
        world_size: number of processes; they share each batch of batch_size * world_size rows.

    Shape:
        batches of ids (B, T), targets (B, T), int64.

    Raises:
        ValueError: the folder holds no finished shards, a number is out of its range, or no batch would be left.

    Source: this course. For ch05, section S.6 of its scaling notebook.
    """

    def __init__(
        self, folder: str | Path, context_length: int, batch_size: int, *, split: str = "train", shuffle: bool = True,
        seed: int = 0, rank: int = 0, world_size: int = 1,
    ):  # fmt: skip
        self.folder, self.manifest = Path(folder), read_manifest(folder)
        if context_length < 1 or batch_size < 1 or not 0 <= rank < world_size or split not in SPLITS:
            found = f"context_length={context_length}, batch_size={batch_size}, rank={rank}, world_size={world_size}"
            raise ValueError(f"found {found}, split={split!r}; expected counts of 1 or more, 0 <= rank < world_size")
        self.shards, self.context_length, self.batch_size = self.manifest[split], context_length, batch_size
        self.shuffle, self.seed, self.rank, self.world_size = shuffle, seed, rank, world_size
        self.ends = list(accumulate(-(-(shard["tokens"] - 1) // context_length) for shard in self.shards))
        self.n_windows = self.ends[-1] if self.ends else 0
        self.epoch = self.start = 0
        if not len(self):
            raise ValueError(
                f"{folder} has {self.n_windows} windows of {context_length} tokens for {split}, and a batch takes "
                f"{batch_size * world_size}: give more text, or lower batch_size"
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.n_windows // (self.batch_size * self.world_size)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch whose order comes next, and how many of its batches to skip."""
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in range(self.start, len(self)):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield pad_batch([self.window(place) for place in range(first, first + self.batch_size)])

    def window(self, place: int) -> tuple[Tensor, Tensor]:
        """Read the row that stands at a place of this epoch: ids (T,), targets (T,)."""
        key = f"seed {self.seed}, epoch {self.epoch}"
        number = shuffled_place(place, self.n_windows, key) if self.shuffle else place
        shard = bisect.bisect_right(self.ends, number)
        begin = (number - (self.ends[shard - 1] if shard else 0)) * self.context_length
        mapped = np.load(self.folder / self.shards[shard]["file"], mmap_mode="r", allow_pickle=False)
        row = torch.from_numpy(mapped[begin : begin + self.context_length + 1].astype(np.int64))
        return row[:-1], row[1:]


def read_manifest(folder: str | Path) -> dict:
    """Read what a folder of token shards holds.

    Args:
        folder: where `write_token_shards` wrote.

    Raises:
        ValueError: the shards are not there, not finished, a file is missing, damaged or has another length, or the
            tokenizer is not the one that wrote them.

    Source: this course. For ch05, section S.6 of its scaling notebook.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} holds no finished token shards: write them with python course.py tokens FOLDER")
    manifest = read_record(folder / MANIFEST)
    tokenizer = folder / TOKENIZER
    if not tokenizer.is_file() or hashlib.sha256(tokenizer.read_bytes()).hexdigest() != manifest.get("tokenizer"):
        raise ValueError(f"{tokenizer} is missing or has changed: delete {folder} and write the shards again")
    for shard in (shard for split in SPLITS for shard in manifest[split]):
        path = folder / shard["file"]
        if _n_ids(path) != shard["tokens"]:
            raise ValueError(f"{path} is missing or has another length: delete {folder} and write the shards again")
    return manifest


def require_whole_shards(folder: str | Path) -> None:
    """Refuse shards of which a byte has changed since they were written; every byte is read.

    `read_manifest`, which runs before every training, looks only at the lengths of the shards.

    Args:
        folder: where `write_token_shards` wrote.

    Raises:
        ValueError: a shard is missing, or differs from what its manifest says.

    Source: this course. For ch05, section S.6 of its scaling notebook.
    """
    folder, manifest = Path(folder), read_manifest(folder)
    for shard in (shard for split in SPLITS for shard in manifest[split]):
        with open(folder / shard["file"], "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard["sha256"]:
                raise ValueError(f"{file.name} has changed since it was written: delete {folder} and write it again")


def read_record(path: Path) -> dict:
    """Read what a folder of token shards says of itself.

    Args:
        path: its manifest, or the file that stands for it until all is written.

    Raises:
        ValueError: the file is damaged, or of another version of the course.

    Source: this course. For ch05, section S.6 of its scaling notebook.
    """
    again = f"choose another folder, or delete {path.parent} and write the shards again"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {again}") from error
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or not all(_are_shards(found.get(name)) for name in SPLITS)
    ):
        raise ValueError(f"{path} is no record of token shards of this version of the course: {again}")
    return found


def _n_ids(path: Path) -> int | None:
    """How many ids a shard holds; None where it is not there or its file is cut off."""
    try:
        return len(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception:  # the head of such a file is a line of Python's, and a damaged one fails in many ways
        return None


def _are_shards(found: object) -> bool:
    """Whether this is a list of shards, each a file of the same folder with its number of ids."""
    return isinstance(found, list) and all(
        isinstance(shard, dict)
        and isinstance(name := shard.get("file"), str)
        and Path(name).name == name
        and isinstance(shard.get("tokens"), int)
        and isinstance(shard.get("sha256"), str)
        for shard in found
    )
