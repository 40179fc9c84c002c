"""Answers to the exercises of chapter 4's second notebook, `modern_gpt`."""

import math

import torch


def grouped_attention(q, k, v):
    n_shared = q.shape[1] // k.shape[1]
    k = k.repeat_interleave(n_shared, dim=1)  # (B, H, T, K)
    v = v.repeat_interleave(n_shared, dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, T)
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1) @ v


def cache_bytes_per_token(config, bytes_per_number=2):
    return 2 * config.n_layers * config.n_kv_heads * config.d_head * bytes_per_number


def pairs_to_halves(weight, n_heads):
    rows = weight.unflatten(0, (n_heads, -1, 2))  # (H, K/2, 2, D): head, pair, which of the two
    return rows.transpose(1, 2).flatten(0, 2)  # (H, 2, K/2, D) -> (H K, D)


SOLUTIONS = {
    "4m.1": (
        grouped_attention,
        """Neighboring heads of queries share: repeat_interleave gives 0, 0, 0, 1, 1, 1. The plain repeat gives
        0, 1, 0, 1, 0, 1, which has the same shape and pairs each query with the wrong keys.""",
    ),
    "4m.2": (
        cache_bytes_per_token,
        """A key and a value (2) in every block, each n_kv_heads * d_head numbers wide. The heads of queries do not
        appear: queries are used once and never stored. For Llama 2 70B that is 320 KiB a token instead of 2.5 MiB.""",
    ),
    "4m.3": (
        pairs_to_halves,
        """A rotation turns the rows 2i and 2i + 1 of a head together in one convention, i and i + K/2 in the other.
        Reordering the rows of the query and key matrices alike moves each pair to where the other convention looks for
        it; scores are sums over the pairs, and sums do not mind the order.""",
    ),
}
