"""PPO: learn from judged answers, one token at a time.

PPO makes answers with a high number more probable. It judges every token by what a value head expected at that point,
so it needs no groups, but it has a second thing to learn.

References: Ouyang et al. (2022), section 3.5; Schulman et al. (2017), "Proximal Policy Optimization Algorithms";
Schulman et al. (2016), "High-Dimensional Continuous Control Using Generalized Advantage Estimation".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch02_text_data.batches import IGNORE_INDEX
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import (
    around_training,
    context_length_of,
    in_mode,
    learn,
    require_room,
    stop_if_pressed,
    to_device_of,
    trainable_parameters,
)
from ch06_finetuning.grpo import clipped_gain
from ch06_finetuning.preferences import token_log_probabilities
from ch06_finetuning.rollouts import Rollouts

__all__ = ["ActorCritic", "generalized_advantages", "ppo_step"]


class ActorCritic(nn.Module):
    """A GPT with a second head that guesses, at every token, the reward still to come.

    The value head reads the hidden vectors but does not change them: only the policy moves the body.

    Args:
        model: a fine-tuned GPTModel; it becomes the policy.

    Shape:
        ids (B, T) -> logits (B, T, V), values (B, T).

    Source: Schulman et al. (2017), section 5. Taught in ch06, section R.8.
    """

    def __init__(self, model: GPTModel):
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
    policy: ActorCritic, reference: GPTModel, optimizer: torch.optim.Optimizer, rollouts: Rollouts, rewards: Tensor, *,
    updates: int = 2, clip: float = 0.2, kl_weight: float = 0.05, value_weight: float = 0.5, trace: float = 0.95,
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
    rewards = torch.as_tensor(rewards)
    require_rewards(policy, rollouts, rewards, updates)
    ids, targets, rewards = to_device_of(policy, rollouts.ids, rollouts.targets, rewards)
    written = targets != IGNORE_INDEX  # (B, T)
    n, remedy = written.sum(), "lower the optimizer's learning rate"
    with around_training(policy, dropout=False) as ctrl_c:
        with torch.no_grad(), in_mode(reference, training=False):
            old, values = scored(policy, ids, targets)  # (B, T), (B, T)
            left = old - token_log_probabilities(reference, *to_device_of(reference, ids, targets)).to(old)
            last = written & (written.flip(1).cumsum(1).flip(1) == 1)  # (B, T), the end of each answer
            earned = last * rewards[:, None] - kl_weight * left  # (B, T)
            advantages = generalized_advantages(earned, values, written, trace=trace)
        returns = advantages + values  # (B, T)
        center = advantages[written].mean()
        scaled = (advantages - center) / (advantages[written].std(correction=0) + 1e-6)  # (B, T)
        for update in range(updates):
            new, guesses = scored(policy, ids, targets)
            gain = (clipped_gain(new, old, scaled, clip) * written).sum() / n
            error = ((guesses - returns).square() * written).sum() / n
            learn(policy, optimizer, value_weight * error - gain, update, remedy)
        mean_error = ((values - returns).square() * written).sum().item() / n.item()
        stop_if_pressed(ctrl_c, "a whole ppo_step", mean_error)
    return mean_error


def require_rewards(policy: ActorCritic, rollouts: Rollouts, rewards: Tensor, updates: int) -> None:
    """Refuse a `ppo_step` without one finite reward for each answer, without a written token, or without an update.

    Raises:
        ValueError: one of the three is missing, the policy is frozen, or a row is longer than the context.

    Source: this course. Taught in ch06, section R.8.
    """
    trainable_parameters(policy)  # refuses a policy that is frozen
    if rewards.shape != (len(rollouts.ids),) or not rewards.isfinite().all():
        found = f"rewards of shape {tuple(rewards.shape)} and up to {rewards.max()}"
        raise ValueError(f"found {found} for {len(rollouts.ids)} answers: give one finite number for each")
    if updates < 1 or not rollouts.written.any():
        raise ValueError(f"updates={updates}, {int(rollouts.written.sum())} written tokens: give at least one of each")
    remedy = "write the rollouts with a smaller max_new_tokens"
    require_room(rollouts.ids.shape[1], context_length_of(policy), remedy)


def scored(policy: ActorCritic, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give the log-probability of every target, 0 where it is -100, and the value at every token.

    Shape:
        ids (B, T), targets (B, T) -> (B, T), (B, T).

    Source: this course. Taught in ch06, section R.8.
    """
    logits, values = policy(ids)  # (B, T, V), (B, T)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return -losses.view_as(targets), values
