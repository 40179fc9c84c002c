"""Checks of chapter 4's second notebook, `modern_gpt`: shared keys, the price of a token, two ways to pair."""

import torch
import torch.nn.functional as F

from ch03_attention.attention import causal_mask, scaled_dot_product_attention
from ch04_gpt_model.modern_gpt import ModernConfig, rotate
from shared.exercises import expect, expect_close, expect_equal, untouched, without


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_grouped_attention(fn) -> None:
    q, k, v = _numbers(2, 6, 5, 4), _numbers(2, 2, 5, 4, seed=1), _numbers(2, 2, 5, 4, seed=2)  # H = 6, G = 2
    heads = [scaled_dot_product_attention(q[:, h], k[:, h // 3], v[:, h // 3], causal_mask(5)) for h in range(6)]
    expected = torch.stack(heads, dim=1)
    message = "Give each group its keys and values by hand: enable_gqa does the exercise for you."
    with without(F, "scaled_dot_product_attention", message, option="enable_gqa"):
        got = untouched(fn)(q, k, v)
    blind = [F.scaled_dot_product_attention(q[:, h], k[:, h // 3], v[:, h // 3]) for h in range(6)]
    ahead = isinstance(got, torch.Tensor) and got.shape == q.shape and torch.allclose(got, torch.stack(blind, dim=1))
    expect(not ahead, "In yours every token reads the future, too. No token may read ahead: mask the scores.")
    hint = "Heads 0, 1, 2 of the queries read head 0 of keys and values, heads 3, 4, 5 read head 1."
    expect_close("The first token's output, which can read only itself", got[:, :, 0], expected[:, :, 0], hint)
    expect_close("The output of all tokens", got, expected, "No token may read ahead, and scores are divided by √K.")
    q, k, v = _numbers(1, 8, 3, 6), _numbers(1, 4, 3, 6, seed=1), _numbers(1, 4, 3, 6, seed=2)  # H = 8, G = 4
    heads = [scaled_dot_product_attention(q[:, h], k[:, h // 2], v[:, h // 2], causal_mask(3)) for h in range(8)]
    with without(F, "scaled_dot_product_attention", message, option="enable_gqa"):
        got = fn(q, k, v)
    hint = "How many heads share is the number of heads of queries divided by that of keys."
    expect_close("The output of 8 heads of queries and 4 of keys", got, torch.stack(heads, dim=1), hint)


def check_cache_bytes_per_token(fn) -> None:
    config = ModernConfig(100, 16, d_model=24, n_heads=6, n_layers=5, n_kv_heads=2)
    hint = "In every block a key and a value, each as wide as all heads of keys together."
    expect_equal("cache_bytes_per_token(config) of 5 blocks, 2 heads of keys of width 4", fn(config), 160, hint)
    expect_equal("the same in float32", fn(config, 4), 320, "Four bytes a number.")
    llama = ModernConfig(32_000, 4096, 8192, 64, 80, n_kv_heads=8, d_ff=28_672, qk_norm=False, tie_weights=False)
    expect_equal("cache_bytes_per_token of Llama 2 70B", fn(llama), 327_680, hint)
    wide = ModernConfig(100, 16, d_model=24, n_heads=6, n_layers=5, n_kv_heads=2, head_width=10)
    hint = "A head may have a width of its own: config.d_head knows it."
    expect_equal("cache_bytes_per_token where heads are 10 wide", fn(wide), 400, hint)


def check_pairs_to_halves(answer) -> None:
    fn = untouched(answer)
    weight, x, n_heads = _numbers(12, 12), _numbers(1, 7, 12, seed=1), 2
    names = torch.arange(12.0, dtype=torch.float64)[:, None].repeat(1, 3)  # row r holds r
    expected = torch.tensor([0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11], dtype=torch.float64)
    hint = "In each head first the rows 0, 2, 4, …, then 1, 3, 5, …"
    expect_close("The new order of 12 rows for 2 heads", fn(names, n_heads)[:, 0], expected, hint)
    three = torch.tensor([0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11], dtype=torch.float64)
    expect_close("The new order of 12 rows for 3 heads", fn(names.clone(), 3)[:, 0], three, "Ask n_heads.")
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
