"""Checks of chapter 4: norm, GELU, block, tied weights, stored matrices, cache size, greedy, one cached step."""

from types import SimpleNamespace

import torch
from torch import nn

from ch03_attention.attention import scaled_dot_product_attention
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from shared.exercises import expect, expect_close, expect_equal, forbidden, may_change
from shared.exercises.class_numbers import dice, whole_numbers


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def check_layer_norm(answer) -> None:
    message = "Take mean and variance yourself: layer_norm of PyTorch is what yours is compared with."

    def fn(*given):
        names = "layer_norm", "native_layer_norm", "batch_norm", "native_batch_norm", "instance_norm", "group_norm"
        with forbidden(message, *names, "native_group_norm", "rms_norm"):
            return answer(*given)

    ones, zeros = torch.ones(4).double(), torch.zeros(4).double()
    flat = fn(torch.full((1, 4), 5.0).double(), ones, zeros)
    expect_close("layer_norm of four equal numbers", flat, torch.zeros(1, 4), "eps belongs under the root: no 0 / 0.")
    x = torch.tensor([[1.0, 2.0, 3.0, 6.0], [10.0, 10.0, 30.0, 30.0]]).double()
    expected = nn.functional.layer_norm(x, (4,))  # nearly -1.069, -0.535, 0, 1.604 and -1, -1, 1, 1
    hint = "Each row by itself; the variance divides by the number of values, here 4, and eps is added under the root."
    expect_close("layer_norm of (1, 2, 3, 6) and (10, 10, 30, 30)", fn(x, ones, zeros), expected, hint)
    x, weight, bias = _numbers(2, 3, 4), _numbers(4, seed=1), _numbers(4, seed=2)
    expected = nn.functional.layer_norm(x, (4,), eps=0.5)
    hint = "eps is an argument, and it is added to the variance, under the root."
    expect_close("layer_norm with eps = 0.5", fn(x, ones, zeros, 0.5), expected, hint)
    expected = nn.functional.layer_norm(x, (4,), weight, bias)
    expect_close("layer_norm with weight and bias", fn(x, weight, bias), expected, "First the weight, then the bias.")
    wide, ones, zeros = _numbers(2, 6), torch.ones(6).double(), torch.zeros(6).double()
    expected = nn.functional.layer_norm(wide, (6,))
    expect_close("layer_norm of rows of six numbers", fn(wide, ones, zeros), expected, "The width may be any.")
    far, ones = torch.tensor([[10001.0, 10002.0, 10003.0, 10006.0]]), torch.ones(4)
    hint = "Take the mean away before you square: the difference of two huge squares has no digits left."
    expected = torch.tensor([[-1.069045, -0.534522, 0.0, 1.603567]])
    expect_close("layer_norm of 10001, 10002, 10003, 10006 in float32", fn(far, ones, 0 * ones), expected, hint)
    _expect_gradients(fn, lambda *given: nn.functional.layer_norm(given[0], (4,), *given[1:]), x=x, weight=weight,
                      bias=bias)  # fmt: skip


def _expect_gradients(fn, right, **given: torch.Tensor) -> None:
    """Hold that an answer keeps the number format, and that all gradients flow back as from the right one."""
    ours, rights = ([tensor.clone().requires_grad_() for tensor in given.values()] for _ in range(2))
    got = fn(*ours)
    first = next(iter(given))
    lost = f"The result is cut off from {first} (.item() or .detach()), so nothing before it could learn."
    expect(got.requires_grad, lost)
    weights = _numbers(*got.shape, seed=9)
    (got * weights).sum().backward()
    wanted = right(*rights)
    expect_close("The result for other numbers", got, wanted.detach(), "Any numbers.")
    (wanted * weights).sum().backward()
    for name, mine, other in zip(given, ours, rights):
        expect(mine.grad is not None, f"No gradient reaches {name}: leave out detach, .data and torch.no_grad.")
        hint = f"Every place where {name} is used must let its gradient pass: no detach, .data or torch.no_grad there."
        expect_close(f"The gradient of {name}", mine.grad, other.grad, hint)


