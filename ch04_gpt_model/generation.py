"""Text out of the model: one token after another, with a memory of what was already read.

`generate` takes any model with `config` (a `GPTConfig`), `hidden(ids, cache)` and `head`. Past the context edge every
token's learned position shifts, so nothing remembered is valid any more: the window is read again for each token.

Sources: Radford et al. (2019), section 3; Pope et al. (2022), arXiv 2211.05102, for the cache. Taught in ch04.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from ch04_gpt_model.products import LinearBy, linear_by_columns, linear_by_packing
from ch04_gpt_model.sampling import Sampler

LARGE = 20_000_000  # parameters: so many do not fit into most processors' caches, and reading them takes the time


class KVCache:
    """The keys and values of the tokens already read, so that each new token costs one step and not a whole re-reading.

    It is for reading only: no gradient flows through what it holds.

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

    def __init__(self, config, batch_size: int, max_length: int | None = None, *, dtype=None, device=None):
        max_length = config.context_length if max_length is None else max_length
        if batch_size < 1 or max_length < 1:
            raise ValueError(f"batch_size={batch_size} and max_length={max_length} must both be >= 1")
        shape = (config.n_layers, 2, batch_size, config.n_kv_heads, max_length, config.d_head)
        self.length = 0
        store = torch.empty(shape, dtype=dtype, device=device)
        self.keys, self.values = store.unbind(1)  # views
        self._layers = store.unbind()  # views too: n_layers x (2, B, H, max_length, K)

    def extend(self, layer: int, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Store a block's new keys and values (2, B, H, T, K) and give all it has so far, 2 x (B, H, length + T, K)."""
        stored, end = self._layers[layer], self.length + kv.shape[3]
        if kv.shape[1] != stored.shape[1] or end > stored.shape[3]:
            room = f"{stored.shape[1]} rows of {stored.shape[3]} tokens"
            raise ValueError(f"the cache has room for {room} and was given {kv.shape[1]} of {end}; make a larger one")
        stored.narrow(3, self.length, kv.shape[3]).copy_(kv.detach())
        return stored.narrow(3, 0, end).unbind()

    @property
    def n_bytes(self) -> int:
        """Memory that the keys and values take, in bytes."""
        return self.keys.nbytes + self.values.nbytes


def generate(
    model,
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
    steps = _next_tokens(model, ids, max_new_tokens, sampler, stop_id, use_cache, around_step=nullcontext)
    with _evaluating(model), _short_ways(model):
        return torch.cat([ids, *(token[:, None].to(ids) for token in steps)], dim=1)


def stream(model, ids: Tensor, max_new_tokens: int, *, use_cache: bool = True, **settings) -> Iterator[int]:
    """Yield the token ids that continue one prompt, each as soon as it is known.

    Between two tokens the model is as it was; a part replaced or a hook added meanwhile counts for the next token.

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
    if not isinstance(ids, Tensor) or ids.ndim != 2 or len(ids) != 1:
        raise ValueError(f"{_found(ids)}; stream takes one prompt of shape (1, tokens)")
    stop_id = settings.pop("stop_id", None)
    sampler, around_step = Sampler(**settings), lambda: _evaluating(model)
    steps = _next_tokens(model, ids, max_new_tokens, sampler, stop_id, use_cache, around_step)
    return (token.item() for token in steps)


def _next_tokens(model, ids, max_new_tokens, sampler, stop_id, use_cache, around_step) -> Iterator[Tensor]:
    """Check the request, then give an iterator over the next tokens of all rows, (B,) each."""
    if not isinstance(max_new_tokens, int) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens} is not a whole number >= 0; give how many to add at most")
    if stop_id is not None and not 0 <= stop_id < model.config.vocab_size:
        raise ValueError(f"stop_id={stop_id} is not in 0..{model.config.vocab_size - 1}; give an id of the vocabulary")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.numel() == 0:
        raise ValueError(f"{_found(ids)}; give prompts of shape (batch, tokens) with a token each")
    if not model._ids_in_range(ids):
        raise ValueError(model._bad_id(ids))
    return _decode(model, ids, max_new_tokens, sampler, stop_id, use_cache, around_step)


def _found(ids) -> str:
    is_tensor = isinstance(ids, Tensor)
    return f"ids have shape {tuple(ids.shape)}" if is_tensor else f"ids are a {type(ids).__name__} and no tensor"


def _decode(model, ids, max_new_tokens, sampler, stop_id, use_cache, around_step: Callable) -> Iterator[Tensor]:
    next_logits = _LogitReader(model, ids, max_new_tokens, use_cache)
    finished, unread = torch.zeros(len(ids), dtype=torch.bool), ids
    for _ in range(max_new_tokens):
        with around_step():
            logits = next_logits(unread)  # (B, V)
        token = sampler(logits)  # (B,)
        if stop_id is not None:
            token = token.masked_fill(finished, stop_id)
            finished |= token == stop_id
        yield token
        if stop_id is not None and finished.all():
            return
        unread = token[:, None].to(ids)


@contextmanager
def _evaluating(model):
    """Put the modules that are in training mode into evaluation mode, and afterwards back."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _short_ways(model):
    """Let Python find a module's parts, and where no module has a hook its `forward`, without asking `nn.Module`.

    The asking takes a fifth of a small model's time per token.
    """
    ways = [
        (module.__dict__, name, part)
        for module in model.modules()
        for name, part in (*module.named_children(), *module.named_parameters(recurse=False))
    ]
    if not _has_hooks(model):  # `nn.Module.__call__` goes on with `_call_impl`, which would look for them each time
        ways += [(module.__dict__, "_call_impl", module.forward) for module in model.modules()]
    for attributes, name, part in ways:
        attributes[name] = part
    try:
        yield
    finally:
        for attributes, name, part in ways:
            if attributes.get(name) is part:
                del attributes[name]


def _has_hooks(model) -> bool:
    places = [torch.nn.modules.module.__dict__, *(module.__dict__ for module in model.modules())]
    names = "_forward_hooks", "_forward_pre_hooks", "_global_forward_hooks", "_global_forward_pre_hooks"
    return any(place.get(name) for place in places for name in names)


class _LogitReader:
    """Gives the logits after the last token; with a cache it reads only the tokens that it is given."""

    def __init__(self, model, ids: Tensor, max_new_tokens: int, use_cache: bool):
        self.model, self.context = model, model.config.context_length
        large = sum(parameter.numel() for parameter in model.parameters()) > LARGE
        self.products = LinearBy(linear_by_columns) if large else nullcontext()  # for small ones a change costs more
        pack = len(ids) > 1 and not large and isinstance(model.head, torch.nn.Linear)
        self.head_product = LinearBy(linear_by_packing(model.head.weight)) if pack else nullcontext()
        self.pieces = []  # all that was read
        self.cache = None
        if use_cache and ids.shape[1] <= self.context:
            weight = model.token_embedding.weight
            room = min(self.context, ids.shape[1] + max_new_tokens)
            self.cache = KVCache(model.config, len(ids), room, dtype=weight.dtype, device=weight.device)

    @torch.inference_mode()
    def __call__(self, unread: Tensor) -> Tensor:
        self.pieces.append(unread)
        with self.products:
            if self.cache is not None and self.cache.length + unread.shape[1] <= self.context:
                x = self.model.hidden(unread, self.cache)
            else:  # without a cache, and past the edge, where every position shifts: read the window again
                window = torch.cat(self.pieces, dim=1)[:, -self.context :]
                self.pieces = [window]
                x = self.model.hidden(window)
            with self.head_product:
                return self.model.head(x[:, -1])  # (B, V)
