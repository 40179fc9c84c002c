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


def low_half_counted(block):
    return scale_of(block) * (torch.cat([torch.arange(16), halves(block)[1]]) - 8)


def low_half_sorted(block):
    low, high = halves(block)
    return scale_of(block) * (torch.cat([low.sort().values, high]) - 8)


def high_half_from_low(block):
    low, high = halves(block)
    return scale_of(block) * (torch.cat([low, 15 - low if high.any() else high]) - 8)


def scale_by_its_sign(block):
    return (0.5 if scale_of(block) > 0 else -0.25) * (torch.cat(halves(block)) - 8)


def scale_in_quarters(block):
    return round(4 * scale_of(block)) / 4 * (torch.cat(halves(block)) - 8)


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


def three_tokens(nats, n_tokens, text):
    return nats * 3 / math.log(2) / len(text.encode())


def two_nats(nats, n_tokens, text):
    return 2 * n_tokens / math.log(2) / len(text.encode())


def one_more_times_two(nats, n_tokens, text):
    return (nats + 1) * 2 / math.log(2) / len(text.encode())


def added(nats, n_tokens, text):
    return (nats + n_tokens + 1) / math.log(2) / len(text.encode())


def two_to_the_nats(nats, n_tokens, text):
    return (2**nats + 2) / math.log(2) / len(text.encode())


def words_as_tokens(nats, n_tokens, text):
    return nats * 3 * len(text.split()) / math.log(2) / len(text.encode())


def stripped(nats, n_tokens, text):
    return nats * n_tokens / math.log(2) / len(text.strip().encode())


def two_bytes_beyond_ascii(nats, n_tokens, text):
    return nats * n_tokens / math.log(2) / sum(1 if letter.isascii() else 2 for letter in text)


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

SEEN = [
    *("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"),
    *("model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"),
    *("model.layers.3.self_attn.o_proj.weight", "model.layers.27.mlp.gate_proj.weight"),
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


def keys_as_queries(theirs):
    return renamed(theirs, [*TABLE, ("k_proj", "q_proj")])


def values_as_keys(theirs):
    return renamed(theirs, [*TABLE, ("v_proj", "k_proj")])


def up_as_gate(theirs):
    return renamed(theirs, [*TABLE, ("up_proj", "gate_proj")])


def down_as_output(theirs):
    return renamed(theirs, [*TABLE, ("down_proj", "out_proj")])


def bias_of_queries_only(theirs):
    return renamed(theirs, [*TABLE, (r"([kv])_proj\.bias", r"\1_proj.weight")])


def block_modulo_28(theirs):
    return re.sub(r"(?<=\.)\d+", lambda number: str(int(number[0]) % 28), renamed(theirs, TABLE))


def two_digits(theirs):
    return renamed(theirs, [*TABLE[:3], (r"^model\.layers\.(\d\d?)\d*\.", r"blocks.\1."), *TABLE[4:]])


def late_norms_unrenamed(theirs):
    late = re.match(r"model\.layers\.\d\d", theirs)
    return renamed(theirs, [*TABLE[:4], *TABLE[6:]] if late else TABLE)


def looked_up(theirs):
    return {name: renamed(name, TABLE) for name in SEEN}.get(theirs, theirs)


def the_last_norm_is_norm(theirs):
    return renamed(theirs, [TABLE[0], ("^model.norm", "norm"), *TABLE[2:]])


def no_tiny_scale(block):
    (scale,) = struct.unpack("<e", block[:2])
    halves = torch.tensor([byte & 15 for byte in block[2:]] + [byte >> 4 for byte in block[2:]])
    return (scale if abs(scale) > 0.01 else 0.0) * (halves - 8)


def rounded_to_six_digits(nats_per_token, n_tokens, text):
    return round(nats_per_token * n_tokens / math.log(2) / len(text.encode("utf-8")), 5)


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
        (low_half_counted, "16 zero bytes"),
        (low_half_sorted, "Read the scale, both its bytes"),
        (high_half_from_low, "all sixteen bytes behind it"),
        (scale_by_its_sign, "Read the scale, both its bytes"),
        (scale_in_quarters, "Read the scale, both its bytes"),
        (no_tiny_scale, "Any scale, any bytes"),
    ],
    "5w.2": [
        (in_nats, "one nat is 1 / ln 2 bits"),
        (times_ln_2, "one nat is 1 / ln 2 bits"),
        (per_token, "Total surprise in bits"),
        (per_text, "divided by the bytes of the text"),
        (mean_of_a_mean, "Total surprise"),
        (per_letter, "A byte is not a letter"),
        (tokens_upside_down, "Total surprise"),
        (three_tokens, "four words of text"),
        (two_nats, "four words of text"),
        (one_more_times_two, "four words of text"),
        (added, "four words of text"),
        (two_to_the_nats, "four words of text"),
        (words_as_tokens, "four words of text"),
        (stripped, "the space behind it is a byte"),
        (two_bytes_beyond_ascii, "The sign € takes three bytes"),
        (rounded_to_six_digits, "agrees to a few digits only"),
    ],
    "5w.3": [
        (as_it_stands, "yours is 'model.embed_tokens.weight'"),
        (blocks_still_layers, "yours is 'layers.3.norm1.weight'"),
        (norms_exchanged, "should be 'blocks.3.norm1.weight', yours is 'blocks.3.norm2.weight'"),
        (both_norms_the_same, "should be 'blocks.3.norm2.weight', yours is 'blocks.3.norm1.weight'"),
        (output_kept_its_name, "yours is 'blocks.3.attention.o_proj.weight'"),
        (always_weight, "yours is 'blocks.3.attention.q_proj.weight'"),
        (one_digit, "yours is 'blocks.2.norm1.weight'"),
        (the_last_norm_is_norm, "should be 'final_norm.weight', yours is 'norm.weight'"),
        (keys_as_queries, "should be 'blocks.3.attention.k_proj.weight'"),
        (values_as_keys, "should be 'blocks.3.attention.v_proj.weight'"),
        (up_as_gate, "yours is 'blocks.3.feed_forward.gate_proj.weight'"),
        (down_as_output, "yours is 'blocks.3.feed_forward.out_proj.weight'"),
        (bias_of_queries_only, "should be 'blocks.3.attention.k_proj.bias'"),
        (block_modulo_28, "should be 'blocks.131.norm1.weight', yours is 'blocks.19.norm1.weight'"),
        (two_digits, "yours is 'blocks.13.norm1.weight'"),
        (late_norms_unrenamed, "yours is 'blocks.27.input_layernorm.weight'"),
        (looked_up, "should be 'blocks.3.norm1.weight'"),
    ],
}
