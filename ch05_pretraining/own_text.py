"""Learning from a text of one's own: windows to train on, baselines to beat, and a verdict that numbers decide.

Every window begins with the end token, as every prompt of a trained model does, and every document ends with it: so it
is trained wherever it is used.

References: Muennighoff et al. (2023), "Scaling data-constrained language models" (2305.16264); Carlini et al. (2021),
"Extracting training data from large language models" (2012.07805). Taught in ch05, section 5.14.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ch02_text_data.batches import EpochBatches, pad_batch
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch05_pretraining.run_state import History
from ch05_pretraining.story_scores import graded_windows, ngram_bits
from data.own_texts import OwnText

__all__ = ["DocumentWindows", "TextVerdict", "text_advice", "text_baselines", "text_loaders", "text_verdict"]

LZMA_READS = 2_000_000  # bytes; it takes seconds for each million
REPEATED, RISEN = 0.3, 1.1  # bits per byte for lzma; last validation loss as a multiple of the lowest
CLEARLY = 0.98  # of a counting model's bits: random letters are predicted as well by counting them
BYTES_PER_TOKEN, READINGS, SIGHTINGS = 3, 10, 20  # of a usual text; of it before it is known by heart; of each token
VOCABULARIES = (512, 1024, 2048, 3072)
SMALL = 600_000  # bytes; below, two blocks of width 64 predict as well as four of width 128


class DocumentWindows(Dataset):
    """Windows of documents: one at the beginning of each, and one every half window in a long one.

    A window begins with the end token, goes on over the ends of its document and of the next ones, and is full except
    near the end of the last. In the middle of a document it begins at a word if one is near.

    Args:
        documents: texts.
        tokenizer: a `BPETokenizer` with `<|endoftext|>` among its special tokens.
        max_length: ids in a window, at least 2.

    Shape:
        item -> ids (T,), targets (T,), int64, T at most max_length.

    Source: this course; Radford et al. (2019), section 2.1, for the stream. Taught in ch05, section 5.14.
    """

    def __init__(self, documents: Sequence[str], tokenizer: BPETokenizer, max_length: int):
        self.end, self.max_length = tokenizer.special_tokens["<|endoftext|>"], max_length
        stream, self.starts = [self.end], []
        begins_word, half = [token[:1] in (b" ", b"\n") for token in tokenizer.tokens], max_length // 2
        for document in documents:
            ids, first = tokenizer.encode(document), len(stream) - 1
            stream += [*ids, self.end]
            for start in range(0, max(1, len(ids) + 1 - half), half):  # the last one reaches the document's end
                near = ids[start : start + max_length // 4] if start else []
                self.starts.append(first + start + next((n for n, id_ in enumerate(near) if begins_word[id_]), 0))
        self.stream = torch.tensor(stream)
        self.lengths = [min(max_length, len(stream) - 1 - start) for start in self.starts]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window = self.stream[self.starts[index] : self.starts[index] + self.max_length + 1].clone()
        window[0] = self.end
        return window[:-1], window[1:]


def text_loaders(
    own: OwnText, tokenizer: BPETokenizer, context_length: int, batch_size: int, n_watched: int, *, seed: int,
    rank: int, world_size: int,
) -> tuple[DataLoader, DataLoader]:  # fmt: skip
    """Make the two loaders of a text: windows to learn from, and some of those that are graded, evenly spread.

    Args:
        own: the text; its own rule says what is kept aside.
        tokenizer: a `BPETokenizer`, trained on what is learned from.
        context_length: ids in a window.
        batch_size: windows in a step, all ranks together.
        n_watched: most windows to look at while training; every rank looks at all of them.
        seed, rank, world_size: see `EpochBatches`.

    Shape:
        batches of ids (B, T), targets (B, T).

    Source: this course.
    """
    learned, held = own.split()
    windows = DocumentWindows(learned, tokenizer, context_length)
    graded = graded_windows(held, tokenizer, context_length)
    watched = [tuple(map(torch.tensor, window)) for window in graded[:: math.ceil(len(graded) / n_watched)]]
    ordered = EpochBatches([len(ids) for ids, _ in watched], batch_size, shuffle=False, drop_last=False)
    shuffled = EpochBatches(windows.lengths, batch_size, drop_last=False, seed=seed, rank=rank, world_size=world_size)
    return _loader(windows, shuffled), _loader(watched, ordered)  # type: ignore[arg-type]  # a list will do, too


def _loader(windows: Dataset, batches: EpochBatches) -> DataLoader:
    return DataLoader(windows, batch_sampler=batches, collate_fn=pad_batch, generator=torch.Generator())


def text_advice(n_bytes: int, config: GPTConfig, batch_size: int, n_steps: int | None) -> str:
    """Say before a training how often it will read a text, and which shape suits that much text.

    Measured on 20,000 to 500,000 bytes of English with vocabularies of 300 to 3,072 tokens and widths of 32 to 128: the
    loss on text kept aside was lowest after 4 to 10 readings, and vocabularies whose tokens occur less than about
    twenty times each predicted worse.

    Args:
        n_bytes: of the text.
        config: the shape; its `vocab_size` is the most that the tokenizer may learn.
        batch_size: windows in a step.
        n_steps: of the whole training; None where that is not decided yet.

    Source: this course; Muennighoff et al. (2023), section 5.
    """
    n_tokens, flags = max(1, n_bytes // BYTES_PER_TOKEN), []
    sentences = [f"The text has {n_bytes:,} bytes, about {n_tokens:,} tokens."]
    if n_steps is not None:
        steps_a_reading = n_tokens / (batch_size * config.context_length)
        times = round(n_steps / steps_a_reading)
        often = f"about {times:,} times" if times > 1 else "once or less"
        sentences.append(f"In {n_steps:,} steps each is read {often}.")
        if READINGS * steps_a_reading < n_steps:
            last = max(1, round(READINGS * steps_a_reading))
            sentences.append(f"From about step {last:,} on, after {READINGS} readings, a model learns a text by heart.")
    suited = max([size for size in VOCABULARIES if size * SIGHTINGS <= n_tokens], default=VOCABULARIES[0])
    flags += [f"--vocabulary {suited}"] if config.vocab_size > suited else []
    flags += ["--layers 2 --width 64"] if n_bytes < SMALL and config.d_model > 64 else []
    if flags:
        sentences.append(f"A smaller shape suits this much text: {' '.join(flags)}.")
    return " ".join(sentences)


def text_baselines(tokenizer: BPETokenizer, learned: Sequence[str], held: Sequence[str]) -> dict[str, float]:
    """Predict documents kept aside without a network: name -> bits per byte, for three counting models and for lzma.

    "bytes" counts how often each byte occurs; bigram and trigram count the same tokens as the model's. lzma's number is
    what compressing the documents kept aside adds, in bits, when they stand after those that were learned from (after
    their last two million bytes).

    Args:
        tokenizer: cuts the documents as it does for the model.
        learned: documents to learn from.
        held: documents to predict.

    Source: Shannon (1951); Delétang et al. (2023), 2309.10668, for the compressor. Taught in ch05, section 5.14.
    """
    n_bytes = sum(len(document.encode("utf-8")) for document in held)
    before, after = ("\n".join(part).encode("utf-8") for part in (learned, held))
    bigram, trigram = ngram_bits(tokenizer, learned, held, (2, 3))
    bits = {"bytes": _bits_of_bytes(before, after), "bigram": bigram, "trigram": trigram}
    if find_spec("_lzma"):  # a Python that was built without the library has no such part
        bits["lzma"] = _added_bits(before, after)
    return {name: number / n_bytes for name, number in bits.items()}


def _bits_of_bytes(before: bytes, after: bytes) -> float:
    counts, total = Counter(before), len(before) + 256  # a byte that never came keeps a little
    return -sum(n * math.log2((counts[byte] + 1) / total) for byte, n in Counter(after).items())


def _added_bits(before: bytes, after: bytes) -> int:
    from lzma import compress

    before = before[-LZMA_READS:]
    return 8 * (len(compress(before + b"\n" + after)) - len(compress(before)))


@dataclass(frozen=True)
class TextVerdict:
    """What became of a text: "learned", "memorized" or "untrained", why, and what to do next."""

    word: str
    reason: str
    remedy: str


def text_verdict(history: History, bits_per_byte: float, baselines: dict[str, float]) -> TextVerdict:
    """Judge by numbers whether a model has learned from a text, knows it by heart, or neither.

    Memorized: lzma finds the text kept aside in the text that was read, or the loss on the text kept aside rose again
    by a tenth. Untrained: the model does not predict that text clearly better than the best counting model. Else it
    has learned.

    Args:
        history: of the training, with at least one validation loss.
        bits_per_byte: of the model, on the text kept aside.
        baselines: what `text_baselines` gave.

    Source: this course. Taught in ch05, section 5.14.
    """
    lowest, last, kept = min(history.val_losses), history.val_losses[-1], f"step {history.best_step:,}"
    best = min(("bytes", "bigram", "trigram"), key=baselines.__getitem__)
    beside = f"{bits_per_byte:.2f} bits per byte, the best counting model ({best}) {baselines[best]:.2f}"
    if baselines.get("lzma", 1.0) < REPEATED:
        reason = f"the text kept aside stands in the rest as well: lzma needs {baselines['lzma']:.2f} bits per byte"
        return TextVerdict("memorized", reason, "take out what stands there more than once, or give other text")
    if last > RISEN * lowest:
        reason = (
            f"the loss on the text kept aside was lowest after {kept}, {lowest:.2f} nats per token, and rose to "
            f"{last:.2f}, while the loss on the rest fell to {history.losses[-1]:.2f}; the weights of {kept} are kept: "
            f"they need {beside}"
        )
        return TextVerdict("memorized", reason, "give more text: neither more time nor a larger shape helps")
    if bits_per_byte > CLEARLY * baselines[best]:
        longer = "train longer: the loss was still falling" if last == lowest else "give more text or another shape"
        return TextVerdict("untrained", f"on the text kept aside it needs {beside}", longer)
    return TextVerdict("learned", f"on the text kept aside it needs {beside}", "more text and more time go on helping")
