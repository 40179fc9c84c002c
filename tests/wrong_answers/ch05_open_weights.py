"""Classic mistakes in the exercises of `open_weights`, each with a fragment of the sentence it must get."""

import math
import re
import struct

import torch


def halves(block):
    return torch.tensor([byte & 15 for byte in block[2:]]), torch.tensor([byte >> 4 for byte in block[2:]])


def scale_of(block):
    return struct.unpack("<e", block[:2])[0]


def without_the_zero(block):
    return scale_of(block) * torch.cat(halves(block))


def high_halves_first(block):
    return scale_of(block) * (torch.cat(halves(block)[::-1]) - 8)


def neighbors_in_a_byte(block):
    return scale_of(block) * (torch.stack(halves(block), dim=1).flatten() - 8)


def low_halves_only(block):
    return scale_of(block) * (halves(block)[0] - 8)


def with_a_minimum(block):
    low, high = halves(block)
    return scale_of(block) * torch.cat([low, high]) - 8


def scale_as_a_whole_number(block):
    return struct.unpack("<H", block[:2])[0] * (torch.cat(halves(block)) - 8.0)


def scale_without_its_sign(block):
    return abs(scale_of(block)) * (torch.cat(halves(block)) - 8)


def big_endian(block):
    return struct.unpack(">e", block[:2])[0] * (torch.cat(halves(block)) - 8)


def high_halves_not_shifted(block):
    low = torch.tensor([byte & 15 for byte in block[2:]])
    return scale_of(block) * (torch.cat([low, torch.tensor([byte & 240 for byte in block[2:]])]) - 8)


def in_nats(nats, n_tokens, text):
    return nats * n_tokens / len(text.encode())


def times_ln_2(nats, n_tokens, text):
    return nats * n_tokens * math.log(2) / len(text.encode())


def per_token(nats, n_tokens, text):
    return nats / math.log(2)


def per_text(nats, n_tokens, text):
    return nats * n_tokens / math.log(2)


def mean_of_a_mean(nats, n_tokens, text):
    return nats / math.log(2) / len(text.encode())


def per_letter(nats, n_tokens, text):
    return nats * n_tokens / math.log(2) / len(text)


def tokens_upside_down(nats, n_tokens, text):
    return nats / math.log(2) * len(text.encode()) / n_tokens


def renamed(theirs, names):
    for old, new in names:
        theirs = re.sub(old, new, theirs)
    return theirs


TABLE = [
    (r"^model\.embed_tokens", "token_embedding"),
    (r"^model\.norm", "final_norm"),
    (r"^lm_head", "head"),
    (r"^model\.layers\.(\d+)\.", r"blocks.\1."),
    (r"input_layernorm", "norm1"),
    (r"post_attention_layernorm", "norm2"),
    (r"self_attn\.o_proj", "attention.out_proj"),
    (r"self_attn", "attention"),
    (r"mlp", "feed_forward"),
]


def as_it_stands(theirs):
    return theirs


def blocks_still_layers(theirs):
    return renamed(theirs, [*TABLE[:3], ("^model.", ""), *TABLE[4:]])


def norms_exchanged(theirs):
    return renamed(theirs, [*TABLE[:4], (TABLE[4][0], "norm2"), (TABLE[5][0], "norm1"), *TABLE[6:]])


def both_norms_the_same(theirs):
    return renamed(theirs, [*TABLE[:4], (r"(input|post_attention)_layernorm", "norm1"), *TABLE[6:]])


def output_kept_its_name(theirs):
    return renamed(theirs, [*TABLE[:6], *TABLE[7:]])


def always_weight(theirs):
    return renamed(theirs, [*TABLE, (r"bias$", "weight")])


def one_digit(theirs):
    return renamed(theirs, [*TABLE[:3], (r"^model\.layers\.(\d)\d?\.", r"blocks.\1."), *TABLE[4:]])


def the_last_norm_is_norm(theirs):
    return renamed(theirs, [TABLE[0], ("^model.norm", "norm"), *TABLE[2:]])


WRONG = {
    "5w.1": [
        (without_the_zero, "8 stands for zero"),
        (high_halves_first, "yours is [3.5, 3, 2.5"),
        (neighbors_in_a_byte, "yours is [-4, 3.5"),
        (low_halves_only, "each byte holds two of them"),
        (with_a_minimum, "yours is [-8, -7.5"),
        (scale_as_a_whole_number, "The first 16 numbers"),
        (scale_without_its_sign, "A scale may be negative"),
        (big_endian, "The first 16 numbers"),
        (high_halves_not_shifted, "The last 16 numbers"),
    ],
    "5w.2": [
        (in_nats, "one nat is 1 / ln 2 bits"),
        (times_ln_2, "one nat is 1 / ln 2 bits"),
        (per_token, "Total surprise in bits"),
        (per_text, "divided by the bytes of the text"),
        (mean_of_a_mean, "Total surprise"),
        (per_letter, "A byte is not a letter"),
        (tokens_upside_down, "Total surprise"),
    ],
    "5w.3": [
        (as_it_stands, "yours is 'model.embed_tokens.weight'"),
        (blocks_still_layers, "yours is 'layers.0.norm1.weight'"),
        (norms_exchanged, "should be 'blocks.0.norm1.weight', yours is 'blocks.0.norm2.weight'"),
        (both_norms_the_same, "should be 'blocks.0.norm2.weight', yours is 'blocks.0.norm1.weight'"),
        (output_kept_its_name, "yours is 'blocks.3.attention.o_proj.weight'"),
        (always_weight, "yours is 'blocks.3.attention.q_proj.weight'"),
        (one_digit, "yours is 'blocks.2.feed_forward.gate_proj.weight'"),
        (the_last_norm_is_norm, "should be 'final_norm.weight', yours is 'norm.weight'"),
    ],
}
