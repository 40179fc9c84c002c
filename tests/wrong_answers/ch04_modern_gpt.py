"""Classic mistakes in the exercises of `modern_gpt`, each with a fragment of the sentence it must get."""

import torch
import torch.nn.functional as F


def shared_by_repeat(q, k, v):
    n_shared = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, n_shared, 1, 1), v.repeat(1, n_shared, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def shared_with_a_look_ahead(q, k, v):
    mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    mask[1:] = True
    return F.scaled_dot_product_attention(q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1), mask)


def not_shared(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def bytes_of_all_heads(config, bytes_per_number=2):
    return 2 * config.n_layers * config.d_model * bytes_per_number


def bytes_of_keys_only(config, bytes_per_number=2):
    return config.n_layers * config.n_kv_heads * config.d_head * bytes_per_number


def bytes_of_one_block(config, bytes_per_number=2):
    return 2 * config.n_kv_heads * config.d_head * bytes_per_number


def left_as_it_was(weight, n_heads):
    return weight


def over_the_whole_width(weight, n_heads):
    return weight.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1)


def halves_to_pairs(weight, n_heads):
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def shared_without_a_mask(q, k, v):
    return F.scaled_dot_product_attention(q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1))


def one_head_for_all(q, k, v):
    return F.scaled_dot_product_attention(q, k[:, :1].expand_as(q), v[:, :1].expand_as(q), is_causal=True)


def shared_by_pytorch(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


WRONG = {
    "4m.1": [
        (shared_by_repeat, "Heads 0, 1, 2 of the queries read head 0"),
        (shared_with_a_look_ahead, "No token may read ahead"),
        (not_shared, "Your code raised RuntimeError"),
        (shared_without_a_mask, "mask the scores"),
        (one_head_for_all, "At ["),
        (shared_by_pytorch, "enable_gqa does the exercise for you"),
    ],
    "4m.2": [
        (bytes_of_all_heads, "should be 160, yours is 480"),
        (bytes_of_keys_only, "yours is 80"),
        (bytes_of_one_block, "yours is 32"),
    ],
    "4m.3": [
        (left_as_it_was, "yours is [0, 1, 2, 3, 4, 5"),
        (over_the_whole_width, "yours is [0, 2, 4, 6, 8, 10"),
        (halves_to_pairs, "yours is [0, 3, 1, 4, 2, 5"),
    ],
}