def check_gelu(answer) -> None:
    def fn(x):
        with forbidden("Write the product itself: F.gelu is what yours is compared with.", "gelu", "gelu_"):
            return answer(x)

    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    hint = "x times the probability that a standard normal number is smaller than x (tanh only comes close to it)."
    expect_close("gelu of -2, -1, 0, 1, 2", fn(x), nn.functional.gelu(x), hint)
    x = 3 * _numbers(2, 3)
    expect_close("gelu of a table of other numbers", fn(x), nn.functional.gelu(x), hint)
    _expect_gradients(fn, nn.functional.gelu, x=x)


def check_block(fn) -> None:
    norm1, norm2 = (lambda x: x / 10), (lambda x: x / 100)
    attention, feed_forward = (lambda x: 3 * x), (lambda x: 7 * x)
    got = fn(torch.tensor([[100.0]]), norm1, attention, norm2, feed_forward)
    hint = "x + attention(norm1(x)) first; then the same with norm2 and feed_forward, on what came out."
    expect_close("The block of x = 100 (norms divide, branches multiply)", got, torch.tensor([[139.1]]), hint)
    norm1, norm2 = (lambda x: x / 10 + 1), (lambda x: x / 100 + 2)
    got = fn(torch.tensor([[100.0], [0.0]]), norm1, attention, norm2, feed_forward)
    hint = "A norm stands before its part and not behind it: the part reads what the norm gives."
    expected = torch.tensor([[156.31], [17.21]])
    expect_close("The block of 100 and 0, with norms that divide and then add 1 and 2", got, expected, hint)
    parts = norm1, attention, norm2, feed_forward
    _expect_gradients(lambda x: fn(x, *parts), lambda x: 1.391 * x + 17.21, x=_numbers(3, 2))


@may_change(0)
def check_tie(fn) -> None:
    model = GPTModel(GPTConfig(11, 4, 6, 2, 1, tie_weights=False))
    before = model.token_embedding.weight.detach().clone()
    others = {name: (part, part.detach().clone()) for name, part in model.named_parameters() if "head" not in name}
    fn(model)
    for name, (part, kept) in others.items():
        same = part.requires_grad and torch.equal(part, kept)
        expect(same or part is model.token_embedding.weight, f"`{name}` has changed or can no longer learn: leave it.")
    expect(model.training, "The model was training before and is not now: leave it in its mode.")
    same = model.head.weight.data_ptr() == model.token_embedding.weight.data_ptr()
    equal = torch.equal(model.head.weight, model.token_embedding.weight)
    hint = "They have equal values in two places." if equal else "They do not even have equal values."
    expect(same, f"Head and token embedding should be one tensor in one place (data_ptr). {hint}")
    expect_equal("The token embedding after tying", model.token_embedding.weight.detach(), before, "Keep its values.")
    expected = GPTModel(GPTConfig(11, 4, 6, 2, 1)).n_parameters
    hint = "Share the parameter itself: a copy of its data is counted, and moved by the optimizer, a second time."
    expect_equal("n_parameters after tying", model.n_parameters, expected, hint)
    ids = torch.tensor([[3, 1, 4]])
    learns = model.token_embedding.weight.requires_grad
    expect(learns, "The shared weights no longer learn: keep them a parameter with a gradient.")
    expect(isinstance(model.head, nn.Linear), "The head should still be a linear layer; share its weight only.")
    expect_close("The logits after tying", model(ids), model.hidden(ids) @ before.T, "The head multiplies by it.")


@may_change(0)
def check_load_projection(fn) -> None:
    for d_in, d_out in ((4, 12), (6, 6)):
        linear, stored, bias = nn.Linear(d_in, d_out).double(), _numbers(d_in, d_out), _numbers(d_out, seed=1)
        files = stored.clone(), bias.clone()
        fn(linear, *files)
        expect_close("The layer's bias after loading", linear.bias, bias, "Copy both, the matrix and the bias.")
        x = _numbers(3, d_in, seed=2)
        hint = "nn.Linear stores (out, in), GPT-2's files hold (in, out); a square matrix fits either way round."
        what = f"The layer's output after loading a matrix of shape ({d_in}, {d_out})"
        expect_close(what, linear(x), x @ stored + bias, hint)
        learns = linear.weight.requires_grad and linear.bias.requires_grad
        expect(learns, "The loaded weights no longer learn: keep weight and bias parameters with a gradient.")
        for file in files:
            file.zero_()
        hint = "The layer shares its memory with what was stored: copy the numbers (copy_, or clone before .data)."
        expect_close("The layer's output after the stored tensors were overwritten", linear(x), x @ stored + bias, hint)


