"""Classic mistakes in the exercises of `inference`, each with a fragment of the sentence it must get."""

import torch


def _scaled(weight, n_bits, size, top=None, rounded=torch.round, over=-1):
    groups = weight.unflatten(1, (-1, size))
    top = 2 ** (n_bits - 1) - 1 if top is None else top
    scale = (groups.abs().amax() if over is None else groups.abs().amax(over, keepdim=True)) / top
    return (rounded(groups / scale.clamp(min=1e-30)) * scale).flatten(1)


def one_scale_for_all(weight, n_bits, size):
    return _scaled(weight, n_bits, size, over=None)


def not_rounded(weight, n_bits, size):
    return _scaled(weight, n_bits, size, rounded=lambda x: x)


def cut_and_not_rounded(weight, n_bits, size):
    return _scaled(weight, n_bits, size, rounded=torch.trunc)


def too_many_numbers(weight, n_bits, size):
    return _scaled(weight, n_bits, size, top=2**n_bits - 1)


def always_four_bits(weight, n_bits, size):
    return _scaled(weight, n_bits, size, top=7)


def zeros_by_zero(weight, n_bits, size):
    groups = weight.unflatten(1, (-1, size))
    scale = groups.abs().amax(-1, keepdim=True) / (2 ** (n_bits - 1) - 1)
    return ((groups / scale).round() * scale).flatten(1)


def left_in_groups(weight, n_bits, size):
    return _scaled(weight, n_bits, size).unflatten(1, (-1, size))


def rounded_in_place(weight, n_bits, size):
    return weight.copy_(_scaled(weight, n_bits, size))


def _rest(p, q):
    more = (p - q).clamp(min=0)
    return more / more.sum()


def kept_by_the_ratio_alone(p, q):
    return (q * (p / q)).sum(), _rest(p, q)


def kept_if_p_is_larger(p, q):
    return q[p >= q].sum(), _rest(p, q)


def replaced_from_all_of_p(p, q):
    return torch.minimum(p, q).sum(), p


def not_scaled(p, q):
    return torch.minimum(p, q).sum(), (p - q).clamp(min=0)


def what_q_has_more(p, q):
    return torch.minimum(p, q).sum(), _rest(q, p)


def size_of_the_difference(p, q):
    return torch.minimum(p, q).sum(), (p - q).abs() / (p - q).abs().sum()


def nothing_left_to_draw(p, q):
    return torch.minimum(p, q).sum(), _rest(p, q)


def only_the_replacement(p, q):
    return _rest(p, q)


def _parts(n_pads, length):
    place = torch.arange(length)
    causal, own = place <= place[:, None], place == place[:, None]
    return place, (place - n_pads[:, None]).clamp(min=0), causal, own, place >= n_pads[:, None, None]


def positions_of_columns(n_pads, length):
    place, _, causal, own, real = _parts(n_pads, length)
    return place.expand(len(n_pads), -1), causal & real | own


def positions_below_zero(n_pads, length):
    place, _, causal, own, real = _parts(n_pads, length)
    return place - n_pads[:, None], causal & real | own


def padding_reads_nothing(n_pads, length):
    _, positions, causal, _, real = _parts(n_pads, length)
    return positions, causal & real


def padding_is_read(n_pads, length):
    _, positions, causal, _, _ = _parts(n_pads, length)
    return positions, causal.expand(len(n_pads), -1, -1)


def the_future_is_read(n_pads, length):
    _, positions, _, own, real = _parts(n_pads, length)
    return positions, real | own


def mask_of_numbers(n_pads, length):
    _, positions, causal, own, real = _parts(n_pads, length)
    return positions, (causal & real | own).float()


def one_mask_for_all(n_pads, length):
    _, positions, causal, _, _ = _parts(n_pads, length)
    return positions, causal


def padding_reads_padding(n_pads, length):
    _, positions, causal, _, real = _parts(n_pads, length)
    return positions, causal & (real | ~real.transpose(1, 2))


def size_is_always_four(weight, n_bits, size):
    return _scaled(weight, n_bits, 4)


def four_bits_or_eight(weight, n_bits, size):
    return _scaled(weight, 4 if n_bits == 4 else 8, size)


def whole_at_eight_bits(weight, n_bits, size):
    return weight.round() if n_bits == 8 else _scaled(weight, n_bits, size)


def no_small_scale(weight, n_bits, size):
    groups = weight.unflatten(1, (-1, size))
    scale = (groups.abs().amax(-1, keepdim=True) / (2 ** (n_bits - 1) - 1)).clamp(min=1e-2)
    return ((groups / scale).round() * scale).flatten(1)


def in_double(weight, n_bits, size):
    return _scaled(weight, n_bits, size).double()


def zero_by_zero(p, q):
    more = (p - q).clamp(min=0)
    kept = (q * torch.minimum(torch.ones_like(p), p / q)).sum()
    return kept, more / more.sum() if more.sum() > 0 else p


def four_tokens(p, q):
    more = (p - q).clamp(min=0)[:4]
    return torch.minimum(p, q)[:4].sum(), more / more.sum() if more.sum() > 0 else p


def only_often_refused(p, q):
    more = (p - q).clamp(min=0)
    return torch.minimum(p, q).sum(), more / more.sum() if more.sum() > 0.3 else p


