"""Instruction records: a prompt and its answer become one row in which only the answer is graded.

A prompt is built as a list of token ids, never as one string: the chat specials are put in by this code and by nothing
else, so a user who types <|assistant|> has typed ordinary text.

References: Ouyang et al. (2022), "Training language models to follow instructions with human feedback", section 3.5.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ch02_text_data.any_tokenizer import Tokenizer, encode_text, pad_id_of, special_tokens_of
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches, pad_batch
from ch02_text_data.datasets import StoryDataset
from ch05_pretraining.published_tokenizers import PublishedTokenizer

__all__ = [
    "InstructionDataset", "ReplayBatches", "answer_ends", "collate_instructions", "create_instruction_loader",
    "prompt_ids",
]  # fmt: skip


def prompt_ids(tokenizer: Tokenizer, prompt: str, history: Iterable[tuple[str, str]] = ()) -> list[int]:
    """Build the ids an assistant reads: earlier turns, then <|user|> prompt <|assistant|>, or as its template says.

    Args:
        tokenizer: a BPETokenizer or a tiktoken.Encoding that has the chat specials, see `add_special_tokens`, or a
            published model's with a chat template.
        prompt: what the user says now; special tokens in it are ordinary text.
        history: earlier (prompt, answer) pairs, oldest first.

    Raises:
        ValueError: the prompt is empty, or the tokenizer has neither chat specials nor a chat template.

    Source: this course. Taught in ch06, section 6.8.
    """
    if not prompt.strip():
        raise ValueError("the prompt is empty: type a question or a request")
    if isinstance(tokenizer, PublishedTokenizer):
        said = [(role, text) for turn in history for role, text in zip(("user", "assistant"), turn)]
        return tokenizer.chat_ids([{"role": role, "content": text} for role, text in [*said, ("user", prompt)]])
    user, assistant, end = chat_specials(tokenizer)
    ids = []
    for question, answer in history:
        ids += [user, *encode_text(tokenizer, question), assistant, *encode_text(tokenizer, answer), end]
    return [*ids, user, *encode_text(tokenizer, prompt), assistant]


def answer_row(
    tokenizer: Tokenizer, prompt: str, response: str, max_length: int, index: int, *, mask_prompt: bool = True,
    history: Iterable[tuple[str, str]] = (), grade_history: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Build the ids and targets of one record; only the answer and its end are graded.

    Args:
        tokenizer: as for `prompt_ids`.
        prompt: what is asked.
        response: what should be answered.
        max_length: the row may be longer, but its first graded target must come before this.
        index: number of the record, for the message.
        mask_prompt: False grades the prompt too.
        history: earlier (prompt, answer) pairs, oldest first; they are read.
        grade_history: grade the earlier answers, too, with their ends.

    Shape:
        -> ids (T,), targets (T,).

    Raises:
        ValueError: the prompt leaves no room for an answer.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section 6.9.
    """
    turns = list(history)
    asked = prompt_ids(tokenizer, prompt, turns)
    if len(asked) > max_length:
        raise ValueError(
            f"record {index}: its prompt takes {len(asked)} tokens, so max_length={max_length} leaves no answer "
            "to learn from; shorten the prompt or raise max_length"
        )
    row = torch.tensor([*asked, *encode_text(tokenizer, response), answer_ends(tokenizer)[0]])
    ids, targets = row[:-1], row[1:].clone()
    if mask_prompt:
        targets[: len(asked) - 1] = IGNORE_INDEX
    for number, (question, answer) in enumerate(turns if grade_history else []):
        start = len(prompt_ids(tokenizer, question, turns[:number]))
        end = start + len(encode_text(tokenizer, answer)) + 1  # and the token that ends it
        targets[start - 1 : end - 1] = row[start:end]
    return ids, targets


