"""Grades for a model on whole stories, in units that tokenizers cannot flatter, beside the world's own floor.

Reference: Shannon (1951), "Prediction and entropy of printed English". Taught in ch05, section 5.3.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ch01_understanding_llms.understanding_llms import bits_per_byte
from ch02_text_data.text_data import IGNORE_INDEX
from ch05_pretraining.pretraining import evaluation_totals


@dataclass(frozen=True)
class StoryScores:
    """How well a model predicts whole stories, beside the best that any model could do."""

    nats_per_token: float
    bits_per_word: float
    bits_per_byte: float
    floor_bits_per_word: float | None
    n_stories: int

    @property
    def times_floor(self) -> float | None:
        """The model's bits for each bit that the story world itself needs."""
        return self.bits_per_word / self.floor_bits_per_word if self.floor_bits_per_word else None


def evaluate_stories(model: nn.Module, tokenizer, stories: list, *, batch_size: int = 32) -> StoryScores:
    """Grade a model on whole stories, from their first token to the end token.

    Args:
        model: a `GPTModel`.
        tokenizer: the one it was trained with.
        stories: `Story` objects, or plain strings for which no floor is known.
        batch_size: stories read at once.

    Raises:
        ValueError: no stories.

    Source: this course. Taught in ch05, section 5.3.
    """
    if not stories:
        raise ValueError("there are no stories to grade: give at least one")
    texts = [getattr(story, "text", story) for story in stories]
    end = tokenizer.special_tokens["<|endoftext|>"]
    rows = [[end, *tokenizer.encode(text), end] for text in texts]
    windows = [w for row in rows for w in _windows(row, model.config.context_length)]
    nats, n_tokens = evaluation_totals(model, _padded_batches(windows, batch_size))
    n_words = sum(len(text.split()) for text in texts)
    floor = sum(-getattr(story, "log2_probability", math.nan) for story in stories) / n_words
    return StoryScores(
        nats_per_token=nats / n_tokens,
        bits_per_word=nats / math.log(2) / n_words,
        bits_per_byte=bits_per_byte(nats / n_tokens, n_tokens, sum(len(text.encode()) for text in texts)),
        floor_bits_per_word=None if math.isnan(floor) else floor,
        n_stories=len(stories),
    )


def _windows(row: list[int], context_length: int) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a row to the model's context; a later window rereads half of it and is graded on what is new."""
    begin = graded = 0
    while graded < len(row) - 1:
        window = row[begin : begin + context_length + 1]
        yield window[:-1], [IGNORE_INDEX] * (graded - begin) + window[1 + graded - begin :]
        graded = begin + len(window) - 1
        begin = graded - context_length // 2


def _padded_batches(windows: list, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    windows = sorted(windows, key=lambda window: len(window[0]))
    for i in range(0, len(windows), batch_size):
        ids, targets = zip(*windows[i : i + batch_size], strict=True)
        yield _rectangle(ids, 0), _rectangle(targets, IGNORE_INDEX)


def _rectangle(rows: Iterable[list[int]], filler: int) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True, padding_value=filler)
