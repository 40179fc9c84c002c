"""Answers to the exercises of chapter 4's room `beyond_llama`."""

import torch


def routing_matrix(scores, bias, n_active):
    affinities = scores.sigmoid()
    places = (affinities + bias).topk(n_active, dim=-1).indices
    kept = affinities * torch.zeros_like(affinities).scatter(1, places, 1.0)  # (N, E), zero where not chosen
    return kept / kept.sum(dim=-1, keepdim=True)


def cached_numbers(windows, n_tokens, n_kv_heads, d_head):
    n_kept = sum(n_tokens if window is None else min(window, n_tokens) for window in windows)
    return 2 * n_kept * n_kv_heads * d_head


def write_note(state, key, value, write, keep):
    faded = keep * state
    found = key @ faded  # (V,) what stands at the key now
    return faded + torch.outer(key, write * (value - found))


SOLUTIONS = {
    "4b.1": (
        routing_matrix,
        """The bias is added for topk alone. Everything behind it uses the affinities, so that moving a token to another
        expert changes who answers and not how loud.""",
    ),
    "4b.2": (
        cached_numbers,
        """A key and a value (2) for every kept token, in every block. A window keeps min(window, n_tokens); the heads
        of queries do not appear, because queries are used once.""",
    ),
    "4b.3": (
        write_note,
        """The order is: fade, read, write the difference. Whoever reads before fading takes away more than is there,
        and with keep = 1 nobody sees it.""",
    ),
}
