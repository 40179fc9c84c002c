"""A reward model and PPO: learning from people's comparisons, one token at a time.

Where no program can judge, people compare. A reward model turns their comparisons into a number for any answer; PPO
makes answers with a high number more probable. It judges every token by what a value head expected at that point, so
it needs no groups, but it has a second thing to learn.

References: Ouyang et al. (2022), section 3.5; Schulman et al. (2017), "Proximal Policy Optimization Algorithms";
Schulman et al. (2016), "High-Dimensional Continuous Control Using Generalized Advantage Estimation".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch02_text_data.any_tokenizer import encode_text, pad_id_of
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches
from ch05_pretraining.loop_care import (
    around_training,
    check_settings,
    context_length_of,
    in_mode,
    learn,
    require_room,
    seed_dropout,
    stop_if_pressed,
    to_device_of,
    trainable_parameters,
)
from ch06_finetuning.finetuning import last_real_tokens
from ch06_finetuning.instructions import prompt_ids
from ch06_finetuning.metrics import Rate
from ch06_finetuning.preferences import PreferenceDataset, token_log_probabilities
from ch06_finetuning.rewards import Rollouts, clipped_gain

__all__ = [
    "ActorCritic", "RewardModel", "bradley_terry_loss", "generalized_advantages", "ppo_step", "rank_pairs",
    "train_reward_model",
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- the reward model


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

    def __init__(self, model: nn.Module, tokenizer):
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
    check_settings(learning_rate, max_steps=max_steps)
    pairs.require_fit(reward_model, batch_size)
    optimizer, losses = torch.optim.AdamW(trainable_parameters(reward_model), learning_rate), []
    sampler = EpochBatches([len(chosen[0]) for chosen, _ in pairs.items], batch_size, seed=seed)
    with around_training(reward_model) as ctrl_c:
        for step in range(max_steps):
            stop_if_pressed(ctrl_c, f"step {step} of {max_steps}", losses)
            if step % len(sampler) == 0:
                sampler.set_epoch(step // len(sampler))
                batches = iter(sampler)
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / max_steps)
            seed_dropout(seed, step)
            ids, _ = to_device_of(reward_model, *pairs.batch(next(batches)))
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


# ----------------------------------------------------------------------------------------------------------------- PPO


class ActorCritic(nn.Module):
    """A GPT with a second head that guesses, at every token, the reward still to come.

    The value head reads the hidden vectors but does not change them: only the policy moves the body.

    Args:
        model: a fine-tuned GPTModel; it becomes the policy.

    Shape:
        ids (B, T) -> logits (B, T, V), values (B, T).

    Source: Schulman et al. (2017), section 5. Taught in ch06, section R.8.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.value_head = nn.Linear(model.config.d_model, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.model.hidden(ids)  # (B, T, D)
        return self.model.head(hidden), self.value_head(hidden.detach()).squeeze(-1)


def generalized_advantages(
    rewards: Tensor, values: Tensor, written: Tensor, *, discount: float = 1.0, trace: float = 0.95
) -> Tensor:
    """Tell for every token how much better it went on than the value head had expected.

    The surprise at a token is its reward plus the next value minus its own; the advantage is the sum of the surprises
    from there on, each token further away weighing less by `discount` x `trace`.

    Args:
        rewards: what each token earned.
        values: what was expected before it was written.
        written: True where the model wrote the token.
        discount: gamma, 0 to 1; 1 counts a late reward in full.
        trace: lambda, 0 to 1; 0 trusts the next value alone, 1 only what came in the end.

    Shape:
        three times (B, T) -> (B, T), 0 where nothing was written.

    Raises:
        ValueError: `discount` or `trace` is outside 0 to 1.

    Source: Schulman et al. (2016), equation 16. Taught in ch06, section R.8.
    """
    for name, number in (("discount", discount), ("trace", trace)):
        if not 0 <= number <= 1:
            raise ValueError(f"{name}={number} is outside 0 to 1; 1 and 0.95 are common choices")
    values = values * written
    following = F.pad(values, (0, 1))[:, 1:]  # (B, T), 0 after the last token
    surprises = (rewards + discount * following - values) * written
    advantages, ahead = torch.zeros_like(surprises), surprises.new_zeros(len(surprises))
    for t in reversed(range(surprises.shape[1])):
        advantages[:, t] = ahead = surprises[:, t] + discount * trace * ahead
    return advantages * written


def ppo_step(
    policy: ActorCritic, reference: nn.Module, optimizer, rollouts: Rollouts, rewards: Tensor, *, updates: int = 2,
    clip: float = 0.2, kl_weight: float = 0.05, value_weight: float = 0.5, trace: float = 0.95,
) -> float:  # fmt: skip
    """Learn from one batch of answers with PPO; returns the mean squared error of the values before it.

    The reward of an answer comes with its last token; every token pays for leaving the reference.

    Args:
        policy: the model with its value head, changed in place; its modes are given back.
        reference: the model that the policy started as.
        optimizer: over the policy's parameters.
        rollouts: answers that the policy has written.
        rewards: one number for each answer.
        updates: optimizer steps, at least 1.
        clip: see `clipped_gain`.
        kl_weight: price of one nat of log-ratio to the reference.
        value_weight: weight of the values' error in the loss.
        trace: see `generalized_advantages`.

    Shape:
        rewards (B,) -> a float.

    Raises:
        ValueError: not one finite reward for each answer, no token was written, a row is longer than the context,
            everything is frozen, or a loss is not finite.
        TrainingInterrupted: Ctrl-C, after the whole step; its `history` is what would have been returned.

    Source: Schulman et al. (2017), algorithm 1; Ouyang et al. (2022), section 3.5. Taught in ch06, section R.8.
    """
    trainable_parameters(policy)  # refuses a policy that is frozen
    rewards = torch.as_tensor(rewards)
    _check_rewards(policy, rollouts, rewards, updates)
    ids, targets, rewards = to_device_of(policy, rollouts.ids, rollouts.targets, rewards)
    written = targets != IGNORE_INDEX  # (B, T)
    n, remedy = written.sum(), "lower the optimizer's learning rate"
    with around_training(policy, dropout=False) as ctrl_c:
        with torch.no_grad(), in_mode(reference, training=False):
            old, values = _scored(policy, ids, targets)  # (B, T), (B, T)
            left = old - token_log_probabilities(reference, *to_device_of(reference, ids, targets)).to(old)  # (B, T)
            last = written & (written.flip(1).cumsum(1).flip(1) == 1)  # (B, T)
            earned = last * rewards[:, None] - kl_weight * left  # (B, T), `left` in nats of log-ratio
            advantages = generalized_advantages(earned, values, written, trace=trace)
        returns = advantages + values  # (B, T)
        centre = advantages[written].mean()
        scaled = (advantages - centre) / (advantages[written].std(correction=0) + 1e-6)  # (B, T)
        for update in range(updates):
            new, guesses = _scored(policy, ids, targets)
            gain = (clipped_gain(new, old, scaled, clip) * written).sum() / n
            error = ((guesses - returns).square() * written).sum() / n
            learn(policy, optimizer, value_weight * error - gain, update, remedy)
        mean_error = ((values - returns).square() * written).sum().item() / n.item()
        stop_if_pressed(ctrl_c, "a whole ppo_step", mean_error)
    return mean_error


def _check_rewards(policy: ActorCritic, rollouts: Rollouts, rewards: Tensor, updates: int) -> None:
    if rewards.shape != (len(rollouts.ids),) or not rewards.isfinite().all():
        found = f"rewards of shape {tuple(rewards.shape)} and up to {rewards.max()}"
        raise ValueError(f"found {found} for {len(rollouts.ids)} answers: give one finite number for each")
    if updates < 1 or not rollouts.written.any():
        raise ValueError(f"updates={updates}, {int(rollouts.written.sum())} written tokens: give at least one of each")
    remedy = "write the rollouts with a smaller max_new_tokens"
    require_room(rollouts.ids.shape[1], context_length_of(policy), remedy)


def _scored(policy: ActorCritic, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits, values = policy(ids)  # (B, T, V), (B, T)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return -losses.view_as(targets), values
