"""Three ways to remember less: a window of tokens, a narrow vector for each token, one matrix for all of them.

Each takes the place of chapter 3's attention over everything that was read. Dimensions: B rows, T tokens, S tokens that
can be read, D width, H heads, K width of one head, L width of a latent vector, R width of what is rotated.

Sources: Jiang et al. (2023), arXiv 2310.06825; DeepSeek-AI (2024), arXiv 2405.04434; Yang et al. (2024), arXiv
2412.06464. Taught in ch04, `beyond_llama.ipynb`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch03_attention.attention import causal_mask
from ch04_gpt_model.modern_gpt import GroupedQueryAttention, ModernConfig, RMSNorm, rotate

__all__ = ["window_mask", "sink_weights", "WindowAttention", "LatentAttention", "delta_rule", "delta_rule_at_once"]


def window_mask(n_queries: int, n_keys: int, window: int) -> Tensor:
    """Mark what each token may read: itself and the `window` - 1 tokens before it.

    Args:
        n_queries: number of reading tokens, T, the last of the sequence.
        n_keys: number of tokens in the sequence, S.
        window: number of tokens that each one reads, at least 1.

    Shape:
        (T, S) bool, True where reading is allowed.

    Raises:
        ValueError: the window is below 1.

    Source: Jiang et al. (2023), section 2. Taught in ch04, beyond_llama.ipynb, section B.4.
    """
    if window < 1:
        raise ValueError(f"window={window} lets no token read anything; give at least 1")
    mask = causal_mask(n_queries, n_keys)  # (T, S)
    return mask & ~mask.tril(n_keys - n_queries - window)


def sink_weights(scores: Tensor, sink: Tensor | float) -> Tensor:
    """Take the softmax over the scores and one more, the sink's, and drop the sink: the rest sums to less than 1.

    Args:
        scores: attention scores; minus infinity where reading is forbidden.
        sink: score of reading nothing; one number, or one for each head.

    Shape:
        scores (..., T, S), sink () or (H, 1, 1) -> (..., T, S).

    Source: Xiao et al. (2023), section 3.3, as a learned score in gpt-oss (OpenAI, 2025). Taught in ch04,
    beyond_llama.ipynb, section B.5.
    """
    column = torch.as_tensor(sink, dtype=scores.dtype, device=scores.device).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, column], dim=-1).softmax(dim=-1)[..., :-1]


class WindowAttention(GroupedQueryAttention):
    """Causal attention in which each token reads a window of tokens that ends with itself.

    Args:
        config: shape of the model.
        window: number of tokens that each one reads, at least 1.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Jiang et al. (2023), section 2. Taught in ch04, beyond_llama.ipynb, section B.4.
    """

    def __init__(self, config: ModernConfig, window: int):
        super().__init__(config)
        self.window = window

    def mask(self, n_queries: int, n_keys: int) -> Tensor:
        """Mark what each token may read, itself and the `window` - 1 tokens before it: (T, S) bool."""
        return window_mask(n_queries, n_keys, self.window)


class LatentAttention(nn.Module):
    """Attention that stores one narrow vector for each token and makes the keys and values of all heads from it.

    Args:
        d_model: width of the token vectors, in and out.
        n_heads: number of heads, H.
        d_head: width of a value, and of the part of a key that is made from the latent vector, K.
        d_latent: width of the stored vector, L.
        d_rotated: width of the part of a key that tells the place, R, even; all heads share it.
        base: ratio between the slowest and the fastest rotation.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: DeepSeek-AI (2024), section 2.1. Taught in ch04, beyond_llama.ipynb, section B.6.
    """

    def __init__(self, d_model: int, n_heads: int, d_head: int, d_latent: int, d_rotated: int, base: float = 10_000.0):
        super().__init__()
        self.n_heads, self.d_head, self.d_rotated, self.base = n_heads, d_head, d_rotated, base
        self.q_proj = nn.Linear(d_model, n_heads * (d_head + d_rotated), bias=False)
        self.down_proj = nn.Linear(d_model, d_latent + d_rotated, bias=False)
        self.latent_norm = RMSNorm(d_latent)
        self.up_proj = nn.Linear(d_latent, n_heads * 2 * d_head, bias=False)
        self.out_proj = nn.Linear(n_heads * d_head, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, q_place = self.queries(x)
        latent, k_place = self.stored(x)
        k, v = self.up_proj(latent).unflatten(-1, (self.n_heads, -1)).transpose(1, 2).chunk(2, dim=-1)
        q, k = torch.cat([q, q_place], dim=-1), torch.cat([k, k_place.expand(-1, self.n_heads, -1, -1)], dim=-1)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, K)
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, T, D)

    def queries(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give what asks for content and what asks for a place: (B, T, D) -> (B, H, T, K), (B, H, T, R)."""
        q = self.q_proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        q, place = q.split([self.d_head, self.d_rotated], dim=-1)
        return q, rotate(place, base=self.base)

    def stored(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give all that a cache has to keep, L + R numbers for each token: (B, T, D) -> (B, T, L), (B, 1, T, R)."""
        latent, place = self.down_proj(x).split([self.latent_norm.weight.numel(), self.d_rotated], dim=-1)
        return self.latent_norm(latent), rotate(place[:, None], base=self.base)


def delta_rule(
    q: Tensor, k: Tensor, v: Tensor, write: Tensor, keep: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Read a text with one matrix as the only memory: at each key, exchange the stored value for the new one.

    Args:
        q: queries.
        k: keys of length 1.
        v: values.
        write: share of the old value that is exchanged, 0 to 1.
        keep: share of the whole memory that outlives the step, above 0, at most 1.
        state: memory at the start; None means zeros.

    Shape:
        q, k (..., T, K), v (..., T, V), write, keep (..., T) -> outputs (..., T, V), state (..., K, V).

    Source: Yang et al. (2024), *Gated delta networks*, section 3.1. Taught in ch04, beyond_llama.ipynb, section B.7.
    """
    state = torch.zeros(*k.shape[:-2], k.shape[-1], v.shape[-1], dtype=v.dtype) if state is None else state
    outputs = []
    for t in range(k.shape[-2]):
        key, query = k[..., t, :, None], q[..., t, :, None]  # (..., K, 1)
        state = keep[..., t, None, None] * state
        found = (key * state).sum(dim=-2)  # (..., V) what stands at this key now
        change = write[..., t, None] * (v[..., t, :] - found)
        state = state + key * change[..., None, :]
        outputs.append((query * state).sum(dim=-2))
    return torch.stack(outputs, dim=-2), state


def delta_rule_at_once(q: Tensor, k: Tensor, v: Tensor, write: Tensor, keep: Tensor) -> Tensor:
    """Give the outputs of `delta_rule` for all tokens together, by solving one triangular system.

    Args:
        q: queries.
        k: keys of length 1.
        v: values.
        write: share of the old value that is exchanged, 0 to 1.
        keep: share of the whole memory that outlives the step, above 0, at most 1.

    Shape:
        q, k (..., T, K), v (..., T, V), write, keep (..., T) -> (..., T, V).

    Source: Yang et al. (2024), *Parallelizing linear Transformers with the delta rule*, section 3. Taught in ch04,
    beyond_llama.ipynb, section B.7.
    """
    kept = keep.log().cumsum(dim=-1)  # (..., T)
    fade = (kept[..., :, None] - kept[..., None, :]).tril().exp().tril()  # (..., T, T) what of s is left at t
    overlap = write[..., None] * (k @ k.transpose(-2, -1)) * fade  # (..., T, T)
    system = torch.eye(k.shape[-2], dtype=k.dtype) + overlap.tril(-1)
    changes = torch.linalg.solve_triangular(system, write[..., None] * v, upper=False)  # (..., T, V)
    return (q @ k.transpose(-2, -1) * fade) @ changes
