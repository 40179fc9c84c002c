"""Answers to chapter 2's exercises."""

import math
from collections import Counter

import torch
from torch import Tensor


def merge_pair(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged: list[int] = []
    for id_ in ids:
        if merged and (merged[-1], id_) == pair:
            merged[-1] = new_id
        else:
            merged.append(id_)
    return merged


def best_pair(words: dict[tuple[str, ...], int]) -> tuple[str, str]:
    counts: Counter = Counter()
    for tokens, count in words.items():
        for pair in zip(tokens, tokens[1:]):
            counts[pair] += count
    return max(counts, key=lambda pair: (counts[pair], pair))


def encode_piece(piece: str, merges: list[tuple[str, str]]) -> list[str]:
    tokens = list(piece)
    for pair in merges:
        merged: list[str] = []
        for token in tokens:
            if merged and (merged[-1], token) == pair:
                merged[-1] += token
            else:
                merged.append(token)
        tokens = merged
    return tokens


def decode(ids: list[int], vocabulary: dict[int, bytes]) -> str:
    return b"".join(vocabulary[id_] for id_ in ids).decode("utf-8", errors="replace")


def windows(ids: list[int], max_length: int, stride: int) -> list[tuple[list[int], list[int]]]:
    starts = range(0, len(ids) - max_length, stride)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


def story_rows(stories: list[list[int]], end_id: int, pad_id: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, stories)) + 1
    ids = torch.full((len(stories), longest), pad_id)  # (B, T)
    targets = torch.full((len(stories), longest), -100)  # (B, T)
    for row, story in enumerate(stories):
        ids[row, : len(story) + 1] = torch.tensor([end_id, *story])
        targets[row, : len(story) + 1] = torch.tensor([*story, end_id])
    return ids, targets


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    return nats_per_token / math.log(2) * n_tokens / n_bytes


def embed(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    return token_table[ids] + position_table[: ids.shape[1]]  # (B, T, D) + (T, D)


SOLUTIONS = {
    "2.1": (
        merge_pair,
        """Comparing each id with the last one written makes the rule "left to right, nothing twice" come by itself:
        once merged, the new id is no longer the first half of the pair.""",
    ),
    "2.2": (
        best_pair,
        """The key of `max` is a tuple, so that the count decides first and the pair itself breaks the tie. Without the
        second part, the winner would be whichever pair came first into the dictionary.""",
    ),
    "2.3": (
        encode_piece,
        """The order of the merges is the tokenizer. Going through them in that order gives what training would have
        made of this piece. A greedy search for the longest token gives other tokens, which the model never saw.""",
    ),
    "2.4": (
        decode,
        """Tokens are bytes, and only all of them together are a text. That is also why a chat window that prints token
        by token must wait until a character is complete.""",
    ),
    "2.5": (
        windows,
        """`len(ids) - max_length` leaves room for the one id after the window. With `+ 1` there would be a last window
        without its last target, without the range's end one window too few.""",
    ),
    "2.6": (
        story_rows,
        """ids and targets are the row `end story end` without its last and without its first token. Filling them
        separately keeps the padding out of the targets, and going by length keeps real tokens in.""",
    ),
    "2.7": (
        bits_per_byte,
        """The total surprise of a text does not depend on how it is cut; the average per token does. Dividing the total
        by bytes makes models with different tokenizers comparable.""",
    ),
    "2.8": (
        embed,
        """Indexing a table with a tensor of ids looks up all of them at once. The position vectors (T, D) are repeated
        for every row of the batch by broadcasting.""",
    ),
}
