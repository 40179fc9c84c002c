"""Classic mistakes in the exercises of `beyond_llama`, each with a fragment of the sentence it must get."""

import torch


def chosen_matrix(wanted, n_active):
    places = wanted.topk(n_active, dim=-1).indices
    return torch.zeros_like(wanted).scatter(1, places, 1.0)


def by_softmax(scores, bias, n_active):
    affinities = scores.softmax(dim=-1)
    kept = affinities * chosen_matrix(affinities + bias, n_active)
    return kept / kept.sum(dim=-1, keepdim=True)


def not_divided(scores, bias, n_active):
    return scores.sigmoid() * chosen_matrix(scores.sigmoid() + bias, n_active)


def divided_by_all(scores, bias, n_active):
    affinities = scores.sigmoid()
    return not_divided(scores, bias, n_active) / affinities.sum(dim=-1, keepdim=True)


def bias_in_the_weights(scores, bias, n_active):
    wanted = scores.sigmoid() + bias
    kept = wanted * chosen_matrix(wanted, n_active)
    return kept / kept.sum(dim=-1, keepdim=True)


def without_the_bias(scores, bias, n_active):
    kept = not_divided(scores, torch.zeros_like(bias), n_active)
    return kept / kept.sum(dim=-1, keepdim=True)


def bias_before_the_sigmoid(scores, bias, n_active):
    affinities = scores.sigmoid()
    kept = affinities * chosen_matrix((scores + bias).sigmoid(), n_active)
    return kept / kept.sum(dim=-1, keepdim=True)


def chosen_places(scores, bias, n_active):
    affinities = scores.sigmoid()
    weights = affinities.gather(1, (affinities + bias).topk(n_active, dim=-1).indices)
    return weights / weights.sum(dim=-1, keepdim=True)


def keys_alone(windows, n_tokens, n_kv_heads, d_head):
    return sum(min(window or n_tokens, n_tokens) for window in windows) * n_kv_heads * d_head


def all_full(windows, n_tokens, n_kv_heads, d_head):
    return 2 * len(windows) * n_tokens * n_kv_heads * d_head


def windows_always_filled(windows, n_tokens, n_kv_heads, d_head):
    return 2 * sum(window or n_tokens for window in windows) * n_kv_heads * d_head


def full_blocks_forgotten(windows, n_tokens, n_kv_heads, d_head):
    return 2 * sum(min(window, n_tokens) for window in windows if window) * n_kv_heads * d_head


def one_block_for_all(windows, n_tokens, n_kv_heads, d_head):
    return 2 * max(min(window or n_tokens, n_tokens) for window in windows) * n_kv_heads * d_head


def one_limit_for_all(windows, n_tokens, n_kv_heads, d_head):
    return 2 * min(sum(window or n_tokens for window in windows), len(windows) * n_tokens) * n_kv_heads * d_head


def one_head(windows, n_tokens, n_kv_heads, d_head):
    return 2 * sum(min(window or n_tokens, n_tokens) for window in windows) * d_head


def added(state, key, value, write, keep):
    return keep * state + torch.outer(key, write * value)


def always_whole(state, key, value, write, keep):
    return keep * state + torch.outer(key, value - key @ (keep * state))


def read_before_fading(state, key, value, write, keep):
    return keep * state + torch.outer(key, write * (value - key @ state))


def never_fading(state, key, value, write, keep):
    return state + torch.outer(key, write * (value - key @ state))


def faded_at_the_end(state, key, value, write, keep):
    return keep * (state + torch.outer(key, write * (value - key @ state)))


def written_in_place(state, key, value, write, keep):
    state *= keep
    state += torch.outer(key, write * (value - key @ state))
    return state


def faded_in_place(state, key, value, write, keep):
    state *= keep
    return state + torch.outer(key, write * (value - key @ state))


def changed_value(state, key, value, write, keep):
    faded = keep * state
    value -= key @ faded
    return faded + torch.outer(key, write * value)


def sizes_of_the_key(state, key, value, write, keep):
    faded = keep * state
    return faded + torch.outer(key.abs(), write * (value - key @ faded))


def strongest_row(state, key, value, write, keep):
    new, row = keep * state, key.abs().argmax()
    new[row] += write * (value - new[row])
    return new


WRONG = {
    "4b.1": [
        (by_softmax, "The two largest sigmoids"),
        (not_divided, "divided by their sum"),
        (divided_by_all, "without a bias should be"),
        (bias_in_the_weights, "made of the affinities alone"),
        (without_the_bias, "The bias decides which experts are chosen"),
        (bias_before_the_sigmoid, "should be"),
        (chosen_places, "should have the shape (1, 4), yours has (1, 2)"),
    ],
    "4b.2": [
        (keys_alone, "should be 240, yours is 120"),
        (all_full, "should be 72, yours is 240"),
        (windows_always_filled, "should be 240, yours is 1536"),
        (full_blocks_forgotten, "should be 240, yours is 0"),
        (one_block_for_all, "should be 552, yours is 240"),
        (one_limit_for_all, "should be 552, yours is 720"),
        (one_head, "should be 240, yours is 80"),
    ],
    "4b.3": [
        (added, "takes that row's place"),
        (always_whole, "after half an exchange"),
        (read_before_fading, "in the faded state"),
        (never_fading, "The whole state fades"),
        (faded_at_the_end, "after fading to a half"),
        (written_in_place, "Return a new one"),
        (faded_in_place, "Return a new one"),
        (changed_value, "The value that was given"),
        (sizes_of_the_key, "Every row changes by its number in the key"),
        (strongest_row, "Every row changes by its number in the key"),
    ],
}
