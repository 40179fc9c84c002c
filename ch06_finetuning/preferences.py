"""Preferences: pairs of a better and a worse answer, and how probable a model finds the two.

References: Rafailov et al. (2023), "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ch02_text_data.any_tokenizer import Tokenizer, pad_id_of
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches, pad_batch
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import context_length_of, in_mode, require_room, to_device_of
from ch06_finetuning.instructions import answer_row, texts_of
from ch06_finetuning.metrics import Rate

__all__ = [
    "PreferenceDataset",
    "PreferenceReport",
    "preference_report",
    "reference_log_probabilities",
    "sequence_log_probabilities",
    "token_log_probabilities",
]


def token_log_probabilities(model: GPTModel, ids: Tensor, targets: Tensor) -> Tensor:
    """Give the log-probability of every target that counts, in nats, and 0 where the target is -100.

    Shape:
        ids (B, T), targets (B, T) -> (B, T).

    Source: this course. Taught in ch06, section R.5.
    """
    counts = targets != IGNORE_INDEX  # (B, T)
    logits = model.head(model.hidden(ids)[counts])  # (N, V): the head is costly, so only where it is needed
    losses = F.cross_entropy(logits, targets[counts], reduction="none")  # (N,)
    return losses.new_zeros(targets.shape).masked_scatter(counts, -losses)  # (B, T)


def sequence_log_probabilities(model: GPTModel, ids: Tensor, targets: Tensor) -> Tensor:
    """Add up the log-probabilities of the graded tokens of each row, in nats.

    Shape:
        ids (B, T), targets (B, T) with -100 where nothing is graded -> (B,).

    Source: Rafailov et al. (2023), section 4. Taught in ch06, section 6.14.
    """
    return token_log_probabilities(model, ids, targets).sum(dim=1)


class PreferenceDataset(Dataset):
    """Preference pairs as two rows each: item = (chosen (ids, targets), rejected (ids, targets)).

    Rows longer than `max_length` lose their end; `n_truncated` counts them, two rows a pair.

    Args:
        pairs: objects with `.prompt`, `.chosen` and `.rejected`.
        tokenizer: as for `prompt_ids`.
        max_length: longest row in tokens.

    Raises:
        ValueError: a pair lacks a text, its two answers are equal or are so after the cut, or a prompt leaves no room;
            names the pair.

    Source: Rafailov et al. (2023), section 3. Taught in ch06, section 6.14.
    """

    def __init__(self, pairs: Iterable, tokenizer: Tokenizer, max_length: int):
        self.pairs, self.pad_id, self.items, self.n_truncated = list(pairs), pad_id_of(tokenizer), [], 0
        for index, pair in enumerate(self.pairs):
            prompt, chosen, rejected = texts_of(pair, index, "prompt", "chosen", "rejected")
            if chosen == rejected:
                raise ValueError(f"record {index}: the chosen and the rejected answer are the same text")
            rows = [answer_row(tokenizer, prompt, answer, max_length, index) for answer in (chosen, rejected)]
            self.n_truncated += sum(len(ids) > max_length for ids, _ in rows)
            chosen_row, rejected_row = ((ids[:max_length], targets[:max_length]) for ids, targets in rows)
            if torch.equal(chosen_row[1], rejected_row[1]):  # the targets hold every token of the answer
                raise ValueError(
                    f"record {index}: with max_length={max_length} the chosen and the rejected answer become the same "
                    "tokens: raise it, or leave the pair out"
                )
            self.items.append((chosen_row, rejected_row))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple:
        return self.items[index]

    def batch(self, indices: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Pad some pairs into one batch, all chosen rows first: -> ids (2 B, T), targets (2 B, T)."""
        pairs = [self.items[index] for index in indices]
        return pad_batch([pair[side] for side in (0, 1) for pair in pairs], self.pad_id)

    def log_probabilities(self, model: GPTModel, indices: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Score some pairs with a model: -> log-probabilities of chosen (B,) and rejected answers (B,)."""
        ids, targets = to_device_of(model, *self.batch(indices))
        chosen, rejected = sequence_log_probabilities(model, ids, targets).chunk(2)
        return chosen, rejected

    def require_fit(self, model: nn.Module, batch_size: int) -> None:
        """Refuse a batch size that the pairs cannot fill, and rows that are longer than the model's context."""
        if not self.items:
            raise ValueError("the PreferenceDataset holds no pairs: make it with at least one")
        if not 1 <= batch_size <= len(self):
            raise ValueError(f"batch_size={batch_size} does not fit {len(self)} pairs: choose 1 to {len(self)}")
        longest = max(len(ids) for pair in self.items for ids, _ in pair)
        require_room(longest, context_length_of(model), "make the PreferenceDataset with a smaller max_length")


def pair_batches(
    dataset: PreferenceDataset, batch_size: int, max_steps: int, seed: int, *, group_by_length: bool = True
) -> Iterator[list[int]]:
    """Serve the indices of some pairs for each step, epoch after epoch.

    Args:
        dataset: the pairs.
        batch_size: pairs in a step, 1 to the number of pairs.
        max_steps: number of steps.
        seed: decides the order.
        group_by_length: put pairs of similar length together.

    Source: this course. Taught in ch06, section 6.14.
    """
    lengths = [len(chosen[0]) for chosen, _ in dataset.items]
    sampler = EpochBatches(lengths, batch_size, seed=seed, group_by_length=group_by_length)
    for step in range(max_steps):
        if step % len(sampler) == 0:
            sampler.set_epoch(step // len(sampler))
            batches = iter(sampler)
        yield next(batches)


@dataclass(frozen=True)
class PreferenceReport:
    """How a model ranks held-out pairs.

    `log_ratios` holds, for each pair, log p(chosen) - log p(rejected) under the model; `margins` the same minus the
    reference's, times beta: the difference of the implicit rewards.

    Source: Rafailov et al. (2023), section 6. Taught in ch06, section 6.14.
    """

    corruptions: list[str]
    log_ratios: Tensor  # (N,)
    margins: Tensor  # (N,)
    chosen_reward: float  # mean implicit reward of the chosen answers
    rejected_reward: float

    @property
    def win_rate(self) -> Rate:
        return Rate(int((self.log_ratios > 0).sum()), len(self.log_ratios))

    @property
    def by_corruption(self) -> dict[str, Rate]:
        wins = defaultdict(list)
        for corruption, ratio in zip(self.corruptions, self.log_ratios.tolist()):
            wins[corruption].append(ratio > 0)
        return {corruption: Rate(sum(wins[corruption]), len(wins[corruption])) for corruption in sorted(wins)}

    @property
    def margin(self) -> float:
        return self.margins.mean().item()


def preference_report(
    model: GPTModel, dataset: PreferenceDataset, reference: Tensor, beta: float = 0.1
) -> PreferenceReport:
    """Rank every pair of a dataset with a model.

    Args:
        model: the policy.
        dataset: the pairs.
        reference: log-probabilities under the reference, from `reference_log_probabilities`.
        beta: the same as in training.

    Shape:
        reference (2, N) -> PreferenceReport.

    Raises:
        ValueError: the reference is that of another number of pairs.

    Source: Rafailov et al. (2023), section 6. Taught in ch06, section 6.14.
    """
    if reference.shape != (2, len(dataset)):
        found = f"reference has shape {tuple(reference.shape)}, and the dataset {len(dataset)} pairs"
        raise ValueError(f"{found}: give what reference_log_probabilities makes of this dataset")
    policy = reference_log_probabilities(model, dataset)  # (2, N)
    rewards = beta * (policy - reference.cpu())  # (2, N)
    return PreferenceReport(
        corruptions=[getattr(pair, "corruption", "") for pair in dataset.pairs],
        log_ratios=policy[0] - policy[1],
        margins=rewards[0] - rewards[1],
        chosen_reward=rewards[0].mean().item(),
        rejected_reward=rewards[1].mean().item(),
    )


@torch.no_grad()
def reference_log_probabilities(model: GPTModel, dataset: PreferenceDataset, batch_size: int = 32) -> Tensor:
    """Score every pair once, so that the reference model need not be kept: -> (2, N) on the CPU, chosen and rejected.

    Raises:
        ValueError: there is no pair, `batch_size` is below 1, or a row is longer than the model's context.

    Source: Rafailov et al. (2023), section 4. Taught in ch06, section 6.14.
    """
    dataset.require_fit(model, min(batch_size, len(dataset)))
    lengths = [len(chosen[0]) for chosen, _ in dataset.items]
    order = sorted(range(len(dataset)), key=lengths.__getitem__)
    scores = torch.empty(2, len(dataset))
    with in_mode(model, training=False):
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            scores[:, indices] = torch.stack(dataset.log_probabilities(model, indices)).float().cpu()
    return scores
