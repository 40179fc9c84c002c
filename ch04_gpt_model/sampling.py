"""Choosing the next token from the logits, with the same result on every machine.

`torch.multinomial` draws other tokens on other builds of PyTorch. Here the chance comes from `torch.rand` with its own
generator on the CPU, and the token from the cumulative probabilities in float64: same seed, same text, everywhere.

Supports ch04, section 4.9; temperature, top-k and top-p are taught in ch05.
"""

import math
from numbers import Real

import torch
from torch import Tensor


def next_token_probabilities(
    logits: Tensor, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """Turn logits into the probabilities from which the next token is drawn.

    Args:
        logits: one row of scores over the vocabulary for each prompt.
        temperature: > 0; below 1 favors the likely tokens, above 1 flattens the distribution.
        top_k: keep the k most likely tokens (and those tied with the last of them); None or more than V keeps all.
        top_p: keep the fewest tokens that together reach this probability, in (0, 1]; None keeps all.

    Shape:
        logits (B, V) -> (B, V) float64 on the CPU; rows sum to 1.

    Raises:
        ValueError: an argument is out of range, or the logits hold NaN or infinity.

    Source: Fan et al. (2018) for top-k; Holtzman et al. (2020) for top-p. Taught in ch05, section 5.11.
    """
    require_sampling_settings(temperature, top_k, top_p)
    if temperature == 0:
        raise ValueError("temperature 0 leaves nothing to draw; take the most likely token instead")
    logits = logits.detach().to("cpu", torch.float64)  # in float64 machines hardly differ
    peak = logits.amax(dim=-1, keepdim=True)
    _require_finite(peak)
    if top_k is not None and top_k < logits.shape[-1]:
        kth = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)  # tokens tied with the last one stay
    probabilities = ((logits - peak) / temperature).softmax(dim=-1)  # a tiny temperature makes -inf and never inf
    return probabilities if top_p is None or top_p == 1 else _nucleus(probabilities, top_p)


def require_sampling_settings(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse settings that mean nothing: ValueError names the setting, its value and the range."""
    if not isinstance(temperature, Real) or not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature} is not a number >= 0; use 0 for the most likely token each time")
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k={top_k} keeps no token; give a whole number >= 1, or None for all tokens")
    if top_p is not None and not (isinstance(top_p, Real) and 0 < top_p <= 1):
        raise ValueError(f"top_p={top_p} is not in (0, 1]; give a probability such as 0.9, or None for all tokens")


class Sampler:
    """Pick one token for each row of logits.

    Args:
        temperature: 0 takes the most likely token; above 0 draws from `next_token_probabilities`.
        top_k: see `next_token_probabilities`.
        top_p: see `next_token_probabilities`.
        seed: the same seed draws the same tokens; None takes a seed from PyTorch's global generator.

    Shape:
        logits (B, V) -> ids (B,) int64 on the CPU.

    Raises:
        ValueError: an argument is out of range, or the logits hold NaN or infinity.

    Source: inverse transform sampling, Devroye (1986), chapter II.2. For ch05, section 5.11.
    """

    def __init__(
        self, temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int | None = None
    ):
        require_sampling_settings(temperature, top_k, top_p)
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        if temperature > 0:
            seed = int(torch.randint(2**62, ())) if seed is None else seed
            if not isinstance(seed, int) or not 0 <= seed < 2**64:
                raise ValueError(f"seed={seed} is not a whole number from 0 to 2**64 - 1; give one such as 7")
            self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, logits: Tensor) -> Tensor:
        if self.temperature == 0:
            scores = logits.detach().float().cpu().numpy()  # its argmax is several times as fast as PyTorch's
            _require_finite(torch.from_numpy(scores.max(axis=-1)))
            return torch.from_numpy(scores.argmax(axis=-1))
        probabilities = next_token_probabilities(logits, self.temperature, self.top_k, self.top_p)
        cumulative = probabilities.cumsum(dim=-1)  # (B, V), the last column is 1 up to rounding
        chance = torch.rand(len(logits), 1, generator=self.generator, dtype=torch.float64)
        ids = torch.searchsorted(cumulative, chance * cumulative[:, -1:], right=True)  # (B, 1)
        return ids.squeeze(1).clamp(max=logits.shape[-1] - 1)


def _require_finite(peaks: Tensor) -> None:
    """Refuse rows whose largest logit is NaN (a NaN is taken for the largest) or infinite; one sum asks for all."""
    if not math.isfinite(peaks.sum(dtype=torch.float64)):
        raise ValueError("the model's logits hold NaN or infinity; its weights are damaged or its training diverged")


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    likely_first, order = probabilities.sort(dim=-1, descending=True, stable=True)
    before = likely_first.cumsum(dim=-1) - likely_first  # probability of all the likelier tokens
    kept = likely_first.masked_fill(before >= top_p, 0.0)
    kept = torch.zeros_like(probabilities).scatter_(-1, order, kept)
    return kept / kept.sum(dim=-1, keepdim=True)
