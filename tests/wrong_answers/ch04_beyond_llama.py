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


def rightly_weighed(scores, bias, n_active):
    kept = not_divided(scores, bias, n_active)
    return kept / kept.sum(dim=-1, keepdim=True)


def routed_without_a_gradient(scores, bias, n_active):
    with torch.no_grad():
        return rightly_weighed(scores, bias, n_active)


def sum_cut_off(scores, bias, n_active):
    kept = not_divided(scores, bias, n_active)
    return kept / kept.sum(dim=-1, keepdim=True).detach()


def routed_in_float32(scores, bias, n_active):
    return rightly_weighed(scores.float(), bias.float(), n_active)


def routed_in_float32_inside(scores, bias, n_active):
    return routed_in_float32(scores, bias, n_active).double()


def all_that_reach_the_last(scores, bias, n_active):
    wanted = scores.sigmoid() + bias
    kept = scores.sigmoid() * (wanted >= wanted.topk(n_active).values[:, -1:])
    return kept / kept.sum(dim=-1, keepdim=True)


def bias_in_place(scores, bias, n_active):
    found = rightly_weighed(scores, bias, n_active)
    bias += 0.1
    return found


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


def numbers_as_a_float(windows, n_tokens, n_kv_heads, d_head):
    return float(2 * sum(min(window or n_tokens, n_tokens) for window in windows) * n_kv_heads * d_head)


def windows_taken_out(windows, n_tokens, n_kv_heads, d_head):
    n_kept = 0
    while windows:
        n_kept += min(windows.pop() or n_tokens, n_tokens)
    return 2 * n_kept * n_kv_heads * d_head


def windows_filled_in(windows, n_tokens, n_kv_heads, d_head):
    for i, window in enumerate(windows):
        windows[i] = min(window or n_tokens, n_tokens)
    return 2 * sum(windows) * n_kv_heads * d_head


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


def rightly_exchanged(state, key, value, write, keep):
    return keep * state + torch.outer(key, write * (value - key @ (keep * state)))


def key_made_one_long(state, key, value, write, keep):
    return rightly_exchanged(state, key / key.norm(), value, write, keep)


def divided_by_the_key(state, key, value, write, keep):
    return keep * state + torch.outer(key, write * (value - key @ (keep * state))) / (key @ key)


def key_in_place(state, key, value, write, keep):
    return rightly_exchanged(state, key.div_(key.norm()), value, write, keep)


def exchanged_and_cut_off(state, key, value, write, keep):
    return rightly_exchanged(state.detach(), key.detach(), value.detach(), write, keep)


def state_cut_off(state, key, value, write, keep):
    return rightly_exchanged(state.detach(), key, value, write, keep)


def found_is_cut_off(state, key, value, write, keep):
    found = (key @ (keep * state)).detach()
    return keep * state + torch.outer(key, write * (value - found))


def exchanged_in_float32(state, key, value, write, keep):
    return rightly_exchanged(state.float(), key.float(), value.float(), write, keep)


def exchanged_in_float32_inside(state, key, value, write, keep):
    return exchanged_in_float32(state, key, value, write, keep).double()


def routed_by_an_exponential(scores, bias, n_active):
    affinities = scores.exp() / (1 + scores.exp())
    places = (affinities + bias).topk(n_active, dim=-1).indices
    kept = affinities * torch.zeros_like(affinities).scatter(1, places, 1.0)
    return kept / kept.sum(dim=-1, keepdim=True)


def exchanged_within_bounds(state, key, value, write, keep):
    faded = keep * state
    return (faded + torch.outer(key, write * (value - key @ faded))).clamp(-9, 9)


WRONG = {
    "4b.1": [
        (by_softmax, "The two largest sigmoids"),
        (not_divided, "divided by their sum"),
        (divided_by_all, "without a bias should be"),
        (bias_in_the_weights, "made of the affinities alone"),
        (without_the_bias, "The bias decides which experts are chosen"),
        (bias_before_the_sigmoid, "should be"),
        (chosen_places, "should have the shape (1, 4), yours has (1, 2)"),
        (routed_without_a_gradient, "A training must reach scores through yours"),
        (sum_cut_off, "The gradient that reaches scores"),
        (routed_in_float32, "returned torch.float32"),
        (routed_in_float32_inside, "agrees to a few digits only"),
        (all_that_reach_the_last, "should be [3, 3] of shape (2,), yours is [5, 5]"),
        (bias_in_place, "has changed `bias`"),
        (routed_by_an_exponential, "The exponential of 1,000 overflows: `sigmoid`"),
    ],
    "4b.2": [
        (keys_alone, "should be 240, yours is 120"),
        (all_full, "should be 72, yours is 240"),
        (windows_always_filled, "should be 240, yours is 1536"),
        (full_blocks_forgotten, "should be 240, yours is 0"),
        (one_block_for_all, "should be 552, yours is 240"),
        (one_limit_for_all, "should be 552, yours is 720"),
        (one_head, "should be 240, yours is 80"),
        (numbers_as_a_float, "return a whole number"),
        (windows_taken_out, "has changed `windows`"),
        (windows_filled_in, "has changed `windows`"),
    ],
    "4b.3": [
        (added, "takes that row's place"),
        (always_whole, "after half an exchange"),
        (read_before_fading, "in the faded state"),
        (never_fading, "The whole state fades"),
        (faded_at_the_end, "after fading to a half"),
        (written_in_place, "has changed `state`"),
        (faded_in_place, "has changed `state`"),
        (changed_value, "has changed `value`"),
        (sizes_of_the_key, "Every row changes by its number in the key"),
        (strongest_row, "Every row changes by its number in the key"),
        (key_made_one_long, "for a key of the length 2"),
        (divided_by_the_key, "who wants the length 1 divides before the step"),
        (key_in_place, "has changed `key`"),
        (exchanged_and_cut_off, "A training must reach state, key and value through yours"),
        (state_cut_off, "No gradient reaches state"),
        (found_is_cut_off, "The gradient that reaches state"),
        (exchanged_in_float32, "returned torch.float32"),
        (exchanged_in_float32_inside, "agrees to a few digits only"),
        (exchanged_within_bounds, "Numbers may be as large as they like"),
    ],
}
