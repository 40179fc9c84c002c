"""A modern GPT: what changed in the models after GPT-2, in one Llama-style block and model.

RMSNorm for LayerNorm, rotated queries and keys for learned positions, SwiGLU for GELU, keys and values shared by groups
of heads, no biases, and norms on queries and keys. The plan is that of `gpt_model.py`, and so are the cache, the checks
and `generate`. Dimensions: B rows, T tokens, S tokens that can be read, D width, H heads, G heads of keys and values,
K the width of one (D / H unless `head_width` says otherwise), F feed-forward width, V vocabulary.

Sources: Touvron et al. (2023), arXiv 2302.13971, section 2.2, for the choice; each part names its own. Taught in ch04,
`modern_gpt.ipynb`.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch03_attention.attention import attention_weights, causal_mask
from ch04_gpt_model.generation import KVCache
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel, require_ids
from ch04_gpt_model.modern_ranges import refuse_out_of_range, refuse_wrong_kinds, require_rotation

__all__ = ["ModernConfig", "rms_norm", "rotate", "RMSNorm", "SwiGLU", "GroupedQueryAttention", "ModernBlock",
           "ModernGPT"]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ModernConfig(GPTConfig):
    """The shape of a modern GPT: that of a GPT with other defaults and the choices in which published models differ.

    Args:
        d_ff: width inside the feed-forward part; None means 8/3 x d_model, rounded up to a multiple of 8.
        dropout: 0; models of this kind are trained without.
        qkv_bias: give queries, keys and values a bias.
        n_kv_heads: heads of keys and values, G; divides `n_heads`; None means as many as `n_heads`.
        rope_base: ratio between the slowest and the fastest rotation, > 1 (10,000 in Llama, 500,000 in Llama 3).
        qk_norm: normalize queries and keys in each head.
        norm_eps: added to the mean square in every norm, above 0 (1e-6 in Qwen3, 1e-5 in Llama 2 and 3).
        head_width: width of one head, K, even; None means d_model / n_heads. The model reads it as `d_head`.
        rope_factors: how many times slower than `rope_base` says each of the K/2 pairs turns, above 0; None means 1
            for all. Llama 3.1 and 3.2 have such a list, and linear scaling is the same number K/2 times.
        out_bias: give the output of attention a bias.
        ff_bias: give the three layers of the feed-forward part a bias.
        others: see `GPTConfig`.

    Raises:
        ValueError: a value is of a wrong kind or out of range.

    Source: Touvron et al. (2023), section 2.2 and table 2. Taught in ch04, modern_gpt.ipynb, section M.7.
    """

    qkv_bias: bool = False
    n_kv_heads: int = None  # type: ignore[assignment]  # left open, as d_ff may be
    rope_base: float = 10_000.0
    qk_norm: bool = True
    norm_eps: float = 1e-6
    head_width: int | None = None
    rope_factors: tuple[float, ...] | None = None
    out_bias: bool = False
    ff_bias: bool = False

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return super().d_head if self.head_width is None else self.head_width

    def usual_sizes(self) -> dict[str, int]:
        """Give the sizes that may be left open, each with what it then is."""
        return {"d_ff": 8 * math.ceil(self.d_model / 3), "n_kv_heads": self.n_heads}

    def __post_init__(self) -> None:
        refuse_wrong_kinds(self)
        super().__post_init__()
        if isinstance(self.rope_factors, list):
            object.__setattr__(self, "rope_factors", tuple(self.rope_factors))  # JSON gives a list
        refuse_out_of_range(self)


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Divide each token vector by its root mean square, then scale it by learned amounts.

    Args:
        x: token vectors.
        weight: learned scale.
        eps: added to the mean square, so that a vector of zeros stays one.

    Shape:
        x (..., D), weight (D,) -> (..., D).

    Source: Zhang and Sennrich (2019), equation 4. Taught in ch04, modern_gpt.ipynb, section M.1.
    """
    return x / torch.sqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