def check_cache_bytes(fn) -> None:
    config = GPTConfig(100, 16, d_model=12, n_heads=3, n_layers=5)
    hint = "A key and a value of width D, in every block, for every token of every row."
    expect_equal("cache_bytes(config, 1, 1) of 5 blocks, width 12", fn(config, 1, 1), 2 * 5 * 12 * 4, hint)
    expect_equal("cache_bytes(config, 3, 7)", fn(config, 3, 7), 2 * 5 * 12 * 4 * 21, "Rows times tokens.")
    expect_equal("cache_bytes(config, 1, 1, 2)", fn(config, 1, 1, 2), 2 * 5 * 12 * 2, "Two bytes for each number.")
    largest = fn(GPTConfig.gpt2("1558M"), 1, 1024)
    expect_equal("cache_bytes(GPT-2 1558M, 1, 1024)", largest, 629_145_600, hint)
    rows = fn(GPTConfig.gpt2("1558M"), 16, 1024)
    expect_equal("cache_bytes(GPT-2 1558M, 16, 1024)", rows, 10_066_329_600, "Numbers may be larger than 32 bits hold.")
    expect(isinstance(largest, int), f"Bytes are counted: return a whole number; yours is {largest!r}.")
    n_heads, n_layers, rows, tokens = whole_numbers(4, 2, 30)
    got = fn(GPTConfig(100, 16, d_model=4 * n_heads, n_heads=n_heads, n_layers=n_layers), rows, tokens)
    what = f"cache_bytes(config, {rows}, {tokens}) of {n_layers} blocks, width {4 * n_heads}"
    expect_equal(what, got, 32 * n_heads * n_layers * rows * tokens, hint)


class _Counting(nn.Module):
    """Says after each token that the next one is a sum of those in its window, which tells what was read."""

    def __init__(self, context_length: int = 4):
        super().__init__()
        self.config = SimpleNamespace(context_length=context_length, vocab_size=23)
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.shape[1] > self.config.context_length:
            raise ValueError(f"{ids.shape[1]} tokens were given and the context holds {self.config.context_length}")
        return nn.functional.one_hot(ids.cumsum(dim=1) % 23, 23) * self.one


def check_greedy(fn) -> None:
    model = _Counting()
    hint = "The scores after the *last* token choose the next one, for each row by itself."
    expect_equal("greedy of [[1, 2], [5, 6]] for one token", fn(model, torch.tensor([[1, 2], [5, 6]]), 1),
                 torch.tensor([[1, 2, 3], [5, 6, 11]]), hint)  # fmt: skip
    try:
        got = fn(model, torch.tensor([[1, 2, 3]]), 4)
    except ValueError:
        got = None
    expect(got is not None, "greedy gave the model more than its context of 4 tokens; let the window slide.")
    hint = "Cut only what the model reads, not the rows that you return."
    expect_equal("The shape of greedy of [[1, 2, 3]] for four tokens", tuple(got.shape), (1, 7), hint)
    expect_equal("greedy of [[1, 2, 3]] for four tokens in a context of 4", got,
                 torch.tensor([[1, 2, 3, 6, 12, 0, 21]]), "Read the newest context_length tokens.")  # fmt: skip
    expected = torch.tensor([[1, 2, 3, 5, 8], [5, 6, 11, 17, 5]])
    hint = "Ask model.config for the length of the context."
    got = fn(_Counting(context_length=2), torch.tensor([[1, 2], [5, 6]]), 3)
    expect_equal("greedy of [[1, 2], [5, 6]] for three tokens in a context of 2", got, expected, hint)
    none = fn(model, torch.tensor([[1, 2]]), 0)
    expect_equal("greedy of [[1, 2]] for no token", none, torch.tensor([[1, 2]]), "Then nothing is appended.")
    hint = "The tokens are read by an embedding again: keep the type of ids."
    for tokens in (got, none):
        expect_equal("The type of the ids", str(tokens.dtype), "torch.int64", hint)
    expect(model.training, "The model was training before and is not now: leave it in its mode, or set it back.")
    frozen = "The model's parameters can no longer learn: use torch.no_grad, and leave requires_grad as it was."
    expect(model.one.requires_grad, frozen)
    a, b = whole_numbers(2, 1, 9)
    pair = torch.tensor([[a, b]])
    expect_equal(f"greedy of [[{a}, {b}]] for one token", fn(model, pair, 1), torch.tensor([[a, b, a + b]]), "Any ids.")


