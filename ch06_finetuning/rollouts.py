"""Rollouts: a model writes answers, and a judge gives each a number.

This is the half of reinforcement learning in which nothing is learned yet. What has been written is kept as text, for
the judge, and as rows of ids with targets, for the loss.

References: Shao et al. (2024), "DeepSeekMath"; Li et al. (2016), "A diversity-promoting objective function for neural
conversation models".
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ch02_text_data.any_tokenizer import Tokenizer
from ch02_text_data.batches import IGNORE_INDEX
from ch04_gpt_model.generation import generate
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import to_device_of
from ch06_finetuning.instructions import chat_specials, prompt_ids

__all__ = ["Rollouts", "Score", "distinct_share", "judge", "same_length", "write_answers"]


Reward = Callable[[str, str], float]  # (prompt, answer) -> how good the answer is


@dataclass(frozen=True)
class Rollouts:
    """Answers that a model has written, as text and as rows to learn from.

    `ids` (B, T) holds prompt and answer, `targets` (B, T) the same one token later, with -100 wherever the token was
    not written by the model: in the prompt and after the answer's end. `n_truncated` answers came to no end, because
    they had reached `max_new_tokens`.

    Source: this course. Taught in ch06, section R.2.
    """

    prompts: list[str]
    texts: list[str]
    ids: Tensor
    targets: Tensor
    n_truncated: int = 0

    @property
    def written(self) -> Tensor:
        return self.targets != IGNORE_INDEX  # (B, T)


def write_answers(
    model: GPTModel, tokenizer: Tokenizer, prompts: Sequence[str], group_size: int = 1, *, max_new_tokens: int = 100,
    temperature: float = 1.0, seed: int = 0,
) -> Rollouts:  # fmt: skip
    """Let a model answer each prompt several times, all in one batch through the key-value cache.

    Args:
        model: a GPTModel that knows the chat specials.
        tokenizer: the one it was trained with.
        prompts: P prompts of the same number of tokens, see `same_length`.
        group_size: answers to each prompt, at least 1.
        max_new_tokens: where an answer is cut off, at least 1.
        temperature: 1 draws from the model as it is, which the gradient of section R.3 asks for.
        seed: the same seed draws the same answers.

    Shape:
        P prompts -> P x group_size rows, the answers to one prompt one after another.

    Raises:
        ValueError: the prompts have different lengths, one is empty, there is none, or a number is out of its range.

    Source: Shao et al. (2024), section 4.1. Taught in ch06, section R.2.
    """
    for name, number in (("group_size", group_size), ("max_new_tokens", max_new_tokens)):
        if number < 1:
            raise ValueError(f"{name}={number} is below 1: nothing would be written")
    asked = _prompt_rows(tokenizer, prompts)
    lengths = sorted({len(row) for row in asked})
    if len(lengths) != 1:
        raise ValueError(f"the prompts take {lengths} tokens: one batch needs prompts of one length, see same_length")
    (ids,) = to_device_of(model, torch.tensor(asked).repeat_interleave(group_size, dim=0))  # (B, prompt)
    end_id = chat_specials(tokenizer)[2]
    rows = generate(model, ids, max_new_tokens, temperature=temperature, stop_id=end_id, seed=seed)  # (B, T + 1)
    answers = rows[:, lengths[0] :]
    texts = [tokenizer.decode(_before(answer, end_id)) for answer in answers.tolist()]
    repeated = [prompt for prompt in prompts for _ in range(group_size)]
    n_truncated = int((answers != end_id).all(dim=1).sum())
    return Rollouts(repeated, texts, rows[:, :-1], _targets(rows, lengths[0], end_id), n_truncated)


def _prompt_rows(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    if isinstance(prompts, str):
        raise ValueError(f"prompts is one text, {prompts[:60]!r}: give a list of prompts")
    if not prompts:
        raise ValueError("there is no prompt: give at least one")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompt {number} is {prompt!r}: give a question or a request, or leave it out")
    return [prompt_ids(tokenizer, prompt) for prompt in prompts]


def _before(answer: list[int], end_id: int) -> list[int]:
    return answer[: answer.index(end_id)] if end_id in answer else answer


def _targets(rows: Tensor, n_prompt: int, end_id: int) -> Tensor:
    targets = rows[:, 1:].clone()  # (B, T)
    targets[:, : n_prompt - 1] = IGNORE_INDEX
    ends = targets == end_id
    return targets.masked_fill(ends.cumsum(dim=1) - ends.long() > 0, IGNORE_INDEX)  # the first end is written, too


def same_length(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[str]:
    """Keep those prompts that have the most frequent number of tokens, so that one batch can hold them.

    Raises:
        ValueError: there is no prompt, or one is empty.

    Source: this course. Taught in ch06, section R.1.
    """
    groups = by_length(tokenizer, prompts)
    return max(groups.values(), key=len)


def by_length(tokenizer: Tokenizer, prompts: Sequence[str]) -> dict[int, list[str]]:
    """Sort prompts by the number of their tokens.

    Raises:
        ValueError: there is no prompt, or one is empty.

    Source: this course.
    """
    groups = defaultdict(list)
    for prompt, row in zip(prompts, _prompt_rows(tokenizer, prompts)):
        groups[len(row)].append(prompt)
    return groups


@dataclass(frozen=True)
class Score:
    """The rewards of many answers, with their mean and its 95 % interval; `n_truncated` answers came to no end.

    Source: this course. Taught in ch06, section R.1.
    """

    prompts: list[str]
    texts: list[str]
    rewards: Tensor  # (N,)
    n_truncated: int = 0

    @property
    def value(self) -> float:
        return self.rewards.mean().item()

    @property
    def interval(self) -> tuple[float, float]:
        half = 1.96 * self.rewards.std().item() / math.sqrt(len(self.rewards))
        return self.value - half, self.value + half

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:5.2f}  [{low:.2f}, {high:.2f}]  n={len(self.rewards)}"


def judge(
    model: GPTModel, tokenizer: Tokenizer, prompts: Sequence[str], reward: Reward, *, max_new_tokens: int = 100,
    temperature: float = 1.0, seed: int = 0,
) -> Score:  # fmt: skip
    """Let a model answer each prompt once and judge the answers.

    Args:
        model: the policy.
        tokenizer: the one it was trained with.
        prompts: prompts of one length, at least two, best of a split that no training has seen.
        reward: maps (prompt, answer) to a number.
        max_new_tokens: see `write_answers`.
        temperature: see `write_answers`.
        seed: see `write_answers`.

    Raises:
        ValueError: the prompts have different lengths, or there are fewer than two.

    Source: this course. Taught in ch06, section R.1.
    """
    if len(prompts) < 2:
        raise ValueError(f"{len(prompts)} prompts give no interval: judge at least two")
    rollouts = write_answers(
        model, tokenizer, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    return Score(rollouts.prompts, rollouts.texts, rewards_of(reward, rollouts), rollouts.n_truncated)


def rewards_of(reward: Reward, rollouts: Rollouts) -> Tensor:
    """Judge every answer of some rollouts: -> rewards (B,).

    Raises:
        ValueError: a reward is no finite number; shows the answer.

    Source: this course. Taught in ch06, section R.5.
    """
    given = [reward(*pair) for pair in zip(rollouts.prompts, rollouts.texts)]
    for text, number in zip(rollouts.texts, given):
        try:
            good = math.isfinite(number)
        except TypeError:  # None, a text
            good = False
        if not good:
            raise ValueError(f"the reward of {text[:60]!r} is {number!r}; it must be a finite number")
    return torch.tensor([float(number) for number in given])  # (B,)


def distinct_share(texts: Sequence[str], n: int = 2) -> float:
    """Tell how varied some texts are: the share of different ones among all their runs of `n` words.

    Args:
        texts: texts of comparable number and length, for more words repeat themselves more.
        n: words in a run, at least 1.

    Raises:
        ValueError: no text has `n` words.

    Source: Li et al. (2016), "A diversity-promoting objective function", section 5. Taught in ch06, section R.5.
    """
    words = [text.split() for text in texts]
    runs = [tuple(row[k : k + n]) for row in words for k in range(len(row) - n + 1)]
    if n < 1 or not runs:
        raise ValueError(f"found no run of n={n} words in {len(texts)} texts; give longer texts or a smaller n >= 1")
    return len(set(runs)) / len(runs)
