"""Text out of the model: one token after another, with a memory of what was already read.

`next_tokens` is the loop; `generate` and `stream` check what they are asked and run it. Past the context edge every
token's learned position shifts, so nothing remembered is valid any more: the window is read again for each token.

Sources: Radford et al. (2019), section 3; Pope et al. (2022), arXiv 2211.05102, for the cache. Taught in ch04.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ch04_gpt_model.fast_paths import fast_paths
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel, require_ids
from ch04_gpt_model.sampling import Sampler


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

    def __init__(
        self,
        config: GPTConfig,
        batch_size: int,
        max_length: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        max_length = config.context_length if max_length is None else max_length
        if batch_size < 1 or max_length < 1:
            raise ValueError(f"batch_size={batch_size} and max_length={max_length} must both be >= 1")
        shape = (config.n_layers, batch_size, config.n_kv_heads, max_length, config.d_head)
        self.length = 0
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store a block's new keys and values, (B, H, T, K) each, and give all it has, (B, H, length + T, K) each."""
        keys, values = self.keys[layer], self.values[layer]  # views: (B, H, max_length, K)
        end = self.length + k.shape[2]
        if len(k) != len(keys) or end > keys.shape[2]:
            room = f"{len(keys)} rows of {keys.shape[2]} tokens"
            raise ValueError(f"the cache has room for {room} and was given {len(k)} of {end}; make a larger one")
        keys[:, :, self.length : end] = k.detach()
        values[:, :, self.length : end] = v.detach()
        return keys[:, :, :end], values[:, :, :end]

    @property
    def n_bytes(self) -> int:
        """Memory that the keys and values take, in bytes."""
        return self.keys.nbytes + self.values.nbytes


def next_tokens(
    model: GPTModel,
    ids: Tensor,
    max_new_tokens: int,
    sampler: Sampler,
    stop_id: int | None = None,
    use_cache: bool = True,
) -> Iterator[Tensor]:
    """Read the prompts, then choose a token for each, read that, and so on: the loop of `generate`, and nothing else.

    Args:
        model: any GPT, in evaluation mode.
        ids: prompts of one length.
        max_new_tokens: most tokens to give.
        sampler: chooses a token for each row of logits.
        stop_id: a row that produces this id is finished and filled with it; when all rows are, the loop ends.
        use_cache: keep keys and values instead of reading the text again for each token; same tokens, less time.

    Shape:
        ids (B, T) -> up to max_new_tokens times (B,) on the CPU.

    Source: Radford et al. (2019), section 3, for sampling from GPT-2. Taught in ch04, sections 4.9 and 4.10.
    """
    context, text, unread = model.config.context_length, ids, ids  # (B, T)
    finished, cache = torch.zeros(len(ids), dtype=torch.bool), None
    if use_cache and ids.shape[1] <= context:
        room, like = min(context, ids.shape[1] + max_new_tokens), model.token_embedding.weight
        cache = KVCache(model.config, len(ids), room, dtype=like.dtype, device=like.device)
    for _ in range(max_new_tokens):
        if cache is not None and cache.length + unread.shape[1] <= context:
            x = model.hidden(unread, cache)  # only what is new
        else:  # without a cache, and past the edge, where every position shifts: read the window again
            x = model.hidden(text[:, -context:])
        token = sampler(model.head(x[:, -1]))  # (B,)
        if stop_id is not None:
            token = token.masked_fill(finished, stop_id)
            finished |= token == stop_id
        yield token
        if finished.all():
            return
        unread = token[:, None].to(ids)  # (B, 1)
        text = torch.cat([text, unread], dim=1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off: put the modules that are in training mode into evaluation mode, and afterwards back.

    Args:
        model: any module; each of its parts gets its own mode back.

    Source: this course. Taught in ch04, section 4.10.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def require_valid_request(model: GPTModel, ids: Tensor, max_new_tokens: int, stop_id: int | None) -> None:
    """Refuse what cannot be written, before any work.

    Args:
        model: any GPT.
        ids: prompts of one length.
        max_new_tokens: a whole number >= 0.
        stop_id: None or an id of the vocabulary.

    Raises:
        ValueError: as the sentences above say, and as `require_ids`.

    Source: this course. Taught in ch04, section 4.10.
    """
    if not isinstance(max_new_tokens, int) or max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens} is not a whole number >= 0; give how many to add at most")
    if stop_id is not None and not 0 <= stop_id < model.config.vocab_size:
        raise ValueError(f"stop_id={stop_id} is not in 0..{model.config.vocab_size - 1}; give an id of the vocabulary")
    require_ids(ids, model.config.vocab_size)


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
    require_valid_request(model, ids, max_new_tokens, stop_id)
    tokens = next_tokens(model, ids, max_new_tokens, Sampler(temperature, top_k, top_p, seed), stop_id, use_cache)
    with torch.inference_mode(), evaluating(model), fast_paths(model, n_rows=len(ids)):
        new = [token[:, None].to(ids) for token in tokens]  # each (B, 1)
    return torch.cat([ids, *new], dim=1)


def stream(
    model: GPTModel, ids: Tensor, max_new_tokens: int, *, temperature: float = 0.0, top_k: int | None = None,
    top_p: float | None = None, stop_id: int | None = None, seed: int | None = None, use_cache: bool = True,
) -> Iterator[int]:  # fmt: skip
    """Yield the token ids that continue one prompt, each as soon as it is known.

    Between two tokens the model is as it was; a part replaced or a hook added meanwhile counts for the next token.

    Args:
        model: any GPT.
        ids: one prompt.
        max_new_tokens: most tokens to yield, >= 0.
        temperature: see `generate`.
        top_k: see `generate`.
        top_p: see `generate`.
        stop_id: ends the text; it is yielded, as the last.
        seed: see `generate`.
        use_cache: see `generate`.

    Shape:
        ids (1, T) -> up to max_new_tokens ints.

    Raises:
        ValueError: more than one prompt, or as `generate`.

    Source: as `generate`. For ch06, section 6.11.
    """
    if isinstance(ids, Tensor) and ids.ndim == 2 and len(ids) > 1:
        raise ValueError(f"ids have shape {tuple(ids.shape)}; stream takes one prompt of shape (1, tokens)")
    require_valid_request(model, ids, max_new_tokens, stop_id)
    tokens = next_tokens(model, ids, max_new_tokens, Sampler(temperature, top_k, top_p, seed), stop_id, use_cache)
    return _one_by_one(model, tokens)


def _one_by_one(model: GPTModel, tokens: Iterator[Tensor]) -> Iterator[int]:
    """Change the model for the moment of one token only: whoever asks for the next may do something else before."""
    while True:
        with torch.inference_mode(), evaluating(model), fast_paths(model, n_rows=1):
            token = next(tokens, None)
        if token is None:
            return
        yield int(token)
