"""Checks of chapter 3's exercises: one query, masks, the scale, heads, cross-attention, induction, windows."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from shared.exercises import expect, expect_close, expect_equal, forbidden
from shared.exercises.class_numbers import dice, whole_numbers


def check_look_up(fn) -> None:
    keys = torch.tensor([[math.log(1), 3.0], [math.log(2), -1.0], [math.log(5), 0.0]])
    values = torch.tensor([[8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
    hint = "The shares are 1/8, 2/8 and 5/8: softmax over the scores, then the weighted sum of the values."
    once = fn(torch.tensor([1.0, 0.0]), keys, values)
    scaled = (keys[:, 0] / math.sqrt(2)).softmax(dim=0) @ values
    _unlike("The output of section 3.1", once, scaled, "Yours divides the scores by √K; no scale yet, please.")
    expect_close("The output of section 3.1", once, torch.tensor([6.0, 7.0]), hint)
    twice = fn(torch.tensor([1.0, 0.0]), keys.repeat(2, 1), values.repeat(2, 1))
    expect_close("With every token said twice, the output", twice, torch.tensor([6.0, 7.0]), "Shares always sum to 1.")
    wide = fn(torch.zeros(2), keys, torch.arange(15.0).view(3, 5))
    expect_close("With a query of zeros, the output", wide, torch.arange(5.0, 10.0), "Then all shares are equal.")
    loud = fn(torch.tensor([200.0, 0.0]), keys, values)
    hint = "The largest score is 322, and its exponential is too large for a computer: softmax takes care of that."
    expect_close("With the query [200, 0], the output", loud, torch.tensor([8.0, 8.0]), hint)
    one = fn(torch.ones(2), keys[:1], values[:1])
    expect_close("With a single token, the output", one, torch.tensor([8.0, 0.0]), "It gets the whole share.")
    query, keys, values = (torch.randn(size, generator=dice(3)) for size in ((3,), (4, 3), (4, 2)))
    hint = "A query may have any width, and numbers below 0."
    for asked in (query, -query):
        expected = (keys @ asked).softmax(dim=0) @ values
        expect_close("For a query of three numbers, the output", fn(asked, keys, values), expected, hint)
    _expect_gradients(fn, lambda q, k, v: (k @ q).softmax(dim=0) @ v, query=query, keys=keys, values=values)


def check_may_attend(fn) -> None:
    mask = fn(4)
    expect(isinstance(mask, torch.Tensor), f"Return a tensor, yours is {type(mask).__name__}.")
    expect_equal("The shape of the mask of 4 tokens", tuple(mask.shape), (4, 4))
    expect_equal("The dtype of the mask", mask.dtype, torch.bool, "A mask of numbers would be *added* to the scores.")
    upside_down = torch.equal(mask, torch.ones(4, 4, dtype=torch.bool).triu(1))
    expect(not upside_down, "Yours is True where a token may *not* read. Here True means may attend: turn it around.")
    expect(bool(mask.diagonal().all()), "Each token must see itself: the diagonal should be True, yours is not.")
    future = bool(mask.triu(1).any())
    past = bool((mask | torch.ones(4, 4, dtype=torch.bool).triu()).all())
    hint = "Row t reads, column s is read. Yours lets tokens see the future and not the past."
    expect(not (future and not past), hint)
    expect(not future, "Above the diagonal lies the future: it should be False, yours holds True.")
    expect(past, "Below the diagonal lies the past: all of it should be True, yours holds False.")
    for n in (1, 7):
        expected = torch.ones(n, n, dtype=torch.bool).tril()
        expect_equal(f"The mask of {n} tokens", fn(n), expected, "The number of tokens is an argument.")
    (n,) = whole_numbers(1, 8, 30)
    got = fn(n)
    expect_equal(f"The mask of {n} tokens", got, torch.ones(n, n, dtype=torch.bool).tril(), "Any number of tokens.")


def check_masked_attention(answer) -> None:
    def fn(*given):
        names = "scaled_dot_product_attention", "_scaled_dot_product_attention_math", "multi_head_attention_forward"
        with forbidden("Write the five lines out: PyTorch's own function is for later.", *names):
            return answer(*given)

    q, k, v = torch.randn(3, 2, 3, 5, 8, generator=dice(3))  # 3 x (B, H, T, K)
    everywhere, causal = torch.ones(5, 5, dtype=torch.bool), torch.ones(5, 5, dtype=torch.bool).tril()
    plain = fn(q, k, v, everywhere)
    nothing = isinstance(plain, torch.Tensor) and not plain.nan_to_num().any()
    hint = "masked_fill writes where its first argument is True: turn the mask around with ~."
    expect(not nothing, f"The mask allows everything here, and yours lets nobody read anything. {hint}")
    _name_the_slip(plain, q, k, v)
    expected = F.scaled_dot_product_attention(q, k, v)
    expect_close("Without any mask, the output", plain, expected, "softmax(q kᵀ / √d_head) v.")
    masked = fn(q, k, v, causal)
    hint = "With a causal mask the first token sees only itself, so its output is its own value."
    expect_close("The first token's output", masked[..., 0, :], v[..., 0, :], hint, tolerance=1e-7)
    expect_close("With a causal mask, the output", masked, F.scaled_dot_product_attention(q, k, v, causal))
    loud = fn(q * 0 - 1e6, k * 0 + 1e6, v, causal)  # scores near -2,800,000,000,000
    hint = "The scores are very negative here. A finite floor is higher than they are: use minus infinity."
    expect_close("The first token's output for loud scores", loud[..., 0, :], v[..., 0, :], hint)
    hint = "What is hidden has by far the highest score here: hide it before the softmax, and not afterwards."
    key, few = torch.tensor([[-10.0] * 4, [10.0] * 4]), torch.ones(2, 2, dtype=torch.bool).tril()
    hidden = fn(torch.full((1, 1, 2, 4), 10.0), key[None, None], torch.eye(2)[None, None], few)
    expect_close("The first token's output where the second one would take all", hidden[0, 0, 0], torch.eye(2)[0], hint)
    few_q, few_k, few_v = (tensor[:1, :1, :3, :4] for tensor in (q, k, v))
    hint = "These heads are 4 wide and have 3 tokens: take the sizes from what you are given."
    expected = F.scaled_dot_product_attention(few_q, few_k, few_v, is_causal=True)
    expect_close("For narrower heads, the output", fn(few_q, few_k, few_v, causal[:3, :3]), expected, hint)
    high = torch.tensor([[[[60.0], [90.0]]]])
    hint = "The scores are 60 and 90, and the second one takes all: leave them as they are, and let softmax work."
    sharp = fn(torch.ones(1, 1, 2, 1), high, torch.eye(2)[None, None], few)
    expect_close("The second token's output for high scores", sharp[0, 0, 1], torch.eye(2)[1], hint)
    hint = "The mask is an argument: here token 1 reads token 3 only."
    odd = torch.eye(5, dtype=torch.bool)
    odd[1] = torch.arange(5) == 3
    expect_close("With another mask, the output", fn(q, k, v, odd), F.scaled_dot_product_attention(q, k, v, odd), hint)
    kernel = partial(F.scaled_dot_product_attention, is_causal=True)
    _expect_gradients(lambda q, k, v: fn(q, k, v, causal), kernel, q=q, k=k, v=v)


def _expect_gradients(fn, reference, **given: torch.Tensor) -> None:
    """Require that every input could learn, and would learn the same as with the reference."""
    inputs, others = ([tensor.double().clone().requires_grad_() for tensor in given.values()] for _ in range(2))
    got = fn(*inputs)
    expect(got.requires_grad, "Nothing could learn: no gradient flows back. Leave out detach, .data and torch.no_grad.")
    right = reference(*others)
    hint = "Round nothing, and compute in the number format that is given."
    expect_close("For inputs of float64, the output", got, right.detach(), hint, tolerance=1e-9)
    got.pow(2).sum().backward()
    right.pow(2).sum().backward()
    for name, tensor in zip(given, inputs):
        reached = tensor.grad is not None and bool(tensor.grad.any())
        expect(reached, f"{name} could not learn: no gradient reaches it.")
    hint = "Every use of it must be undetached."
    for name, tensor, other in zip(given, inputs, others):
        expect_close(f"The gradient of {name}", tensor.grad, other.grad, hint)


def _name_the_slip(got, q, k, v) -> None:
    """Recognize the classic mistakes by what they compute."""
    scores = q @ k.transpose(-2, -1)
    slips = {
        "is what comes out without any scale. Divide the scores by √d_head.": scores.softmax(-1) @ v,
        "is what comes out when scores are divided by d_head. Take its square root.": (scores / 8).softmax(-1) @ v,
        "is what comes out with the scale of the whole model. Each head is d_head wide.": (scores / 24**0.5).softmax(-1)
        @ v,
        "is a softmax over the queries. Each query shares out one whole: softmax over the keys, the last axis.": (
            scores / 8**0.5
        ).softmax(-2)
        @ v,
    }
    for message, wrong in slips.items():
        same = isinstance(got, torch.Tensor) and got.shape == wrong.shape and torch.allclose(got, wrong, atol=1e-5)
        expect(not same, f"Your output {message}")


def check_split_into_heads(fn) -> None:
    x = torch.arange(2 * 3 * 4).view(2, 3, 4)  # the numbers tell where each came from
    got = fn(x, 2)
    expect(isinstance(got, torch.Tensor), f"Return a tensor, yours is {type(got).__name__}.")
    expect_equal("The shape for (2, 3, 4) and 2 heads", tuple(got.shape), (2, 2, 3, 2), "(B, H, T, K)")
    hint = "Head 0 is the first half of each vector, head 1 the second: neighbors stay together."
    expect_equal("Token 0 in head 0 of row 0", got[0, 0, 0], torch.tensor([0, 1]), hint)
    hint = "Row t of a head must be token t. view alone counts the numbers off anew: split first, then transpose."
    expect_equal("Token 2 in head 0 of row 0", got[0, 0, 2], torch.tensor([8, 9]), hint)
    expect_equal("All heads", got, x.view(2, 3, 2, 2).transpose(1, 2))
    for n_heads, d_head in ((2, 3), (3, 2), (1, 6)):
        x = torch.arange(30.0, dtype=torch.float64).view(1, 5, 6).requires_grad_()
        hint = f"The number of heads is an argument, and each head is {d_head} wide."
        got = fn(x, n_heads)
        expect_equal(
            f"The heads for (1, 5, 6) and n_heads={n_heads}", got, x.view(1, 5, n_heads, d_head).transpose(1, 2), hint
        )
        expect(got.requires_grad and got.dtype == x.dtype, "Only regroup the numbers: no new tensor, detach or dtype.")
        _expect_gradients(
            lambda x, n=n_heads: fn(x, n), lambda x, n=n_heads: x.view(1, 5, n, 6 // n).transpose(1, 2), x=x.detach()
        )
    turned = torch.arange(24).view(3, 2, 4).transpose(0, 1)  # the same shape, and other steps in memory
    hint = "This x is the transpose of another tensor: ask for shapes, and never for places in memory."
    expect_equal("The heads of a transposed x", fn(turned, 2), torch.stack(turned.split(2, dim=-1), dim=1), hint)
    n_heads, d_head = whole_numbers(2, 2, 7)
    x = torch.randn(2, 3, n_heads * d_head, generator=dice(3), dtype=torch.float64)
    expected = torch.stack(x.split(d_head, dim=-1), dim=1)
    what = f"The heads of random numbers of shape {tuple(x.shape)} with n_heads={n_heads}"
    expect_equal(what, fn(x, n_heads), expected, "Any number of heads, and any width.")


def check_padded_mask(fn) -> None:
    mask = fn(torch.tensor([4, 2]), 4)
    expect(isinstance(mask, torch.Tensor), f"Return a tensor, yours is {type(mask).__name__}.")
    expect_equal(
        "The shape for 2 rows of 4 tokens",
        tuple(mask.shape),
        (2, 1, 4, 4),
        "The axis of size 1 stands for all heads: (B, 1, T, T).",
    )
    expect_equal("The dtype", mask.dtype, torch.bool)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    expect(not mask[0, 0].triu(1).any(), "A full row must still be causal: nobody reads ahead.")
    expect_equal("The mask of a full row", mask[0, 0].int(), causal.int())
    hint = "The row has 2 real tokens, so nobody may read positions 2 and 3: those are columns of the mask."
    expect(not mask[1, 0, :, 2:].any(), f"In the short row, padding is read. {hint}")
    asks = mask[1, 0, 2:, :2].any()
    expect(bool(asks), "In the short row you masked rows, which read. Mask columns, which are read: the keys.")
    hint = "The first two columns stay as they were: real tokens may be read by every later position."
    expect_equal("Columns 0 and 1 of the short row", mask[1, 0, :, :2].int(), causal[:, :2].int(), hint)
    lengths = torch.tensor([1, 5, 3])
    expected = torch.ones(5, 5, dtype=torch.bool).tril() & (torch.arange(5) < lengths[:, None])[:, None, None]
    hint = "Three rows with 1, 5 and 3 real tokens: both arguments count."
    expect_equal("The mask of lengths [1, 5, 3] and 5 tokens", fn(lengths, 5).int(), expected.int(), hint)
    longer = fn(torch.tensor([2]), 3)
    expect_equal(
        "The mask of length [2] and 3 tokens", longer[0, 0].int().tolist(), [[1, 0, 0], [1, 1, 0], [1, 1, 0]], hint
    )
    lengths = torch.tensor(whole_numbers(4, 1, 9))
    expected = torch.ones(9, 9, dtype=torch.bool).tril() & (torch.arange(9) < lengths[:, None])[:, None, None]
    hint = "Any number of rows, of any lengths."
    expect_equal(f"The mask of lengths {lengths.tolist()} and 9 tokens", fn(lengths, 9).int(), expected.int(), hint)


def check_read_other(fn) -> None:
    written, read = torch.randn(2, 3, 6, generator=dice(3)), torch.randn(2, 5, 6, generator=dice(3))
    w_q, w_k, w_v = torch.randn(3, 6, 4, generator=dice(3))
    got = fn(written, read, w_q, w_k, w_v)
    expect(isinstance(got, torch.Tensor), f"Return a tensor, yours is {type(got).__name__}.")
    expect(tuple(got.shape) != (2, 3, 6), "Your values are as wide as the text: multiply them by w_v, too.")
    hint = "One output for each token being written: the queries come from `written`."
    expect_equal("The shape", tuple(got.shape), (2, 3, 4), hint)
    itself = F.scaled_dot_product_attention(written @ w_q, written @ w_k, written @ w_v)
    same = torch.allclose(got, itself, atol=1e-5)
    expect(not same, "Your output does not depend on `read`: take keys and values from it.")
    causal = F.scaled_dot_product_attention(written @ w_q, read @ w_k, read @ w_v, is_causal=True)
    expect(not torch.allclose(got, causal, atol=1e-5), "What is read is finished: no causal mask here.")
    unscaled = (written @ w_q @ (read @ w_k).transpose(-2, -1)).softmax(dim=-1) @ (read @ w_v)
    _unlike("The output", got, unscaled, "Yours has no scale: divide the scores by √K.")
    expected = _reads_other(written, read, w_q, w_k, w_v)
    expect_close("The output", got, expected, "softmax(q kᵀ / √K) v with q = written w_q, k = read w_k, v = read w_v.")
    _expect_gradients(fn, _reads_other, written=written, read=read, w_q=w_q, w_k=w_k, w_v=w_v)
    hint = "Scores of thousands must not overflow: softmax takes care of that."
    loud = 1000 * written, read, w_q, w_k, w_v
    expect_close("The output for very large scores", fn(*loud), _reads_other(*loud), hint, tolerance=1e-3)
    narrow = [w[:, :3] for w in (w_q, w_k, w_v)]
    hint = "Here K is 3, and the scale is √3: take it from what you are given."
    expect_close("The output for K = 3", fn(written, read, *narrow), _reads_other(written, read, *narrow), hint)


def _reads_other(written, read, w_q, w_k, w_v):
    return F.scaled_dot_product_attention(written @ w_q, read @ w_k, read @ w_v)


def check_induction_score(fn) -> None:
    period, n_tokens = 4, 8
    perfect = torch.zeros(n_tokens, n_tokens)
    perfect[range(period), range(period)] = 1.0  # the first time there is nothing to copy
    perfect[range(period, n_tokens), range(1, n_tokens - period + 1)] = 1.0
    got = fn(perfect, period)
    hint = "Token t stood at t - period; the one *after* it stands at t - period + 1."
    expect(not _is(got, 0.0), f"A perfect induction head should score 1, yours scores 0. {hint}")
    hint = "Average over the second half only: the first time there is nothing to copy."
    expect_close("The score of a perfect induction head", got, 1.0, hint)
    itself = torch.zeros(n_tokens, n_tokens)
    itself[range(period, n_tokens), range(period)] = 1.0
    expect_close("The score of a head that looks at the earlier copy itself", fn(itself, period), 0.0)
    half = perfect.clone()
    half[6:] = itself[6:]  # right at places 4 and 5, wrong at 6 and 7
    hint = "Take the mean over all places of the second time, the first and the last included."
    expect_close("The score of a head that is right at half of the places", fn(half, period), 0.5, hint)
    late = perfect.clone()
    late[4:6] = itself[4:6]
    expect_close("The score of a head that is right at the other half", fn(late, period), 0.5, hint)
    many = fn(torch.stack([perfect, itself, perfect / 2]).view(3, 1, n_tokens, n_tokens), period)
    hint = "Leave the leading axes alone: index the last two with `...` in front."
    expect_close("The scores of three heads at once", many, torch.tensor([[1.0], [0.0], [0.5]]), hint)
    uneven = torch.zeros(6, 6)
    uneven[3, 1], uneven[4, 2], uneven[5, 3] = 0.6, 0.3, 0.9
    hint = "The period is an argument: with three tokens, said twice, the weights are 0.6, 0.3 and 0.9."
    expect_close("The score with the period 3", fn(uneven, 3), 0.6, hint)
    _expect_gradients(lambda w: fn(w, 3), lambda w: w[..., [3, 4, 5], [1, 2, 3]].mean(dim=-1), weights=uneven)
    weights = torch.randn(2, 10, 10, generator=dice(3)).softmax(dim=-1)
    expected = weights[:, range(5, 10), range(1, 6)].mean(dim=-1)
    expect_close("The scores of two heads with random weights and the period 5", fn(weights, 5), expected, hint)


def check_window_mask(fn) -> None:
    mask = fn(5, 2)
    expect(isinstance(mask, torch.Tensor), f"Return a tensor, yours is {type(mask).__name__}.")
    expect_equal("The shape for 5 tokens", tuple(mask.shape), (5, 5))
    expect_equal("The dtype", mask.dtype, torch.bool)
    expect(not mask.triu(1).any(), "Nobody may read ahead: above the diagonal all should be False.")
    seen = mask.sum(dim=1).tolist()
    hint = "The window counts the token itself: with window 2 it sees itself and one before it."
    expect_equal("How many tokens each of the 5 sees", seen, [1, 2, 2, 2, 2], hint)
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]
    expect_equal("The mask for window 2", mask.int().tolist(), expected, "The newest ones, not the oldest.")
    whole = torch.ones(3, 3, dtype=torch.bool).tril()
    expect_equal("The mask for a window longer than the text", fn(3, 9).int(), whole.int(), "That is the causal mask.")
    expect_equal("The mask for window 1", fn(4, 1).int(), torch.eye(4).int(), "Each token sees itself alone.")
    wide = fn(6, 4)
    seen = wide.sum(dim=1).tolist()
    expect_equal("How many tokens each of 6 sees with window 4", seen, [1, 2, 3, 4, 4, 4], "The window is an argument.")
    band = torch.ones(6, 6, dtype=torch.bool).tril().triu(-3)
    expect_equal("The mask of 6 tokens for window 4", wide.int(), band.int(), "The newest four, and no others.")
    n, window = whole_numbers(1, 12, 20)[0], whole_numbers(1, 5, 9, number=1)[0]
    newest = torch.ones(n, n, dtype=torch.bool).tril().triu(1 - window)
    expect_equal(f"The mask of {n} tokens for window {window}", fn(n, window).int(), newest.int(), "Any two numbers.")


def _unlike(what: str, got, wrong: torch.Tensor, message: str) -> None:
    """Name a slip by the result that it gives."""
    same = isinstance(got, torch.Tensor) and got.shape == wrong.shape and torch.allclose(got, wrong, atol=1e-5)
    expect(not same, f"{what} is not right yet. {message}")


def _is(got, value: float) -> bool:
    return isinstance(got, (torch.Tensor, float, int)) and torch.as_tensor(got).numel() == 1 and float(got) == value


CHECKS = {
    "3.1": check_look_up,
    "3.2": check_may_attend,
    "3.3": check_masked_attention,
    "3.4": check_split_into_heads,
    "3.5": check_padded_mask,
    "3.6": check_read_other,
    "3.7": check_induction_score,
    "3.8": check_window_mask,
}
