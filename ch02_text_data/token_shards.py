"""Token shards: a text larger than the memory as files of ids, written once by several processes and read in any order.

A shard is an array of numpy (`.npy`) of 16 or 32 bits an id: every document, and behind each the end token. The folder
has the tokenizer and, at the end, a manifest with counts and sha256 hashes. Whatever is cut, drawn or kept aside is a
function of the text alone, so a call that was interrupted goes on and ends with the same bytes.

Reference: Radford et al. (2019), section 2.1, for a stream of documents. For ch05, section S.6 of its scaling notebook.
"""

import hashlib
import io
import multiprocessing
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tiktoken

from ch02_text_data.any_tokenizer import END, special_id
from ch02_text_data.encoding_files import KeptTokenizer, tokenizer_from_json, tokenizer_to_json
from ch02_text_data.shard_loader import FORMAT, MANIFEST, SPLITS, TOKENIZER, read_record
from ch02_text_data.text_data import BPETokenizer
from data.document_stream import DocumentPart, size_of, stream_documents
from data.durable_folders import json_bytes
from data.files import write_atomically
from data.locks import alone_in

__all__ = ["ShardProgress", "write_token_shards"]

BEGUN = "begun.json"
JOB = 1_000_000  # characters that a process encodes at once
SHARD = 1 << 24  # tokens in a shard, about
Job = list[tuple[DocumentPart, bool]]  # each with whether its document is kept aside


class ShardProgress(NamedTuple):
    """How far the writing is.

    Args:
        bytes_read: of documents so far.
        bytes_before: of them, those that an earlier call has read.
        bytes_in_all: of the files.
        tokens: for training, so far.

    Source: this course. For ch05, section S.6 of its scaling notebook.
    """

    bytes_read: int
    bytes_before: int
    bytes_in_all: int
    tokens: int


def write_token_shards(
    paths: Iterable[Path], folder: str | Path, tokenizer: KeptTokenizer, *, kept_aside: float = 0.01,
    processes: int = 1, shard_tokens: int = SHARD, on_shard: Callable[[ShardProgress], None] | None = None,
) -> dict:  # fmt: skip
    """Turn texts into token shards, or go on where an earlier call was interrupted; gives the manifest.

    Args:
        paths: files that `stream_documents` reads, in this order.
        folder: gets the shards, the tokenizer and the manifest.
        tokenizer: a BPETokenizer or a `tiktoken.Encoding` with `<|endoftext|>`.
        kept_aside: share of the documents for validation, 0 or more and below 1; the hash of a document's beginning
            decides, so copies of a document stay together, and so do the parts of a long one.
        processes: that encode, 1 or more; their number changes no byte.
        shard_tokens: a shard ends with the first piece of text after so many.
        on_shard: called after each shard.

    Raises:
        ValueError: a number is out of its range, a file cannot be read, or the folder holds shards of something else.

    Source: Radford et al. (2019), section 2.1. For ch05, section S.6 of its scaling notebook.
    """
    folder, paths = Path(folder), [Path(path) for path in paths]
    if not (0 <= kept_aside < 1 and processes >= 1 and shard_tokens >= 1 and paths):
        found = f"{len(paths)} files, kept_aside={kept_aside}, processes={processes}, shard_tokens={shard_tokens}"
        raise ValueError(f"found {found}; expected a file, a share of 0 or more and below 1, and counts of 1 or more")
    text = tokenizer_to_json(tokenizer)
    wanted = {
        "format": FORMAT,
        "tokenizer": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "vocab_size": tokenizer.n_vocab if isinstance(tokenizer, tiktoken.Encoding) else tokenizer.vocab_size,
        "end_id": special_id(tokenizer, END),
        "kept_aside": kept_aside,
        "shard_tokens": shard_tokens,
        "files": [[path.name, size_of(path)] for path in paths],
    }
    with alone_in(folder):
        begun = _begun(folder, wanted)
        if "position" not in begun:
            return begun
        write_atomically(folder / BEGUN, json_bytes(begun))  # first: whatever stands beside it is then known as ours
        write_atomically(folder / TOKENIZER, text)
        _write_all(folder, paths, begun, processes, on_shard or (lambda progress: None))
        manifest = {name: value for name, value in begun.items() if name != "position"}
        if not manifest["train"]:
            raise ValueError(f"{paths[0].parent} holds no text to learn from: give files with words in them")
        write_atomically(folder / MANIFEST, json_bytes(manifest))
        (folder / BEGUN).unlink()
        for part in folder.glob("*.part"):  # of a call that was killed while it wrote
            part.unlink()
    return manifest


