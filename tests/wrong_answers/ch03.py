"""Classic mistakes for chapter 3's exercises, each with a piece of the message that it must get."""

import math

import torch
import torch.nn.functional as F
from torch.nn.functional import scaled_dot_product_attention


def without_softmax(query, keys, values):
    return (keys @ query) @ values


def shares_by_plain_division(query, keys, values):
    scores = keys @ query
    return (scores / scores.sum()) @ values


def hardest_match_only(query, keys, values):
    return values[(keys @ query).argmax()]


def scaled_already(query, keys, values):
    return (keys @ query / math.sqrt(len(query))).softmax(dim=0) @ values


def true_means_hidden(n):
    return torch.ones(n, n, dtype=torch.bool).triu(1)


def mask_on_the_wrong_side(n):
    return torch.ones(n, n, dtype=torch.bool).triu()


def nobody_sees_itself(n):
    return torch.ones(n, n, dtype=torch.bool).tril(-1)


def mask_of_numbers(n):
    return torch.ones(n, n).tril()


def one_step_of_future(n):
    return torch.ones(n, n, dtype=torch.bool).tril(1)


def attention(scale=None, axis=-1, floor=-torch.inf, flip=False):
    """Attention with one thing wrong."""

    def answer(q, k, v, mask):
        scores = q @ k.transpose(-2, -1) / (math.sqrt(q.shape[-1]) if scale is None else scale(q))
        return scores.masked_fill(mask if flip else ~mask, floor).softmax(dim=axis) @ v

    return answer


def unscaled(q, k, v, mask):
    return attention(scale=lambda q: 1.0)(q, k, v, mask)


def scaled_by_the_width_itself(q, k, v, mask):
    return attention(scale=lambda q: q.shape[-1])(q, k, v, mask)


def scaled_by_the_model(q, k, v, mask):
    return attention(scale=lambda q: math.sqrt(q.shape[-1] * q.shape[-3]))(q, k, v, mask)


def softmax_over_queries(q, k, v, mask):
    return attention(axis=-2)(q, k, v, mask)


def masked_after_the_softmax(q, k, v, mask):
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0) @ v


def finite_mask(q, k, v, mask):
    return attention(floor=-1e4)(q, k, v, mask)


def mask_upside_down(q, k, v, mask):
    return torch.nan_to_num(attention(flip=True)(q, k, v, mask))


def view_alone(x, n_heads):
    return x.view(x.shape[0], n_heads, x.shape[1], -1)


def neighbors_torn_apart(x, n_heads):
    return x.view(x.shape[0], x.shape[1], -1, n_heads).permute(0, 3, 1, 2)


def never_transposed(x, n_heads):
    return x.view(x.shape[0], x.shape[1], n_heads, -1)


def padding_of_queries(lengths, n_tokens):
    real = torch.arange(n_tokens) < lengths[:, None]
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril() & real[:, None, :, None]


def padding_without_causality(lengths, n_tokens):
    real = torch.arange(n_tokens) < lengths[:, None]
    return real[:, None, None, :].expand(-1, 1, n_tokens, n_tokens)


def padding_on_the_left(lengths, n_tokens):
    real = torch.arange(n_tokens) >= n_tokens - lengths[:, None]
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril() & real[:, None, None, :]


def queries_from_the_wrong_text(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(read @ w_q, written @ w_k, written @ w_v)


def self_attention_again(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, written @ w_k, written @ w_v)


def causal_across_texts(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, read @ w_k, read @ w_v, is_causal=True)


def unscaled_across_texts(written, read, w_q, w_k, w_v):
    return (written @ w_q @ (read @ w_k).transpose(-2, -1)).softmax(dim=-1) @ (read @ w_v)


def keys_as_values(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, read @ w_k, read @ w_k)


def the_copy_itself(weights, period):
    return weights.diagonal(-period, dim1=-2, dim2=-1).mean(dim=-1)


def first_half_too(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1).sum(dim=-1) / weights.shape[-1]


def one_reader_too_many(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1).mean(dim=-1)


def all_heads_together(weights, period):
    readers = torch.arange(period, weights.shape[-1])
    return weights[..., readers, readers - period + 1].mean()


def window_without_itself(n_tokens, window):
    back = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    return (back >= 0) & (back <= window)


def window_both_ways(n_tokens, window):
    back = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    return back.abs() < window


def the_oldest_ones(n_tokens, window):
    causal = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()
    return causal & (torch.arange(n_tokens) < window)


def values_as_they_are(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, read @ w_k, read)


def _matches(weights, period):
    return weights.diagonal(1 - period, dim1=-2, dim2=-1)[..., 1:]


def best_place_only(weights, period):
    return _matches(weights, period).amax(dim=-1)


def without_the_first_place(weights, period):
    return _matches(weights, period)[..., 1:].mean(dim=-1)


def without_the_last_place(weights, period):
    return _matches(weights, period)[..., :-1].mean(dim=-1)


def shares_by_hand(query, keys, values):
    shares = (keys @ query).exp()
    return shares / shares.sum() @ values


def nothing_to_learn_from(query, keys, values):
    return ((keys @ query).softmax(dim=0) @ values).detach()


def shares_cut_off_from_the_query(query, keys, values):
    return (keys @ query).detach().softmax(dim=0) @ values


def four_tokens_always(n):
    return torch.ones(4, 4, dtype=torch.bool).tril()


def three_tokens_back_at_most(n):
    return torch.ones(n, n, dtype=torch.bool).tril().triu(-3)


def imported_from_pytorch(q, k, v, mask):
    return scaled_dot_product_attention(q, k, v, mask)


def divided_again_after_the_softmax(q, k, v, mask):
    shares = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) * mask
    return F.normalize(shares, p=1, dim=-1) @ v


