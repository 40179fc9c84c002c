"""The GPT: GPT-2's architecture, exactly, from token ids to logits, and text out of it again.

Pre-norm blocks, learned positions, tanh GELU, biases on queries, keys and values, and a head that shares its weights
with the token embedding. `layer_norm` and `gelu` write the mathematics out; the classes call PyTorch's fused kernels,
and the tests hold each pair equal. Dimensions: B rows, T tokens, D model width, F feed-forward width, V vocabulary.

Sources: Radford et al. (2019), "Language models are unsupervised multitask learners"; Vaswani et al. (2017). Taught in
ch04. `KVCache`, `generate` and `stream` are in `generation.py` and can be imported from here.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch03_attention.attention import MultiHeadAttention
from ch04_gpt_model.generation import KVCache, generate, stream

__all__ = [
    "GPTConfig", "layer_norm", "gelu", "LayerNorm", "GELU", "FeedForward", "TransformerBlock", "GPTModel",
    "KVCache", "generate", "stream",
]  # fmt: skip

_GPT2_SIZES = {"124M": (768, 12, 12), "355M": (1024, 16, 24), "774M": (1280, 20, 36), "1558M": (1600, 25, 48)}


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT; two models with equal configs take each other's weights.

    Args:
        vocab_size: number of different token ids, V.
        context_length: longest sequence the model can read, in tokens.
        d_model: width of the token vectors, D; a multiple of `n_heads`.
        n_heads: attention heads in each block.
        n_layers: number of blocks.
        d_ff: width inside the feed-forward part; None means 4 x d_model.
        dropout: probability of dropping a value while training, 0 <= dropout < 1.
        qkv_bias: give queries, keys and values a bias.
        tie_weights: let the head share the token embedding's weights.

    Raises:
        ValueError: a value is out of range.

    Source: Radford et al. (2019), section 2.3 and table 2. Taught in ch04, section 4.5.
    """

    vocab_size: int
    context_length: int
    d_model: int
    n_heads: int
    n_layers: int
    d_ff: int | None = None
    dropout: float = 0.0
    qkv_bias: bool = True
    tie_weights: bool = True

    def __post_init__(self):
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        for name in ("vocab_size", "context_length", "d_model", "n_heads", "n_layers", "d_ff"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} is not a whole number >= 1")
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads} does not divide d_model={self.d_model}; choose one that does")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is not a probability below 1; give 0 <= dropout < 1")

    @classmethod
    def gpt2(cls, size: str) -> "GPTConfig":
        """Give one of GPT-2's four sizes: "124M", "355M", "774M" or "1558M" (trained with dropout 0.1)."""
        if size not in _GPT2_SIZES:
            raise ValueError(f"GPT-2 has no size {size!r}; choose one of {', '.join(_GPT2_SIZES)}")
        d_model, n_heads, n_layers = _GPT2_SIZES[size]
        return cls(50_257, 1024, d_model, n_heads, n_layers)

    @classmethod
    def story(cls) -> "GPTConfig":
        """Give the config of the course's own model, about a million parameters."""
        return cls(vocab_size=3072, context_length=320, d_model=128, n_heads=4, n_layers=4)

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values: as many as of queries (a `ModernConfig` may have fewer)."""
        return self.n_heads

    def to_dict(self) -> dict:
        """Give the config as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "GPTConfig":
        """Make a config from what `to_dict` gave; ValueError names keys that are missing or unknown."""
        known = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        missing = [name for name, required in known.items() if required and name not in values]
        if unknown or missing:
            raise ValueError(f"the model config has unknown keys {unknown} and lacks {missing}; keys are {list(known)}")
        return cls(**values)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Bring each token vector to mean 0 and variance 1, then scale and shift it by learned amounts.

    Args:
        x: token vectors.
        weight: learned scale.
        bias: learned shift.
        eps: added to the variance, so that a constant vector does not divide by zero.

    Shape:
        x (..., D), weight (D,), bias (D,) -> (..., D). The variance divides by D, not by D - 1.

    Source: Ba et al. (2016), section 3. Taught in ch04, section 4.1.
    """
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * weight + bias


def gelu(x: Tensor, approximate: str = "tanh") -> Tensor:
    """Let a number through in proportion to how likely a standard normal number is to be smaller.

    Args:
        x: any tensor.
        approximate: "tanh" for the formula of GPT-2, "none" for the exact one.

    Shape:
        (...) -> (...).

    Raises:
        ValueError: `approximate` is neither "tanh" nor "none".

    Source: Hendrycks and Gimpel (2016), section 2. Taught in ch04, section 4.2.
    """
    if approximate == "none":
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    if approximate == "tanh":
        return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    raise ValueError(f"approximate={approximate!r} is unknown; give 'tanh' or 'none'")


class LayerNorm(nn.Module):
    """`layer_norm` with its learned scale and shift.

    Args:
        d_model: width of the token vectors.
        eps: added to the variance.

    Shape:
        (..., D) -> (..., D).

    Source: Ba et al. (2016), section 3. Taught in ch04, section 4.1.
    """

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class GELU(nn.Module):
    """`gelu` in the tanh form of GPT-2, as a layer: (...) -> (...).

    Source: Hendrycks and Gimpel (2016), section 2. Taught in ch04, section 4.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate="tanh")


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them: each token thinks for itself.

    Args:
        d_model: width of the token vectors, in and out.
        d_ff: width in between; None means 4 x d_model.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Vaswani et al. (2017), section 3.3. Taught in ch04, section 4.3.
    """

    def __init__(self, d_model: int, d_ff: int | None = None):
        super().__init__()
        d_ff = 4 * d_model if d_ff is None else d_ff
        self.up_proj = nn.Linear(d_model, d_ff)
        self.gelu = GELU()
        self.down_proj = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gelu(self.up_proj(x)))  # (B, T, D) -> (B, T, F) -> (B, T, D)


class _Dropout(nn.Dropout):
    """PyTorch's dropout, out of the way where there is nothing to drop: generation calls it for every token."""

    def __call__(self, x: Tensor) -> Tensor:  # without a detour where there is nothing to drop
        return super().__call__(x) if self.training and self.p else x


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each reading a normalised copy of the stream and adding its answer to it.

    Args:
        config: shape of the model.

    Shape:
        (B, T, D) -> (B, T, D).

    Source: Radford et al. (2019), section 2.3 (pre-norm). Taught in ch04, section 4.4.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm1 = LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(
            config.d_model, config.n_heads, dropout=config.dropout, qkv_bias=config.qkv_bias
        )
        self.norm2 = LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.d_ff)
        self.drop = _Dropout(config.dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None, layer: int = 0) -> Tensor:
        x = x + self.drop(self.attention(self.norm1(x), cache, layer))
        return x + self.drop(self.feed_forward(self.norm2(x)))


