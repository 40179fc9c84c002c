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


WRONG = {
    "4i.1": [
        (one_scale_for_all, "should be [7, -3, 1, 1, 0.7, 0.3"),
        (not_rounded, "yours is [7, -3.4, 0.6"),
        (cut_and_not_rounded, "yours is [7, -3, 0, 1"),
        (too_many_numbers, "yours is [7, -3.267"),
        (always_four_bits, "The largest number is 127"),
        (zeros_by_zero, "A group of zeros became NaN"),
        (left_in_groups, "yours has (2, 2, 4)"),
        (rounded_in_place, "changed the weight that it was given"),
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
    ],
}
