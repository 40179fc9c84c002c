"""A reward model: people compare, and a model learns to give any answer a number.

Where no program can judge, a comparison is what people can give. The model's numbers are fitted so that the chosen
answer of a pair scores higher than the rejected one.

References: Bradley and Terry (1952), "Rank analysis of incomplete block designs"; Ouyang et al. (2022), section 3.5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch02_text_data.any_tokenizer import Tokenizer, encode_text, pad_id_of
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import (
    around_training,
    context_length_of,
    in_mode,
    learn,
    require_training_settings,
    seed_dropout,
    stop_if_pressed,
    to_device_of,
    trainable_parameters,
)
from ch06_finetuning.finetuning import last_real_tokens
from ch06_finetuning.instructions import prompt_ids
from ch06_finetuning.metrics import Rate
from ch06_finetuning.preferences import PreferenceDataset, pair_batches

__all__ = ["RewardModel", "bradley_terry_loss", "rank_pairs", "train_reward_model"]


class RewardModel(nn.Module):
    """A GPT that reads a prompt with its answer and gives the two one number.

    The number comes from the hidden vector of the last real token and begins at 0. `n_truncated` counts the answers
    that `score` has read without their end, because they are longer than the context.

    Args:
        model: a fine-tuned GPTModel; it becomes part of the reward model.
        tokenizer: the one it was trained with.

    Shape:
        ids (B, T), padded on the right -> (B,).

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section R.7.
    """

    def __init__(self, model: GPTModel, tokenizer: Tokenizer):
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.head = nn.Linear(model.config.d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.n_truncated = 0

    def forward(self, ids: Tensor) -> Tensor:
        ids, last = last_real_tokens(ids, pad_id_of(self.tokenizer))
        hidden = self.model.hidden(ids)  # (B, T, D)
        return self.head(hidden[torch.arange(len(ids), device=ids.device), last]).squeeze(-1)  # (B,)

    @torch.no_grad()
    def score(self, prompt: str, answer: str) -> float:
        """Give the number of one answer: a reward for `train_grpo` and `judge`."""
        ids, room = [*prompt_ids(self.tokenizer, prompt), *encode_text(self.tokenizer, answer)], context_length_of(self)
        self.n_truncated += len(ids) > room
        with in_mode(self, training=False):
            return self(*to_device_of(self, torch.tensor([ids])[:, :room])).item()


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the mean surprise at the pairs when the odds of a choice are the exponential of the score difference.

    Shape:
        two scores (B,) -> ().

    Raises:
        ValueError: the two have different shapes.

    Source: Bradley and Terry (1952); Ouyang et al. (2022), equation 1. Taught in ch06, section R.7.
    """
    if chosen.shape != rejected.shape:
        shapes = f"{tuple(chosen.shape)} and {tuple(rejected.shape)}"
        raise ValueError(f"the scores have shapes {shapes}: give two of one shape, a number for each pair")
    return -F.logsigmoid(chosen - rejected).mean()


def train_reward_model(
    reward_model: RewardModel, pairs: PreferenceDataset, *, max_steps: int = 60, batch_size: int = 8,
    learning_rate: float = 1e-3, seed: int = 0,
) -> list[float]:  # fmt: skip
    """Teach a reward model to score the chosen answer of each pair higher; returns the loss of every step.

    Args:
        reward_model: changed in place; frozen weights stay, so LoRA works. Its modes are given back.
        pairs: training pairs.
        max_steps: optimizer steps, at least 1.
        batch_size: pairs in a step, 1 to the number of pairs.
        learning_rate: of AdamW; falls linearly to zero.
        seed: decides the order of the pairs, and dropout.

    Raises:
        ValueError: there are fewer pairs than `batch_size`, everything is frozen, a row is longer than the context, or
            a loss is not finite.
        TrainingInterrupted: Ctrl-C, after a whole step; its `history` holds the losses.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section R.7.
    """
    require_training_settings(learning_rate, max_steps=max_steps)
    pairs.require_fit(reward_model, batch_size)
    optimizer = torch.optim.AdamW(trainable_parameters(reward_model), learning_rate)
    losses: list[float] = []
    batches = pair_batches(pairs, batch_size, max_steps, seed, group_by_length=False)
    with around_training(reward_model) as ctrl_c:
        for step, indices in enumerate(batches):
            stop_if_pressed(ctrl_c, f"step {step} of {max_steps}", losses)
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / max_steps)
            seed_dropout(seed, step)
            ids, _ = to_device_of(reward_model, *pairs.batch(indices))
            loss = bradley_terry_loss(*reward_model(ids).chunk(2))
            losses.append(learn(reward_model, optimizer, loss, step))
    return losses


@torch.no_grad()
def rank_pairs(reward_model: RewardModel, pairs: PreferenceDataset, batch_size: int = 32) -> Rate:
    """Count in how many pairs the chosen answer gets the higher score.

    Raises:
        ValueError: there is no pair, `batch_size` is below 1, or a row is longer than the model's context.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section R.7.
    """
    pairs.require_fit(reward_model, min(batch_size, len(pairs)))
    higher = 0
    with in_mode(reward_model, training=False):
        for start in range(0, len(pairs), batch_size):
            ids, _ = pairs.batch(range(start, min(start + batch_size, len(pairs))))
            chosen, rejected = reward_model(*to_device_of(reward_model, ids)).chunk(2)
            higher += int((chosen > rejected).sum())
    return Rate(higher, len(pairs))
