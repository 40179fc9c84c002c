"""Answers to the exercises of chapter 5's side room `open_weights`."""

import math
import re
import struct

import torch


def q4_0(block):
    (scale,) = struct.unpack("<e", block[:2])
    numbers = [byte & 15 for byte in block[2:]] + [byte >> 4 for byte in block[2:]]
    return scale * (torch.tensor(numbers) - 8)


def bits_per_byte_of(nats_per_token, n_tokens, text):
    return nats_per_token * n_tokens / math.log(2) / len(text.encode("utf-8"))


def our_name(theirs):
    whole = {
        "model.embed_tokens": "token_embedding",
        "model.norm": "final_norm",
        "lm_head": "head",
        "input_layernorm": "norm1",
        "post_attention_layernorm": "norm2",
        "self_attn.o_proj": "attention.out_proj",
    }
    part, kind = theirs.rsplit(".", 1)
    block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", part)
    if block is None:
        return f"{whole[part]}.{kind}"
    number, part = block.groups()
    part = whole.get(part, part.replace("self_attn", "attention").replace("mlp", "feed_forward"))
    return f"blocks.{number}.{part}.{kind}"


SOLUTIONS = {
    "5w.1": (
        q4_0,
        """Q4_0 has no minimum: the sixteen steps lie around zero, from -8 to 7 times the scale. Two bytes of scale and
        sixteen of halves are 18 bytes for 32 numbers, 4.5 bits for each; Q4_1 pays half a bit more for its minimum.""",
    ),
    "5w.2": (
        bits_per_byte_of,
        """The tokens cancel: what is left is the surprise of the whole text over the length of the whole text, so that
        a vocabulary of 49,152 tokens and one of 3,072 can be compared. Bytes are counted, because tokens are cut from
        bytes and no tokenizer is free to choose how many a text has.""",
    ),
    "5w.3": (
        our_name,
        """Two norms, the output of attention and what stands around the blocks have names of their own; all others
        differ only in the words self_attn and mlp. The number of the block and the word weight or bias stay.""",
    ),
}
