"""Answers to chapter 6's exercises."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def last_real_vector(hidden: Tensor, ids: Tensor, pad_id: int) -> Tensor:
    last = (ids != pad_id).sum(dim=1) - 1  # (B,)
    return hidden[torch.arange(len(ids)), last]  # (B, D)


def graded_targets(row: Tensor, n_prompt: int) -> tuple[Tensor, Tensor]:
    ids, targets = row[:-1], row[1:].clone()
    targets[: n_prompt - 1] = -100
    return ids, targets


def pad_rows(items: list, pad_id: int) -> tuple[Tensor, Tensor]:
    ids, targets = zip(*items)
    return pad_sequence(list(ids), True, pad_id), pad_sequence(list(targets), True, -100)


def chat_ids(tokenizer, prompt: str, history: list) -> list[int]:
    user, assistant, end = (tokenizer.special_tokens[name] for name in ("<|user|>", "<|assistant|>", "<|endoftext|>"))
    ids = []
    for question, answer in history:
        ids += [user, *tokenizer.encode(question), assistant, *tokenizer.encode(answer), end]
    return [*ids, user, *tokenizer.encode(prompt), assistant]


def precision_recall(confusion: Tensor) -> tuple[Tensor, Tensor]:
    right = confusion.diagonal()
    return right / confusion.sum(dim=0), right / confusion.sum(dim=1)


def interval(n_correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    rate = n_correct / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return center - half, center + half


def lora_output(x: Tensor, weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    rank = a.shape[0]
    return x @ weight.T + alpha / rank * x @ a.T @ b.T


def my_dpo_loss(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float) -> Tensor:
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))  # (B,)
    return -F.logsigmoid(margin).mean()


SOLUTIONS = {
    "6.1": (
        last_real_vector,
        """Counting the real tokens and subtracting one gives the position of the last of them. Position -1 would be
        padding in every short row, and a causal model's vector at a padded position has read padding too.""",
    ),
    "6.2": (
        graded_targets,
        """Targets stand one step to the left of the row. So the target at position n_prompt - 1, where <|assistant|>
        is read, is the first token of the answer and must stay: mask only the n_prompt - 1 positions before it.""",
    ),
    "6.3": (
        pad_rows,
        """ids and targets are filled with different values. The filling of ids must be a token that exists; the
        filling of targets must be -100, or the model is rewarded for predicting padding, which is easy and useless.""",
    ),
    "6.4": (
        chat_ids,
        """The specials are put in as numbers. `encode` reads whatever the user types as ordinary text, so no text can
        open or close a turn. An earlier answer ends with <|endoftext|>, because answers ended so in training.""",
    ),
    "6.5": (
        precision_recall,
        """Recall divides by what there was (rows), precision by what was claimed (columns). A classifier that always
        says yes has perfect recall for yes and poor precision: one of the two alone can be had for nothing.""",
    ),
    "6.6": (
        interval,
        """Wilson's interval asks for which true rates the observed one is no surprise. Unlike p ± 1.96 √(p(1-p)/n) it
        never leaves 0 to 1, and at 20 of 20 it is not empty: it reaches down to about 84 %.""",
    ),
    "6.7": (
        lora_output,
        """A squeezes the input to `rank` numbers, B spreads them out again. Dividing by the rank keeps the size of the
        correction when the rank is changed, so that alpha need not be tuned anew.""",
    ),
    "6.8": (
        my_dpo_loss,
        """The reference's log-probabilities make the comparison fair: a long answer is improbable under every model,
        and only the change counts. logsigmoid is stable where log(sigmoid(x)) underflows to -inf.""",
    ),
}
