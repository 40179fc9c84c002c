"""Classic mistakes in chapter 1's exercises, each with a fragment of the sentence it must get."""

import math
from collections import Counter, defaultdict


def bits_in_nats(probabilities):
    return sum(-math.log(p) for p in probabilities) / len(probabilities)


def bits_of_the_mean(probabilities):
    return -math.log2(sum(probabilities) / len(probabilities))


def bits_with_the_sign_lost(probabilities):
    return sum(math.log2(p) for p in probabilities) / len(probabilities)


def bigrams_turned_round(ids):
    counts = defaultdict(Counter)
    for first, second in zip(ids, ids[1:]):
        counts[second][first] += 1
    return counts


def bigrams_with_the_end_joined_to_the_start(ids):
    counts = defaultdict(Counter)
    for first, second in zip(ids, [*ids[1:], ids[0]]):
        counts[first][second] += 1
    return counts


def bigrams_as_a_set(ids):
    return {a: {b: 1 for x, b in zip(ids, ids[1:]) if x == a} for a in ids[:-1]}


def smoothing_added_to_each(counts, shorter, s):
    return [(count + s) / (sum(counts) + s * len(counts)) for count in counts]


def smoothing_not_divided(counts, shorter, s):
    return [(count + s * p) / (sum(counts) or s) for count, p in zip(counts, shorter)]


def smoothing_half_and_half(counts, shorter, s):
    total = sum(counts)
    mixed = [0.5 * count / total + 0.5 * p if total and s else p for count, p in zip(counts, shorter)]
    return mixed if s else [count / total for count in counts]


def draw_the_likeliest(probabilities, u):
    return max(range(len(probabilities)), key=lambda i: probabilities[i])


def draw_with_the_wrong_edge(probabilities, u):
    reached = 0.0
    for token, p in enumerate(probabilities):
        reached += p
        if u <= reached:
            return token


def draw_one_too_far(probabilities, u):
    reached = 0.0
    for token, p in enumerate(probabilities):
        if u < reached:
            return token
        reached += p
    return len(probabilities) - 1


def draw_from_sorted_probabilities(probabilities, u):
    order = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))
    return order[right_until_rounding([probabilities[i] for i in order], u) or 0]


def right_until_rounding(probabilities, u):
    reached = 0.0
    for token, p in enumerate(probabilities):
        reached += p
        if u < reached:
            return token


def draw_the_last_id_beyond_the_sum(probabilities, u):
    token = right_until_rounding(probabilities, u)
    return len(probabilities) - 1 if token is None else token


def mask_turned_around(n_tokens, n_prefix):
    return [[c < n_prefix or c >= row for c in range(n_tokens)] for row in range(n_tokens)]


def mask_of_the_past_and_the_next(n_tokens, n_prefix):
    return [[c < n_prefix or c <= row + 1 for c in range(n_tokens)] for row in range(n_tokens)]


def mask_without_oneself(n_tokens, n_prefix):
    return [[c < n_prefix or c < row for c in range(n_tokens)] for row in range(n_tokens)]


def mask_where_only_the_prefix_reads_freely(n_tokens, n_prefix):
    return [[row < n_prefix or c <= row for c in range(n_tokens)] for row in range(n_tokens)]


def block_without_biases(d_model, d_ff):
    return 4 * d_model**2 + 2 * d_model * d_ff


def block_without_output_projection(d_model, d_ff):
    return 3 * (d_model**2 + d_model) + 2 * d_model * d_ff + d_ff + d_model + 4 * d_model


def block_of_fixed_width(d_model, d_ff):
    d_ff = d_ff if d_model == 1 else 4 * d_model
    return 4 * (d_model**2 + d_model) + 2 * d_model * d_ff + d_ff + d_model + 4 * d_model


def epochs_by_size(sources, tokens_read):
    total = sum(size for size, _ in sources.values())
    return {name: size / total * tokens_read / size for name, (size, _) in sources.items()}


def epochs_of_the_weight_alone(sources, tokens_read):
    return {name: weight for name, (_, weight) in sources.items()}


def epochs_upside_down(sources, tokens_read):
    return {name: size / (weight * tokens_read) for name, (size, weight) in sources.items()}


def days_of_the_forward_pass(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return 2 * n_parameters * n_tokens / (n_devices * peak_flops * utilization) / 86_400


def days_at_peak(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return 6 * n_parameters * n_tokens / (n_devices * peak_flops) / 86_400


def days_of_one_device(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return 6 * n_parameters * n_tokens / (peak_flops * utilization) / 86_400


WRONG = {
    "1.1": [
        (bits_in_nats, "logarithm to base 2"),
        (bits_of_the_mean, "the average afterwards"),
        (bits_with_the_sign_lost, "turn the sign"),
    ],
    "1.2": [
        (bigrams_turned_round, "yours is {8: {7: 1}, 7: {8: 1}, 9: {7: 1}}"),
        (bigrams_with_the_end_joined_to_the_start, "9: {7: 1}}. Each token"),
        (bigrams_as_a_set, "every occurrence"),
    ],
    "1.3": [
        (smoothing_added_to_each, "the shorter one decides alone"),
        (smoothing_not_divided, "Divide by count(c) + s"),
        (smoothing_half_and_half, "are spread as the shorter context predicts"),
    ],
    "1.4": [
        (draw_the_likeliest, "the third stretch"),
        (draw_with_the_wrong_edge, "begins at its left end"),
        (draw_one_too_far, "first half of the line"),
        (draw_from_sorted_probabilities, "side by side as they come"),
        (right_until_rounding, "rounded to a little less than 1"),
        (draw_the_last_id_beyond_the_sum, "has no probability and must not be drawn"),
    ],
    "1.5": [
        (mask_turned_around, "turned around"),
        (mask_of_the_past_and_the_next, "Rows read, columns are read"),
        (mask_without_oneself, "should read itself"),
        (mask_where_only_the_prefix_reads_freely, "may read the whole prefix"),
    ],
    "1.6": [
        (block_without_biases, "yours is 6"),
        (block_without_output_projection, "yours is 14"),
        (block_of_fixed_width, "is an argument"),
    ],
    "1.7": [
        (epochs_by_size, "yours is 0.238"),
        (epochs_upside_down, "yours is 6.6"),
        (epochs_of_the_weight_alone, "yours is 0.6"),
    ],
    "1.8": [
        (days_of_the_forward_pass, "6 N D operations"),
        (days_at_peak, "1e15, 0.5) should be"),
        (days_of_one_device, "8, 1e15, 1.0) should be"),
    ],
}
