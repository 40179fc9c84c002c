"""Chapter 1: a language model made of counts, and the arithmetic of large ones.

`NgramModel` predicts the next token from how often it followed the few tokens before it.
The functions recompute what papers report: parameters, floating-point operations, epochs, money.
Left out on purpose: everything that learns by gradient descent. That begins in chapter 3.

Primary references: Shannon (1951); MacKay and Peto (1995); Radford et al. (2019); Brown et al. (2020).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

_WORD = re.compile(r"\s*(?:\w+(?:['’]\w+)*|[^\w\s])|\s+")
_HOURS_PER_YEAR = 365.25 * 24


def split_words(text: str) -> list[str]:
    """Cut a text into words and punctuation marks, each with the white space before it.

    Nothing is lost: joining the pieces gives the text back.

    Source: this course. Taught in ch01, section 1.2; chapter 2 replaces it by a trained tokenizer.
    """
    return _WORD.findall(text)


def bits_per_byte(nats_per_token: float, n_tokens: int, n_bytes: int) -> float:
    """Turn a loss into a unit that does not depend on how the text was cut into tokens.

    Args:
        nats_per_token: mean loss over the text, in nats.
        n_tokens: number of tokens the mean was taken over.
        n_bytes: length of the same text in UTF-8 bytes, at least 1.

    Raises:
        ValueError: `n_tokens` is negative or `n_bytes` is not positive.

    Source: this course. Taught in ch01, section 1.4.
    """
    if n_tokens < 0 or n_bytes < 1:
        raise ValueError(f"found n_tokens={n_tokens} and n_bytes={n_bytes}; give the counts of one non-empty text")
    return nats_per_token * n_tokens / (math.log(2) * n_bytes)


def count_followers(tokens: Sequence, order: int) -> dict[tuple, Counter]:
    """Count what followed every context of no token, of one token, and so on up to `order - 1` tokens.

    Args:
        tokens: one flat sequence of ids or words.
        order: tokens in the longest n-gram, which is a context and the token after it.

    Returns:
        context -> how often each token came right after it. Contexts that nothing followed are left out.

    Source: Shannon (1948), section 3. Taught in ch01, section 1.3.
    """
    followers: dict[tuple, Counter] = defaultdict(Counter)
    for length in range(order):
        for end in range(length, len(tokens)):
            followers[tuple(tokens[end - length : end])][tokens[end]] += 1
    return dict(followers)  # a plain dictionary, to which no question adds a context


class NgramModel:
    """Predict the next token by counting what followed the last `order - 1` tokens.

    Each order adds `smoothing` imaginary tokens, spread as the next shorter context predicts:
    p(token) = (count + smoothing * p_shorter(token)) / (total + smoothing).
    `FastNgramModel` gives the same probabilities and is made for millions of tokens.

    Args:
        order: tokens in one n-gram: 1 unigram, 2 bigram, 3 trigram.
        vocab_size: number of different ids, at least 1.
        smoothing: imaginary tokens per context, 0 or more; 0 trusts the counts alone.

    Raises:
        ValueError: an argument is out of range.

    Source: Shannon (1951); MacKay and Peto (1995), a hierarchical Dirichlet language model.
        Taught in ch01, sections 1.3 and 1.4.
    """

    def __init__(self, order: int, vocab_size: int, smoothing: float = 4.0):
        if order < 1 or vocab_size < 1:
            raise ValueError(f"found order={order} and vocab_size={vocab_size}; both must be 1 or more")
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"found smoothing={smoothing}; give a finite number, 0 or more")
        self.order, self.vocab_size, self.smoothing = order, vocab_size, smoothing
        self.counts: dict = {}  # context -> how often each id followed it

    def fit(self, ids: Iterable[int]) -> "NgramModel":
        """Count every n-gram up to `order` in one flat sequence of ids; a second call starts anew."""
        self.counts = count_followers(self.require_ids(ids, at_least=self.order).tolist(), self.order)
        self.totals = {context: followers.total() for context, followers in self.counts.items()}
        return self

    def next_probabilities(self, context: Sequence[int]) -> np.ndarray:
        """Give the probability of every id after `context`, of which the last `order - 1` ids are read.

        Shape:
            any length -> (V,). Sums to 1.
        """
        return np.array(self._smoothed(self.require_ids(context).tolist(), range(self.vocab_size)))

    def token_probabilities(self, ids: Iterable[int]) -> np.ndarray:
        """Give the probability that the model gave to each id of a text before seeing it.

        Shape:
            (T,) -> (T,). The first ids have shorter contexts.
        """
        text = self.require_ids(ids).tolist()
        contexts = (text[max(0, t - self.order + 1) : t] for t in range(len(text)))
        return np.array([self._smoothed(context, [token])[0] for context, token in zip(contexts, text)])

    def loss(self, ids: Iterable[int]) -> float:
        """Average surprise in nats per token; infinite where an id had probability 0."""
        probabilities = self.token_probabilities(self.require_ids(ids, at_least=1))
        with np.errstate(divide="ignore"):
            return float(-np.log(probabilities).mean())

    def generate(
        self,
        n_tokens: int,
        prompt: Sequence[int] = (),
        *,
        temperature: float = 1.0,
        stop_id: int | None = None,
        seed: int = 0,
    ) -> list[int]:
        """Continue `prompt` by up to `n_tokens` ids, drawn one at a time; the same seed gives the same text.

        Args:
            temperature: 0 always takes the likeliest id, 1 draws as often as counted.
            stop_id: end after this id, which is part of the result.
        """
        ids, random = [int(i) for i in prompt], np.random.default_rng(seed)
        for _ in range(n_tokens):
            ids.append(_draw(self.next_probabilities(ids[-self.order :]), temperature, random.random()))
            if ids[-1] == stop_id:
                break
        return ids

    def require_ids(self, ids: Iterable[int], at_least: int = 0) -> np.ndarray:
        """Return ids as one flat array; refuse too few of them and what is no id of this vocabulary."""
        ids = np.asarray(ids if hasattr(ids, "__len__") else list(ids))
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise ValueError(f"found ids of shape {ids.shape} and type {ids.dtype}; give one flat list of integers")
        if len(ids) < at_least:
            raise ValueError(f"found {len(ids)} ids; a model of order {self.order} needs at least {at_least} here")
        outside = ids[(ids < 0) | (ids >= self.vocab_size)]
        if outside.size:
            raise ValueError(f"found id {outside[0]}; ids must be from 0 to {self.vocab_size - 1} for this vocabulary")
        return ids.astype(np.int64)

    def fitted(self) -> dict:
        """Return what `fit` has counted; refuse to go on without."""
        if not self.counts:
            raise ValueError("the model has counted nothing yet; call fit(ids) first")
        return self.counts

    def _smoothed(self, context: list[int], tokens: Sequence[int]) -> list[float]:
        """Give the probability of each of `tokens` after `context`."""
        probabilities = [1 / self.vocab_size] * len(tokens)  # before anything is counted, all ids are equal
        for length in range(min(self.order, len(context) + 1)):  # no context, the last id, the last two, …
            recent = tuple(context[len(context) - length :])
            if recent not in self.fitted():
                break  # never seen: what the shorter contexts predict stands
            followers, weight = self.counts[recent], self.totals[recent] + self.smoothing
            probabilities = [(followers[i] + self.smoothing * p) / weight for i, p in zip(tokens, probabilities)]
        return probabilities


def _draw(probabilities: np.ndarray, temperature: float, uniform: float) -> int:
    """Turn one uniform number in [0, 1) into an id: the first whose running total exceeds it."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"found temperature={temperature}; give a finite number, 0 or more")
    if temperature == 0:
        return int(probabilities.argmax())
    with np.errstate(divide="ignore"):
        scores = np.log(probabilities) / temperature
    totals = np.exp(scores - scores.max()).cumsum()
    return int(np.searchsorted(totals, uniform * totals[-1], side="right"))


