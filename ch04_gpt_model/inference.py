"""Faster answers from a model that stays as it is: guessed tokens, and many texts at once.

`generate` of `generation.py` stays the plain loop. Here stands what a server adds to it: a draft whose guesses the
model only confirms, prompts of unequal lengths side by side, and the end of a text at a string. Dimensions: B rows,
T tokens, S tokens that can be read, k guesses in a step, D width, V vocabulary.

Sources: Pope et al. (2022), arXiv 2211.05102, section 2, for what limits a single row; each part names its own. Taught
in ch04, `inference.ipynb`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ch04_gpt_model.fast_paths import fast_paths
from ch04_gpt_model.generation import KVCache, evaluating, next_tokens, require_valid_request
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.sampling import Sampler, next_token_probabilities, require_sampling_settings

__all__ = ["PaddedReader", "accept_draft", "draft_steps", "generate_batch", "generate_with_draft", "pad_left",
           "read_padded", "text_until"]  # fmt: skip


def accept_draft(p: Tensor, q: Tensor, drafted: Sequence[int], chances: Tensor) -> list[int]:
    """Keep guessed tokens as long as the model agrees, then add one token of the model's own.

    Token t is kept with probability min(1, p / q); the first that is not is replaced by a draw from the part of p that
    exceeds q. So each token comes exactly as often as the model alone would have written it.

    Args:
        p: the model's probabilities at the k guessed places and the one after them.
        q: the draft's probabilities, from which the guesses were drawn.
        drafted: the k guesses.
        chances: uniform numbers in [0, 1), two for each place.

    Shape:
        p (k + 1, V), q (k, V), drafted (k,), chances (k + 1, 2) -> 1 to k + 1 tokens.

    Source: Leviathan et al. (2023), algorithm 1. Taught in ch04, inference.ipynb, section I.5.
    """
    for t, token in enumerate(drafted):
        if chances[t, 0] * q[t, token] >= p[t, token]:
            return [*drafted[:t], _draw((p[t] - q[t]).clamp(min=0), chances[t, 1])]
    return [*drafted, _draw(p[len(drafted)], chances[len(drafted), 1])]


def _draw(weights: Tensor, chance: Tensor) -> int:
    cumulative = weights.cumsum(dim=0)  # (V,), not necessarily up to 1
    return min(int(torch.searchsorted(cumulative, chance * cumulative[-1], right=True)), len(weights) - 1)


def draft_steps(
    model: GPTModel, draft: Callable[[list[int]], Tensor], ids: Tensor, max_new_tokens: int, n_draft: int = 4, *,
    temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, seed: int | None = None,
) -> Iterator[list[int]]:  # fmt: skip
    """Guess some tokens, let the model read them all at once, and yield those it accepts with one of its own.

    Args:
        model: any GPT, in evaluation mode.
        draft: takes the text so far and gives a probability for each token of the vocabulary.
        ids: one prompt.
        max_new_tokens: most tokens to give.
        n_draft: guesses in a step, >= 1.
        temperature: see `generate`; at 0 the draft's likeliest token is its guess.
        top_k: see `generate`.
        top_p: see `generate`.
        seed: see `generate`.

    Shape:
        ids (1, T); draft: T' ints -> (V,) float64 -> up to max_new_tokens lists of 1 to n_draft + 1 ints.

    Source: Leviathan et al. (2023), section 2; Chen et al. (2023), algorithm 2. Taught in ch04, inference.ipynb,
    section I.5.
    """
    chance = Sampler(1.0, seed=seed).generator

    def spread(p: Tensor) -> Tensor:  # at temperature 0 all probability lies on one token
        return p if temperature else F.one_hot(p.argmax(dim=-1), p.shape[-1]).to(p)

    like, text = model.token_embedding.weight, ids[0].tolist()
    end = len(text) + max_new_tokens
    cache = KVCache(model.config, 1, end, dtype=like.dtype, device=like.device)
    while len(text) < end:
        drafted: list[int] = []
        q: list[Tensor] = []
        for _ in range(min(n_draft, end - len(text) - 1)):
            q.append(spread(_probabilities(draft(text + drafted), model.config.vocab_size)))
            drafted.append(_draw(q[-1], torch.rand((), generator=chance, dtype=torch.float64)))
        unread = torch.tensor([(text + drafted)[cache.length :]], device=like.device)
        logits = model.head(model.hidden(unread, cache)[0, -len(drafted) - 1 :])  # (k + 1, V), one reading for all
        p = spread(next_token_probabilities(logits, temperature or 1.0, top_k, top_p))
        chances = torch.rand(len(p), 2, generator=chance, dtype=torch.float64)
        new = accept_draft(p, torch.stack(q) if q else p[:0], drafted, chances)
        cache.length = len(text) + len(new) - 1  # forget the guesses that were refused
        text += new
        yield new


def _probabilities(found: Tensor, size: int) -> Tensor:
    """Give back what a draft gave, or refuse it: (V,)."""
    is_row = isinstance(found, Tensor) and found.shape == (size,) and found.is_floating_point()
    if not is_row or not found.min() >= 0 or not abs(found.sum(dtype=torch.float64) - 1) < 1e-3:
        row = f"numbers with sum {found.sum():g}, the least {found.min():g}" if is_row else "no such row"
        raise ValueError(f"the draft gave {row}; give a tensor of {size} probabilities with sum 1")
    return found


def generate_with_draft(
    model: GPTModel, draft: Callable[[list[int]], Tensor], ids: Tensor, max_new_tokens: int, n_draft: int = 4, *,
    temperature: float = 0.0, top_k: int | None = None, top_p: float | None = None, stop_id: int | None = None,
    seed: int | None = None,
) -> Tensor:  # fmt: skip
    """Continue one prompt as `generate` would, in fewer readings of the model: a draft guesses, the model confirms.

    At temperature 0 the tokens are those of `generate`; above, they come with the same probabilities, but a seed draws
    others.

    Args:
        model: any GPT; its training mode is left as it was.
        draft: takes the text so far and gives a probability for each token of the vocabulary, with sum 1.
        ids: one prompt.
        max_new_tokens: most tokens to add, >= 0; with the prompt at most the context.
        n_draft: guesses in a step, >= 1.
        temperature: see `generate`.
        top_k: see `generate`.
        top_p: see `generate`.
        stop_id: ends the text; it is kept, as the last.
        seed: see `generate`.

    Shape:
        ids (1, T); draft: T' ints -> (V,) float64 -> (1, T + new), new <= max_new_tokens.

    Raises:
        ValueError: more than one prompt, a text longer than the context, n_draft < 1, a draft that gives no
            probabilities, or as `generate`.

    Source: Leviathan et al. (2023), section 2. Taught in ch04, inference.ipynb, section I.5.
    """
    require_valid_request(model, ids, max_new_tokens, stop_id)
    require_sampling_settings(temperature, top_k, top_p)
    if len(ids) > 1 or not isinstance(n_draft, int) or n_draft < 1:
        raise ValueError(f"found {len(ids)} prompts and n_draft={n_draft}; give one prompt and at least one guess")
    _require_room(model, ids.shape[1], max_new_tokens)
    steps = draft_steps(model, draft, ids, max_new_tokens, n_draft, temperature=temperature, top_k=top_k, top_p=top_p,
                        seed=seed)  # fmt: skip
    new: list[int] = []
    with torch.inference_mode(), evaluating(model), fast_paths(model, n_rows=1):
        for tokens in steps:
            new += tokens
            if stop_id in tokens:
                break
    return torch.cat([ids[0], _up_to(stop_id, torch.tensor(new)).to(ids)])[None]


def _require_room(model: GPTModel, length: int, max_new_tokens: int) -> None:
    context = model.config.context_length
    if length + max_new_tokens > context:
        wanted = "give fewer, or use generate, whose window slides"
        raise ValueError(f"{length} tokens and {max_new_tokens} new are more than the context, {context}; {wanted}")


def pad_left(prompts: Sequence[Tensor]) -> Tensor:
    """Put prompts of any lengths below each other so that all end in the last column; -1 fills the left.

    Args:
        prompts: ids of each prompt.

    Shape:
        B prompts (T_i,) -> (B, T) int64, T the longest.

    Source: this course. Taught in ch04, inference.ipynb, section I.6.
    """
    length = max(map(len, prompts))
    return torch.stack([F.pad(prompt.long(), (length - len(prompt), 0), value=-1) for prompt in prompts])


class _PaddingMask(TorchFunctionMode):
    """While it is open, no attention reads the first `n_pads` keys of a row; padding itself reads itself only."""

    def __init__(self, n_pads: Tensor):
        super().__init__()
        self.n_pads = n_pads[:, None, None, None]  # (B, 1, 1, 1)

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func is F.scaled_dot_product_attention:
            q, k, v, mask = (*args, None)[:4]
            keys = torch.arange(k.shape[-2], device=q.device)  # (S,)
            queries = keys[-q.shape[-2] :, None]  # (T, 1)
            mask = keys <= queries if mask is None else mask  # (T, S); that of a window stays
            args = q, k, v, mask & (keys >= self.n_pads) | (keys == queries)  # the mask becomes (B, 1, T, S)
            kwargs = {"enable_gqa": (kwargs or {}).get("enable_gqa", False)}
        return func(*args, **(kwargs or {}))


def read_padded(model: GPTModel, ids: Tensor, n_pads: Tensor, cache: KVCache | None = None) -> Tensor:
    """Give the vectors that the head reads, for rows that begin with padding: each as if its row were alone.

    Args:
        model: any GPT, in evaluation mode.
        ids: what is new; -1 is padding.
        n_pads: padding at the beginning of each row, what is in the cache counted too.
        cache: keys and values of what was read before.

    Shape:
        ids (B, T), n_pads (B,) -> (B, T, D); at the places of padding they mean nothing.

    Source: this course. Taught in ch04, inference.ipynb, section I.6.
    """
    start = 0 if cache is None else cache.length
    x = model.token_embedding(ids.clamp(min=0))
    if hasattr(model, "position_embedding"):  # rotations depend on distances alone: padding changes none
        places = torch.arange(start, start + ids.shape[1], device=ids.device) - n_pads[:, None]  # (B, T)
        x = x + model.position_embedding(places.clamp(min=0))
    with _PaddingMask(n_pads):
        for layer, block in enumerate(model.blocks):
            x = block(x, cache, layer)
    if cache is not None:
        cache.length += ids.shape[1]
    return model.final_norm(x)


class PaddedReader:
    """A model as `next_tokens` needs it, for rows that begin with padding.

    Args:
        model: any GPT, in evaluation mode.

    Source: this course. Taught in ch04, inference.ipynb, section I.6.
    """

    def __init__(self, model: GPTModel):
        self.model, self.config, self.head = model, model.config, model.head
        self.token_embedding = model.token_embedding

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Give the vectors that the head reads: (B, T), -1 for padding -> (B, T, D)."""
        if cache is None or cache.length == 0:  # a first reading: all padding is in it
            self.n_pads = (ids < 0).sum(dim=1)  # (B,)
        return read_padded(self.model, ids, self.n_pads, cache)