def _begun(folder: Path, wanted: dict) -> dict:
    """What a folder holds of the wanted shards; without "position" once everything is there."""
    for name in (MANIFEST, BEGUN):
        if (folder / name).is_file():
            found = read_record(folder / name)
            if changed := [key for key in wanted if found.get(key) != wanted[key]]:
                raise ValueError(f"{folder} holds shards with other {' and '.join(changed)}: choose another folder")
            return found
    ours = re.compile(rf"\.lock|{re.escape(BEGUN)}\.\d+\.part")  # the second where the very first writing was killed
    if others := [path.name for path in folder.iterdir() if not ours.fullmatch(path.name)]:
        raise ValueError(f"{folder} holds {others[0]} and no shards: choose an empty folder, or a new one")
    return wanted | {"position": [0, 0], "bytes_read": 0, **{split: [] for split in SPLITS}}


def _write_all(folder: Path, paths: list[Path], begun: dict, processes: int, on_shard: Callable) -> None:
    waiting: dict[str, list] = {split: [] for split in SPLITS}
    before, in_all = begun["bytes_read"], sum(size for _, size in begun["files"])
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _load, (str(folder / TOKENIZER),)
    ) as pool:
        jobs = _jobs(paths, begun["position"], begun["kept_aside"])
        for position, n_bytes, encoded in _in_order(pool, jobs, 2 * processes):
            begun["bytes_read"] += n_bytes
            for split, (ids, ends) in zip(SPLITS, encoded):
                waiting[split] += [(ids, ends)] if len(ids) else []
            is_last = position[0] == len(paths)
            if is_last or sum(len(ids) for ids, _ in waiting["train"]) >= begun["shard_tokens"]:
                for split in SPLITS:
                    begun[split] += _write_shard(folder, split, len(begun[split]), waiting[split], begun["vocab_size"])
                    waiting[split] = []
                begun["position"] = position
                write_atomically(folder / BEGUN, json_bytes(begun))
                n_tokens = sum(one["tokens"] for one in begun["train"])
                on_shard(ShardProgress(begun["bytes_read"], before, in_all, n_tokens))


def _write_shard(folder: Path, split: str, number: int, pieces: list, vocab_size: int) -> list[dict]:
    """Write the ids of some pieces as one shard; its entry in the manifest, or none where there is nothing."""
    if not pieces:
        return []
    ids = np.concatenate([ids for ids, _ in pieces]).astype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)
    content = io.BytesIO()
    np.save(content, ids)
    name = f"{split}-{number:05}.npy"
    write_atomically(folder / name, content.getvalue())
    documents, sha256 = sum(ends for _, ends in pieces), hashlib.sha256(content.getbuffer()).hexdigest()
    return [{"file": name, "tokens": len(ids), "documents": documents, "sha256": sha256}]


def _jobs(paths: list[Path], start: list[int], kept_aside: float) -> Iterator[tuple[list[int], Job]]:
    """Pieces of text from a position on, each with the position behind it: files done, parts of the next one done."""
    job: Job = []
    size = 0
    for number in range(start[0], len(paths)):
        begins, aside = True, False
        for n_parts, part in enumerate(stream_documents(paths[number]), start=1):
            aside = _is_kept_aside(part.text, kept_aside) if begins else aside
            begins = part.ends
            if number == start[0] and n_parts <= start[1]:
                continue
            job.append((part, aside))
            size += len(part.text)
            if size >= JOB:
                yield [number, n_parts], job
                job, size = [], 0
    yield [len(paths), 0], job


def _is_kept_aside(beginning: str, share: float) -> bool:
    digest = hashlib.blake2b(beginning.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def _in_order(pool: ProcessPoolExecutor, jobs: Iterator, most: int) -> Iterator[tuple[list[int], int, list]]:
    """Results in the order of the jobs, with so many under way at most: the memory stays flat."""
    under_way: deque[tuple[list[int], Future]] = deque()
    for position, job in jobs:
        under_way.append((position, pool.submit(_encode, job)))
        if len(under_way) >= most:
            position, result = under_way.popleft()
            yield position, *result.result()
    for position, result in under_way:
        yield position, *result.result()


# ---------------------------------------------------------------- in each process

_loaded: dict = {}  # what a process needs for all its jobs


def _load(tokenizer_file: str) -> None:
    tokenizer = tokenizer_from_json(Path(tokenizer_file).read_bytes())
    fast = tokenizer.to_tiktoken() if isinstance(tokenizer, BPETokenizer) else tokenizer
    _loaded.update(fast=fast, end=special_id(tokenizer, END))


def _encode(job: Job) -> tuple[int, list[tuple[np.ndarray, int]]]:
    """The bytes of a job; then, for training and for validation, the ids and how many documents end there."""
    ids: tuple[list, list] = ([], [])
    ends, n_bytes = [0, 0], 0
    for part, aside in job:
        n_bytes += len(part.text.encode("utf-8"))
        ids[aside].append(_loaded["fast"].encode_to_numpy(part.text, disallowed_special=()))
        if part.ends:
            ids[aside].append(np.array([_loaded["end"]], np.uint32))
            ends[aside] += 1
    joined = [np.concatenate(of_split) if of_split else np.zeros(0, np.uint32) for of_split in ids]
    return n_bytes, list(zip(joined, ends))
