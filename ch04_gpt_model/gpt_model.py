"""The GPT: GPT-2's architecture, exactly, from token ids to logits, and text out of it again.

Pre-norm blocks, learned positions, tanh GELU, biases on queries, keys and values, and a head that shares its weights
with the token embedding. `layer_norm` and `gelu` write the mathematics out; the classes call PyTorch's fused kernels,
and the tests hold each pair equal. Dimensions: B rows, T tokens, D model width, F feed-forward width, V vocabulary.

Sources: Radford et al. (2019), "Language models are unsupervised multitask learners"; Vaswani et al. (2017). Taught in
ch04.
"""

import dataclasses
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ch03_attention.attention import MultiHeadAttention
from ch04_gpt_model.sampling import Sampler

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
        return cls(vocab_size=2048, context_length=320, d_model=128, n_heads=4, n_layers=4)

    @property
    def d_head(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

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
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


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

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training and self.p else x


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

    def forward(self, x: Tensor, cache: "KVCache | None" = None, layer: int = 0) -> Tensor:
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

    def forward(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor:
        """Score every possible next token after every token: (B, T) -> (B, T, V)."""
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor:
        """Give the vectors that the head reads, after the final norm: (B, T) -> (B, T, D)."""
        x = self.drop(self.embed(ids, cache))
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += ids.shape[1]
        return self.final_norm(x)

    def embed(self, ids: Tensor, cache: "KVCache | None" = None) -> Tensor:
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
        if ids.ndim != 2 or ids.dtype not in (torch.int64, torch.int32) or ids.numel() == 0:
            found = f"{ids.dtype} of shape {tuple(ids.shape)}"
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


class KVCache:
    """The keys and values of the tokens already read, so that each new token costs one step and not a whole re-reading.

    Args:
        config: shape of the model.
        batch_size: number of rows.
        max_length: most tokens it can hold; None means `config.context_length`.
        dtype: of the keys and values; None means PyTorch's default.
        device: where they live; None means PyTorch's default.

    Attributes:
        length: number of tokens read so far; lowering it forgets the newest.
        keys, values: (n_layers, B, H, max_length, K).

    Raises:
        ValueError: a batch of another size, or more tokens than there is room for.

    Source: Pope et al. (2022), section 2.1. Taught in ch04, section 4.10.
    """

    def __init__(self, config: GPTConfig, batch_size: int, max_length: int | None = None, *, dtype=None, device=None):
        max_length = config.context_length if max_length is None else max_length
        if batch_size < 1 or max_length < 1:
            raise ValueError(f"batch_size={batch_size} and max_length={max_length} must both be >= 1")
        shape = (config.n_layers, batch_size, config.n_heads, max_length, config.d_head)
        self.length = 0
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self._layers = list(zip(self.keys.unbind(), self.values.unbind()))  # views, n_layers x 2 x (B, H, max_length, K)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store one block's new keys and values (B, H, T, K) and give all it has so far, 2 x (B, H, length + T, K)."""
        keys, values = self._layers[layer]  # 2 x (B, H, max_length, K)
        end = self.length + k.shape[2]
        if k.shape[0] != keys.shape[0] or end > keys.shape[2]:
            room = f"{keys.shape[0]} rows of {keys.shape[2]} tokens"
            raise ValueError(f"the cache has room for {room} and was given {k.shape[0]} of {end}; make a larger one")
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

    @property
    def n_bytes(self) -> int:
        """Memory that the keys and values take, in bytes."""
        return self.keys.nbytes + self.values.nbytes


def generate(
    model: GPTModel,
    ids: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_id: int | None = None,
    seed: int | None = None,
    use_cache: bool = True,
) -> Tensor:
    """Continue each prompt, one token after another.

    Args:
        model: any GPT; its training mode is left as it was.
        ids: prompts of one length.
        max_new_tokens: most tokens to add, >= 0; longer than the context is fine, the window slides.
        temperature: 0 takes the most likely token each time; above 0 draws, the more freely the higher.
        top_k: draw from the k most likely tokens only; None or more than V means all.
        top_p: draw from the fewest tokens that together reach this probability, in (0, 1]; None means all.
        stop_id: a row that produces this id is finished and filled with it; when all rows are, generation ends.
        seed: the same seed draws the same tokens on every machine; None draws anew.
        use_cache: keep keys and values instead of reading the text again for each token; same tokens, less time.

    Shape:
        ids (B, T) -> (B, T + new), new <= max_new_tokens.

    Raises:
        ValueError: an empty prompt, an id outside the vocabulary, or a setting out of range.

    Source: Radford et al. (2019), section 3, for sampling from GPT-2. Taught in ch04, sections 4.9 and 4.10.
    """
    sampler = Sampler(temperature, top_k, top_p, seed)
    steps = _next_tokens(model, ids, max_new_tokens, sampler, stop_id, use_cache)
    return torch.cat([ids, *(token[:, None].to(ids) for token in steps)], dim=1)


def stream(model: GPTModel, ids: Tensor, max_new_tokens: int, *, use_cache: bool = True, **settings) -> Iterator[int]:
    """Yield the token ids that continue one prompt, each as soon as it is known.

    Args:
        model: any GPT.
        ids: one prompt.
        max_new_tokens: most tokens to yield, >= 0.
        use_cache: see `generate`.
        settings: temperature, top_k, top_p, stop_id and seed of `generate`; the stop id is yielded, as the last.

    Shape:
        ids (1, T) -> up to max_new_tokens ints.

    Raises:
        ValueError: more than one prompt, or as `generate`.

    Source: as `generate`. Taught in ch04, section 4.10.
    """
    if ids.ndim != 2 or len(ids) != 1:
        raise ValueError(f"ids have shape {tuple(ids.shape)}; stream takes one prompt of shape (1, tokens)")
    stop_id = settings.pop("stop_id", None)
    steps = _next_tokens(model, ids, max_new_tokens, Sampler(**settings), stop_id, use_cache)
    return (token.item() for token in steps)


def _next_tokens(model, ids, max_new_tokens, sampler, stop_id, use_cache) -> Iterator[Tensor]:
    """Check the request, then give an iterator over the next tokens of all rows, (B,) each."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens} is negative; give 0 or more")
    if stop_id is not None and not 0 <= stop_id < model.config.vocab_size:
        raise ValueError(f"stop_id={stop_id} is not in 0..{model.config.vocab_size - 1}; give an id of the vocabulary")
    if ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(f"ids have shape {tuple(ids.shape)}; give prompts of shape (batch, tokens) with a token each")
    if not model._ids_in_range(ids):
        raise ValueError(model._bad_id(ids))
    return _decode(model, ids, max_new_tokens, sampler, stop_id, use_cache)


def _decode(model, ids, max_new_tokens, sampler, stop_id, use_cache) -> Iterator[Tensor]:
    was_training = model.training
    model.eval()
    try:
        next_logits = _LogitReader(model, ids, max_new_tokens, use_cache)
        finished = torch.zeros(len(ids), dtype=torch.bool)
        for _ in range(max_new_tokens):
            token = sampler(next_logits(ids))  # (B,)
            if stop_id is not None:
                token = token.masked_fill(finished, stop_id)
                finished |= token == stop_id
            yield token
            if stop_id is not None and finished.all():
                return
            ids = torch.cat([ids, token[:, None].to(ids)], dim=1)
    finally:
        model.train(was_training)


class _LogitReader:
    """Gives the logits after the last token, reading only what the cache has not seen."""

    def __init__(self, model: GPTModel, ids: Tensor, max_new_tokens: int, use_cache: bool):
        self.model, self.context = model, model.config.context_length
        self.cache = None
        if use_cache and ids.shape[1] <= self.context:
            weight = model.token_embedding.weight
            room = min(self.context, ids.shape[1] + max_new_tokens)
            self.cache = KVCache(model.config, len(ids), room, dtype=weight.dtype, device=weight.device)

    @torch.inference_mode()
    def __call__(self, ids: Tensor) -> Tensor:
        if self.cache is None or ids.shape[1] > self.context:  # past the edge every position shifts: read all again
            x = self.model.hidden(ids[:, -self.context :])
        else:
            x = self.model.hidden(ids[:, self.cache.length :], self.cache)
        return self.model.head(x[:, -1])  # (B, V)