class InstructionDataset(Dataset):
    """Prompts and answers as rows in which only the answer is graded: item = (ids (T,), targets (T,)), int64.

    A row is <|user|> prompt <|assistant|> answer <|endoftext|>, or what the chat template of a published model makes of
    it, after the turns that came before. Targets are the row one step later, with the prompt's
    positions set to -100. Rows longer than `max_length` lose their end; `n_truncated` counts them.

    Args:
        records: objects with `.prompt` and `.response`, and where there was talk before it with `.history`.
        tokenizer: as for `prompt_ids`.
        max_length: longest row in tokens, at least 2.
        mask_prompt: False grades the prompt too (to see what that costs).
        grade_history: grade the earlier answers of a record, too.

    Raises:
        ValueError: a record lacks one of the two texts, or its prompt leaves no room for an answer; names the record.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section 6.9.
    """

    def __init__(
        self, records: Iterable, tokenizer: Tokenizer, max_length: int, *, mask_prompt: bool = True,
        grade_history: bool = False,
    ):  # fmt: skip
        self.items, self.n_truncated = [], 0
        for index, record in enumerate(records):
            prompt, response = texts_of(record, index, "prompt", "response")
            earlier = getattr(record, "history", ())
            ids, targets = answer_row(
                tokenizer, prompt, response, max_length, index, mask_prompt=mask_prompt, history=earlier,
                grade_history=grade_history,
            )  # fmt: skip
            self.n_truncated += len(ids) > max_length
            self.items.append((ids[:max_length], targets[:max_length]))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.items[index]