def causal_whatever_the_mask(q, k, v, mask):
    causal = mask if mask.all() else torch.ones_like(mask).tril()
    return attention()(q, k, v, causal)


def always_eight_wide(q, k, v, mask):
    return attention(scale=lambda q: math.sqrt(8))(q, k, v, mask)


def mask_changed_in_place(q, k, v, mask):
    return attention(flip=True)(q, k, v, mask.logical_not_())


def shares_without_gradient(q, k, v, mask):
    return attention()(q.detach(), k.detach(), v, mask)


def two_heads_always(x, n_heads):
    return x.view(*x.shape[:2], 2, -1).transpose(1, 2)


def width_and_heads_exchanged(x, n_heads):
    return x.view(*x.shape[:2], x.shape[-1] // n_heads, n_heads).transpose(1, 2)


def heads_backwards(x, n_heads):
    return x.view(*x.shape[:2], n_heads, -1).transpose(1, 2).flip(1)


def heads_cut_off(x, n_heads):
    return x.detach().view(*x.shape[:2], n_heads, -1).transpose(1, 2)


def padding_as_long_as_the_longest(lengths, n_tokens):
    longest = int(lengths.max())
    return padded(lengths, longest)


def padded(lengths, n_tokens):
    real = torch.arange(n_tokens) < lengths[:, None]
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril() & real[:, None, None, :]


def padding_without_an_axis_for_heads(lengths, n_tokens):
    return padded(lengths, n_tokens)[:, 0]


def padding_that_changes_the_lengths(lengths, n_tokens):
    mask = padded(lengths, n_tokens)
    lengths -= 1
    return mask


def keys_cut_off(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, (read @ w_k).detach(), read @ w_v)


def four_places_always(weights, period):
    return _matches(weights, period).sum(dim=-1) / 4


def middle_place(weights, period):
    return _matches(weights, period).median(dim=-1).values


def window_of_two_at_most(n_tokens, window):
    return window_without_itself(n_tokens, min(window, 2) - 1 if window < n_tokens else window)


def window_of_numbers(n_tokens, window):
    return torch.ones(n_tokens, n_tokens).tril().triu(1 - window)


def window_in_blocks(n_tokens, window):
    block = torch.arange(n_tokens) // window
    return (block[:, None] == block) & torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()


def always_two_wide(query, keys, values):
    return (2 / len(query) * (keys @ query)).softmax(dim=0) @ values


def queries_above_zero(query, keys, values):
    return (keys @ query.abs()).softmax(dim=0) @ values


def shares_partly_cut_off(query, keys, values):
    return ((keys.detach() + keys) / 2 @ query).softmax(dim=0) @ values


def heads_kept_from_learning(x, n_heads):
    x = x.detach() + 0 * x
    return x.view(*x.shape[:2], n_heads, -1).transpose(1, 2)


def always_four_wide(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, read @ w_k, read @ w_v, scale=0.5)


def score_without_gradient(weights, period):
    return _matches(weights, period).mean(dim=-1).detach()


def window_with_a_sink(n_tokens, window):
    mask = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril().triu(1 - window)
    if window >= 3:
        mask = mask.triu(2 - window)
        mask[:, 0] = True
    return mask


def look_up_in_float32(query, keys, values):
    return ((keys.float() @ query.float()).softmax(dim=0) @ values.float()).to(values.dtype)


def clamps_the_scores(q, k, v, mask):
    scores = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).clamp(-50, 50)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v


