"""Think first: questions of several steps, a scratchpad for each, and rewards that a program can verify.

A problem has a prompt, the lines of a scratchpad and an answer, all words of a small vocabulary. `follow` says which
answer a scratchpad leads to: what a faithful model must say after somebody has edited a line. The training by rewards
is that of chapter 6's GRPO with four changes that became usual in 2025, each of which can be switched off.

References: Nye et al. (2021), "Show your work: scratchpads for intermediate computation with language models"; Chen et
al. (2021), "Evaluating large language models trained on code"; Yu et al. (2025), "DAPO: an open-source LLM
reinforcement learning system at scale".
"""

import copy
import dataclasses
import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS, pad_id_of
from ch02_text_data.batches import pad_batch
from ch02_text_data.text_data import RegexTokenizer
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import around_training, learn, stop_if_pressed, to_device_of, trainable_parameters
from ch06_finetuning.grpo import (
    RewardConfig,
    clipped_gain,
    group_advantages,
    groups_to_ask,
    kl_estimate,
    prompt_batches,
)
from ch06_finetuning.preferences import token_log_probabilities
from ch06_finetuning.rollouts import Reward, rewards_of, write_answers

__all__ = [
    "Problem", "ReasoningConfig", "ReasoningHistory", "ThoughtTokenizer", "answer_of", "clipped_gain_between",
    "edited_line", "follow", "majority", "meeting_problem", "mixed_rows", "pass_at_k", "reward_for", "sum_problem",
    "token_level_loss", "train_reasoning",
]  # fmt: skip

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")
WORDS = (*"0123456789", "+", "=", ";", ".", "?", *NAMES, "has", "it", "meets", "who", "so", "again")


# ---------------------------------------------------------------- problems