def gpt_parameter_count(
    *,
    vocab_size: int,
    context_length: int,
    d_model: int,
    n_layers: int,
    d_ff: int | None = None,
    qkv_bias: bool = True,
    tie_weights: bool = True,
    final_norm: bool = True,
) -> int:
    """Count the trained numbers of a GPT, exactly, from its shape.

    Args:
        vocab_size: rows of the token embedding.
        context_length: rows of the position embedding.
        d_model: width of every token vector.
        n_layers: number of transformer blocks.
        d_ff: width inside the feed-forward part; 4 * d_model unless given.
        qkv_bias: whether query, key and value have a bias.
        tie_weights: whether the output head shares the token embedding; counted once then.
        final_norm: whether a LayerNorm follows the last block (GPT-2 yes, GPT-1 no).

    Raises:
        ValueError: a size is less than 1 (`n_layers`: less than 0).

    Source: Radford et al. (2018, 2019); Brown et al. (2020), Table 2.1. Taught in ch01, section 1.12.
    """
    d_ff = 4 * d_model if d_ff is None else d_ff
    if min(vocab_size, context_length, d_model, d_ff) < 1 or n_layers < 0:
        raise ValueError(
            f"found vocab_size={vocab_size}, context_length={context_length}, d_model={d_model}, d_ff={d_ff}, "
            f"n_layers={n_layers}; all must be 1 or more (n_layers 0 or more)"
        )
    embeddings = (vocab_size + context_length) * d_model
    attention = 3 * d_model**2 + 3 * d_model * qkv_bias + d_model**2 + d_model
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    norms = 2 * 2 * d_model
    head = 0 if tie_weights else vocab_size * d_model
    return embeddings + n_layers * (attention + feed_forward + norms) + 2 * d_model * final_norm + head