def check_cached_step(fn) -> None:
    q, k, v = _numbers(1, 2, 5, 3), _numbers(1, 2, 5, 3, seed=1), _numbers(1, 2, 5, 3, seed=2)  # (B, H, T, K)
    result = fn(q[:, :, 4:], k[:, :, 4:], v[:, :, 4:], k[:, :, :4], v[:, :, :4])
    expect(isinstance(result, tuple) and len(result) == 3, "cached_step should return three things: out, keys, values.")
    hint = "The new key and value go behind the old ones, along the axis of tokens."
    expect_equal("The keys after the step", result[1], k, hint)
    expect_equal("The values after the step", result[2], v, hint)
    unscaled = (q[:, :, 4:] @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    same = isinstance(result[0], torch.Tensor) and result[0].shape == unscaled.shape
    scaled = not (same and torch.allclose(result[0], unscaled))
    expect(scaled, "The output of the new token has no scale: divide the scores by √K.")
    expected = scaled_dot_product_attention(q[:, :, 4:], k, v)
    hint = "The newest token may read all that is stored, itself included: no mask at all."
    expect_close("The output of the new token", result[0], expected, hint)
    q, k, v = _numbers(2, 3, 1, 8), _numbers(2, 3, 1, 8, seed=1), _numbers(2, 3, 1, 8, seed=2)
    out, keys, _ = fn(q, k, v, k[:, :, :0], v[:, :, :0])
    expect_equal("The keys after the first token of all", keys, k, "Nothing is stored yet.")
    expect_close("The output of the first token of all", out, v, "It can read only itself.")
    old = _numbers(2, 3, 4, 8, seed=3), _numbers(2, 3, 4, 8, seed=4)

    def joined(q, k, v, old_keys, old_values):
        keys, values = torch.cat([old_keys, k], dim=2), torch.cat([old_values, v], dim=2)
        return scaled_dot_product_attention(q, keys, values)

    def right(q, k, v):
        return joined(q, k, v, *old)

    loud = 1000 * q, k, v
    hint = "A score of thousands must not overflow: softmax takes care of that."
    expect_close("The output at scores 1,000 times as large", fn(*loud, *old)[0], right(*loud), hint)
    _expect_gradients(lambda q, k, v: fn(q, k, v, *old)[0], right, q=q, k=k, v=v)
    one, more = old
    stored = {"old_keys": one, "old_values": more}
    _expect_gradients(lambda *old: fn(q, k, v, *old)[0], lambda *old: joined(q, k, v, *old), **stored)
    parts = {"k": k, "v": v, **stored}
    for place, name in ((1, "keys"), (2, "values")):
        pair = {key: parts[key] for key in (name[0], f"old_{name}")}

        def returned(new, stored, place=place):
            given = (q, new, v, stored, more) if place == 1 else (q, k, new, one, stored)
            return fn(*given)[place]

        _expect_gradients(returned, lambda new, stored: torch.cat([stored, new], dim=2), **pair)


CHECKS = {
    "4.1": check_layer_norm,
    "4.2": check_gelu,
    "4.3": check_block,
    "4.4": check_tie,
    "4.5": check_load_projection,
    "4.6": check_cache_bytes,
    "4.7": check_greedy,
    "4.8": check_cached_step,
}
