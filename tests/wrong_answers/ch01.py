"""Classic mistakes in chapter 1's exercises, each with a fragment of the sentence it must get."""

import math
from collections import Counter, defaultdict


def bits_in_nats(probabilities):
    return sum(-math.log(p) for p in probabilities) / len(probabilities)


def bits_of_the_mean(probabilities):
    return -math.log2(sum(probabilities) / len(probabilities))


def bits_with_the_sign_lost(probabilities):
    return sum(math.log2(p) for p in probabilities) / len(probabilities)


def bits_of_different_probabilities(probabilities):
    return sum(-math.log2(p) for p in set(probabilities)) / len(set(probabilities))


def bits_of_the_product(probabilities):
    return -math.log2(math.prod(probabilities)) / len(probabilities)


def bits_rounded(probabilities):
    return round(sum(-math.log2(p) for p in probabilities) / len(probabilities), 2)


def bits_in_total(probabilities):
    return sum(-math.log2(p) for p in probabilities)


def bits_that_eat_the_list(probabilities):
    n_tokens, total = len(probabilities), 0.0
    while probabilities:
        total -= math.log2(probabilities.pop())
    return total / n_tokens


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


def bigrams_without_zero(ids):
    counts = defaultdict(Counter)
    for first, second in zip(ids, ids[1:]):
        if first and second:
            counts[first][second] += 1
    return counts


def bigrams_without_overlap(ids):
    counts = defaultdict(Counter)
    for first, second in zip(ids[::2], ids[1::2]):
        counts[first][second] += 1
    return counts


def bigrams_that_eat_the_ids(ids):
    counts = defaultdict(Counter)
    while len(ids) > 1:
        first = ids.pop(0)
        counts[first][ids[0]] += 1
    return counts


def bigrams_in_one_table(ids):
    return Counter(zip(ids, ids[1:]))


def bigrams_one_too_many(ids):
    counts = defaultdict(Counter)
    for place in range(len(ids)):
        counts[ids[place]][ids[place + 1]] += 1
    return counts


def smoothing_of_four(counts, shorter, s):
    return [(count + 4 * p) / (sum(counts) + 4) for count, p in zip(counts, shorter)]


def smoothing_in_place(counts, shorter, s):
    total = sum(counts)
    for i, p in enumerate(shorter):
        counts[i] = (counts[i] + s * p) / (total + s)
    return counts


def smoothing_rounded(counts, shorter, s):
    return [round((count + s * p) / (sum(counts) + s), 2) for count, p in zip(counts, shorter)]


def smoothing_where_nothing_was_seen(counts, shorter, s):
    return [count / sum(counts) for count in counts] if sum(counts) else shorter


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


def draw_with_a_tolerance(probabilities, u):
    reached = 0.0
    for token, p in enumerate(probabilities):
        reached += p
        if u < reached - 1e-9:
            return token
    return max(token for token, p in enumerate(probabilities) if p)


def draw_that_adds_in_place(probabilities, u):
    for token in range(1, len(probabilities)):
        probabilities[token] += probabilities[token - 1]
    return next((token for token, reached in enumerate(probabilities) if u < reached), len(probabilities) - 1)


def mask_of_numbers(n_tokens, n_prefix):
    return [[int(c < n_prefix or c <= row) for c in range(n_tokens)] for row in range(n_tokens)]


def mask_with_one_row_for_all(n_tokens, n_prefix):
    if n_prefix == n_tokens:
        return [[True] * n_tokens] * n_tokens
    return [[c < n_prefix or c <= row for c in range(n_tokens)] for row in range(n_tokens)]


def mask_with_a_prefix_of_two(n_tokens, n_prefix):
    n_prefix = 2 if 0 < n_prefix < n_tokens else n_prefix
    return [[c < n_prefix or c <= row for c in range(n_tokens)] for row in range(n_tokens)]


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


def block_with_half_the_norms_numbers(d_model, d_ff):
    return 4 * (d_model**2 + d_model) + 2 * d_model * d_ff + d_ff + d_model + d_model


def block_without_the_output_bias(d_model, d_ff):
    return 4 * d_model**2 + 3 * d_model + 2 * d_model * d_ff + d_ff + d_model + 4 * d_model