def collate_instructions(items: Sequence[tuple[Tensor, Tensor]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad a batch to its longest row, ids with `pad_id` and targets with -100, so that padding is never graded.

    Args:
        items: rows of an InstructionDataset.
        pad_id: the id that fills up short rows.

    Shape:
        items of (ids (T,), targets (T,)) -> ids (B, T), targets (B, T).

    Source: this course. Taught in ch06, section 6.9.
    """
    return pad_batch(items, pad_id)


class ReplayBatches:
    """Batches of new work with a batch of old work slipped in at a steady share, so that the old skill survives.

    Args:
        new: batches of indices into the new rows.
        old: batches of indices into the old rows, which follow the new ones in the joined dataset.
        offset: number of new rows.
        share: share of all batches that are old, 0 to 0.5.

    Raises:
        ValueError: `share` is outside 0 to 0.5.

    Source: Robins (1995), "Catastrophic forgetting, rehearsal and pseudorehearsal". Taught in ch06, section 6.10.
    """

    def __init__(self, new: EpochBatches, old: EpochBatches, offset: int, share: float):
        if not 0 < share <= 0.5:
            raise ValueError(f"a replay share of {share} is outside 0 to 0.5: give the share of batches that are old")
        self.new, self.old, self.offset = new, old, offset
        self.every = round(1 / share)  # one old batch in so many
        self.set_epoch(0)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Go to batch `start` of an epoch; one epoch passes once over the new rows."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return len(self.new) + len(self.new) // (self.every - 1)

    def __iter__(self) -> Iterator[list[int]]:
        n_old = self.start // self.every  # old batches of this epoch before `start`
        old = self._old_batches(self.epoch * (len(self.new) // (self.every - 1)) + n_old)
        self.new.set_epoch(self.epoch, self.start - n_old)
        new = iter(self.new)
        for position in range(self.start, len(self)):
            if position % self.every == self.every - 1:
                yield [self.offset + index for index in next(old)]
            else:
                yield next(new)

    def _old_batches(self, position: int) -> Iterator[list[int]]:
        epoch, start = divmod(position, len(self.old))
        while True:
            self.old.set_epoch(epoch, start)
            yield from self.old
            epoch, start = epoch + 1, 0


def create_instruction_loader(
    records: Iterable, tokenizer: Tokenizer, *, batch_size: int, max_length: int, shuffle: bool = True, seed: int = 0,
    mask_prompt: bool = True, grade_history: bool = False, stories: Sequence = (), replay_share: float = 0.1,
    replay_batch: int = 16,
) -> DataLoader:  # fmt: skip
    """Serve instruction batches, with batches of stories slipped in when stories are given.

    Args:
        records: objects with `.prompt` and `.response`.
        tokenizer: as for `prompt_ids`.
        batch_size: records in a batch.
        max_length: longest row in tokens.
        shuffle: False serves all records in their order, without stories.
        seed: seed of the order.
        mask_prompt: False grades the prompts too.
        grade_history: grade the earlier answers of a record too.
        stories: stories to replay, as text or objects with `.text`.
        replay_share: share of all batches that are stories, 0 to 0.5.
        replay_batch: stories in such a batch, 1 to the number of stories.

    Raises:
        ValueError: as `InstructionDataset`, fewer records than `batch_size`, or a number of the replay out of range.

    Source: this course. Taught in ch06, section 6.10.
    """
    dataset = InstructionDataset(records, tokenizer, max_length, mask_prompt=mask_prompt, grade_history=grade_history)
    lengths = [len(ids) for ids, _ in dataset.items]
    batches = EpochBatches(lengths, batch_size, shuffle=shuffle, drop_last=shuffle, seed=seed, group_by_length=shuffle)
    collate = partial(collate_instructions, pad_id=_fills_up(tokenizer))
    if not (shuffle and stories and replay_share):
        return DataLoader(dataset, batch_sampler=batches, collate_fn=collate)
    old = StoryDataset(stories, tokenizer, max_length)
    if not 1 <= replay_batch <= len(old):
        raise ValueError(f"replay_batch={replay_batch} does not fit {len(old)} stories: choose 1 to {len(old)}")
    old_batches = EpochBatches([max_length] * len(old), replay_batch, seed=seed)
    mixed = ReplayBatches(batches, old_batches, len(dataset), replay_share)
    return DataLoader(ConcatDataset([dataset, old]), batch_sampler=mixed, collate_fn=collate)


def _fills_up(tokenizer: Tokenizer) -> int:
    """The id that fills up short rows, which is never graded: the end of an answer, where nothing is meant for it."""
    known = special_tokens_of(tokenizer).keys() & {"<|pad|>", "<|endoftext|>"}
    return pad_id_of(tokenizer) if known else answer_ends(tokenizer)[0]


def texts_of(record: object, index: int, *names: str) -> list[str]:
    """Take some texts out of a record; a missing or empty one is refused with the record's number.

    Source: this course. Taught in ch06, section 6.2.
    """
    for name in names:
        value = getattr(record, name, None)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"record {index} has no text under {name!r}: every record needs {' and '.join(names)}")
    return [getattr(record, name) for name in names]


def chat_specials(tokenizer: Tokenizer) -> tuple[int, int, int]:
    """Give the ids of <|user|>, <|assistant|> and <|endoftext|>.

    Raises:
        ValueError: the tokenizer lacks one of them.

    Source: this course.
    """
    specials, names = special_tokens_of(tokenizer), ("<|user|>", "<|assistant|>", "<|endoftext|>")
    if missing := [name for name in names if name not in specials]:
        raise ValueError(
            f"the tokenizer, a {type(tokenizer).__name__}, lacks {', '.join(missing)}: use a BPETokenizer trained with "
            "SPECIAL_TOKENS, or give them to a tiktoken.Encoding with add_special_tokens"
        )
    user, assistant, end = (specials[name] for name in names)
    return user, assistant, end


def answer_ends(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Give the ids with which an answer ends: <|endoftext|>, or what a published model ends its answers with.

    Raises:
        ValueError: the tokenizer has no chat specials, or is a published one that names no end.

    Source: this course.
    """
    if not isinstance(tokenizer, PublishedTokenizer):
        return chat_specials(tokenizer)[2:]
    if not tokenizer.end_ids:
        raise ValueError("the published model names no token that ends an answer: take one that was trained to answer")
    return tokenizer.end_ids
