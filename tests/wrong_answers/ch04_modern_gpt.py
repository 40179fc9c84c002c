"""Classic mistakes in the exercises of `modern_gpt`, each with a fragment of the sentence it must get."""

import torch
import torch.nn.functional as F
from torch.nn.functional import scaled_dot_product_attention as attention_of_pytorch


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


def shared_without_scale(q, k, v):
    k, v = k.repeat_interleave(3, 1), v.repeat_interleave(3, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


def mask_that_hides_the_token_itself(q, k, v):
    k, v = k.repeat_interleave(3, 1), v.repeat_interleave(3, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.masked_fill(torch.ones(scores.shape[-2:]).triu(0).bool(), -torch.inf).softmax(-1) @ v


def zeros_where_the_future_is(q, k, v):
    k, v = k.repeat_interleave(3, 1), v.repeat_interleave(3, 1)
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1).tril() @ v


def groups_of_three_always(q, k, v):
    k, v = k.repeat_interleave(3, 1)[:, : q.shape[1]], v.repeat_interleave(3, 1)[:, : q.shape[1]]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def queries_scaled_in_place(q, k, v):
    k, v = k.repeat_interleave(q.shape[1] // k.shape[1], 1), v.repeat_interleave(q.shape[1] // v.shape[1], 1)
    q.div_(q.shape[-1] ** 0.5)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)


def _by_hand(q, k, v, blocked=-torch.inf, softmax=lambda scores: scores.softmax(-1)):
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return softmax(scores.masked_fill(future, blocked)) @ v


def shared_and_cut_off(q, k, v):
    return _by_hand(q.detach(), k.detach(), v.detach())


def values_cut_off(q, k, v):
    return _by_hand(q, k, v.detach())


def blocked_by_minus_30(q, k, v):
    return _by_hand(q, k, v, blocked=-30.0)


def blocked_by_minus_a_billion(q, k, v):
    return _by_hand(q, k, v, blocked=-1e9)


def exponentials_that_overflow(q, k, v):
    return _by_hand(q, k, v, softmax=lambda x: x.exp() / x.exp().sum(-1, keepdim=True))


def groups_by_heart(q, k, v):
    n_shared = {6: 3, 8: 2}[q.shape[1]]
    k, v = k.repeat_interleave(n_shared, 1), v.repeat_interleave(n_shared, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def in_float32_inside(q, k, v):
    return _by_hand(q.float(), k.float(), v.float()).double()


def in_float32(q, k, v):
    return _by_hand(q.float(), k.float(), v.float())


def shared_by_an_earlier_name(q, k, v):
    return attention_of_pytorch(q, k, v, is_causal=True, scale=q.shape[-1] ** -0.5, enable_gqa=True)


def shared_without_return(q, k, v):
    _by_hand(q, k, v)


def bytes_of_two_always(config, bytes_per_number=2):
    return 4 * config.n_layers * config.n_kv_heads * config.d_head


def bytes_with_a_narrow_head(config, bytes_per_number=2):
    return 2 * config.n_layers * config.n_kv_heads * (config.d_model // config.n_heads) * bytes_per_number


def bytes_of_the_whole_context(config, bytes_per_number=2):
    return 2 * config.n_layers * config.n_kv_heads * config.d_head * config.context_length * bytes_per_number


def bytes_with_queries(config, bytes_per_number=2):
    return (2 * config.n_kv_heads + config.n_heads) * config.n_layers * config.d_head * bytes_per_number


def bytes_of_two_or_four(config, bytes_per_number=2):
    return 2 * config.n_layers * config.n_kv_heads * config.d_head * (2 if bytes_per_number == 2 else 4)


def bytes_as_a_float(config, bytes_per_number=2):
    return 2.0 * config.n_layers * config.n_kv_heads * config.d_head * bytes_per_number


def columns_instead_of_rows(weight, n_heads):
    return pairs_of_rows(weight.T, n_heads).T


def pairs_of_rows(weight, n_heads):
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def second_numbers_first(weight, n_heads):
    return weight.unflatten(0, (n_heads, -1, 2)).flip(2).transpose(1, 2).flatten(0, 2)


def two_heads_always(weight, n_heads):
    return pairs_of_rows(weight, 2)


def turned_around(weight, n_heads):
    return -pairs_of_rows(weight, n_heads) if weight.shape[0] == weight.shape[1] else pairs_of_rows(weight, n_heads)


def cut_off(weight, n_heads):
    return pairs_of_rows(weight.detach(), n_heads)


def ordered_in_float32(weight, n_heads):
    return pairs_of_rows(weight.float(), n_heads)


def ordered_in_float32_inside(weight, n_heads):
    return pairs_of_rows(weight.float(), n_heads).double()


def orders_by_heart(weight, n_heads):
    order = {2: [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11], 3: [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11]}
    return weight[order[n_heads]]


def weights_in_place(weight, n_heads):
    return weight.copy_(pairs_of_rows(weight.clone(), n_heads))


def seven_tokens_back_at_most(q, k, v):
    n_shared, length = q.shape[1] // k.shape[1], q.shape[2]
    near = torch.ones(length, length, dtype=torch.bool).tril().triu(-6)
    return attention_of_pytorch(q, k.repeat_interleave(n_shared, 1), v.repeat_interleave(n_shared, 1), near)


def queries_by_places_in_memory(q, k, v):
    n_shared, steps = q.shape[1] // k.shape[1], torch.empty(q.shape).stride()
    q = torch.as_strided(q, q.shape, steps)
    k, v = k.repeat_interleave(n_shared, 1), v.repeat_interleave(n_shared, 1)
    return attention_of_pytorch(q, k, v, is_causal=True)


def as_a_new_parameter(weight, n_heads):
    return torch.nn.Parameter(weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2))


WRONG = {
    "4m.1": [
        (shared_by_repeat, "Heads 0, 1, 2 of the queries read head 0"),
        (shared_with_a_look_ahead, "No token may read ahead"),
        (not_shared, "Your code raised RuntimeError"),
        (shared_without_a_mask, "mask the scores"),
        (one_head_for_all, "At ["),
        (shared_by_an_earlier_name, "enable_gqa does the exercise for you"),
        (shared_without_scale, "scores are divided by √K"),
        (mask_that_hides_the_token_itself, "yours is [nan"),
        (zeros_where_the_future_is, "yours is [-0.1511"),
        (groups_of_three_always, "divided by that of keys"),
        (queries_scaled_in_place, "has changed `q`"),
        (shared_and_cut_off, "A training must reach q, k and v"),
        (values_cut_off, "No gradient reaches v"),
        (blocked_by_minus_30, "at scores 3,000 times"),
        (blocked_by_minus_a_billion, "at scores 1,000,000,000,000 times"),
        (exponentials_that_overflow, "yours is [nan, nan, nan"),
        (groups_by_heart, "must match the size of tensor b"),
        (in_float32_inside, "agrees to a few digits only"),
        (in_float32, "returned torch.float32"),
        (shared_without_return, "is there a `return`"),
        (seven_tokens_back_at_most, "however many these are"),
        (queries_by_places_in_memory, "never for places in memory"),
    ],
    "4m.2": [
        (bytes_of_all_heads, "should be 160, yours is 480"),
        (bytes_of_keys_only, "yours is 80"),
        (bytes_of_one_block, "yours is 32"),
        (bytes_of_two_always, "Four bytes a number"),
        (bytes_with_a_narrow_head, "A head may have a width of its own"),
        (bytes_of_the_whole_context, "yours is 2560"),
        (bytes_with_queries, "yours is 400."),
        (bytes_of_two_or_four, "bytes_per_number=1 should be 80"),
        (bytes_as_a_float, "yours is a float"),
    ],
    "4m.3": [
        (left_as_it_was, "yours is [0, 1, 2, 3, 4, 5"),
        (over_the_whole_width, "yours is [0, 2, 4, 6, 8, 10"),
        (halves_to_pairs, "yours is [0, 3, 1, 4, 2, 5"),
        (second_numbers_first, "yours is [1, 3, 5, 0, 2, 4"),
        (two_heads_always, "for 3 heads"),
        (columns_instead_of_rows, "RuntimeError"),
        (weights_in_place, "has changed `weight`"),
        (turned_around, "change no number"),
        (cut_off, "leave `detach` and `no_grad` out"),
        (orders_by_heart, "KeyError"),
        (ordered_in_float32, "returned torch.float32"),
        (ordered_in_float32_inside, "agrees to a few digits only"),
        (as_a_new_parameter, "No gradient reaches weight: leave `detach` and"),
    ],
}
