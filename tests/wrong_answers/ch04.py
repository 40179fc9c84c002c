"""Classic mistakes in chapter 4's exercises, each with a fragment of the sentence it must get."""

import torch
import torch.nn.functional as F
from torch import nn


def norm_with_the_other_variance(x, weight, bias, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + eps) * weight + bias


def norm_without_eps(x, weight, bias, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True, correction=0) * weight + bias


def norm_with_the_bias_first(x, weight, bias, eps=1e-5):
    return (_normed(x, eps) + bias) * weight


def gelu_as_relu(x):
    return F.relu(x)


def gelu_without_x(x):
    return 0.5 * (1 + torch.erf(x / 2**0.5))


def gelu_without_the_root(x):
    return x * 0.5 * (1 + torch.erf(x))


def gelu_by_the_tanh_formula(x):
    return F.gelu(x, approximate="tanh")


def post_norm(x, norm1, attention, norm2, feed_forward):
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))


def without_shortcuts(x, norm1, attention, norm2, feed_forward):
    return feed_forward(norm2(attention(norm1(x))))


def both_branches_read_the_input(x, norm1, attention, norm2, feed_forward):
    return x + attention(norm1(x)) + feed_forward(norm2(x))


def tied_by_a_copy(model):
    model.head.weight = nn.Parameter(model.token_embedding.weight.detach().clone())


def tied_by_its_data(model):
    model.head.weight.data = model.token_embedding.weight.data


def tied_by_the_whole_layer(model):
    model.head = model.token_embedding


def tied_by_nothing(model):
    return model.token_embedding.weight


def tied_the_other_way_round(model):
    model.token_embedding.weight = model.head.weight


def projection_as_stored(linear, stored, bias):
    linear.weight.data = stored.clone() if stored.shape[0] == stored.shape[1] else stored.T.clone()
    linear.bias.data = bias.clone()


def projection_without_its_bias(linear, stored, bias):
    linear.weight.data = stored.T.clone()


def projection_reshaped(linear, stored, bias):
    linear.weight.data = stored.reshape(stored.shape[1], stored.shape[0]).clone()
    linear.bias.data = bias.clone()


def cache_of_keys_only(config, batch_size, n_tokens):
    return config.n_layers * batch_size * n_tokens * config.d_model * 4


def cache_of_one_row(config, batch_size, n_tokens):
    return 2 * config.n_layers * n_tokens * config.d_model * 4


def cache_of_every_head_full_width(config, batch_size, n_tokens):
    return 2 * config.n_layers * config.n_heads * batch_size * n_tokens * config.d_model * 4


def greedy_from_the_first_token(model, ids, n_new):
    for _ in range(n_new):
        ids = torch.cat([ids, model(ids[:, -4:])[:, 0].argmax(-1, keepdim=True)], dim=1)
    return ids


def greedy_without_a_window(model, ids, n_new):
    for _ in range(n_new):
        ids = torch.cat([ids, model(ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def greedy_in_the_oldest_window(model, ids, n_new):
    for _ in range(n_new):
        ids = torch.cat([ids, model(ids[:, :4])[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def step_with_a_square_mask(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return F.scaled_dot_product_attention(q, keys, values, is_causal=True), keys, values


def step_that_forgets_itself(q, k, v, old_keys, old_values):
    return F.scaled_dot_product_attention(q, old_keys, old_values), old_keys, old_values


def step_that_reads_only_itself(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return F.scaled_dot_product_attention(q, k, v), keys, values


def _normed(x, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + eps).sqrt()


def norm_with_eps_outside_the_root(x, weight, bias, eps=1e-5):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True, correction=0) + eps) * weight + bias


def norm_with_an_eps_of_its_own(x, weight, bias, eps=1e-5):
    return _normed(x) * weight + bias


def norm_in_place(x, weight, bias, eps=1e-5):
    x.copy_(_normed(x, eps) * weight + bias)
    return x


def norm_of_pytorch(x, weight, bias, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def norm_behind_the_part(x, norm1, attention, norm2, feed_forward):
    x = x + norm1(attention(x))
    return x + norm2(feed_forward(x))


def the_number_alone(x, norm1, attention, norm2, feed_forward):
    return x * 1.3 * 1.07


def greedy_cut_to_the_window(model, ids, n_new):
    for _ in range(n_new):
        ids = torch.cat([ids, model(ids[:, -4:])[:, -1].argmax(-1, keepdim=True)], dim=1)[:, -4:]
    return ids


def step_without_scale(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return (q @ keys.transpose(-2, -1)).softmax(dim=-1) @ values, keys, values


WRONG = {
    "4.1": [
        (norm_with_the_other_variance, "divides by the number of values"),
        (norm_without_eps, "eps belongs under the root"),
        (norm_with_the_bias_first, "First the weight"),
        (norm_with_eps_outside_the_root, "under the root"),
        (norm_with_an_eps_of_its_own, "eps is an argument"),
        (norm_in_place, "Do not change what you were given"),
        (norm_of_pytorch, "Take mean and variance yourself"),
    ],
    "4.2": [
        (gelu_as_relu, "yours is [0, 0, 0, 1, 2]"),
        (gelu_without_x, "yours is [0.02275"),
        (gelu_without_the_root, "x times the probability"),
        (gelu_by_the_tanh_formula, "tanh only comes close"),
    ],
    "4.3": [
        (post_norm, "yours is [3.2]"),
        (without_shortcuts, "yours is [2.1]"),
        (both_branches_read_the_input, "yours is [137]"),
        (norm_behind_the_part, "A norm stands before its part"),
        (the_number_alone, "yours is [139.1, 0]"),
    ],
    "4.4": [
        (tied_by_a_copy, "equal values in two places"),
        (tied_by_nothing, "not even have equal values"),
        (tied_the_other_way_round, "Keep its values"),
        (tied_by_its_data, "Share the parameter itself"),
        (tied_by_the_whole_layer, "still be a linear layer"),
    ],
    "4.5": [
        (projection_as_stored, "shape (6, 6)"),
        (projection_reshaped, "shape (4, 12)"),
        (projection_without_its_bias, "Copy both"),
    ],
    "4.6": [
        (cache_of_keys_only, "yours is 240."),
        (cache_of_one_row, "Rows times tokens"),
        (cache_of_every_head_full_width, "yours is 1440."),
    ],
    "4.7": [
        (greedy_from_the_first_token, "The scores after the *last* token"),
        (greedy_without_a_window, "let the window slide"),
        (greedy_in_the_oldest_window, "newest context_length tokens"),
        (greedy_cut_to_the_window, "not the rows that you return"),
    ],
    "4.8": [
        (step_with_a_square_mask, "no mask at all"),
        (step_that_forgets_itself, "The keys after the step"),
        (step_that_reads_only_itself, "The output of the new token should"),
        (step_without_scale, "divide the scores by √K"),
    ],
}
