"""Answers to chapter 3's exercises."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def look_up(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (keys @ query).softmax(dim=0)  # (T,)
    return weights @ values  # (D,)


def may_attend(n_tokens: int) -> Tensor:
    return torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()


def masked_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, S)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v


def split_into_heads(x: Tensor, n_heads: int) -> Tensor:
    n_rows, n_tokens, d_model = x.shape
    return x.view(n_rows, n_tokens, n_heads, d_model // n_heads).transpose(1, 2)


def padded_mask(lengths: Tensor, n_tokens: int) -> Tensor:
    real = torch.arange(n_tokens) < lengths[:, None]  # (B, T)
    causal = torch.ones(n_tokens, n_tokens, dtype=torch.bool).tril()  # (T, T)
    return causal & real[:, None, None, :]  # (B, 1, T, T)


def read_other(written: Tensor, read: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(written @ w_q, read @ w_k, read @ w_v)


def induction_score(weights: Tensor, period: int) -> Tensor:
    readers = torch.arange(period, weights.shape[-1])  # the second time
    return weights[..., readers, readers - period + 1].mean(dim=-1)


def window_mask(n_tokens: int, window: int) -> Tensor:
    back = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)  # (T, T), how far s lies behind t
    return (back >= 0) & (back < window)


SOLUTIONS = {
    "3.1": (
        look_up,
        """One score for each key, one share for each token, and the shares mix the values. `weights @ values` is the
        weighted sum: (T,) times (T, D) gives (D,).""",
    ),
    "3.2": (
        may_attend,
        """tril keeps the diagonal and what lies below it: row t reads, column s is read, and s <= t. The diagonal must
        stay, or the first token could look nowhere at all.""",
    ),
    "3.3": (
        masked_attention,
        """Scale by the root of the head's own width, forbid with minus infinity before the softmax, share over the
        keys. Each of the three has a wrong twin of the same shape that raises no error.""",
    ),
    "3.4": (
        split_into_heads,
        """view may only split an axis, here the width D into (H, K). Moving the heads before the tokens is the task of
        transpose, which changes the order in which the numbers are read.""",
    ),
    "3.5": (
        padded_mask,
        """A padded position must not be *read*, so the columns of the keys are masked. The rows of padded queries may
        stay as they are: nobody looks at what comes out of them. The axis of size 1 serves all heads.""",
    ),
    "3.6": (
        read_other,
        """Who asks decides how many answers there are: queries from the text being written, keys and values from the
        text being read. No causal mask: what is read is finished already.""",
    ),
    "3.7": (
        induction_score,
        """The token at t stood at t - period before; what came after it then stands at t - period + 1. The mean runs
        over the second half only, for in the first half there is nothing to copy.""",
    ),
    "3.8": (
        window_mask,
        """Two conditions on the distance t - s: not negative (no future) and smaller than the window (not too old).
        Work and memory now grow with T times the window instead of with T squared.""",
    ),
}