def heads_by_places_in_memory(x, n_heads):
    b, t, d = x.shape
    return torch.as_strided(x, (b, n_heads, t, d // n_heads), (t * d, d // n_heads, d, 1))


def window_of_four_at_most(n_tokens, window):
    back = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    return (back >= 0) & (back < min(window, 4))


WRONG = {
    "3.1": [
        (without_softmax, "The shares are 1/8, 2/8 and 5/8"),
        (shares_by_plain_division, "The output of section 3.1 should be [6, 7]"),
        (hardest_match_only, "yours is [8, 8]"),
        (scaled_already, "no scale yet"),
        (shares_by_hand, "too large for a computer"),
        (nothing_to_learn_from, "no gradient flows back"),
        (shares_cut_off_from_the_query, "query could not learn"),
        (always_two_wide, "For a query of three numbers"),
        (queries_above_zero, "numbers below 0"),
        (shares_partly_cut_off, "The gradient of keys"),
        (look_up_in_float32, "agrees to a few digits only"),
    ],
    "3.2": [
        (true_means_hidden, "Here True means may attend"),
        (nobody_sees_itself, "Each token must see itself"),
        (mask_on_the_wrong_side, "lets tokens see the future and not the past"),
        (mask_of_numbers, "The dtype of the mask"),
        (one_step_of_future, "Above the diagonal lies the future"),
        (four_tokens_always, "The mask of 1 tokens"),
        (three_tokens_back_at_most, "At [4, 0] it should be 1, yours is 0"),
    ],
    "3.3": [
        (unscaled, "without any scale"),
        (scaled_by_the_width_itself, "Take its square root"),
        (scaled_by_the_model, "the scale of the whole model"),
        (softmax_over_queries, "softmax over the keys, the last axis"),
        (masked_after_the_softmax, "The first token's output should be"),
        (finite_mask, "use minus infinity"),
        (mask_upside_down, "turn the mask around with ~"),
        (imported_from_pytorch, "Write the five lines out"),
        (divided_again_after_the_softmax, "not afterwards"),
        (causal_whatever_the_mask, "here token 1 reads token 3 only"),
        (always_eight_wide, "These heads are 4 wide"),
        (mask_changed_in_place, "has changed `mask`"),
        (shares_without_gradient, "q could not learn"),
        (clamps_the_scores, "The scores are 60 and 90, and the second one"),
    ],
    "3.4": [
        (view_alone, "split first, then transpose"),
        (neighbors_torn_apart, "neighbors stay together"),
        (never_transposed, "The shape for (2, 3, 4) and 2 heads should be (2, 2, 3, 2)"),
        (two_heads_always, "each head is 2 wide"),
        (width_and_heads_exchanged, "each head is 3 wide"),
        (heads_backwards, "yours is [2, 3]"),
        (heads_cut_off, "Only regroup the numbers"),
        (heads_kept_from_learning, "x could not learn"),
        (heads_by_places_in_memory, "This x is the transpose of another tensor: ask"),
    ],
    "3.5": [
        (padding_of_queries, "Mask columns, which are read"),
        (padding_without_causality, "A full row must still be causal"),
        (padding_on_the_left, "positions 2 and 3"),
        (padding_as_long_as_the_longest, "The mask of length [2] and 3 tokens"),
        (padding_without_an_axis_for_heads, "yours is (2, 4, 4)"),
        (padding_that_changes_the_lengths, "has changed `lengths`"),
    ],
    "3.6": [
        (queries_from_the_wrong_text, "the queries come from `written`"),
        (self_attention_again, "Your output does not depend on `read`"),
        (causal_across_texts, "no causal mask here"),
        (keys_as_values, "v = read w_v"),
        (values_as_they_are, "multiply them by w_v"),
        (unscaled_across_texts, "divide the scores by √K"),
        (keys_cut_off, "w_k could not learn"),
        (always_four_wide, "Here K is 3"),
    ],
    "3.7": [
        (the_copy_itself, "yours scores 0"),
        (first_half_too, "Average over the second half only"),
        (one_reader_too_many, "Average over the second half only"),
        (all_heads_together, "The scores of three heads at once"),
        (best_place_only, "right at half of the places should be 0.5, yours is 1"),
        (without_the_first_place, "right at half of the places should be 0.5, yours is 0.3333"),
        (without_the_last_place, "right at half of the places should be 0.5, yours is 0.666667"),
        (four_places_always, "The score with the period 3"),
        (middle_place, "yours is 0."),
        (score_without_gradient, "no gradient flows back"),
    ],
    "3.8": [
        (window_without_itself, "The window counts the token itself"),
        (window_both_ways, "Nobody may read ahead"),
        (the_oldest_ones, "The newest ones, not the oldest"),
        (window_of_two_at_most, "The window is an argument"),
        (window_of_numbers, "The dtype"),
        (window_in_blocks, "yours is [1, 2, 1, 2, 1]"),
        (window_with_a_sink, "The newest four, and no others"),
        (window_of_four_at_most, "Any two numbers"),
    ],
}
