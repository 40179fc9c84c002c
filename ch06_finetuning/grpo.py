"""GRPO: what was judged well becomes more probable, compared with other answers to the same prompt.

Nothing is imitated here. For each prompt the model writes a group of answers; an answer that scored better than the
others of its group gets a positive advantage, a worse one a negative one, and every token of it shares in that. Two
brakes keep the steps small: the ratio to the model that wrote the answers is clipped, and a penalty holds the model to
the reference it started as.

References: Shao et al. (2024), "DeepSeekMath"; Schulman et al. (2017), "Proximal Policy Optimization Algorithms";
Williams (1992), "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral

import torch
from torch import Tensor, nn

from ch02_text_data.any_tokenizer import Tokenizer
from ch02_text_data.batches import IGNORE_INDEX
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import (
    around_training,
    context_length_of,
    learn,
    require_room,
    stop_if_pressed,
    to_device_of,
    trainable_parameters,
)
from ch06_finetuning.preferences import token_log_probabilities
from ch06_finetuning.rollouts import Reward, Rollouts, by_length, distinct_share, rewards_of, write_answers

__all__ = [
    "RewardConfig",
    "RewardHistory",
    "clipped_gain",
    "group_advantages",
    "grpo_loss",
    "kl_estimate",
    "train_grpo",
]


def group_advantages(rewards: Tensor) -> Tensor:
    """Compare each answer with the others of its group: minus the mean, divided by the standard deviation.

    A group in which all answers scored the same teaches nothing: its advantages are 0.

    Shape:
        rewards (P, G) -> (P, G).

    Raises:
        ValueError: there are no groups of at least two answers.

    Source: Shao et al. (2024), section 4.1.2. Taught in ch06, section R.4.
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(f"rewards have shape {tuple(rewards.shape)}; give (prompts, answers to each), at least two")
    above = rewards - rewards.mean(dim=1, keepdim=True)  # (P, G)
    spread = above.square().mean(dim=1, keepdim=True).sqrt()  # (P, 1)
    return torch.where(spread > 1e-6, above / spread.clamp(min=1e-6), 0.0)


def clipped_gain(new: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2) -> Tensor:
    """Give what each token gains by its new probability, with no more to gain once it has moved far enough.

    Args:
        new: log-probabilities under the model that learns.
        old: the same under the model that wrote the answers.
        advantages: how much better than expected each token was.
        clip: how far the ratio of the probabilities may pay, in (0, 1).

    Shape:
        three times (B, T), or what broadcasts to it -> (B, T).

    Source: Schulman et al. (2017), equation 7. Taught in ch06, section R.4.
    """
    ratio = (new - old).exp()  # (B, T)
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def kl_estimate(policy: Tensor, reference: Tensor) -> Tensor:
    """Estimate how far the policy has gone from the reference at each token it has drawn: never below 0.

    Its mean over the policy's own draws is the Kullback-Leibler divergence, in nats.

    Shape:
        two log-probabilities (B, T) -> (B, T).

    Source: Schulman (2020), "Approximating KL divergence", third estimator. Taught in ch06, section R.5.
    """
    gap = reference - policy  # (B, T)
    return gap.exp() - gap - 1


def grpo_loss(
    new: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, written: Tensor, *, clip: float = 0.2,
    kl_weight: float = 0.05,
) -> Tensor:  # fmt: skip
    """Return the loss of a batch of answers: minus the clipped gain, plus the price of leaving the reference.

    Args:
        new: log-probabilities of the written tokens under the model that learns.
        old: the same under the model that wrote them.
        reference: the same under the reference.
        advantages: one number for each answer.
        written: True where the model wrote the token.
        clip: see `clipped_gain`.
        kl_weight: price of one nat of divergence, at least 0.

    Shape:
        new, old, reference, written (B, T), advantages (B,) -> ().

    Source: Shao et al. (2024), equation 3. Taught in ch06, section R.5.
    """
    gain = clipped_gain(new, old, advantages[:, None], clip) - kl_weight * kl_estimate(new, reference)  # (B, T)
    return -((gain * written).sum(dim=1) / written.sum(dim=1)).mean()


