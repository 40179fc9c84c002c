"""Checks of chapter 4's second notebook, `modern_gpt`: shared keys, the price of a token, two ways to pair."""

import torch

from ch03_attention.attention import causal_mask, scaled_dot_product_attention
from ch04_gpt_model.modern_gpt import ModernConfig, rotate
from shared.exercises import expect, expect_close, expect_equal, expect_gradients, forbidden
from shared.exercises.class_numbers import dice, whole_numbers


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def _grouped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    n_shared = q.shape[1] // k.shape[1]
    pairs = [(q[:, h], k[:, h // n_shared], v[:, h // n_shared]) for h in range(q.shape[1])]
    return torch.stack([scaled_dot_product_attention(*pair, mask) for pair in pairs], dim=1)


def _qkv(n_heads: int, n_kv_heads: int, length: int, width: int, rows: int = 1) -> tuple[torch.Tensor, ...]:
    shapes = (rows, n_heads, length, width), (rows, n_kv_heads, length, width)
    return _numbers(*shapes[0]), _numbers(*shapes[1], seed=1), _numbers(*shapes[1], seed=2)


def check_grouped_attention(answer) -> None:
    def fn(*qkv):
        message = "Give each group its keys and values by hand: enable_gqa does the exercise for you."
        with forbidden(message, "scaled_dot_product_attention", option="enable_gqa"):
            got = answer(*qkv)
        shape, found = tuple(qkv[0].shape), tuple(got.shape) if isinstance(got, torch.Tensor) else got
        expect_equal("The shape of what you return", found, shape, "One output for each query.")
        return got

    q, k, v = _qkv(6, 2, 5, 4, rows=2)
    expected, got = _grouped(q, k, v, causal_mask(5)), fn(q, k, v)
    ahead = torch.allclose(got, _grouped(q, k, v, None))
    expect(not ahead, "In yours every token reads the future, too. No token may read ahead: mask the scores.")
    hint = "Heads 0, 1, 2 of the queries read head 0 of keys and values, heads 3, 4, 5 read head 1."
    expect_close("The first token's output, which can read only itself", got[:, :, 0], expected[:, :, 0], hint)
    expect_close("The output of all tokens", got, expected, "No token may read ahead, and scores are divided by √K.")
    hint = "How many heads share is the number of heads of queries divided by that of keys."
    for n_heads, n_kv_heads, length, width in ((8, 4, 3, 6), (6, 1, 4, 2), (6, 6, 4, 2), (8, 2, 1, 3), (10, 5, 7, 8)):
        q, k, v = _qkv(n_heads, n_kv_heads, length, width)
        what = f"The output of {n_heads} heads of queries and {n_kv_heads} of keys"
        expect_close(what, fn(q, k, v), _grouped(q, k, v, causal_mask(length)), hint)
    q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in _qkv(4, 2, 6, 4))  # as split into heads
    hint = "These are transposes of other tensors: ask for shapes, and never for places in memory."
    expect_close("The output where heads were split off", fn(q, k, v), _grouped(q, k, v, causal_mask(6)), hint)
    (q, k, v), hint = _qkv(2, 1, 30, 4), "Every token may read all tokens before it, however many these are."
    expect_close("The output of 30 tokens", fn(q, k, v), _grouped(q, k, v, causal_mask(30)), hint)
    q, k, v = _qkv(4, 2, 6, 4)
    hint = "Mask with minus infinity; softmax takes the largest score off first, so that no exponential overflows."
    for factor in (3000, 10**12):
        what = f"The output at scores {factor:,} times as large"
        expect_close(what, fn(factor * q, k, v), _grouped(factor * q, k, v, causal_mask(6)), hint)
    expect_gradients(fn, lambda q, k, v: _grouped(q, k, v, causal_mask(6)), q=q, k=k, v=v)


def check_cache_bytes_per_token(fn) -> None:
    config = ModernConfig(100, 16, d_model=24, n_heads=6, n_layers=5, n_kv_heads=2)
    hint = "In every block a key and a value, each as wide as all heads of keys together."
    expect_equal("cache_bytes_per_token(config) of 5 blocks, 2 heads of keys of width 4", fn(config), 160, hint)
    expect(isinstance(fn(config), int), "Bytes are counted in whole numbers, and yours is a float: do not divide by /.")
    expect_equal("the same in float32", fn(config, 4), 320, "Four bytes a number.")
    for n_bytes in (1, 8):
        what = f"the same with bytes_per_number={n_bytes}"
        expect_equal(what, fn(config, n_bytes), 80 * n_bytes, "Multiply by bytes_per_number.")
    llama = ModernConfig(32_000, 4096, 8192, 64, 80, n_kv_heads=8, d_ff=28_672, qk_norm=False, tie_weights=False)
    expect_equal("cache_bytes_per_token of Llama 2 70B", fn(llama), 327_680, hint)
    wide = ModernConfig(100, 16, d_model=24, n_heads=6, n_layers=5, n_kv_heads=2, head_width=10)
    hint = "A head may have a width of its own: config.d_head knows it."
    expect_equal("cache_bytes_per_token where heads are 10 wide", fn(wide), 400, hint)
    shared, n_layers, width = whole_numbers(3, 2, 30)
    config = ModernConfig(100, 16, 4 * shared * width, 2 * shared, n_layers, n_kv_heads=shared)
    what = f"cache_bytes_per_token of {n_layers} blocks, {shared} heads of keys of width {2 * width}"
    expect_equal(what, fn(config), 8 * shared * n_layers * width, hint)


def check_pairs_to_halves(fn) -> None:
    names = torch.arange(12.0, dtype=torch.float64)[:, None].repeat(1, 3)  # row r holds r
    expected = torch.tensor([0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11], dtype=torch.float64)
    hint = "In each head first the rows 0, 2, 4, …, then 1, 3, 5, …"
    got = fn(names, 2)
    expect_close("The new order of 12 rows for 2 heads", got[:, 0], expected, hint)
    three = torch.tensor([0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11], dtype=torch.float64)
    expect_close("The new order of 12 rows for 3 heads", fn(names.clone(), 3)[:, 0], three, "Ask n_heads.")
    for n_heads, width in ((2, 6), (1, 8), (5, 4), (4, 10)):
        d_model = n_heads * width
        weight = _numbers(d_model, d_model)
        order = [head * width + row for head in range(n_heads) for first in (0, 1) for row in range(first, width, 2)]
        what = f"A matrix of {d_model} by {d_model} for {n_heads} heads"
        got = fn(weight, n_heads)
        expect_close(what, got, weight[order], f"Move whole rows and change no number. {hint}")
    turned, kept = weight.T, weight.T[order]
    what = "A matrix that is the transpose of another tensor"
    expect_close(what, fn(turned, n_heads), kept, "Ask for shapes, and never for places in memory.")
    expect_gradients(lambda weight: fn(weight, n_heads), lambda weight: weight[order], weight=weight)
    _expect_scores_of_pairs(fn, _numbers(12, 12), n_heads=2, hint=hint)


def _expect_scores_of_pairs(fn, weight: torch.Tensor, n_heads: int, hint: str) -> None:
    x = _numbers(1, 7, 12, seed=1)
    ours = rotate((x @ fn(weight, n_heads).T).unflatten(-1, (n_heads, -1)).transpose(1, 2))  # (1, H, T, K)
    theirs = (x @ weight.T).unflatten(-1, (n_heads, -1, 2)).transpose(1, 2)  # (1, H, T, K/2, 2)
    angles = torch.arange(7.0, dtype=torch.float64)[:, None] * 10_000.0 ** (-torch.arange(3).double() / 3)
    turned = torch.view_as_real(torch.view_as_complex(theirs.contiguous()) * torch.exp(1j * angles)).flatten(-2)
    scores, expected = (h @ h.transpose(-2, -1) for h in (ours, turned))
    expect_close("The scores with rotated halves", scores, expected, hint)


CHECKS = {
    "4m.1": check_grouped_attention,
    "4m.2": check_cache_bytes_per_token,
    "4m.3": check_pairs_to_halves,
}
