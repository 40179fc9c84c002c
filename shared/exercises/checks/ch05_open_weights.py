"""Checks of the exercises in chapter 5's side room `open_weights`."""

import math
import struct

import torch

from shared.exercises import expect, expect_close, expect_equal

BLOCK = struct.pack("<e", 0.5) + bytes((i % 16) | ((15 - i) % 16) << 4 for i in range(16))
NAMES = {
    "model.embed_tokens.weight": "token_embedding.weight",
    "model.norm.weight": "final_norm.weight",
    "lm_head.weight": "head.weight",
    "model.layers.0.input_layernorm.weight": "blocks.0.norm1.weight",
    "model.layers.0.post_attention_layernorm.weight": "blocks.0.norm2.weight",
    "model.layers.3.self_attn.o_proj.weight": "blocks.3.attention.out_proj.weight",
    "model.layers.3.self_attn.q_proj.bias": "blocks.3.attention.q_proj.bias",
    "model.layers.27.mlp.gate_proj.weight": "blocks.27.feed_forward.gate_proj.weight",
}


def check_q4_0(fn) -> None:
    expected = torch.tensor([0.5 * (i - 8) for i in range(16)] + [0.5 * (15 - i - 8) for i in range(16)])
    got = torch.as_tensor(fn(BLOCK))
    expect(got.numel() == 32, f"A block holds 32 numbers, yours has {got.numel()}: each byte holds two of them.")
    hint = "The low halves of all bytes are numbers 0 to 15, and the high halves are numbers 16 to 31."
    expect_close("The first 16 numbers", got.flatten()[:16], expected[:16], "The scale is 0.5; 8 stands for zero.")
    expect_close("The last 16 numbers", got.flatten()[16:], expected[16:], hint)
    negative = torch.as_tensor(fn(struct.pack("<e", -0.25) + bytes(16)))
    expect_close("16 zero bytes with the scale -0.25", negative, torch.full((32,), 2.0), "A scale may be negative.")


def check_bits_per_byte(fn) -> None:
    hint = "Total surprise in bits, divided by the bytes of the text; one nat is 1 / ln 2 bits."
    expect_close("bits_per_byte_of(2.0, 3, 'four')", fn(2.0, 3, "four"), 6 / math.log(2) / 4, hint)
    hint = "A byte is not a letter: these four letters take more than four bytes in UTF-8."
    expect_close("bits_per_byte_of(2.0, 3, 'fünf')", fn(2.0, 3, "fünf"), 6 / math.log(2) / 5, hint)


def check_our_name(fn) -> None:
    for theirs, ours in NAMES.items():
        hint = "Look at the table above; a block may have a number of two digits, and the last word stays."
        expect_equal(f"our_name({theirs!r})", fn(theirs), ours, hint)


CHECKS = {
    "5w.1": check_q4_0,
    "5w.2": check_bits_per_byte,
    "5w.3": check_our_name,
}