@dataclass(frozen=True)
class RewardConfig:
    """Settings of `train_grpo`.

    `updates` is how often one batch of answers is learned from before new ones are written; from the second time on
    the ratio differs from 1, and the clipping begins to matter. An answer that reaches `max_new_tokens` is cut off.

    Raises:
        ValueError: a number outside its range.

    Source: Shao et al. (2024), algorithm 1. Taught in ch06, section R.5.
    """

    max_steps: int = 40
    prompts_per_step: int = 4
    group_size: int = 8
    max_new_tokens: int = 100
    learning_rate: float = 5e-4
    updates: int = 2
    clip: float = 0.2
    kl_weight: float = 0.05
    replay_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"max_steps": 1, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 1, "updates": 1}
        for name, number in (least | {"kl_weight": 0, "replay_weight": 0}).items():
            self._require(number <= getattr(self, name) < math.inf, name, f"{number} or more")
        self._require(0 < self.learning_rate < math.inf, "learning_rate", "above 0 and finite")
        self._require(0 < self.clip < 1, "clip", "between 0 and 1")
        self._require(isinstance(self.seed, Integral), "seed", "a whole number")

    def seed_of(self, step: int) -> int:
        """Give the seed with which the answers of a step are drawn."""
        return (self.seed * 1_000_003 + step) % 2**64

    def _require(self, holds: bool, name: str, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r}: expected {expected}; change it in RewardConfig")


@dataclass
class RewardHistory:
    """What `train_grpo` saw, one entry a step: mean reward, divergence, clipped share, variety, length, cut answers.

    `n_left_out` prompts were never asked, because too few others have their number of tokens.

    Source: this course. Taught in ch06, section R.5.
    """

    rewards: list[float] = field(default_factory=list)
    divergences: list[float] = field(default_factory=list)  # nats per token from the reference
    clipped: list[float] = field(default_factory=list)  # share of tokens whose ratio left 1 - clip … 1 + clip
    distinct: list[float] = field(default_factory=list)  # `distinct_share` of the step's answers
    lengths: list[float] = field(default_factory=list)  # tokens an answer
    truncated: list[float] = field(default_factory=list)  # share of answers that `max_new_tokens` cut off
    n_left_out: int = 0

    def note(
        self, rollouts: Rollouts, rewards: Tensor, new: Tensor, old: Tensor, reference: Tensor, clip: float
    ) -> None:
        """Take down what happened in a step: the answers, their rewards, and three log-probabilities of each token."""
        written = rollouts.written  # (B, T)
        far = ((new - old).exp() - 1).abs() > clip  # (B, T)
        several = any(len(text.split()) > 1 for text in rollouts.texts)
        self.rewards.append(rewards.mean().item())
        self.divergences.append(kl_estimate(old, reference)[written].mean().item())
        self.clipped.append(far[written].float().mean().item())
        self.distinct.append(distinct_share(rollouts.texts) if several else 0.0)
        self.lengths.append(written.sum(dim=1).float().mean().item())
        self.truncated.append(rollouts.n_truncated / len(rollouts.texts))