class GPTModel(nn.Module):
    """GPT-2: embeddings, a stack of blocks, a final norm, and a score for every token of the vocabulary.

    Args:
        config: shape of the model. Weights are drawn from PyTorch's global generator.

    Shape:
        ids (B, T) int64 -> logits (B, T, V).

    Raises:
        ValueError: ids are not (B, T) whole numbers in [0, V), or B or T is 0, or T exceeds the context.

    Source: Radford et al. (2019), section 2.3. Taught in ch04, section 4.5.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.drop = _Dropout(config.dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.final_norm = LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.token_embedding.weight
        self.init_weights()

    def init_weights(self) -> None:
        """Draw all weights anew: 0.02 N(0, 1), the last projection of each branch smaller by sqrt(2 n_layers)."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("out_proj.weight", "down_proj.weight"))
                std = 0.02 / math.sqrt(2 * self.config.n_layers) if into_stream else 0.02
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                nn.init.ones_(parameter)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Score every possible next token after every token: (B, T) -> (B, T, V)."""
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Give the vectors that the head reads, after the final norm: (B, T) -> (B, T, D)."""
        x = self.drop(self.embed(ids, cache))
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += ids.shape[1]
        return self.final_norm(x)

    def embed(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Look up what each token is and where it stands: (B, T) -> (B, T, D)."""
        start = 0 if cache is None else cache.length
        self._check_ids(ids, start)
        try:
            tokens = self.token_embedding(ids)
        except IndexError:  # only on the CPU, where asking afterwards keeps the check free
            raise ValueError(self._bad_id(ids)) from None
        return tokens + self.position_embedding.weight[start : start + ids.shape[1]]

    def attention_maps(self, ids: Tensor) -> list[Tensor]:
        """Give the attention weights of every block: (B, T) -> n_layers x (B, H, T, T)."""
        maps, x = [], self.embed(ids)
        for block in self.blocks:
            maps.append(block.attention.weights(block.norm1(x)))
            x = block(x)
        return maps

    @property
    def n_parameters(self) -> int:
        """Number of trained values; shared weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _check_ids(self, ids: Tensor, start: int) -> None:
        tensor = isinstance(ids, Tensor)
        if not tensor or ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32) or ids.numel() == 0:
            found = f"{ids.dtype} of shape {tuple(ids.shape)}" if tensor else f"a {type(ids).__name__} and no tensor"
            raise ValueError(f"ids are {found}; give int64 of shape (batch, tokens) with at least one token")
        if start + ids.shape[1] > self.config.context_length:
            before = f" after {start} cached ones" if start else ""
            limit = f"the context holds {self.config.context_length}"
            raise ValueError(f"{ids.shape[1]} tokens{before} were given and {limit}; shorten them, or use generate")
        if ids.device.type not in ("cpu", "meta") and not self.training and not self._ids_in_range(ids):
            raise ValueError(self._bad_id(ids))

    def _ids_in_range(self, ids: Tensor) -> bool:
        return bool(((ids >= 0) & (ids < self.config.vocab_size)).all())

    def _bad_id(self, ids: Tensor) -> str:
        bad = ids[(ids < 0) | (ids >= self.config.vocab_size)][0].item()
        last = self.config.vocab_size - 1
        return f"token id {bad} is not in 0..{last}; encode the text with the tokenizer that the model was trained with"