def generate_batch(
    model: GPTModel, prompts: Sequence[Tensor], max_new_tokens: int, *, temperature: float = 0.0,
    top_k: int | None = None, top_p: float | None = None, stop_id: int | None = None, seed: int | None = None,
    use_cache: bool = True,
) -> list[Tensor]:  # fmt: skip
    """Continue prompts of any lengths side by side, each as `generate` would continue it alone.

    Args:
        model: any GPT; its training mode is left as it was.
        prompts: ids of each prompt, at least one.
        max_new_tokens: most tokens to add, >= 0.
        temperature: see `generate`.
        top_k: see `generate`.
        top_p: see `generate`.
        stop_id: a row ends with it.
        seed: row i draws what `generate` draws with seed + i; None draws anew.
        use_cache: see `generate`.

    Shape:
        B prompts (T_i,) -> B texts (T_i + new_i,), new_i <= max_new_tokens.

    Raises:
        ValueError: no prompt, one that is no tensor (T_i,), or as `generate`.

    Source: Pope et al. (2022), section 2.1, for rows that share each reading of the weights. Taught in ch04,
    inference.ipynb, section I.6.
    """
    prompts = list(prompts)
    if not prompts or not all(isinstance(prompt, Tensor) and prompt.ndim == 1 for prompt in prompts):
        raise ValueError(f"found {len(prompts)} prompts; give one or more, each a tensor of shape (tokens,)")
    for prompt in prompts:
        require_valid_request(model, prompt[None], max_new_tokens, stop_id)
    seeds = [seed + row if isinstance(seed, int) else seed for row in range(len(prompts))]
    choose: Any = _each_by([Sampler(temperature, top_k, top_p, seed) for seed in seeds])

    with torch.inference_mode(), evaluating(model), fast_paths(model, n_rows=len(prompts)):
        reader: Any = PaddedReader(model)  # it has all that the loop asks of a model, and `choose` of a sampler
        columns = list(next_tokens(reader, pad_left(prompts), max_new_tokens, choose, stop_id, use_cache))  # (B,) each
    new = torch.stack(columns, dim=1) if columns else torch.empty(len(prompts), 0)
    return [torch.cat([prompt, _up_to(stop_id, row).to(prompt)]) for prompt, row in zip(prompts, new)]