def block_with_the_biases_of_the_wider_side(d_model, d_ff):
    return 4 * (d_model**2 + d_model) + 2 * d_model * d_ff + 2 * d_ff + 4 * d_model


def epochs_of_weights_that_sum_to_one(sources, tokens_read):
    total = sum(weight for _, weight in sources.values())
    return {name: weight / total * tokens_read / size for name, (size, weight) in sources.items()}


def epochs_in_the_sources(sources, tokens_read):
    for name, (size, weight) in list(sources.items()):
        sources[name] = weight * tokens_read / size
    return sources


def epochs_at_most_one(sources, tokens_read):
    return {name: min(1.0, weight * tokens_read / size) for name, (size, weight) in sources.items()}


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


def days_of_twenty_tokens_a_parameter(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return 6 * n_parameters * 20 * n_parameters / (n_devices * peak_flops * utilization) / 86_400


def days_of_one_model(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return 6 * 1e9 * n_tokens / (n_devices * peak_flops * utilization) / 86_400


def days_in_hours(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return 6 * n_parameters * n_tokens / (n_devices * peak_flops * utilization) / 3600


def bits_capped(probabilities):
    return sum(-math.log2(max(p, 1e-9)) for p in probabilities) / len(probabilities)


def smoothing_by_whole_tokens(counts, shorter, s):
    return [(count + int(s) * p) / (sum(counts) + int(s)) for count, p in zip(counts, shorter)]


def smoothing_as_text(counts, shorter, s):
    return [str((count + s * p) / (sum(counts) + s)) for count, p in zip(counts, shorter)]


def epochs_of_two_sources(sources, tokens_read):
    return {name: weight * tokens_read / size for name, (size, weight) in list(sources.items())[:2]}


def epochs_as_text(sources, tokens_read):
    return {name: str(weight * tokens_read / size) for name, (size, weight) in sources.items()}


def bits_capped_far_away(probabilities):
    return sum(-math.log2(max(p, 1e-30)) for p in probabilities) / len(probabilities)


def draw_scaled_by_the_sum(probabilities, u):
    return right_until_rounding(probabilities, u * sum(probabilities))


def draw_among_eleven(probabilities, u):
    token = right_until_rounding(probabilities[:11], u)
    return max(i for i, p in enumerate(probabilities[:11]) if p) if token is None else token


def draw_a_decimal_number(probabilities, u):
    return float(right_until_rounding(probabilities, u))


def block_as_a_decimal_number(d_model, d_ff):
    return 4.0 * (d_model**2 + d_model) + 2 * d_model * d_ff + d_ff + d_model + 4 * d_model


def bigrams_of_the_first_eight_ids(ids):
    counts = defaultdict(Counter)
    for first, second in zip(ids[:8], ids[1:8]):
        counts[first][second] += 1
    return counts


def bigrams_counted_in_fractions(ids):
    counts = defaultdict(dict)
    for first, second in zip(ids, ids[1:]):
        counts[first][second] = counts[first].get(second, 0.0) + 1.0
    return dict(counts)


def bigrams_in_one_dictionary(ids, counts=defaultdict(Counter)):  # noqa: B006
    counts.clear()
    for first, second in zip(ids, ids[1:]):
        counts[first][second] += 1
    return counts


def smoothing_rounded_to_six_digits(counts, shorter, s):
    total = sum(counts)
    return [round((count + s * p) / (total + s), 6) for count, p in zip(counts, shorter)]


def days_rounded_to_six_digits(n_parameters, n_tokens, n_devices, peak_flops, utilization):
    return round(6 * n_parameters * n_tokens / (n_devices * peak_flops * utilization) / 86_400, 6)


WRONG = {
    "1.1": [
        (bits_in_nats, "logarithm to base 2"),
        (bits_of_the_mean, "the average afterwards"),
        (bits_with_the_sign_lost, "turn the sign"),
        (bits_of_different_probabilities, "as often as it comes"),
        (bits_of_the_product, "raised ValueError"),
        (bits_rounded, "without rounding it"),
        (bits_in_total, "yours is 4"),
        (bits_that_eat_the_list, "has changed `probabilities`"),
        (bits_capped, "do not cap its surprise"),
        (bits_capped_far_away, "2 ** -1000"),
    ],
    "1.2": [
        (bigrams_turned_round, "yours is {8: {7: 1}, 7: {8: 1}, 9: {7: 1}}"),
        (bigrams_with_the_end_joined_to_the_start, "9: {7: 1}}. Each token"),
        (bigrams_as_a_set, "every occurrence"),
        (bigrams_without_zero, "0 as well"),
        (bigrams_without_overlap, "yours is {7: {8: 1, 9: 1}}"),
        (bigrams_that_eat_the_ids, "has changed `ids`"),
        (bigrams_in_one_table, "a dictionary of dictionaries"),
        (bigrams_one_too_many, "raised IndexError"),
        (bigrams_of_the_first_eight_ids, "A text may be of any length, and a count of any"),
        (bigrams_counted_in_fractions, "return whole numbers"),
        (bigrams_in_one_dictionary, "has changed with the next call"),
    ],
    "1.3": [
        (smoothing_added_to_each, "the shorter one decides alone"),
        (smoothing_not_divided, "Divide by count(c) + s"),
        (smoothing_half_and_half, "are spread as the shorter context predicts"),
        (smoothing_of_four, "Without imaginary tokens the counts decide"),
        (smoothing_in_place, "has changed `counts`"),
        (smoothing_rounded, "yours is [0.21, 0.14, 0.21, 0.43]"),
        (smoothing_where_nothing_was_seen, "yours is [1.0, 0.0]"),
        (smoothing_by_whole_tokens, "s need not be a whole number"),
        (smoothing_as_text, "a list with one probability"),
        (smoothing_rounded_to_six_digits, "agrees to a few digits only"),
    ],
    "1.4": [
        (draw_the_likeliest, "the third stretch"),
        (draw_with_the_wrong_edge, "begins at its left end"),
        (draw_one_too_far, "first half of the line"),
        (draw_from_sorted_probabilities, "side by side as they come"),
        (right_until_rounding, "rounded to a little less than 1"),
        (draw_the_last_id_beyond_the_sum, "has no probability and must not be drawn"),
        (draw_with_a_tolerance, "just below 0.5"),
        (draw_that_adds_in_place, "has changed `probabilities`"),
        (draw_scaled_by_the_sum, "compared with the sums as they are"),
        (draw_among_eleven, "any number of tokens"),
        (draw_a_decimal_number, "yours is a float"),
    ],
    "1.5": [
        (mask_turned_around, "turned around"),
        (mask_of_the_past_and_the_next, "Rows read, columns are read"),
        (mask_without_oneself, "should read itself"),
        (mask_where_only_the_prefix_reads_freely, "may read the whole prefix"),
        (mask_of_numbers, "yours holds int"),
        (mask_with_one_row_for_all, "one and the same list"),
        (mask_with_a_prefix_of_two, "Three of five tokens"),
    ],
    "1.6": [
        (block_without_biases, "yours is 6"),
        (block_without_output_projection, "yours is 14"),
        (block_of_fixed_width, "is an argument"),
        (block_with_half_the_norms_numbers, "yours is 13"),
        (block_without_the_output_bias, "yours is 15"),
        (block_with_the_biases_of_the_wider_side, "yours is 7090176"),
        (block_as_a_decimal_number, "yours is a float"),
    ],
    "1.7": [
        (epochs_by_size, "yours is 0.238"),
        (epochs_upside_down, "yours is 6.6"),
        (epochs_of_the_weight_alone, "yours is 0.6"),
        (epochs_of_weights_that_sum_to_one, "Take the weights as they are"),
        (epochs_in_the_sources, "has changed `sources`"),
        (epochs_at_most_one, "should be 2, yours is 1"),
        (epochs_of_two_sources, "any number of sources"),
        (epochs_as_text, "should be 0.15, yours is"),
    ],
    "1.8": [
        (days_of_the_forward_pass, "6 N D operations"),
        (days_at_peak, "1e15, 0.5) should be"),
        (days_of_one_device, "8, 1e15, 1.0) should be"),
        (days_of_twenty_tokens_a_parameter, "need not be twenty"),
        (days_of_one_model, "every argument counts"),
        (days_in_hours, "yours is 33.33"),
        (days_rounded_to_six_digits, "agrees to a few digits only"),
    ],
}