def training_flops(n_parameters: float, n_tokens: float) -> float:
    """Estimate the floating-point operations of one training run: 6 per parameter and token.

    Two for the forward pass (a multiplication and an addition), four for the backward pass.

    Source: Kaplan et al. (2020), section 2.1. Taught in ch01, section 1.14.
    """
    return 6.0 * _positive("n_parameters", n_parameters) * _positive("n_tokens", n_tokens)


def epochs_seen(weight: float, n_tokens_seen: float, n_tokens_in_set: float) -> float:
    """How often a training run reads one data set that it samples with a fixed weight.

    Args:
        weight: share of all sampled tokens that come from this set, 0 to 1.
        n_tokens_seen: tokens of the whole run.
        n_tokens_in_set: tokens the set holds.

    Source: Brown et al. (2020), Table 2.2. Taught in ch01, section 1.13.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"found weight={weight}; give a share between 0 and 1")
    return weight * _positive("n_tokens_seen", n_tokens_seen) / _positive("n_tokens_in_set", n_tokens_in_set)


@dataclass(frozen=True)
class TrainingCost:
    """What a training run takes on rented accelerators: time on a single one, and money."""

    device_hours: float
    device_years: float
    dollars: float


def training_cost(flops: float, *, flops_per_second: float, dollars_per_hour: float) -> TrainingCost:
    """Turn floating-point operations into accelerator time and rent.

    Args:
        flops: operations of the whole run.
        flops_per_second: operations a second that one accelerator really sustains.
        dollars_per_hour: rent of one accelerator.

    Source: the arithmetic of C. Li (2020), "Demystifying GPT-3". Taught in ch01, section 1.14.
    """
    hours = _positive("flops", flops) / _positive("flops_per_second", flops_per_second) / 3600
    return TrainingCost(hours, hours / _HOURS_PER_YEAR, hours * _positive("dollars_per_hour", dollars_per_hour))


def compute_optimal_size(flops: float, tokens_per_parameter: float = 20.0) -> tuple[float, float]:
    """Split a budget of operations into a model size and a number of tokens by a fixed ratio.

    Returns:
        (n_parameters, n_tokens) with 6 * n_parameters * n_tokens = flops.

    Source: Hoffmann et al. (2022); the ratio of 20 is a rule of thumb. Taught in ch01, section 1.15.
    """
    ratio = _positive("tokens_per_parameter", tokens_per_parameter)
    n_parameters = math.sqrt(_positive("flops", flops) / (6 * ratio))
    return n_parameters, ratio * n_parameters


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"found {name}={value}; give a finite number above 0")
    return value
