"""Answers to chapter 4's exercises."""

import math

import torch
import torch.nn.functional as F


def layer_norm(x, weight, bias, eps=1e-5):
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / torch.sqrt(variance + eps) * weight + bias


def gelu(x):
    probability = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    return x * probability


def block(x, norm1, attention, norm2, feed_forward):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


def tie(model):
    model.head.weight = model.token_embedding.weight


def load_projection(linear, stored, bias):
    with torch.no_grad():
        linear.weight.copy_(stored.T)
        linear.bias.copy_(bias)


def cache_bytes(config, batch_size, n_tokens, bytes_per_number=4):
    numbers = 2 * config.n_layers * batch_size * n_tokens * config.d_model
    return numbers * bytes_per_number


@torch.no_grad()
def greedy(model, ids, n_new):
    for _ in range(n_new):
        logits = model(ids[:, -model.config.context_length :])  # (B, T, V)
        best = logits[:, -1].argmax(dim=-1, keepdim=True)  # (B, 1)
        ids = torch.cat([ids, best], dim=1)
    return ids


def cached_step(q, k, v, old_keys, old_values):
    keys = torch.cat([old_keys, k], dim=2)  # (B, H, T, K)
    values = torch.cat([old_values, v], dim=2)
    return F.scaled_dot_product_attention(q, keys, values), keys, values


SOLUTIONS = {
    "4.1": (
        layer_norm,
        """Mean and variance run over the last axis, each token by itself; the variance divides by D (the mean of the
        squares), and eps stands under the root, so that a constant vector gives zeros and not 0 / 0.""",
    ),
    "4.2": (
        gelu,
        """erf gives the area under the normal curve: the probability that a standard normal number is smaller than x
        is (1 + erf(x / sqrt(2))) / 2. GPT-2's tanh formula is an approximation of the same.""",
    ),
    "4.3": (
        block,
        """Each branch reads a normalized copy and adds to the stream itself. The second branch reads what the first
        has already written: 100 + 3 * 10 = 130, then 130 + 7 * 1.3 = 139.1.""",
    ),
    "4.4": (
        tie,
        """Assigning the parameter makes both modules hold the same object. PyTorch counts it once, the optimizer
        moves it once, and gradients from both uses add up in it.""",
    ),
    "4.5": (
        load_projection,
        """GPT-2's code stored these matrices (in, out), as x @ W; nn.Linear stores (out, in), as x @ W.T. For a square
        matrix, such as attn.c_proj, the shapes agree either way and only wrong text would tell.""",
    ),
    "4.6": (
        cache_bytes,
        """Two vectors of width D (all heads together) for each token, row and block. The number of heads cancels: they
        share the width among them. For GPT-2's largest size that is 629 MB for one full context.""",
    ),
    "4.7": (
        greedy,
        """Only the last position's scores matter, taken for every row. The window keeps the newest context_length
        tokens, so that the text may grow beyond what the model can read at once.""",
    ),
    "4.8": (
        cached_step,
        """One query against all keys. A causal mask built for a square would let this single query, its row 0, see
        the first key only: the classic mistake with is_causal=True and a cache.""",
    ),
}
