"""Answers to the exercises of chapter 6's side room `reasoning`."""

import math


def mean_pass(counts, n, k):
    return sum(1 - math.comb(n - count, k) / math.comb(n, k) for count in counts) / len(counts)


def weighted_vote(answers, trust):
    said = [answer for answer in dict.fromkeys(answers) if answer]
    sums = {answer: sum(t for other, t in zip(answers, trust) if other == answer) for answer in said}
    return max(said, key=lambda answer: sums[answer], default="")


def wasted_share(rewards, lengths):
    wasted = sum(sum(tokens) for group, tokens in zip(rewards, lengths) if len(set(group)) == 1)
    written = sum(map(sum, lengths))
    return wasted / written if written else 0


SOLUTIONS = {
    "6t.1": (
        mean_pass,
        """For each question, `math.comb(n - count, k)` counts the choices of k answers that are all wrong, and it is 0
        where fewer than k are wrong. The mean is taken over questions, not over answers: the formula is not a straight
        line in the count.""",
    ),
    "6t.2": (
        weighted_vote,
        """`dict.fromkeys` keeps each answer once, in the order in which they came, and `max` gives the first of equal
        ones. With a trust of 1 for each answer this is the plain vote; with the largest trust in place of the sum it is
        the best of n.""",
    ),
    "6t.3": (
        wasted_share,
        """A set holds each reward once, so a group that teaches nothing has a set of one member, be it 0, 1 or another
        number. Tokens are counted and not groups, because tokens are what was paid for.""",
    ),
}