class RMSNorm(nn.Module):
    """`rms_norm` with its learned scale.

    Args:
        d_model: width of the vectors.
        eps: added to the mean square.

    Shape:
        (..., D) -> (..., D).

    Source: Zhang and Sennrich (2019), equation 4. Taught in ch04, modern_gpt.ipynb, section M.1.
    """

    def __init__(self, d_model: int, eps: float = 1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotate(x: Tensor, start: int = 0, base: float = 10_000.0, factors: tuple[float, ...] | None = None) -> Tensor:
    """Turn pairs of numbers of each query or key by angles that grow with the token's position.

    Number i is paired with number i + K/2, as in the published Llama files of Hugging Face.

    Args:
        x: queries or keys; K is even.
        start: position of the first token.
        base: pair i turns by base^(-2i/K) radians a token: the first by 1, the last by nearly 1 / base.
        factors: pair i turns factors[i] times more slowly than that; None means 1 for all.

    Shape:
        (..., T, K) -> (..., T, K). Lengths do not change.

    Raises:
        ValueError: K is odd, x is not of floating point, the base is not above 0, or there are not K/2 factors above 0.

    Source: Su et al. (2021), section 3.4.2; the factors: Chen et al. (2023), section 2.3. Taught in ch04,
    modern_gpt.ipynb, section M.3.
    """
    require_rotation(x, base, factors)
    n_tokens, n_pairs = x.shape[-2], x.shape[-1] // 2
    dtype, device = torch.promote_types(x.dtype, torch.float32), x.device
    speeds = base ** (-torch.arange(n_pairs, dtype=dtype, device=device) / n_pairs)  # (K/2,) radians a token
    if factors is not None:
        speeds = speeds / torch.tensor(factors, dtype=dtype, device=device)
    angles = torch.arange(start, start + n_tokens, dtype=dtype, device=device)[:, None] * speeds  # (T, K/2)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    a, b = x.chunk(2, dim=-1)  # 2 x (..., T, K/2)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class SwiGLU(nn.Module):
    """A feed-forward part whose inner numbers are multiplied by a gate, which the token sets itself.

    Args:
        d_model: width of the token vectors, in and out.
        d_ff: width in between; 8/3 x d_model has the parameters of `FeedForward`.
        bias: give the three layers a bias.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Shazeer (2020), equation 6. Taught in ch04, modern_gpt.ipynb, section M.4.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = False):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class GroupedQueryAttention(nn.Module):
    """Causal attention in which several heads of queries share one head of keys and values.

    Args:
        config: shape of the model.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Ainslie et al. (2023), section 2.2; norms on queries and keys: Henry et al. (2020). Taught in ch04,
    modern_gpt.ipynb, sections M.5 and M.6.
    """

    def __init__(self, config: ModernConfig):
        super().__init__()
        self.n_shared, self.d_head = config.n_heads // config.n_kv_heads, config.d_head
        self.base, self.factors = config.rope_base, config.rope_factors
        d_queries, d_shared = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
        self.q_proj = nn.Linear(config.d_model, d_queries, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.d_model, d_shared, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.d_model, d_shared, bias=config.qkv_bias)
        self.out_proj = nn.Linear(d_queries, config.d_model, bias=config.out_bias)
        self.q_norm = RMSNorm(config.d_head, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.d_head, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        q, k, v = self.qkv(x, 0 if cache is None else cache.length)
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # 2 x (B, G, S, K)
        mask = self.mask(q.shape[-2], k.shape[-2]).to(x.device)  # (T, S)
        heads = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)  # (B, H, T, K)
        return self.out_proj(heads.transpose(1, 2).flatten(2))  # (B, T, D)

    def mask(self, n_queries: int, n_keys: int) -> Tensor:
        """Mark what each token may read, here itself and all before it: (T, S) bool."""
        return causal_mask(n_queries, n_keys)

    def qkv(self, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Give rotated queries and keys, and values: (B, T, D) -> (B, H, T, K), (B, G, T, K), (B, G, T, K)."""
        projections = self.q_proj, self.k_proj, self.v_proj
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2) for proj in projections)
        q, k = (rotate(x, start, self.base, self.factors) for x in (self.q_norm(q), self.k_norm(k)))
        return q, k, v

    def weights(self, x: Tensor) -> Tensor:
        """Recompute by hand the attention weights for x: (B, T, D) -> (B, H, T, T)."""
        q, k, _ = self.qkv(x)
        k = k.repeat_interleave(self.n_shared, dim=1)  # (B, H, T, K)
        return attention_weights(q, k, self.mask(x.shape[1], x.shape[1]).to(x.device))


class ModernBlock(nn.Module):
    """A pre-norm block of the modern parts: (B, T, D) -> (B, T, D).

    Args:
        config: shape of the model.

    Source: Touvron et al. (2023), section 2.2. Taught in ch04, modern_gpt.ipynb, section M.7.
    """

    def __init__(self, config: ModernConfig):
        super().__init__()
        self.norm1 = RMSNorm(config.d_model, config.norm_eps)
        self.attention = GroupedQueryAttention(config)
        self.norm2 = RMSNorm(config.d_model, config.norm_eps)
        self.feed_forward = SwiGLU(config.d_model, config.d_ff, config.ff_bias)

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        x = x + self.attention(self.norm1(x), cache, layer)
        return x + self.feed_forward(self.norm2(x))


class ModernGPT(GPTModel):
    """A GPT of modern blocks, with no table of positions; everything else is `GPTModel`'s.

    Args:
        config: shape of the model. Weights are drawn from PyTorch's global generator.

    Shape:
        ids (B, T) int64 -> logits (B, T, V).

    Raises:
        ValueError: ids are not (B, T) whole numbers in [0, V), or B or T is 0, or T exceeds the context.

    Source: Touvron et al. (2023), section 2.2. Taught in ch04, modern_gpt.ipynb, section M.7.
    """

    def __init__(self, config: ModernConfig):
        nn.Module.__init__(self)
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.drop = nn.Identity()
        self.blocks = nn.ModuleList(ModernBlock(config) for _ in range(config.n_layers))
        self.final_norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        self.init_weights()

    def embed(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Look up what each token is; where it stands is told by the rotations: (B, T) -> (B, T, D)."""
        n_cached = 0 if cache is None else cache.length
        require_ids(ids, self.config.vocab_size, self.config.context_length, n_cached=n_cached)
        return self.token_embedding(ids)

    def block_matrices(self) -> dict[nn.Parameter, int]:
        """Give the matrices of the blocks, each with how many lie in it: one for each head of q, k or v, or 1."""
        stacked = {"q_proj": self.config.n_heads, "k_proj": self.config.n_kv_heads, "v_proj": self.config.n_kv_heads}
        stacked = {f"attention.{name}.weight": n_heads for name, n_heads in stacked.items()}
        return {p: stacked.get(name.split(".", 1)[1], 1) for name, p in self.blocks.named_parameters() if p.ndim == 2}
