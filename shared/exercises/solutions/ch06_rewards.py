"""Answers to the exercises of chapter 6's side room `rewards`."""

import torch


def above_the_others(rewards):
    n = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (n - 1)  # (P, G)
    return rewards - others


def two_means(gain, written):
    kept = gain * written  # (B, T)
    by_answers = (kept.sum(dim=1) / written.sum(dim=1)).mean()
    return by_answers, kept.sum() / written.sum()


def earned_by_token(rewards, policy, reference, written, kl_weight):
    left_to_write = written.flip(1).cumsum(1).flip(1)  # (B, T), 1 at the last token of an answer
    last = written & (left_to_write == 1)  # (B, T)
    price = kl_weight * (policy - reference)  # (B, T)
    return torch.where(written, last * rewards[:, None] - price, 0.0)


SOLUTIONS = {
    "6r.1": (
        above_the_others,
        """A baseline must not depend on the answer that it is subtracted from; the mean of the others does not. It
        gives the group's own mean again, only larger: all numbers are G / (G - 1) times reward minus group mean.""",
    ),
    "6r.2": (
        two_means,
        """By answers, each of the four tokens of the bad long answer weighs 1/8 and each token of the good short one
        1/4; by tokens, all six weigh 1/6. So by answers a token of a long bad answer is punished less.""",
    ),
    "6r.3": (
        earned_by_token,
        """The reward comes once, at the end, because only a whole answer can be judged. The price of divergence is
        known at each token, so it is paid there. One token may earn by it, where the reference liked it more; the mean
        over the policy's own draws is minus the divergence.""",
    ),
}