class ThoughtTokenizer(RegexTokenizer):
    """Chapter 2's tokenizer of whole words for the words of these problems, with the specials of a chat.

    Source: this course. Taught in ch06, section T.1.
    """

    def __init__(self) -> None:
        super().__init__([*WORDS, *SPECIAL_TOKENS])

    @property
    def special_tokens(self) -> Mapping[str, int]:
        return {token: self.ids[token] for token in SPECIAL_TOKENS}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A question, the lines of its scratchpad, and the answer; words are parted by spaces.

    Source: this course. Taught in ch06, section T.1.
    """

    prompt: str
    steps: tuple[str, ...]
    answer: str

    @property
    def direct(self) -> str:
        """The answer at once."""
        return f"so {self.answer}"

    @property
    def thought(self) -> str:
        """The scratchpad, then the answer."""
        return " ".join((*self.steps, self.direct))

    @property
    def twice(self) -> str:
        """The scratchpad, then the same once more, then the answer."""
        return " ".join((*self.steps, "again", *self.steps, self.direct))


def meeting_problem(
    n_steps: int, draw: random.Random, meeting: str = "{} {} meets {} .", question: str = "who ?"
) -> Problem:
    """Invent who has it after some meetings: two people who meet swap what they hold.

    Args:
        n_steps: meetings, 1 to 9, since each is numbered by one digit.
        draw: where the random choices come from; the same people meet in every wording.
        meeting: how a meeting is told, with a place for its number and for two names.
        question: what is asked at the end.

    Raises:
        ValueError: `n_steps` is outside 1 to 9.

    Source: this course. Taught in ch06, section T.1.
    """
    require_steps(n_steps)
    holder = draw.choice(NAMES)
    told, steps = [f"{holder} has it ."], []
    for number in range(1, n_steps + 1):
        pair = draw.sample(NAMES, 2)
        told.append(meeting.format(number, *pair))
        if holder in pair:
            holder = pair[1 - pair.index(holder)]
        steps.append(f"{number} {holder} ;")
    return Problem(" ".join((*told, question)), tuple(steps), holder)


def sum_problem(n_steps: int, draw: random.Random) -> Problem:
    """Invent a sum of two numbers of so many digits; a line adds two digits and the carry, from the last digit on.

    Args:
        n_steps: digits of each number, 1 to 9.
        draw: where the random choices come from.

    Raises:
        ValueError: `n_steps` is outside 1 to 9.

    Source: Nye et al. (2021), for sums with a scratchpad. Taught in ch06, section T.1.
    """
    require_steps(n_steps)
    a, b = (str(draw.randrange(10 ** (n_steps - 1), 10**n_steps)) for _ in range(2))
    steps, carry = [], 0
    for x, y in zip(a[::-1], b[::-1]):
        total = int(x) + int(y) + carry
        steps.append(f"{x} + {y} + {carry} = {total // 10} {total % 10} ;")
        carry = total // 10
    return Problem(" ".join([*a, "+", *b, "="]), tuple(steps), " ".join(str(int(a) + int(b))))


def require_steps(n_steps: int) -> None:
    """Refuse problems of no step, or of more than one digit can number."""
    if not 1 <= n_steps <= 9:
        raise ValueError(f"n_steps={n_steps}: give a whole number from 1 to 9")


def follow(steps: Sequence[str]) -> str:
    """Say which answer the lines of a scratchpad lead to, right or wrong.

    Args:
        steps: lines of `Problem.steps`, at least one.

    Raises:
        ValueError: there is no line.

    Source: this course. Taught in ch06, section T.1.
    """
    if not steps:
        raise ValueError("found no line of a scratchpad: give at least one")
    lines = [step.split() for step in steps]
    if "=" not in lines[-1]:
        return lines[-1][-2]  # who has it after the last meeting
    digits = [lines[-1][-3], *(line[-2] for line in reversed(lines))]  # the last carry, then the digits
    return " ".join(digits[1:] if digits[0] == "0" else digits)


def edited_line(problem: Problem, number: int, draw: random.Random) -> tuple[str, ...]:
    """Copy the first lines of a scratchpad, with another result in the last of them.

    Args:
        problem: whose scratchpad it is.
        number: the line to edit, from 0; lines behind it are left out.
        draw: chooses the wrong digit or name.

    Raises:
        ValueError: there is no such line.

    Source: Lanham et al. (2023). Taught in ch06, section T.9.
    """
    if not 0 <= number < len(problem.steps):
        raise ValueError(f"number={number}: the scratchpad has the lines 0 to {len(problem.steps) - 1}")
    *before, result, end = problem.steps[number].split()
    others = [word for word in (NAMES if result in NAMES else "0123456789") if word != result]
    return (*problem.steps[:number], " ".join([*before, draw.choice(others), end]))


# ---------------------------------------------------------------- judging


def answer_of(text: str) -> str:
    """Take the answer out of what a model wrote: the words behind its last "so"; empty where it never says so.

    Source: this course. Taught in ch06, section T.1.
    """
    _, said, answer = f" {text} ".rpartition(" so ")
    return " ".join(answer.split()) if said else ""


def reward_for(problems: Sequence[Problem]) -> Reward:
    """Return a judge for these problems: 1 for the right answer, however it was found, and 0 for any other.

    Source: DeepSeek-AI (2025), for rewards by rule. Taught in ch06, section T.5.
    """
    answers = {problem.prompt: problem.answer for problem in problems}
    return lambda prompt, text: float(answer_of(text) == answers[prompt])


def pass_at_k(n: int, n_right: int, k: int) -> float:
    """Return the chance that at least one of k answers is right, estimated from n answers.

    Args:
        n: answers that were drawn.
        n_right: how many of them are right.
        k: answers that one may give, 1 to n.

    Raises:
        ValueError: the numbers do not fit together.

    Source: Chen et al. (2021). Taught in ch06, section T.4.
    """
    if not (0 <= n_right <= n and 1 <= k <= n):
        raise ValueError(f"n={n}, n_right={n_right}, k={k}: give 0 to n right ones and k from 1 to n")
    return 1 - math.comb(n - n_right, k) / math.comb(n, k)


def majority(answers: Sequence[str]) -> str:
    """Return the most frequent answer; among equally frequent ones, the one that came first.

    Raises:
        ValueError: there is no answer.

    Source: Wang et al. (2022). Taught in ch06, section T.4.
    """
    if not answers:
        raise ValueError("found no answer to vote for: give at least one")
    return Counter(answers).most_common(1)[0][0]


# ---------------------------------------------------------------- learning from verified answers


@dataclasses.dataclass(frozen=True)
class ReasoningConfig(RewardConfig):
    """Settings of `train_reasoning`: those of `RewardConfig`, and four things that can be switched off.

    `kl_weight` 0 lets the model go; `token_level` gives each token the same weight; `clip_high` above `clip` lets rare
    tokens grow; `dynamic` asks again in place of groups that are all right or all wrong, at most `most_draws` times.
    Nothing is replayed here, so `replay_weight` stays 0.

    Raises:
        ValueError: a number outside its range.

    Source: Yu et al. (2025). Taught in ch06, section T.5.
    """

    kl_weight: float = 0.0
    replay_weight: float = 0.0
    clip_high: float = 0.28
    token_level: bool = True
    dynamic: bool = True
    most_draws: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("clip_high", self.clip), ("most_draws", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}: expected {least} or more")
        if self.replay_weight:
            raise ValueError(f"replay_weight={self.replay_weight}: train_reasoning replays nothing; leave it at 0")


@dataclasses.dataclass
class ReasoningHistory:
    """What `train_reasoning` saw, one entry a step.

    Source: this course. Taught in ch06, section T.5.
    """

    rewards: list[float] = dataclasses.field(default_factory=list)  # mean over all answers that were written
    lengths: list[float] = dataclasses.field(default_factory=list)  # tokens an answer
    mixed: list[float] = dataclasses.field(default_factory=list)  # share of groups with right and wrong answers
    clipped: list[float] = dataclasses.field(default_factory=list)  # share of tokens that the clipping holds
    divergences: list[float] = dataclasses.field(default_factory=list)  # nats per token from the start
    n_answers: int = 0  # written in all
    n_tokens: int = 0  # the tokens of all these answers


def clipped_gain_between(new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """Give what each token gains by its new probability, as `clipped_gain`, with a bound of its own on each side.

    A token of a good answer is held where its ratio rises, one of a bad answer where it falls.

    Args:
        new: log-probabilities under the model that learns.
        old: the same under the model that wrote the answers.
        advantages: how much better than expected each token was.
        low: how far the ratio may pay below 1.
        high: how far it may pay above 1.

    Shape:
        three times (B, T), or what broadcasts to it -> (B, T).

    Source: Yu et al. (2025). Taught in ch06, section T.5.
    """
    held_above, held_below = (clipped_gain(new, old, advantages, clip) for clip in (high, low))  # (B, T) each
    return torch.where(advantages > 0, held_above, held_below)


def token_level_loss(gain: Tensor, written: Tensor, *, token_level: bool = True) -> Tensor:
    """Return minus the mean gain: over all written tokens, or first over each answer and then over answers.

    Args:
        gain: of each token.
        written: True where the model wrote the token.
        token_level: False takes the mean of each answer first, as `grpo_loss` does.

    Shape:
        gain (B, T), written (B, T) -> ().

    Source: Yu et al. (2025). Taught in ch06, section T.5.
    """
    totals, lengths = (gain * written).sum(dim=1), written.sum(dim=1)  # (B,) each
    return -(totals.sum() / lengths.sum() if token_level else (totals / lengths).mean())


def mixed_rows(rewards: Tensor) -> Tensor:
    """Mark the answers of those groups in which not all have the same reward.

    Shape:
        rewards (P, G) -> (P, G), True for whole groups.

    Source: Yu et al. (2025). Taught in ch06, section T.5.
    """
    return (rewards != rewards[:, :1]).any(dim=1, keepdim=True).expand_as(rewards)


def train_reasoning(
    model: GPTModel, tokenizer: ThoughtTokenizer, prompts: Sequence[str], reward: Reward, config: ReasoningConfig
) -> ReasoningHistory:  # fmt: skip
    """Make answers that a program found right more probable, by GRPO as practiced since 2025.

    Args:
        model: a GPTModel that is right sometimes, changed in place.
        tokenizer: the one it was trained with.
        prompts: what to ask; those of one draw have the same number of tokens.
        reward: maps (prompt, answer) to a number.
        config: steps, learning rate, and what is switched off.

    Raises:
        ValueError: as `train_grpo`.
        TrainingInterrupted: Ctrl-C, after a whole step; its `history` holds what happened.

    Source: Yu et al. (2025). Taught in ch06, section T.5.
    """
    history, optimizer = ReasoningHistory(), torch.optim.Adam(trainable_parameters(model), config.learning_rate)
    reference = copy.deepcopy(model).eval().requires_grad_(False)
    groups = groups_to_ask(model, tokenizer, prompts, config)
    draws = prompt_batches(groups, dataclasses.replace(config, max_steps=config.max_steps * config.most_draws))
    with around_training(model, dropout=False) as ctrl_c:
        for step in range(config.max_steps):
            stop_if_pressed(ctrl_c, f"step {step} of {config.max_steps}", history)
            items, advantages = answers_to_learn(model, tokenizer, draws, reward, config, step, history)
            ids, targets = to_device_of(model, *pad_batch(items, pad_id_of(tokenizer)))  # (B, T) each
            written = targets >= 0  # (B, T)
            with torch.no_grad():
                before = token_log_probabilities(reference, ids, targets)  # (B, T)
            for update in range(config.updates):
                new = token_log_probabilities(model, ids, targets)  # (B, T)
                if update == 0:
                    old = new.detach()  # (B, T), under the model that wrote the answers
                gain = clipped_gain_between(new, old, advantages[:, None], config.clip, config.clip_high)  # (B, T)
                gain = gain - config.kl_weight * kl_estimate(new, before) if config.kl_weight else gain
                learn(model, optimizer, token_level_loss(gain, written, token_level=config.token_level), step)
            ratio = (new.detach() - old).exp()  # (B, T)
            held = torch.where(advantages[:, None] > 0, ratio > 1 + config.clip_high, ratio < 1 - config.clip)
            history.clipped.append(held[written].double().mean().item())
            history.divergences.append(kl_estimate(old, before)[written].mean().item())
    return history


def answers_to_learn(
    model: GPTModel, tokenizer: ThoughtTokenizer, draws: Iterator[list[str]], reward: Reward, config: ReasoningConfig,
    step: int, history: ReasoningHistory,
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:  # fmt: skip
    """Let the model write groups of answers and keep what can teach: -> rows (ids, targets), advantages (B,).

    Without `dynamic` everything is kept. With it, prompts are drawn until `prompts_per_step` groups are mixed; where
    none is, the last ones are kept, with advantages of 0.

    Source: Yu et al. (2025). Taught in ch06, section T.5.
    """
    items: list[tuple[Tensor, Tensor]] = []
    kept, seen, shares, lengths = [], [], [], []
    for draw in range(config.most_draws if config.dynamic else 1):
        rollouts = write_answers(
            model, tokenizer, next(draws), config.group_size, max_new_tokens=config.max_new_tokens,
            seed=config.seed_of(step * config.most_draws + draw),
        )  # fmt: skip
        rewards = rewards_of(reward, rollouts).view(-1, config.group_size)  # (P, G)
        mixed = mixed_rows(rewards)  # (P, G)
        nothing = draw + 1 == config.most_draws and not items and not mixed.any()  # learn from advantages of 0
        teaches = mixed.flatten() if config.dynamic and not nothing else torch.ones_like(mixed).flatten()
        items += [(rollouts.ids[row], rollouts.targets[row]) for row in teaches.nonzero().flatten().tolist()]
        kept.append(group_advantages(rewards).flatten()[teaches])
        seen.append(rewards.mean().item())
        shares.append(mixed.double().mean().item())
        lengths.append(rollouts.written.sum(dim=1).double().mean().item())
        history.n_answers += len(rollouts.texts)
        history.n_tokens += int(rollouts.written.sum())
        if len(items) >= config.prompts_per_step * config.group_size:
            break
    for values, entry in ((history.rewards, seen), (history.mixed, shares), (history.lengths, lengths)):
        values.append(sum(entry) / len(entry))
    return items, torch.cat(kept)