def train_grpo(
    model: GPTModel, tokenizer: Tokenizer, prompts: Sequence[str], reward: Reward, config: RewardConfig | None = None,
    *, replay: Iterable = (), on_step: Callable[[int, RewardHistory], None] | None = None,
) -> RewardHistory:  # fmt: skip
    """Make answers with a high reward more probable; the reference is the model as it comes in.

    Args:
        model: a fine-tuned GPTModel, changed in place; frozen weights stay, so LoRA works. Its modes are given back.
        tokenizer: the one it was trained with.
        prompts: what to ask; those of one step have the same number of tokens.
        reward: maps (prompt, answer) to a number, the higher the better.
        config: None means the standard settings.
        replay: batches (ids, targets) of earlier work, over and over; one joins every update, so that it is not lost.
        on_step: called with (step, history) after every step.

    Raises:
        ValueError: no `prompts_per_step` prompts have the same length, prompt and `max_new_tokens` do not fit the
            context together, everything is frozen, or a reward, a loss or a gradient is not finite.
        TrainingInterrupted: Ctrl-C, after a whole step; its `history` holds what happened.

    Source: Shao et al. (2024), algorithm 1. Taught in ch06, section R.5.
    """
    config = config or RewardConfig()
    groups = groups_to_ask(model, tokenizer, prompts, config)
    history = RewardHistory(n_left_out=len(prompts) - sum(map(len, groups)))
    optimizer = torch.optim.AdamW(trainable_parameters(model), config.learning_rate)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    earlier, n_new = itertools.cycle(replay), config.max_new_tokens
    with around_training(model, dropout=False) as ctrl_c:
        for step, asked in enumerate(prompt_batches(groups, config)):
            stop_if_pressed(ctrl_c, f"step {step} of {config.max_steps}", history)
            seed = config.seed_of(step)
            rollouts = write_answers(model, tokenizer, asked, config.group_size, max_new_tokens=n_new, seed=seed)
            (rewards,) = to_device_of(model, rewards_of(reward, rollouts))  # (B,)
            advantages = group_advantages(rewards.view(-1, config.group_size)).flatten()  # (B,)
            ids, targets, written = rollouts.ids, rollouts.targets, rollouts.written  # (B, T) each
            with torch.no_grad():
                before = token_log_probabilities(reference, ids, targets)  # (B, T)
            for update in range(config.updates):
                new = token_log_probabilities(model, ids, targets)  # (B, T)
                if update == 0:
                    old = new.detach()  # (B, T), under the model that wrote the answers
                loss = grpo_loss(new, old, before, advantages, written, clip=config.clip, kl_weight=config.kl_weight)
                for batch in itertools.islice(earlier, 1):
                    loss = loss + config.replay_weight * replay_loss(model, *batch)
                learn(model, optimizer, loss, step)
            history.note(rollouts, rewards, new.detach(), old, before, config.clip)
            if on_step is not None:
                ctrl_c.call(on_step, step + 1, history)
    return history


def replay_loss(model: GPTModel, ids: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of a batch of earlier work, in nats per graded token.

    Args:
        model: the policy.
        ids: the batch.
        targets: -100 where nothing is graded.

    Shape:
        ids (B, T), targets (B, T) -> ().

    Raises:
        ValueError: the rows are longer than the context, or nothing is graded.

    Source: Ouyang et al. (2022), equation 2. Taught in ch06, section R.5.
    """
    require_room(ids.shape[1], context_length_of(model), "make the batches of `replay` with a smaller max_length")
    ids, targets = to_device_of(model, ids, targets)
    n_graded = (targets != IGNORE_INDEX).sum()
    if not n_graded:
        raise ValueError(f"a batch of `replay` has no target other than {IGNORE_INDEX}: give it a token to predict")
    return -token_log_probabilities(model, ids, targets).sum() / n_graded


def groups_to_ask(
    model: nn.Module, tokenizer: Tokenizer, prompts: Sequence[str], config: RewardConfig
) -> list[list[str]]:
    """Sort the prompts by their number of tokens, leaving out what no step can ask.

    Raises:
        ValueError: no step's prompts have the same length, or prompt and answer do not fit the context together.

    Source: this course. Taught in ch06, section R.5.
    """
    groups = {n: group for n, group in by_length(tokenizer, prompts).items() if len(group) >= config.prompts_per_step}
    if not groups:
        raise ValueError(
            f"no {config.prompts_per_step} of {len(prompts)} prompts have the same number of tokens; "
            "give more prompts or lower prompts_per_step"
        )
    remedy = f"with max_new_tokens={config.max_new_tokens} an answer may be too long; lower it or shorten the prompts"
    require_room(max(groups) + config.max_new_tokens - 1, context_length_of(model), remedy)  # the last is not read
    return list(groups.values())


def prompt_batches(groups: list[list[str]], config: RewardConfig) -> Iterator[list[str]]:
    """Draw the prompts of each step: of one length, lengths as frequent as among all prompts.

    Source: this course. Taught in ch06, section R.5.
    """
    generator = torch.Generator().manual_seed(config.seed % 2**64)
    sizes = torch.tensor([len(group) for group in groups]).cumsum(dim=0)
    for _ in range(config.max_steps):
        place = torch.randint(int(sizes[-1]), (), generator=generator)
        group = groups[int(torch.searchsorted(sizes, place, right=True))]
        yield [group[k] for k in torch.randperm(len(group), generator=generator)[: config.prompts_per_step]]
