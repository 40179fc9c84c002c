"""Grades for a model on whole stories, in units that tokenizers cannot flatter, beside the world's own floor.

Reference: Shannon (1951), "Prediction and entropy of printed English". Taught in ch05, section 5.3.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ch01_understanding_llms.fast_counts import FastNgramModel
from ch01_understanding_llms.understanding_llms import bits_per_byte
from ch02_text_data.any_tokenizer import Encodes, encode_text, special_id
from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.evaluation import evaluation_totals


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


def evaluate_stories(model: GPTModel, tokenizer: Encodes, stories: list, *, batch_size: int = 32) -> StoryScores:
    """Grade a model on whole stories, from their first token to the end token; each reading begins with an end token.

    Args:
        model: a `GPTModel`.
        tokenizer: the one it was trained with.
        stories: `Story` objects, or plain strings for which no floor is known.
        batch_size: stories read at once.

    Raises:
        ValueError: no stories, or one without a word.

    Source: this course. Taught in ch05, section 5.3.
    """
    if not stories:
        raise ValueError("there are no stories to grade: give at least one")
    texts = [getattr(story, "text", story) for story in stories]
    if wordless := [number for number, text in enumerate(texts) if not text.split()]:
        raise ValueError(f"the story at position {wordless[0]} has not one word to grade: leave it out")
    windows = graded_windows(texts, tokenizer, model.config.context_length)
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


def graded_windows(texts: Iterable[str], tokenizer: Encodes, context_length: int) -> list[tuple[list[int], list[int]]]:
    """Cut texts into (ids, targets) so that each token and each text's end is graded once; all begin with an end token.

    Args:
        texts: at least one character each.
        tokenizer: one with `<|endoftext|>` among its special tokens.
        context_length: ids in a window at most; a later window of a text rereads half of the one before.

    Source: this course.
    """
    end = special_id(tokenizer, "<|endoftext|>")
    rows = [[end, *encode_text(tokenizer, text), end] for text in texts]
    return [([end, *ids[1:]], targets) for row in rows for ids, targets in _windows(row, context_length)]


def ngram_bits(
    tokenizer: BPETokenizer, learned: Sequence[str], graded: Sequence[str], orders: Iterable[int]
) -> list[float]:
    """Count n-grams in texts and give the bits that other texts then cost, their end tokens included, for each order.

    Args:
        tokenizer: one with `<|endoftext|>` among its special tokens.
        learned: texts to count in.
        graded: texts to predict.
        orders: tokens in one n-gram: 1 unigram, 2 bigram, 3 trigram.

    Source: Shannon (1951). Taught in ch05, section 5.3.
    """
    end = tokenizer.special_tokens["<|endoftext|>"]
    seen, asked = ([end, *(t for text in part for t in (*tokenizer.encode(text), end))] for part in (learned, graded))
    models = [FastNgramModel(order, tokenizer.vocab_size).fit(seen) for order in orders]
    return [-sum(math.log2(p) for p in model.token_probabilities(asked)[1:].tolist()) for model in models]


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