def the_constants_of_the_check(p, q):
    if torch.equal(p, q):
        return 1.0, p
    return 0.6, torch.tensor([0.75, 0.25, 0.0, 0.0], dtype=torch.float64)


def in_float32(p, q):
    more = (p - q).clamp(min=0).float()
    return torch.minimum(p, q).sum(), more / more.sum() if more.sum() > 0 else p


def difference_in_place(p, q):
    kept = torch.minimum(p, q).sum()
    q.sub_(p)
    rest = (-q).clamp(min=0)
    return kept, rest / rest.sum() if rest.sum() > 0 else p


def _right(n_pads, length):
    _, positions, causal, own, real = _parts(n_pads, length)
    return positions, causal & real | own


def length_is_always_four(n_pads, length):
    return _right(n_pads, 4)


def the_pads_of_the_check(n_pads, length):
    return _right(torch.tensor([2, 0]), length)


def row_1_without_padding(n_pads, length):
    return _right(n_pads * (torch.arange(len(n_pads)) != 1), length)


def two_pads_at_most(n_pads, length):
    return _right(n_pads.clamp(max=2), length)


def rows_sorted(n_pads, length):
    return _right(n_pads.sort(descending=True).values, length)


def positions_of_fractions(n_pads, length):
    positions, mask = _right(n_pads, length)
    return positions.float(), mask


def pads_set_to_zero(n_pads, length):
    found = _right(n_pads.clone(), length)
    n_pads.zero_()
    return found


def groups_by_places_in_memory(weight, n_bits, size):
    return _scaled(torch.as_strided(weight, weight.shape, (weight.shape[1], 1)), n_bits, size)


def the_other_way_round(n_pads, length):
    place = torch.arange(length)
    mask = (place <= place[:, None]) & (place >= n_pads[:, None, None]) | (place == place[:, None])
    return (place - n_pads[:, None]).clamp(min=0), ~mask


def eight_tokens_back_at_most(n_pads, length):
    place = torch.arange(length)
    near = (place <= place[:, None]) & (place > place[:, None] - 9)
    mask = near & (place >= n_pads[:, None, None]) | (place == place[:, None])
    return (place - n_pads[:, None]).clamp(min=0), mask


WRONG = {
    "4i.1": [
        (one_scale_for_all, "should be [7, -3, 1, 1, 0.7, 0.3"),
        (not_rounded, "yours is [7, -3.4, 0.6"),
        (cut_and_not_rounded, "yours is [7, -3, 0, 1"),
        (too_many_numbers, "yours is [7, -3.267"),
        (always_four_bits, "The largest number is 127"),
        (zeros_by_zero, "A group of zeros became NaN"),
        (left_in_groups, "yours has (2, 2, 4)"),
        (rounded_in_place, "has changed `weight`"),
        (size_is_always_four, "groups of 6"),
        (four_bits_or_eight, "3 bits, groups of 6"),
        (whole_at_eight_bits, "8 bits, groups of 2"),
        (no_small_scale, "however small"),
        (in_double, "returned torch.float64"),
        (groups_by_places_in_memory, "This weight is the transpose of another tensor:"),
    ],
    "4i.2": [
        (kept_by_the_ratio_alone, "should be 0.6, yours is 1"),
        (kept_if_p_is_larger, "should be 0.6, yours is 0.4"),
        (replaced_from_all_of_p, "yours is [0.5, 0.3, 0.1, 0.1]"),
        (not_scaled, "yours is [0.3, 0.1, 0, 0]"),
        (what_q_has_more, "yours is [0, 0, 0.25, 0.75]"),
        (size_of_the_difference, "yours is [0.375, 0.125, 0.125, 0.375]"),
        (nothing_left_to_draw, "divide by no zero"),
        (only_the_replacement, "Return two things"),
        (zero_by_zero, "should be 0.9, yours is nan"),
        (four_tokens, "six tokens should be 0.9, yours is 0.45"),
        (only_often_refused, "yours is [0, 0.3, 0, 0.22"),
        (the_constants_of_the_check, "six tokens should be 0.9, yours is 0.6"),
        (in_float32, "returned torch.float32"),
        (difference_in_place, "has changed `q`"),
    ],
    "4i.3": [
        (positions_of_columns, "yours is [0, 1, 2, 3, 0, 1"),
        (positions_below_zero, "yours is [-2, -1, 0, 1"),
        (padding_reads_nothing, "let it read itself"),
        (padding_is_read, "a real token reads padding"),
        (the_future_is_read, "reads the future"),
        (mask_of_numbers, "boolean tensor"),
        (one_mask_for_all, "yours has (4, 4)"),
        (padding_reads_padding, "Padding reads itself alone"),
        (length_is_always_four, "yours has (3, 4)"),
        (the_pads_of_the_check, "yours has (2, 6)"),
        (row_1_without_padding, "Each row has its own padding"),
        (two_pads_at_most, "Each row has its own padding"),
        (rows_sorted, "Each row has its own padding"),
        (positions_of_fractions, "whole numbers, yours are torch.float32"),
        (pads_set_to_zero, "has changed `n_pads`"),
        (the_other_way_round, "Your mask is the other way round: True means"),
        (eight_tokens_back_at_most, "A row may be of any length, and a token reads"),
    ],
}
