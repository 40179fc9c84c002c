"""Answers to the exercises of chapter 4's room `inference`."""

import torch


def rounded_in_groups(weight, n_bits, size):
    groups = weight.unflatten(1, (-1, size))  # (F, D / size, size)
    scale = groups.abs().amax(dim=-1, keepdim=True) / (2 ** (n_bits - 1) - 1)
    return ((groups / scale.clamp(min=1e-30)).round() * scale).flatten(1)


def kept_and_replacement(p, q):
    more = (p - q).clamp(min=0)
    return torch.minimum(p, q).sum(), more / more.sum() if more.sum() > 0 else p


def positions_and_mask(n_pads, length):
    place = torch.arange(length)
    positions = (place - n_pads[:, None]).clamp(min=0)  # (B, T)
    causal, alone = place <= place[:, None], place == place[:, None]  # (T, T) each
    return positions, causal & (place >= n_pads[:, None, None]) | alone


SOLUTIONS = {
    "4i.1": (
        rounded_in_groups,
        """The scale is what one step is worth: the largest weight of the group, divided by the largest number. The tiny
        bound keeps a group of zeros from dividing by zero; its scale stays 0, and so do its weights.""",
    ),
    "4i.2": (
        kept_and_replacement,
        """A token is drawn with probability q and kept with min(1, p/q): together min(p, q). What is missing to p is
        max(0, p - q), and its sum is the probability of a refusal, so that scaling it to 1 makes the books balance.""",
    ),
    "4i.3": (
        positions_and_mask,
        """The comparison with n_pads hides padding from every token, from padding as well; the diagonal gives each
        token itself back. For real tokens the diagonal is part of the causal mask already.""",
    ),
}
