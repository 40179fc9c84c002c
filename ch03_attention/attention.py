"""Attention: how a token gathers what it needs from the tokens before it.

The mathematics is written out by hand in `attention_weights` and `scaled_dot_product_attention`; `MultiHeadAttention`
runs the same computation through PyTorch's fused kernel, and the tests hold the two equal. Dimensions: B rows in a
batch, T tokens, D model width, H heads, K = D / H the width of one head.

Sources: Vaswani et al. (2017), arXiv 1706.03762; Radford et al. (2019) for the decoder-only layout. Taught in ch03.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def causal_mask(n_queries: int, n_keys: int | None = None, *, device: torch.device | str | None = None) -> Tensor:
    """Say which keys each query may read when nobody may read ahead.

    Args:
        n_queries: number of tokens that read; they are the last ones of the sequence.
        n_keys: number of tokens that can be read (default: `n_queries`); larger when older tokens come from a cache.
        device: where to build the mask.

    Shape:
        (n_queries, n_keys) bool, True = may attend.

    Source: Vaswani et al. (2017), section 3.2.3. Taught in ch03, section 3.5.
    """
    n_keys = n_queries if n_keys is None else n_keys
    return torch.ones(n_queries, n_keys, dtype=torch.bool, device=device).tril(n_keys - n_queries)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share each query's attention over the keys, most to the keys that match it best.

    Args:
        q: queries.
        k: keys, of the same width as the queries.
        mask: True where a query may attend to a key; anything that broadcasts to (..., T, S). None: everywhere.

    Shape:
        q (..., T, K), k (..., S, K) -> (..., T, S). Rows sum to 1; a row that may attend nowhere holds zeros.

    Raises:
        ValueError: widths differ, or the mask is not boolean.

    Source: Vaswani et al. (2017), equation 1. Taught in ch03, sections 3.3 to 3.5.
    """
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"queries are {q.shape[-1]} wide and keys {k.shape[-1]}; give both the same width")
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (..., T, S)
    if mask is None:
        return scores.softmax(dim=-1)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask has dtype {mask.dtype}; give a boolean mask in which True means may attend")
    weights = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)  # a row without any allowed key is 0/0 until here


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Give each query the average of the values, weighted by how well their keys match it.

    Args:
        q: queries: what each token looks for.
        k: keys: what each token offers to be found by.
        v: values: what each token hands over; one for each key.
        mask: True where a query may attend to a key; None: everywhere.

    Shape:
        q (..., T, K), k (..., S, K), v (..., S, K') -> (..., T, K').

    Raises:
        ValueError: widths of queries and keys, or numbers of keys and values, differ; the mask is not boolean.

    Source: Vaswani et al. (2017), equation 1. Taught in ch03, sections 3.5 and 3.11.
    """
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"there are {k.shape[-2]} keys and {v.shape[-2]} values; give one value for each key")
    return attention_weights(q, k, mask) @ v


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each on its own slice of the width, in one batched product.

    Args:
        d_model: width of the token vectors, in and out.
        n_heads: number of heads; divides `d_model`.
        dropout: probability of dropping an attention weight while training, 0 <= dropout < 1.
        qkv_bias: give the projections to queries, keys and values a bias, as GPT-2 does.
        causal: let a token read itself and the tokens before it only; False is the encoder's full attention.

    Attributes:
        head_mask: None, or a tensor (H,) that scales each head's output: 0 switches a head off.

    Shape:
        x (B, T, D) -> (B, T, D).

    Raises:
        ValueError: `n_heads` does not divide `d_model`, `dropout` is out of range, or x is not (B, T, D) or is empty.

    Source: Vaswani et al. (2017), section 3.2.2. Taught in ch03, section 3.11.
    """

    def __init__(
        self, d_model: int, n_heads: int, *, dropout: float = 0.0, qkv_bias: bool = False, causal: bool = True
    ):
        super().__init__()
        if n_heads < 1 or d_model < 1 or d_model % n_heads:
            raise ValueError(f"n_heads={n_heads} does not divide d_model={d_model}; choose a number that does")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not a probability below 1; give 0 <= dropout < 1")
        self.d_model, self.n_heads, self.d_head = d_model, n_heads, d_model // n_heads
        self.dropout, self.causal, self.head_mask = dropout, causal, None
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=qkv_bias)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, cache=None, layer: int = 0) -> Tensor:  # type: ignore[no-untyped-def]  # see chapter 4
        """Let every token of x gather from the tokens it may read, older ones in `cache` (chapter 4) included."""
        q, k, v = self.qkv(x)  # 3 x (B, H, T, K)
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # 2 x (B, H, S, K): the older tokens', then these
        n_queries, n_keys = q.shape[-2], k.shape[-2]
        mask = None  # a whole text is masked by the kernel, and a single new token may read all
        if self.causal and 1 < n_queries < n_keys:
            mask = causal_mask(n_queries, n_keys, device=x.device)
        dropout, whole = self.dropout if self.training else 0.0, n_queries == n_keys
        heads = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=self.causal and whole)  # (B, H, T, K)
        if self.head_mask is not None:
            heads = heads * self.head_mask.to(heads).view(-1, 1, 1)
        return self.out_proj(self.merge_heads(heads))  # (B, T, D)

    def weights(self, x: Tensor) -> Tensor:
        """Recompute by hand the attention weights for x: (B, T, D) -> (B, H, T, T)."""
        q, k, _ = self.qkv(x)
        return attention_weights(q, k, causal_mask(x.shape[1], device=x.device) if self.causal else None)

    def qkv(self, x: Tensor) -> Tensor:
        """Project x to the queries, keys and values of every head: (B, T, D) -> (3, B, H, T, K)."""
        if x.ndim != 3 or x.shape[-1] != self.d_model or x.numel() == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; give (batch, tokens, {self.d_model}), none of them 0")
        heads = self.qkv_proj(x).view(*x.shape[:2], 3, self.n_heads, self.d_head)  # (B, T, 3, H, K)
        return heads.permute(2, 0, 3, 1, 4)

    def merge_heads(self, x: Tensor) -> Tensor:
        """Put the heads back side by side: (B, H, T, K) -> (B, T, D)."""
        return x.transpose(1, 2).reshape(x.shape[0], -1, self.d_model)
