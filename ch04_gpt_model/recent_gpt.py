"""A recent GPT: what Mistral, OLMo 2 and 3 and Gemma 3 change in the Llama-style model of `modern_gpt.py`.

Some blocks read a window and may turn by another base, norms stand behind the parts or on both sides of them, queries
and keys are normalized over all heads together, and in Gemma the gate, the norms and the embeddings are others.

Sources: Jiang et al. (2023), arXiv 2310.06825; Team OLMo (2024), arXiv 2501.00656; Gemma Team (2025), arXiv 2503.19786.
Taught in ch04, `beyond_llama.ipynb`.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch04_gpt_model.generation import KVCache
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT, RMSNorm, SwiGLU
from ch04_gpt_model.modern_ranges import refuse_other_parts
from ch04_gpt_model.other_attention import WindowAttention

__all__ = ["RecentConfig", "NormAcrossHeads", "NormFromOne", "GeGLU", "ScaledEmbedding", "RecentAttention",
           "RecentBlock", "RecentGPT"]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RecentConfig(ModernConfig):
    """The shape of a recent GPT: that of a modern one and the choices of Mistral, OLMo and Gemma.

    Args:
        windows: for each block the number of tokens that it reads, or None for all; None means all in all blocks.
        window_base: `rope_base` of the blocks with a window, which then have no `rope_factors`; None means that all
            blocks turn alike.
        norms: "before" the parts, "after" them (OLMo), or "both" (Gemma).
        norm_across_heads: with `qk_norm`, normalize the queries of all heads together, and so the keys (OLMo).
        score_width: scores are divided by its square root, above 0; None means the width of a head.
        gelu_gate: gate the feed-forward part by GELU instead of SiLU (Gemma).
        norm_from_one: norms scale by 1 + their weight (Gemma).
        scale_embeddings: multiply the embeddings by the square root of `d_model` (Gemma).
        others: see `ModernConfig`.

    Raises:
        ValueError: a value is of a wrong kind or out of range.

    Source: Team OLMo (2024), section 2; Gemma Team (2025), section 2. Taught in ch04, beyond_llama.ipynb, section B.8.
    """

    windows: tuple[int | None, ...] | None = None
    window_base: float | None = None
    norms: str = "before"
    norm_across_heads: bool = False
    score_width: float | None = None
    gelu_gate: bool = False
    norm_from_one: bool = False
    scale_embeddings: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.windows, list):
            object.__setattr__(self, "windows", tuple(self.windows))  # JSON gives a list
        refuse_other_parts(self)


class NormAcrossHeads(RMSNorm):
    """`RMSNorm` of a token's queries or keys in all heads together: (B, H, T, K) -> (B, H, T, K).

    Args:
        d_model: numbers in all heads, H x K.
        eps: added to the mean square.

    Source: Team OLMo (2024), section 2. Taught in ch04, beyond_llama.ipynb, section B.8.
    """

    def forward(self, x: Tensor) -> Tensor:
        together = super().forward(x.transpose(1, 2).flatten(2))  # (B, T, H K)
        return together.unflatten(-1, (x.shape[1], -1)).transpose(1, 2)


class NormFromOne(RMSNorm):
    """`RMSNorm` whose weight is what the scale has more than 1: (..., D) -> (..., D).

    Args:
        d_model: width of the vectors.
        eps: added to the mean square.

    Source: Gemma Team (2025), the released code. For ch04, beyond_llama.ipynb, section B.8.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, 1 + self.weight, self.eps)


class GeGLU(SwiGLU):
    """`SwiGLU` with GELU on its gate: (B, T, D) -> (B, T, D).

    Args:
        d_model: width of the token vectors, in and out.
        d_ff: width in between.
        bias: give the three layers a bias.

    Source: Shazeer (2020), equation 6. For ch04, beyond_llama.ipynb, section B.8.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class ScaledEmbedding(nn.Embedding):
    """A table whose rows are multiplied by the square root of their width when they are looked up: (B, T) -> (B, T, D).

    Source: Vaswani et al. (2017), section 3.4. For ch04, beyond_llama.ipynb, section B.8.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * torch.tensor(math.sqrt(self.embedding_dim)).to(self.weight)


