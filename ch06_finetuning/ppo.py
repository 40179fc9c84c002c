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

from ch02_text_data.text_data import IGNORE_INDEX, EpochBatches
from ch06_finetuning.finetuning import last_real_tokens
from ch06_finetuning.instructions import pad_id_of, prompt_ids
from ch06_finetuning.preferences import PreferenceDataset
from ch06_finetuning.rewards import Rollouts, clipped_gain, token_log_probabilities
from ch06_finetuning.scoring import Rate

__all__ = [
    "ActorCritic", "RewardModel", "bradley_terry_loss", "generalized_advantages", "ppo_step", "rank_pairs",
    "train_reward_model",
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- the reward model


class RewardModel(nn.Module):
    """A GPT that reads a prompt with its answer and gives the two one number.

    The number comes from the hidden vector of the last real token and begins at 0.

    Args:
        model: a fine-tuned GPTModel; it becomes part of the reward model.
        tokenizer: the BPETokenizer it was trained with.

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

    def forward(self, ids: Tensor) -> Tensor:
        ids, last = last_real_tokens(ids, pad_id_of(self.tokenizer))
        hidden = self.model.hidden(ids)  # (B, T, D)
        return self.head(hidden[torch.arange(len(ids)), last]).squeeze(-1)  # (B,)

    @torch.no_grad()
    def score(self, prompt: str, answer: str) -> float:
        """Give the number of one answer: a reward for `train_grpo` and `judge`."""
        ids = [*prompt_ids(self.tokenizer, prompt), *self.tokenizer.encode(answer)]
        return self(torch.tensor([ids[: self.model.config.context_length]])).item()


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
        reward_model: changed in place.
        pairs: training pairs.
        max_steps: optimizer steps.
        batch_size: pairs in a step, 1 to the number of pairs.
        learning_rate: of AdamW; falls linearly to zero.
        seed: seed of the order of the pairs.

    Raises:
        ValueError: there are fewer pairs than `batch_size`.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section R.7.
    """
    if not 1 <= batch_size <= len(pairs):
        raise ValueError(f"batch_size={batch_size} does not fit {len(pairs)} pairs: choose 1 to {len(pairs)}")
    optimizer, losses = torch.optim.AdamW(reward_model.parameters(), learning_rate), []
    sampler = EpochBatches([len(chosen[0]) for chosen, _ in pairs.items], batch_size, seed=seed)
    while len(losses) < max_steps:
        sampler.set_epoch(len(losses) // len(sampler))
        for indices in list(sampler)[: max_steps - len(losses)]:
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - len(losses) / max_steps)
            loss = bradley_terry_loss(*reward_model(pairs.batch(indices)[0]).chunk(2))
            _step(optimizer, loss, reward_model)
            losses.append(loss.item())
    return losses


@torch.no_grad()
def rank_pairs(reward_model: RewardModel, pairs: PreferenceDataset, batch_size: int = 32) -> Rate:
    """Count in how many pairs the chosen answer gets the higher score.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section R.7.
    """
    starts = range(0, len(pairs), batch_size)
    batches = [pairs.batch(range(start, min(start + batch_size, len(pairs))))[0] for start in starts]
    scores = [reward_model(ids).chunk(2) for ids in batches]
    return Rate(sum(int((chosen > rejected).sum()) for chosen, rejected in scores), len(pairs))


def _step(optimizer, loss: Tensor, module: nn.Module) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()


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
    advantages, ahead = torch.zeros_like(surprises), torch.zeros(len(surprises))
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
        policy: the model with its value head, changed in place.
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

    Source: Schulman et al. (2017), algorithm 1; Ouyang et al. (2022), section 3.5. Taught in ch06, section R.8.
    """
    ids, targets, written = rollouts.ids, rollouts.targets, rollouts.written
    with torch.no_grad():
        old, values = _scored(policy, ids, targets)  # (B, T), (B, T)
        left = old - token_log_probabilities(reference, ids, targets)  # (B, T) nats of log-ratio
        last = written & (written.flip(1).cumsum(1).flip(1) == 1)  # (B, T)
        earned = last * rewards[:, None] - kl_weight * left  # (B, T)
        advantages = generalized_advantages(earned, values, written, trace=trace)
    returns = advantages + values  # (B, T)
    n = written.sum()
    centre = advantages[written].mean()
    scaled = (advantages - centre) / (advantages[written].std(correction=0) + 1e-6)  # (B, T)
    for _ in range(updates):
        new, guesses = _scored(policy, ids, targets)
        gain = (clipped_gain(new, old, scaled, clip) * written).sum() / n
        error = ((guesses - returns).square() * written).sum() / n
        _step(optimizer, value_weight * error - gain, policy)
    return ((values - returns).square() * written).sum().item() / n.item()


def _scored(policy: ActorCritic, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    logits, values = policy(ids)  # (B, T, V), (B, T)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return -losses.view_as(targets), values
