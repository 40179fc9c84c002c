"""Answers to chapter 1's exercises."""

import math
from collections import Counter, defaultdict


def average_bits(probabilities: list[float]) -> float:
    return sum(-math.log2(p) for p in probabilities) / len(probabilities)


def count_bigrams(ids: list[int]) -> dict[int, Counter]:
    counts: dict[int, Counter] = defaultdict(Counter)
    for first, second in zip(ids, ids[1:]):
        counts[first][second] += 1
    return dict(counts)


def smooth(counts: list[int], shorter: list[float], s: float) -> list[float]:
    total = sum(counts)
    return [(count + s * p) / (total + s) for count, p in zip(counts, shorter)]


def draw(probabilities: list[float], u: float) -> int:
    reached = 0.0
    for token, p in enumerate(probabilities):
        reached += p
        if u < reached:
            return token
    return max(token for token, p in enumerate(probabilities) if p > 0)  # rounding left the sum just below u


def prefix_mask(n_tokens: int, n_prefix: int) -> list[list[bool]]:
    return [[column < n_prefix or column <= row for column in range(n_tokens)] for row in range(n_tokens)]


def block_parameters(d_model: int, d_ff: int) -> int:
    attention = 4 * (d_model * d_model + d_model)
    feed_forward = (d_model * d_ff + d_ff) + (d_ff * d_model + d_model)
    norms = 2 * (d_model + d_model)
    return attention + feed_forward + norms


def epochs(sources: dict[str, tuple[float, float]], tokens_read: float) -> dict[str, float]:
    return {name: weight * tokens_read / size for name, (size, weight) in sources.items()}


def training_days(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    flops = 6 * n_parameters * n_tokens
    seconds = flops / (n_devices * peak_flops * utilization)
    return seconds / (24 * 60 * 60)


SOLUTIONS = {
    "1.1": (
        average_bits,
        """Surprise is -log2(p), and the average is taken over surprises. Averaging the probabilities first would hide
        the one token that the model thought impossible. With the natural logarithm the same sum is in nats.""",
    ),
    "1.2": (
        count_bigrams,
        """zip(ids, ids[1:]) walks over all neighbors and stops by itself at the last token, which has no successor.
        The first of a pair is the context, the second is what was counted after it.""",
    ),
    "1.3": (
        smooth,
        """s imaginary tokens are added to every context, spread as the shorter context predicts.
        The sum stays 1 because the counts add up to the total and the shorter probabilities to 1.""",
    ),
    "1.4": (
        draw,
        """Lay the probabilities side by side on the line from 0 to 1; u falls into exactly one stretch. The comparison
        is strict, so that a token of probability 0 can never be drawn. This is inverse transform sampling, and it is
        how the GPT of this course draws its tokens, too.""",
    ),
    "1.5": (
        prefix_mask,
        """Row t reads column c if c lies in the prefix or is not in t's future. n_prefix = 0 gives the decoder,
        n_prefix = n_tokens the encoder: the two are the ends of one family (prefix language models, as in T5's
        paper).""",
    ),
    "1.6": (
        block_parameters,
        """With d_ff = 4 D the matrices hold 4 D² + 8 D² = 12 D² numbers; biases and norms add only 13 D. That is why
        12 n_layers D² is a good guess for the size of any large GPT.""",
    ),
    "1.7": (
        epochs,
        """weight * tokens_read tokens are drawn from the source, and one epoch is one reading of its size. With GPT-3's
        sources and 300 billion tokens you get 3.47 for WebText2, where the paper prints 2.9: no weight that is rounded
        to 22 % gives that. For Wikipedia you get 3.0, and the printed 3.4 follows from a weight of 3.4 %.""",
    ),
    "1.8": (
        training_days,
        """Six operations per parameter and token, shared among the devices, each of which sustains only a part of its
        peak. Utilization is the assumption to distrust: 30 to 50 % is good on large clusters.""",
    ),
}