def _each_by(samplers: list[Sampler]) -> Callable[[Tensor], Tensor]:
    """Let each row of logits have a sampler of its own: (B, V) -> (B,)."""
    return lambda logits: torch.cat([sampler(row[None]) for sampler, row in zip(samplers, logits)])


def _up_to(stop_id: int | None, row: Tensor) -> Tensor:
    """Cut a row behind its first stop token: (T,) -> (T',)."""
    ids = row.tolist()
    return row[: ids.index(stop_id) + 1] if stop_id in ids else row


def text_until(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """Hand on a text as it comes, up to the first stop string, wherever the borders between its pieces lie.

    What may be the beginning of a stop string is held back until the next pieces decide. Where one stop string contains
    another, the one that is complete first ends the text.

    Args:
        pieces: text, token by token.
        stops: strings that end the text; they are not handed on.

    Raises:
        ValueError: a stop string is empty, or the stops are one string instead of several.

    Source: this course. Taught in ch04, inference.ipynb, section I.8.
    """
    if isinstance(stops, str) or not all(stops := tuple(stops)):
        raise ValueError(f"the stops are {stops!r}; give a list of strings, none of them empty")
    held = ""
    for piece in pieces:
        held += piece
        found = [(held.index(stop) + len(stop), held.index(stop)) for stop in stops if stop in held]
        if found:
            held = held[: min(found)[1]]
            break
        n_open = max((n for stop in stops for n in range(len(stop)) if held.endswith(stop[:n])), default=0)
        ready, held = held[: len(held) - n_open], held[len(held) - n_open :]
        if ready:
            yield ready
    if held:
        yield held
