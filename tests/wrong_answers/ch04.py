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
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))


def gelu_of_pytorch(x):
    return F.gelu(x)


def gelu_cut_off(x):
    return (x.detach().clone() * 0.5) * (1 + torch.erf(x.detach() / 2**0.5))


def gelu_in_float32(x):
    x = x.float()
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def gelu_in_place(x):
    return x.mul_(0.5 * (1 + torch.erf(x / 2**0.5)))


def gelu_of_five_numbers(x):
    return (x * 0.5 * (1 + torch.erf(x / 2**0.5))).flatten()[:5]


def norm_of_four_numbers(x, weight, bias, eps=1e-5):
    centered = x - x.sum(-1, keepdim=True) / 4
    return centered / (centered.square().sum(-1, keepdim=True) / 4 + eps).sqrt() * weight + bias


def norm_by_the_difference_of_squares(x, weight, bias, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = (x.square().mean(-1, keepdim=True) - mean.square()).clamp(min=0)
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def norm_cut_off(x, weight, bias, eps=1e-5):
    return _normed(x.detach(), eps) * weight + bias


def norm_in_float32(x, weight, bias, eps=1e-5):
    return (_normed(x.double(), eps) * weight + bias).float()


def block_in_place(x, norm1, attention, norm2, feed_forward):
    x += attention(norm1(x))
    return x + feed_forward(norm2(x))


def norms_exchanged(x, norm1, attention, norm2, feed_forward):
    x = x + attention(norm2(x))
    return x + feed_forward(norm1(x))


def tied_and_frozen(model):
    model.head.weight = model.token_embedding.weight.requires_grad_(False)


def projection_that_shares_the_memory(linear, stored, bias):
    linear.weight.data, linear.bias.data = stored.T, bias


def projection_frozen(linear, stored, bias):
    linear.weight = nn.Parameter(stored.T.clone(), requires_grad=False)
    linear.bias.data = bias.clone()


def projection_that_turns_the_file(linear, stored, bias):
    with torch.no_grad():
        linear.weight.copy_(stored.T)
        linear.bias.copy_(bias)
        stored.mul_(2)


def cache_of_four_bytes_always(config, batch_size, n_tokens, bytes_per_number=4):
    return 2 * config.n_layers * batch_size * n_tokens * config.d_model * 4


def cache_of_one_block(config, batch_size, n_tokens, bytes_per_number=4):
    return 2 * batch_size * n_tokens * config.d_model * bytes_per_number


def cache_of_one_head(config, batch_size, n_tokens, bytes_per_number=4):
    return 2 * config.n_layers * batch_size * n_tokens * config.d_head * bytes_per_number


def greedy_in_a_window_of_four(model, ids, n_new):
    for _ in range(n_new):
        ids = torch.cat([ids, model(ids[:, -4:])[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def greedy_with_one_answer_for_all(model, ids, n_new):
    for _ in range(n_new):
        best = model(ids[:, -model.config.context_length :])[:1, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, best.expand(len(ids), 1)], dim=1)
    return ids


def greedy_at_least_once(model, ids, n_new):
    for _ in range(max(n_new, 1)):
        ids = torch.cat([ids, model(ids[:, -model.config.context_length :])[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def step_with_the_new_key_in_front(q, k, v, old_keys, old_values):
    keys, values = torch.cat([k, old_keys], 2), torch.cat([v, old_values], 2)
    return F.scaled_dot_product_attention(q, keys, values), keys, values


def step_with_values_first(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return F.scaled_dot_product_attention(q, keys, values), values, keys


def step_that_scales_in_place(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return (q.div_(q.shape[-1] ** 0.5) @ keys.transpose(-2, -1)).softmax(-1) @ values, keys, values


def step_scaled_by_three(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return (q @ keys.transpose(-2, -1) / q.shape[-1]).softmax(-1) @ values, keys, values


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


def norm_with_mean_and_variance_cut_off(x, weight, bias, eps=1e-5):
    mean, variance = x.mean(-1, keepdim=True).detach(), x.var(-1, keepdim=True, correction=0).detach()
    return (x - mean) / (variance + eps).sqrt() * weight + bias


def norm_with_the_mean_cut_off(x, weight, bias, eps=1e-5):
    centered = x - x.mean(-1, keepdim=True).detach()
    return centered / (centered.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def norm_with_the_weight_cut_off(x, weight, bias, eps=1e-5):
    return _normed(x, eps) * weight.detach() + bias


def gelu_with_the_probability_cut_off(x):
    return x * 0.5 * (1 + torch.erf(x.detach() / 2**0.5))


def block_with_the_second_part_cut_off(x, norm1, attention, norm2, feed_forward):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x.detach()))


def block_cut_off(x, norm1, attention, norm2, feed_forward):
    with torch.no_grad():
        x = x + attention(norm1(x))
        return x + feed_forward(norm2(x))


def cache_as_a_decimal_number(config, batch_size, n_tokens, bytes_per_number=4):
    return 2 * config.n_layers * batch_size * n_tokens * config.d_model * 8 * bytes_per_number / 8


def _greedy(model, ids, n_new):
    with torch.no_grad():
        for _ in range(n_new):
            ids = torch.cat([ids, model(ids[:, -model.config.context_length :])[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


def greedy_of_decimal_numbers(model, ids, n_new):
    return _greedy(model, ids, n_new).float()


def greedy_that_leaves_eval(model, ids, n_new):
    model.eval()
    return _greedy(model, ids, n_new)


def greedy_that_freezes(model, ids, n_new):
    model.requires_grad_(False)
    return _greedy(model, ids, n_new)


def step_cut_off(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], 2), torch.cat([old_values, v], 2)
    return F.scaled_dot_product_attention(q, keys, values).detach(), keys, values


def step_with_the_keys_cut_off(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k.detach()], 2), torch.cat([old_values, v], 2)
    return F.scaled_dot_product_attention(q, keys, values), keys, values


def gelu_with_a_rounded_root(x):
    return x * 0.5 * (1 + torch.erf(x / 1.41421))


def tie_that_freezes_the_rest(model):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.head.weight = model.token_embedding.weight
    model.token_embedding.weight.requires_grad_()


def projection_through_float32(linear, stored, bias):
    with torch.no_grad():
        linear.weight.copy_(stored.float().T)
        linear.bias.copy_(bias)


def bytes_in_32_bits(config, batch_size, n_tokens, bytes_per_number=4):
    return 2 * config.n_layers * batch_size * n_tokens * config.d_model * bytes_per_number % 2**31


def greedy_that_moves_the_weight(model, ids, n_new):
    for _ in range(n_new):
        best = model(ids[:, -model.config.context_length :])[:, -1].argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, best], dim=1)
        model.one.data.mul_(1.01)
    return ids


def step_that_cuts_off_what_it_returns(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], dim=2), torch.cat([old_values, v], dim=2)
    return F.scaled_dot_product_attention(q, keys, values), keys.detach(), values.detach()


def step_with_an_exponential_of_its_own(q, k, v, old_keys, old_values):
    keys, values = torch.cat([old_keys, k], dim=2), torch.cat([old_values, v], dim=2)
    raised = (q @ keys.transpose(-2, -1) / q.shape[-1] ** 0.5).exp()
    return raised / raised.sum(dim=-1, keepdim=True) @ values, keys, values


WRONG = {
    "4.1": [
        (norm_with_the_other_variance, "divides by the number of values"),
        (norm_without_eps, "eps belongs under the root"),
        (norm_with_the_bias_first, "First the weight"),
        (norm_with_eps_outside_the_root, "under the root"),
        (norm_with_an_eps_of_its_own, "eps is an argument"),
        (norm_in_place, "has changed `x`"),
        (norm_of_pytorch, "Take mean and variance yourself"),
        (norm_of_four_numbers, "The width may be any"),
        (norm_by_the_difference_of_squares, "two huge squares"),
        (norm_cut_off, "No gradient reaches x"),
        (norm_in_float32, "returned torch.float32"),
        (norm_with_mean_and_variance_cut_off, "The gradient of x"),
        (norm_with_the_mean_cut_off, "The gradient of x"),
        (norm_with_the_weight_cut_off, "No gradient reaches weight"),
    ],
    "4.2": [
        (gelu_as_relu, "yours is [0, 0, 0, 1, 2]"),
        (gelu_without_x, "yours is [0.02275"),
        (gelu_without_the_root, "x times the probability"),
        (gelu_by_the_tanh_formula, "tanh only comes close"),
        (gelu_of_pytorch, "Write the product itself"),
        (gelu_cut_off, "cut off from x"),
        (gelu_in_float32, "returned torch.float32"),
        (gelu_in_place, "has changed `x`"),
        (gelu_of_five_numbers, "should have the shape (2, 3)"),
        (gelu_with_the_probability_cut_off, "Every place where x is used"),
        (gelu_with_a_rounded_root, "round nothing"),
    ],
    "4.3": [
        (post_norm, "yours is [3.2]"),
        (without_shortcuts, "yours is [2.1]"),
        (both_branches_read_the_input, "yours is [137]"),
        (norm_behind_the_part, "A norm stands before its part"),
        (the_number_alone, "yours is [139.1, 0]"),
        (block_in_place, "has changed `x`"),
        (norms_exchanged, "yours is [175.1]"),
        (block_with_the_second_part_cut_off, "Every place where x is used"),
        (block_cut_off, "cut off from x"),
    ],
    "4.4": [
        (tied_by_a_copy, "equal values in two places"),
        (tied_by_nothing, "not even have equal values"),
        (tied_the_other_way_round, "Keep its values"),
        (tied_by_its_data, "Share the parameter itself"),
        (tied_by_the_whole_layer, "still be a linear layer"),
        (tied_and_frozen, "no longer learn"),
        (tie_that_freezes_the_rest, "`position_embedding.weight` has changed or can"),
    ],
    "4.5": [
        (projection_as_stored, "shape (6, 6)"),
        (projection_reshaped, "shape (4, 12)"),
        (projection_without_its_bias, "Copy both"),
        (projection_that_shares_the_memory, "shares its memory"),
        (projection_frozen, "no longer learn"),
        (projection_that_turns_the_file, "has changed `stored`"),
        (projection_through_float32, "agrees to a few digits only"),
    ],
    "4.6": [
        (cache_of_keys_only, "yours is 240."),
        (cache_of_one_row, "Rows times tokens"),
        (cache_of_every_head_full_width, "yours is 1440."),
        (cache_of_four_bytes_always, "Two bytes for each number"),
        (cache_of_one_block, "yours is 96."),
        (cache_of_one_head, "yours is 160."),
        (cache_as_a_decimal_number, "return a whole number"),
        (bytes_in_32_bits, "Numbers may be larger than 32 bits hold"),
    ],
    "4.7": [
        (greedy_from_the_first_token, "The scores after the *last* token"),
        (greedy_without_a_window, "let the window slide"),
        (greedy_in_the_oldest_window, "newest context_length tokens"),
        (greedy_cut_to_the_window, "not the rows that you return"),
        (greedy_in_a_window_of_four, "the context holds 2"),
        (greedy_with_one_answer_for_all, "for each row by itself"),
        (greedy_at_least_once, "Then nothing is appended"),
        (greedy_of_decimal_numbers, "should be whole numbers, yours are torch.float"),
        (greedy_that_leaves_eval, "has changed `model`"),
        (greedy_that_freezes, "has changed `model`"),
        (greedy_that_moves_the_weight, "has changed `model`"),
    ],
    "4.8": [
        (step_with_a_square_mask, "no mask at all"),
        (step_that_forgets_itself, "The keys after the step"),
        (step_that_reads_only_itself, "The output of the new token should"),
        (step_without_scale, "divide the scores by √K"),
        (step_with_the_new_key_in_front, "behind the old ones"),
        (step_with_values_first, "The keys after the step"),
        (step_that_scales_in_place, "has changed `q`"),
        (step_scaled_by_three, "no mask at all"),
        (step_cut_off, "cut off from q"),
        (step_with_the_keys_cut_off, "No gradient reaches k"),
        (step_that_cuts_off_what_it_returns, "The result is cut off from k (.item() or"),
        (step_with_an_exponential_of_its_own, "A score of thousands must not overflow: softmax"),
    ],
}