def _norm_class(config: RecentConfig) -> type[RMSNorm]:
    return NormFromOne if config.norm_from_one else RMSNorm


class RecentAttention(WindowAttention):
    """The attention of one block, with its window, base, norms and scale.

    Args:
        config: shape of the model.
        layer: number of the block, from 0.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Team OLMo (2024), section 2; Gemma Team (2025), section 2. For ch04, beyond_llama.ipynb, section B.8.
    """

    def __init__(self, config: RecentConfig, layer: int):
        window = config.windows[layer] if config.windows else None
        super().__init__(config, window or config.context_length)
        if window and config.window_base is not None:
            self.base, self.factors = config.window_base, None
        self.scale = math.sqrt(config.d_head / (config.score_width or config.d_head))
        if config.qk_norm:
            sizes = (config.n_heads, config.n_kv_heads) if config.norm_across_heads else (1, 1)
            kind = NormAcrossHeads if config.norm_across_heads else _norm_class(config)
            self.q_norm, self.k_norm = (kind(size * config.d_head, config.norm_eps) for size in sizes)

    def qkv(self, x: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values as `GroupedQueryAttention` does, the queries made larger by the scale."""
        q, k, v = super().qkv(x, start)
        return q * self.scale, k, v


class RecentBlock(nn.Module):
    """A block with norms before its parts, behind them or on both sides: (B, T, D) -> (B, T, D).

    Args:
        config: shape of the model.
        layer: number of the block, from 0.

    Source: Team OLMo (2024), section 2. Taught in ch04, beyond_llama.ipynb, section B.8.
    """

    def __init__(self, config: RecentConfig, layer: int):
        super().__init__()

        def norm(*places: str) -> nn.Module:
            return _norm_class(config)(config.d_model, config.norm_eps) if config.norms in places else nn.Identity()

        feed_forward = GeGLU if config.gelu_gate else SwiGLU
        self.norm1, self.after1 = norm("before", "both"), norm("after", "both")
        self.attention = RecentAttention(config, layer)
        self.norm2, self.after2 = norm("before", "both"), norm("after", "both")
        self.feed_forward = feed_forward(config.d_model, config.d_ff, config.ff_bias)

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        x = x + self.after1(self.attention(self.norm1(x), cache, layer))
        return x + self.after2(self.feed_forward(self.norm2(x)))


class RecentGPT(ModernGPT):
    """A GPT of recent blocks; everything else is `ModernGPT`'s.

    Args:
        config: shape of the model. Weights are drawn from PyTorch's global generator.

    Shape:
        ids (B, T) int64 -> logits (B, T, V).

    Raises:
        ValueError: ids are not (B, T) whole numbers in [0, V), or B or T is 0, or T exceeds the context.

    Source: Team OLMo (2024), section 2; Gemma Team (2025), section 2. Taught in ch04, beyond_llama.ipynb, section B.8.
    """

    def __init__(self, config: RecentConfig):
        nn.Module.__init__(self)
        embedding = ScaledEmbedding if config.scale_embeddings else nn.Embedding
        self.config = config
        self.token_embedding = embedding(config.vocab_size, config.d_model)
        self.drop = nn.Identity()
        self.blocks = nn.ModuleList(RecentBlock(config, layer) for layer in range(config.n_layers))
        self.final_norm = _norm_class(config)(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        self.init_weights()

    def init_weights(self) -> None:
        """Draw all weights anew as `GPTModel` does; norms begin with the scale 1."""
        super().init_weights()
        for norm in (part for part in self.modules() if isinstance(part, NormFromOne)):
            nn.init.zeros_(norm.weight)
