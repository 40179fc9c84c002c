"""Chapter 3: attention by hand, in heads, and against PyTorch's own."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from ch03_attention.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    scaled_dot_product_attention,
)
from tests.sizes import n

B, T, D, H = 2, 6, 12, 3
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture
def attention():
    return MultiHeadAttention(D, H, qkv_bias=True).double()


def random_case(seed):
    """Queries, keys, values and a mask (or None) of random sizes, some rows masked completely."""
    dice = random.Random(seed)
    dtype = dice.choice(list(TOLERANCE))
    leading = (dice.randint(1, 3), dice.randint(1, 4))
    n_queries, n_keys, d_head = dice.randint(1, 20), dice.randint(1, 20), dice.choice([1, 4, 8, 33])
    q, k, v = (torch.randn(*leading, t, d_head, dtype=dtype) for t in (n_queries, n_keys, n_keys))
    mask = None if dice.random() < 0.3 else torch.rand(n_queries, n_keys) < 0.6
    if mask is not None and dice.random() < 0.5:
        mask[dice.randrange(n_queries)] = False
    return q, k, v, mask


@pytest.mark.parametrize("seed", range(n(30, 500)))
def test_by_hand_equals_the_pytorch_kernel(seed):
    q, k, v, mask = random_case(seed)
    expected = F.scaled_dot_product_attention(q, k, v, mask)
    assert_close(scaled_dot_product_attention(q, k, v, mask), expected, rtol=0, atol=TOLERANCE[q.dtype])


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_any_leading_dimensions_are_independent_rows(leading):
    q, k, v = (torch.randn(*leading, t, 4, dtype=torch.float64) for t in (5, 7, 7))
    together = scaled_dot_product_attention(q, k, v)
    assert together.shape == (*leading, 5, 4)
    rows = [scaled_dot_product_attention(*row) for row in zip(*(x.reshape(-1, *x.shape[-2:]) for x in (q, k, v)))]
    assert_close(together.reshape(-1, 5, 4), torch.stack(rows))


def test_a_fully_masked_row_gives_zeros_and_finite_gradients():
    q, k, v = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = causal_mask(4)
    mask[2] = False
    out = scaled_dot_product_attention(q, k, v, mask)
    assert torch.equal(out[2], torch.zeros(3, dtype=torch.float64))
    assert out[[0, 1, 3]].abs().min() > 0
    out.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


def test_gradients_of_the_hand_written_attention():
    q, k, v = (torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    masked = lambda q, k, v: scaled_dot_product_attention(q, k, v, causal_mask(4))  # noqa: E731
    assert torch.autograd.gradcheck(masked, (q, k, v), rtol=1e-5, atol=1e-7)


def test_scores_are_divided_by_the_root_of_the_head_width():
    q, k = torch.ones(1, 16), torch.tensor([[1.0] * 16, [0.0] * 16])
    assert_close(attention_weights(q, k), torch.tensor([4.0, 0.0]).softmax(0)[None])  # 16 / sqrt(16) = 4


def test_equal_scores_share_attention_evenly_over_the_past():
    weights = attention_weights(torch.zeros(4, 2), torch.zeros(4, 2), causal_mask(4))
    assert_close(weights, torch.tensor([[1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [1 / 3] * 3 + [0], [1 / 4] * 4]))


def test_the_causal_mask_of_the_last_queries_sees_all_older_keys():
    assert causal_mask(2, 5).int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert torch.equal(causal_mask(3, 7), causal_mask(7)[-3:])


@pytest.mark.parametrize("seed", range(n(50, 1000)))
def test_changing_the_future_leaves_the_past_unchanged(seed):
    torch.manual_seed(seed)
    dice = random.Random(seed)
    length = dice.randint(2, 40)
    cut = dice.randrange(1, length)
    attention = MultiHeadAttention(D, H)
    x = torch.randn(B, length, D)
    edited = x.clone()
    edited[:, cut:] += 1.0
    assert torch.equal(attention(x)[:, :cut], attention(edited)[:, :cut])
    assert not torch.allclose(attention(x)[:, cut:], attention(edited)[:, cut:])


def test_full_attention_sees_the_future():
    attention = MultiHeadAttention(D, H, causal=False)
    x = torch.randn(B, T, D)
    edited = x.clone()
    edited[:, -1] += 1.0
    assert not torch.allclose(attention(x)[:, 0], attention(edited)[:, 0])


@pytest.mark.parametrize("causal", [True, False])
def test_the_class_equals_the_hand_written_mathematics(attention, causal):
    attention.causal = causal
    x = torch.randn(B, T, D, dtype=torch.float64)
    heads = scaled_dot_product_attention(*attention.qkv(x), causal_mask(T) if causal else None)
    assert_close(attention(x), attention.out_proj(attention.merge_heads(heads)), rtol=0, atol=1e-12)
    assert_close(attention.merge_heads(attention.weights(x) @ attention.qkv(x)[2]), attention.merge_heads(heads))


@pytest.mark.parametrize("causal", [True, False])
def test_agrees_with_the_pytorch_module_whose_mask_means_the_opposite(attention, causal):
    attention.causal = causal
    theirs = nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    theirs.in_proj_weight.data.copy_(attention.qkv_proj.weight)
    theirs.in_proj_bias.data.copy_(attention.qkv_proj.bias)
    theirs.out_proj.load_state_dict(attention.out_proj.state_dict())
    x = torch.randn(B, T, D, dtype=torch.float64)
    hidden = ~causal_mask(T) if causal else None
    expected, weights = theirs(x, x, x, attn_mask=hidden, average_attn_weights=False)
    assert_close(attention(x), expected, rtol=0, atol=1e-12)
    assert_close(attention.weights(x), weights, rtol=0, atol=1e-12)


def test_gradients_of_the_class(attention):
    x = torch.randn(1, 4, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (x,), rtol=1e-5, atol=1e-7)


def test_without_a_mask_attention_does_not_know_the_order(attention):
    attention.causal = False
    x, order = torch.randn(B, T, D, dtype=torch.float64), torch.randperm(T)
    assert_close(attention(x[:, order]), attention(x)[:, order])
    attention.causal = True
    assert not torch.allclose(attention(x[:, order]), attention(x)[:, order])


def test_heads_are_slices_of_the_width_and_come_back_in_place(attention):
    x = torch.arange(float(B * T * D), dtype=torch.float64).view(B, T, D)
    attention.qkv_proj.weight.data = torch.eye(D, dtype=torch.float64).repeat(3, 1)
    attention.qkv_proj.bias = None
    for heads in attention.qkv(x):
        assert torch.equal(heads[1, 2, 3], x[1, 3, 8:12])
        assert torch.equal(attention.merge_heads(heads), x)


def test_a_head_can_be_switched_off(attention):
    x = torch.randn(B, T, D, dtype=torch.float64)
    whole = attention(x)
    attention.head_mask = torch.tensor([1.0, 0.0, 1.0])
    ablated = attention(x)
    attention.head_mask = None
    assert not torch.allclose(whole, ablated)
    attention.out_proj.weight.data[:, 4:8] = 0  # the columns that read head 1
    assert_close(attention(x), ablated)


def test_weights_are_dropped_while_training_only():
    attention = MultiHeadAttention(D, H, dropout=0.5)
    x = torch.randn(B, T, D)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))
    undropped = MultiHeadAttention(D, H)
    undropped.load_state_dict(attention.state_dict())
    assert torch.equal(attention(x), undropped(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MultiHeadAttention(12, 5), "n_heads=5 does not divide d_model=12"),
        (lambda: MultiHeadAttention(12, 0), "n_heads=0 does not divide d_model=12"),
        (lambda: MultiHeadAttention(12, 3, dropout=1.0), "dropout=1.0 is not a probability below 1"),
        (lambda: MultiHeadAttention(12, 3, dropout=-0.1), "dropout=-0.1 is not"),
        (lambda: MultiHeadAttention(12, 3)(torch.randn(2, 12)), r"x has shape \(2, 12\); give \(batch, tokens, 12\)"),
        (lambda: MultiHeadAttention(12, 3)(torch.randn(2, 4, 8)), r"give \(batch, tokens, 12\)"),
        (lambda: MultiHeadAttention(12, 3)(torch.randn(0, 4, 12)), r"shape \(0, 4, 12\); give .* none of them 0"),
        (lambda: MultiHeadAttention(12, 3)(torch.randn(2, 0, 12)), r"shape \(2, 0, 12\); give .* none of them 0"),
        (lambda: attention_weights(torch.ones(3, 4), torch.ones(3, 5)), "queries are 4 wide and keys 5"),
        (
            lambda: attention_weights(torch.ones(3, 4), torch.ones(3, 4), torch.zeros(3, 3)),
            "dtype torch.float32; give a boolean mask in which True means may attend",
        ),
        (
            lambda: scaled_dot_product_attention(torch.ones(3, 4), torch.ones(3, 4), torch.ones(2, 4)),
            "there are 3 keys and 2 values",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
