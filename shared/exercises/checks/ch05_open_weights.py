"""Checks of the exercises in chapter 5's side room `open_weights`."""

import math
import struct

import torch

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import whole_numbers, words

BLOCK = struct.pack("<e", 0.5) + bytes((i % 16) | ((15 - i) % 16) << 4 for i in range(16))
UNSORTED = struct.pack("<e", 0.3) + bytes.fromhex("9c0351e27f48b6a01dd5836e2af9c47b")
AROUND = {"model.embed_tokens": "token_embedding", "model.norm": "final_norm", "lm_head": "head"}
IN_A_BLOCK = {
    "input_layernorm.weight": "norm1.weight",
    "post_attention_layernorm.weight": "norm2.weight",
    "self_attn.o_proj.weight": "attention.out_proj.weight",
    **{f"self_attn.{x}_proj.{kind}": f"attention.{x}_proj.{kind}" for x in "qkv" for kind in ("weight", "bias")},
    **{f"mlp.{part}_proj.weight": f"feed_forward.{part}_proj.weight" for part in ("gate", "up", "down")},
}
NAMES = {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in AROUND.items()} | {
    f"model.layers.{block}.{theirs}": f"blocks.{block}.{ours}"
    for block in (3, 27, 131)
    for theirs, ours in IN_A_BLOCK.items()
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
    (scale,) = struct.unpack("<e", UNSORTED[:2])
    halves = [int(digit, 16) for digit in UNSORTED[2:].hex()]
    expected = scale * (torch.tensor(halves[1::2] + halves[::2]) - 8)
    hint = "Read the scale, both its bytes, and all sixteen bytes behind it."
    expect_close(f"The block {UNSORTED.hex(' ')}", torch.as_tensor(fn(UNSORTED)).flatten(), expected, hint)
    halves = whole_numbers(32, 0, 15)
    for scale in (0.25, 2.0**-14, 40.0):
        block = struct.pack("<e", scale) + bytes(low | high << 4 for low, high in zip(halves[:16], halves[16:]))
        got = torch.as_tensor(fn(block)).flatten() / scale
        what = f"The block {block.hex(' ')}, divided by its scale"
        expect_close(what, got, torch.tensor(halves) - 8.0, "Any scale, any bytes.")


def check_bits_per_byte(fn) -> None:
    hint = "Total surprise in bits, divided by the bytes of the text; one nat is 1 / ln 2 bits."
    expect_close("bits_per_byte_of(2.0, 3, 'four')", fn(2.0, 3, "four"), 6 / math.log(2) / 4, hint)
    expect_close(
        "bits_per_byte_of(1.5, 7, 'four words of text')",
        fn(1.5, 7, "four words of text"),
        10.5 / math.log(2) / 18,
        hint,
    )
    hint = "A byte is not a letter: these four letters take more than four bytes in UTF-8."
    expect_close("bits_per_byte_of(2.0, 3, 'fünf')", fn(2.0, 3, "fünf"), 6 / math.log(2) / 5, hint)
    hint = "The sign € takes three bytes, and the space behind it is a byte of the text too."
    expect_close("bits_per_byte_of(3.25, 2, '€€ ')", fn(3.25, 2, "€€ "), 6.5 / math.log(2) / 7, hint)
    n_tokens, n_signs = whole_numbers(2, 2, 9)
    text = " ".join(words(n_tokens)) + "€" * n_signs
    got = fn(math.log(2), n_tokens, text)
    expect_close(f"bits_per_byte_of(ln 2, {n_tokens}, {text!r})", got, n_tokens / (len(text) + 2 * n_signs), hint)


def check_our_name(fn) -> None:
    for theirs, ours in NAMES.items():
        hint = "Look at the table above; a block may have a number of three digits, and the last word stays."
        expect_equal(f"our_name({theirs!r})", fn(theirs), ours, hint)
    (block,) = whole_numbers(1, 200, 900)
    for theirs, ours in IN_A_BLOCK.items():
        name = f"model.layers.{block}.{theirs}"
        expect_equal(f"our_name({name!r})", fn(name), f"blocks.{block}.{ours}", "A block may have any number.")


CHECKS = {
    "5w.1": check_q4_0,
    "5w.2": check_bits_per_byte,
    "5w.3": check_our_name,
}
