"""What exists for speed alone changes no number: not a token, not a gradient, not the model it is used on."""

import copy
import sys
import time
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from ch03_attention.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from ch04_gpt_model import fast_paths as doors
from ch04_gpt_model.fast_paths import (
    LinearBy,
    fast_attention,
    fast_paths,
    linear_by_columns,
    linear_by_convolution,
    linear_by_packing,
)
from ch04_gpt_model.generation import evaluating, generate, next_tokens, stream
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch04_gpt_model.sampling import Sampler
from ch05_pretraining import machine, pretraining
from ch05_pretraining.pretraining import TrainConfig, train
from ch05_pretraining.scaling import matrix_product_ceiling
from tests.small_models import tiny_model, weight_vector

SHORT_CONTEXT = {"vocab_size": 50, "context_length": 16, "d_model": 12, "n_heads": 3}  # 20 new tokens do not fit
MODELS = {
    "GPT": lambda: tiny_model(**SHORT_CONTEXT, dropout=0.5),
    "no dropout, untied": lambda: tiny_model(**SHORT_CONTEXT, tie_weights=False),
    "modern": lambda: ModernGPT(ModernConfig(50, 16, 24, 6, 2, n_kv_heads=2)),
}


def decided(name="GPT", dtype=torch.float32):
    """A model in training mode with so large differences between its logits that rounding decides nothing."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.to(dtype).train()


def prompts(n_rows, length=4):
    return torch.randint(50, (n_rows, length), generator=torch.Generator().manual_seed(n_rows))


def plainly(model, ids, n_new, *, stop_id=None, use_cache=True, **settings):
    """`generate` without a single fast path."""
    tokens = next_tokens(model, ids, n_new, Sampler(**settings), stop_id, use_cache)
    with torch.inference_mode(), evaluating(model):
        return torch.cat([ids, *(token[:, None] for token in tokens)], dim=1)


# --- writing text: fast and plain are the same, token for token -------------------------------------------------------


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("n_rows", [1, 3, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_fast_and_plain_write_the_same_past_the_context_edge(monkeypatch, name, dtype, n_rows, use_cache, large):
    monkeypatch.setattr(doors, "LARGE", 0 if large else doors.LARGE)
    model, ids = decided(name, dtype), prompts(n_rows)
    for settings in ({}, {"temperature": 1.5, "seed": 1}, {"temperature": 1.0, "top_k": 9, "seed": 2, "stop_id": 3}):
        settings["use_cache"] = use_cache
        written = generate(model, ids, 20, **settings)
        assert torch.equal(written, plainly(model, ids, 20, **settings))
        if n_rows == 1:
            assert list(stream(model, ids, 20, **settings)) == written[0, 4:].tolist()
    assert written.shape[1] > 4 and model.training


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("n_rows", [1, 3])
def test_fast_and_plain_write_the_same_under_autocast(monkeypatch, n_rows, large):
    monkeypatch.setattr(doors, "LARGE", 0 if large else doors.LARGE)
    model, ids = decided(), prompts(n_rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(generate(model, ids, 20), plainly(model, ids, 20))


HOOKED = {
    "head": lambda model: model.head,
    "a dropout": lambda model: model.blocks[1].drop,
    "no dropout": lambda model: model.blocks[1].attention.out_proj,
    "a part of a part": lambda model: model.blocks[0].feed_forward.gelu,
    "a block": lambda model: model.blocks[0],
}


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("place", HOOKED)
def test_fast_and_plain_call_the_same_hooks(kind, n_rows, place):
    """The hook turns what it sees around, so that other tokens are written, and counts its calls."""
    model, ids, calls = decided(), prompts(n_rows), []
    unhooked = generate(model, ids, 20)

    def flip(module, inputs, output=None):
        seen = inputs[0] if output is None else output
        calls.append(seen.shape)
        return -2 * seen

    handle = getattr(HOOKED[place](model), kind)(flip)
    fast, n_fast = generate(model, ids, 20), len(calls)
    assert torch.equal(fast, plainly(model, ids, 20)) and not torch.equal(fast, unhooked)
    assert len(calls) == 2 * n_fast and calls[:n_fast] == calls[n_fast:] and n_fast >= 20
    handle.remove()
    assert torch.equal(generate(model, ids, 20), unhooked)


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_part_that_a_hook_replaces_meanwhile_is_used_from_then_on(n_rows):
    def written(way):
        model, steps = decided(), []

        def replace(module, inputs, output):
            steps.append(1)
            if len(steps) == 6:
                model.head = nn.Linear(12, 50, bias=True)
                nn.init.zeros_(model.head.weight)
                model.head.bias.data[:] = torch.arange(50).flip(0)  # token 0, whatever is read
                model.blocks[1].feed_forward.gelu = nn.ReLU()

        model.blocks[0].register_forward_hook(replace)
        return way(model, prompts(n_rows), 12)

    fast = written(generate)
    assert torch.equal(fast, written(plainly)) and not fast[:, 9:].any()


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_forward_of_ones_own_is_used(n_rows):
    model, ids = decided(), prompts(n_rows)
    model.head.forward = lambda x: -F.linear(x, model.head.weight)  # the likeliest is now the least
    model.blocks[0].drop.forward = lambda x: x + 1
    fast = generate(model, ids, 20)
    assert torch.equal(fast, plainly(model, ids, 20))
    del model.head.forward, model.blocks[0].drop.forward
    assert not torch.equal(generate(model, ids, 20), fast)


def shared_block(model):
    model.blocks[1] = model.blocks[0]


def part_that_knows_the_whole(model):
    model.blocks[0].whole = model


def traced_part(model):
    """A part that a compiler has made keeps its own parts elsewhere than `nn.Module` does."""
    model.blocks[0].feed_forward = torch.jit.trace(model.eval().blocks[0].feed_forward, torch.randn(1, 1, 12))


def head_of_a_subclass(model):
    class Negated(nn.Linear):
        def forward(self, x):
            return -super().forward(x)

    weight = model.head.weight
    model.head = Negated(12, 50, bias=False)
    model.head.weight = weight


def head_with_a_bias(model):
    model.head.bias = nn.Parameter(torch.linspace(-3, 3, 50))


def computed_weight(model):
    nn.utils.parametrizations.weight_norm(model.head)


def patched_method(model):
    hidden = model.hidden
    model.hidden = lambda ids, cache=None: hidden(ids, cache).flip(-1)


CHANGES = [shared_block, part_that_knows_the_whole, traced_part, head_of_a_subclass, head_with_a_bias, computed_weight,
           patched_method]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # PyTorch says that tracing is growing old
@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_models_with_parts_of_another_kind_write_the_same(change, n_rows):
    model, ids = decided("no dropout, untied"), prompts(n_rows)
    change(model)
    assert torch.equal(generate(model, ids, 20), plainly(model, ids, 20))


def test_a_part_that_is_taken_away_meanwhile_leaves_nothing_behind():
    model = decided()
    model.spare = nn.Linear(2, 2)

    def take_away(*_):
        del model.spare
        handle.remove()

    handle = model.blocks[0].register_forward_hook(take_away)
    generate(model, prompts(1), 3)
    assert "spare" not in vars(model) and not hasattr(model, "spare")


def test_a_model_that_is_told_to_drop_meanwhile_drops():
    """Whoever wants dropout in generation (to see how sure a model is) can switch it on from a hook."""
    model, ids = decided(), prompts(3)
    expected = generate(model, ids, 20)
    handle = model.blocks[0].register_forward_pre_hook(lambda module, inputs: module.train() and None)
    assert not torch.equal(generate(model, ids, 20), expected)
    handle.remove()


@pytest.mark.parametrize("n_rows", [1, 3])
def test_a_copy_made_meanwhile_is_a_model_of_its_own(n_rows):
    model, ids, copies = decided(), prompts(n_rows), []

    def copy_it(*_):
        with torch.inference_mode(False):
            copies.append(copy.deepcopy(model))

    handle = model.final_norm.register_forward_hook(copy_it)
    expected = generate(model, ids, 3)
    handle.remove()
    other = copies[1]
    assert torch.equal(generate(other, ids, 3), expected)
    with torch.no_grad():
        other.head.weight.neg_()
        other.blocks[0].feed_forward.down_proj.weight.neg_()
    assert torch.equal(generate(other, ids, 3), plainly(other, ids, 3))
    assert torch.equal(generate(model, ids, 3), expected)


def test_models_may_write_at_the_same_time():
    models = [decided("GPT"), decided("modern")]
    expected = [generate(model, prompts(1), 12)[0, 4:].tolist() for model in models]
    assert [list(tokens) for tokens in zip(*zip(*(stream(model, prompts(1), 12) for model in models)))] == expected
    first, again = stream(models[0], prompts(1), 12), stream(models[0], prompts(1), 12)
    assert [token for pair in zip(first, again) for token in pair] == [t for t in expected[0] for _ in range(2)]


def n_python_calls(work, *given, **options):
    """How many Python functions a piece of work calls: what it takes to get to the arithmetic."""
    calls, before = [], sys.getprofile()
    sys.setprofile(lambda frame, event, argument: calls.append(event) if event == "call" else None)
    try:
        work(*given, **options)
    finally:
        sys.setprofile(before)
    return len(calls)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_rows", [1, 3])
def test_the_short_ways_are_shorter(name, n_rows):
    model, ids = decided(name), prompts(n_rows)
    assert n_python_calls(generate, model, ids, 8) < 0.8 * n_python_calls(plainly, model, ids, 8)


@pytest.mark.parametrize("n_rows", [1, 3])
def test_what_the_door_changes_it_changes_back(n_rows):
    model = decided()

    def attributes():
        return [set(vars(module)) for module in model.modules()]

    before = attributes()
    with pytest.raises(KeyboardInterrupt), fast_paths(model, n_rows):
        assert attributes() != before
        raise KeyboardInterrupt
    assert attributes() == before


# --- training in bfloat16 ---------------------------------------------------------------------------------------------


def attend(q, k, v, **options):
    with fast_attention(nullcontext()):
        return F.scaled_dot_product_attention(q, k, v, **options)


class Operations(TorchDispatchMode):
    """Lists, while it is open, what PyTorch computes, operation by operation."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def operations(work, *given, **options):
    with Operations() as seen:
        work(*given, **options)
    return seen.names


def by_kernel(work, *given, **options):
    """Whether attention was computed by a kernel of PyTorch's, and not in products of our own."""
    return any("scaled_dot_product" in name for name in operations(work, *given, **options))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [1, 2, 9, 512, 513])  # beyond 512 keys PyTorch's kernel takes over
def test_in_bfloat16_only_the_rounding_differs(length, causal):
    torch.manual_seed(0)
    attention = MultiHeadAttention(32, 4, causal=causal).to(torch.bfloat16)
    q, k, v = attention.qkv(torch.randn(2, length, 32, dtype=torch.bfloat16))
    exact = scaled_dot_product_attention(q.double(), k.double(), v.double(), causal_mask(length) if causal else None)
    found = attend(q, k, v, is_causal=causal)
    assert found.dtype == torch.bfloat16 and by_kernel(attend, q, k, v, is_causal=causal) == (length > 512)
    assert (found.double() - exact).norm() <= 2**-8 * exact.norm()  # bfloat16 keeps eight bits


def test_with_fewer_queries_than_keys_the_mask_is_the_kernels():
    q, (k, v) = torch.randn(1, 2, 3, 8, dtype=torch.bfloat16), torch.randn(2, 1, 2, 7, 8, dtype=torch.bfloat16)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
    assert_close(attend(q, k, v, is_causal=True).double(), expected, rtol=0, atol=0.05)
    assert not by_kernel(attend, q, k, v, is_causal=True)


@pytest.mark.parametrize(
    "case",
    [
        {"attn_mask": torch.eye(9, dtype=torch.bool)},  # a row that may look nowhere would come out as NaN
        {"attn_mask": torch.zeros(9, 9, dtype=torch.bfloat16)},
        {"scale": 1.0},
        {"enable_gqa": True},
        {"dtype": torch.float32},
    ],
)
def test_other_attention_is_pytorchs_own(case):
    q, k, v = torch.randn(3, 1, 2, 9, 8).to(case.pop("dtype", torch.bfloat16))
    assert torch.equal(attend(q, k, v, **case), F.scaled_dot_product_attention(q, k, v, **case))
    assert operations(attend, q, k, v, **case) == operations(F.scaled_dot_product_attention, q, k, v, **case)


def test_a_fully_masked_row_gives_zeros_in_bfloat16_too():
    q, k, v = torch.randn(3, 1, 1, 4, 8, dtype=torch.bfloat16)
    mask = causal_mask(4)
    mask[2] = False
    assert not attend(q, k, v, attn_mask=mask)[..., 2, :].any()


def test_under_autocast_training_takes_the_short_way_and_dropout_still_drops():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(32, 4, dropout=0.5), torch.randn(2, 9, 32)
    with machine.arithmetic(torch.device("cpu"), "bfloat16"):
        assert attention(x).dtype == torch.bfloat16
        assert not torch.equal(attention(x), attention(x)) and not by_kernel(attention, x)
        attention.eval()
        assert torch.equal(attention(x), attention(x)) and not by_kernel(attention, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert by_kernel(attention, x)


def test_gradients_in_bfloat16_are_those_of_pytorchs_kernel():
    torch.manual_seed(0)
    attention, x = MultiHeadAttention(32, 4), torch.randn(2, 9, 32)

    def gradient(context):
        with context, torch.autocast("cpu", torch.bfloat16):
            return torch.autograd.grad(attention(x).square().sum(), attention.qkv_proj.weight)[0]

    ours, theirs = gradient(fast_attention(nullcontext())), gradient(nullcontext())
    assert (ours - theirs).norm() <= 2**-6 * theirs.norm()


# --- the product of a linear layer ------------------------------------------------------------------------------------

ROUTINES = [linear_by_columns, linear_by_convolution]


@pytest.fixture
def counted():
    """A routine that counts how often it is asked."""

    def product(x, weight, bias=None):
        product.calls += 1
        return linear_by_convolution(x, weight, bias)

    product.calls = 0
    return product


@pytest.mark.parametrize("routine", ROUTINES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("n_out", [1, 7, 8, 9, 61])  # with and without a remainder after the shares
@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 1), (32,), (33,), (2, 3, 5), (2, 8, 3)])
def test_values_and_gradients_are_those_of_a_linear_layer(routine, shape, n_out, with_bias):
    torch.manual_seed(0)
    x = torch.randn(*shape, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(n_out, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(n_out, dtype=torch.float64, requires_grad=True) if with_bias else None
    ours, theirs = routine(x, weight, bias), F.linear(x, weight, bias)
    assert ours.shape == theirs.shape
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    inputs, gradients = [t for t in (x, weight, bias) if t is not None], torch.randn_like(theirs)
    assert_close(torch.autograd.grad(ours, inputs, gradients), torch.autograd.grad(theirs, inputs, gradients))


def test_columns_of_a_vector_are_a_vector():
    x, weight = torch.randn(6), torch.randn(5, 6)
    assert_close(linear_by_columns(x, weight), F.linear(x, weight))


PACKS = linear_by_packing(torch.ones(1, 1)) is not F.linear
needs_packing = pytest.mark.skipif(not PACKS, reason="this PyTorch cannot pack weights: it was built without oneDNN")


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("n_out", [1, 7, 61, 512])
@pytest.mark.parametrize("shape", [(1,), (2,), (16,), (33,), (2, 3, 5)])
def test_a_packed_weight_gives_the_values_of_a_linear_layer(shape, n_out, with_bias):
    torch.manual_seed(0)
    x, weight = torch.randn(*shape, 6), torch.randn(n_out, 6)
    bias = torch.randn(n_out) if with_bias else None
    with torch.no_grad():
        assert_close(linear_by_packing(weight)(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


@needs_packing
def test_the_packed_copy_is_what_is_read_until_gradients_or_another_weight_are_wanted():
    x, weight, other = torch.randn(4, 6), nn.Parameter(torch.randn(5, 6)), torch.randn(5, 6)
    product = linear_by_packing(weight)
    with torch.no_grad():
        before = F.linear(x, weight)
        weight.zero_()
        assert_close(product(x, weight), before, rtol=1e-5, atol=1e-5)  # the copy has not heard of it
        assert_close(product(x, other), F.linear(x, other))
    product(x, weight).sum().backward()
    assert_close(weight.grad, x.sum(0).expand(5, 6))
    bias = torch.zeros(5, requires_grad=True)
    linear_by_packing(other)(x, other, bias).sum().backward()
    assert_close(bias.grad, torch.full((5,), 4.0))


@pytest.mark.parametrize("weight", [torch.randn(3, 2, dtype=torch.float64), torch.randn(3, 2, device="meta")])
def test_other_weights_are_not_packed(weight):
    assert linear_by_packing(weight) is F.linear


def test_the_mode_answers_linear_layers_while_it_is_open_and_no_longer(counted):
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with LinearBy(counted):
        assert_close(layer(x), x @ layer.weight.T + layer.bias)
        assert counted.calls == 1
    layer(x)
    assert counted.calls == 1


def test_the_mode_leaves_other_precisions_and_named_arguments_alone(counted):
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    with LinearBy(counted):
        assert_close(F.linear(input=x, weight=layer.weight), x @ layer.weight.T)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        layer.double()(x.double())
    assert counted.calls == 0


def test_a_model_is_the_same_under_either_routine():
    model, ids = tiny_model(), torch.randint(50, (2, 9))
    for routine in ROUTINES:
        with torch.no_grad(), LinearBy(routine):
            logits = model(ids)
        assert_close(logits, model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("use_cache", [True, False])
def test_large_models_are_read_by_columns_and_write_the_same(monkeypatch, n_rows, use_cache):
    model, ids, calls = decided(), prompts(n_rows), []
    usual = generate(model, ids, 20, use_cache=use_cache)
    monkeypatch.setattr(doors, "LARGE", 0)
    by_columns = doors.linear_by_columns
    monkeypatch.setattr(doors, "linear_by_columns", lambda *given: calls.append(1) or by_columns(*given))
    assert torch.equal(generate(model, ids, 20, use_cache=use_cache), usual)
    assert len(calls) == 20 * (2 * 4 + 1)  # each step: four layers in each of two blocks, and the head


def heads_packed(monkeypatch, model, n_rows, **options):
    """Generate, and give the tokens and how often a head was packed and such a head was asked."""
    packed, asked = [], []

    def pack(weight):
        packed.append(weight)
        product = linear_by_packing(weight)
        return lambda x, other, bias=None: asked.append(other is weight) or product(x, other, bias)

    monkeypatch.setattr(doors, "linear_by_packing", pack)
    torch.manual_seed(2)
    return generate(model, torch.randint(50, (n_rows, 4)), 20, **options), len(packed), sum(asked)


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_head_is_packed_once_for_several_rows_and_writes_the_same(monkeypatch, use_cache):
    model = decided()
    rows, n_packed, n_asked = heads_packed(monkeypatch, model, 3, use_cache=use_cache)
    assert (n_packed, n_asked) == (1, 20)
    assert heads_packed(monkeypatch, model, 1)[1:] == (0, 0)
    monkeypatch.setattr(doors, "linear_by_packing", lambda weight: F.linear)
    torch.manual_seed(2)
    assert torch.equal(generate(model, torch.randint(50, (3, 4)), 20, use_cache=use_cache), rows)


def test_after_training_the_head_is_packed_anew(monkeypatch):
    model = tiny_model(**SHORT_CONTEXT, tie_weights=False)
    first = heads_packed(monkeypatch, model, 2)[0]
    with torch.no_grad():
        model.head.weight.neg_()
    assert not torch.equal(heads_packed(monkeypatch, model, 2)[0], first)


def test_a_head_that_is_no_linear_layer_is_called_as_it_is(monkeypatch):
    model = tiny_model()
    model.head = nn.Sequential(model.head)
    assert heads_packed(monkeypatch, model, 2)[1:] == (0, 0)


def batches(n):
    torch.manual_seed(1)
    return [tuple(torch.randint(50, (2, 3, 9))) for _ in range(n)]


def trained(n_steps=3, **options):
    model = tiny_model(**SHORT_CONTEXT)
    history = train(model, batches(n_steps), None, TrainConfig(n_steps, 1e-3, warmup_steps=0, **options))
    return weight_vector(model), history.losses


def test_training_by_convolution_learns_the_same():
    weights, losses = trained()
    others, other_losses = trained(products="convolution")
    assert losses == pytest.approx(other_losses, rel=1e-4)
    # a gradient of nearly zero may have either sign, and AdamW makes a whole step of it
    assert ((weights - others).abs() > 1e-5).float().mean() < 0.02


@pytest.mark.parametrize("chosen", ["linear", "convolution"])
def test_the_trial_decides_once_and_only_in_float32(monkeypatch, chosen):
    asked = []
    monkeypatch.setattr(pretraining, "faster_products", lambda *_: asked.append(1) or chosen)
    weights, _ = trained(products="auto")
    assert len(asked) == 1
    assert torch.equal(weights, trained(products=chosen)[0])
    trained(products="auto", precision="bfloat16")
    assert len(asked) == 1


def test_a_resumed_training_keeps_the_routine_it_began_with(monkeypatch, tmp_path):
    monkeypatch.setattr(pretraining, "faster_products", lambda *_: "convolution")
    config = TrainConfig(4, 1e-3, warmup_steps=0, products="auto", checkpoint_every=2)
    whole, _ = trained(4, products="convolution")

    def stop(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    for on_step in (stop, None):
        model = tiny_model(**SHORT_CONTEXT)
        try:
            train(model, batches(4), None, config, checkpoint_dir=tmp_path, resume=True, on_step=on_step)
        except KeyboardInterrupt:
            monkeypatch.setattr(pretraining, "faster_products", lambda *_: "linear")  # would now win the trial
    assert torch.equal(weight_vector(model), whole)


@pytest.mark.parametrize(("seconds", "device", "chosen"), [
    (0.94, "cpu", "convolution"), (0.96, "cpu", "linear"), (2.0, "cpu", "linear"), (0.5, "meta", "linear"),
])  # fmt: skip
def test_the_convolution_must_win_clearly_and_on_a_cpu(monkeypatch, counted, seconds, device, chosen):
    """Each pass takes a second on the clock of this test, and where it ran as a convolution so many seconds."""
    monkeypatch.setattr(machine, "linear_by_convolution", counted)
    layer, x, now = nn.Linear(3, 2, device=device), torch.randn(4, 3, device=device), [0.0]

    def loss():
        before, loss = counted.calls, layer(x).sum()
        now.append(now[-1] + (seconds if counted.calls > before else 1.0))
        return loss

    monkeypatch.setattr(time, "perf_counter", lambda: now[-1])
    assert machine.faster_products(loss, list(layer.parameters()), torch.device(device)) == chosen


def test_an_unknown_routine_is_refused():
    with pytest.raises(ValueError, match="products='conv': expected one of linear, convolution, auto"):
        TrainConfig(1, products="conv")


@pytest.mark.parametrize("slow", ["linear_by_convolution", "F.linear"])
def test_the_ceiling_is_that_of_the_faster_routine(monkeypatch, slow):
    monkeypatch.setattr(f"ch05_pretraining.scaling.{slow}", lambda *_: time.sleep(0.2))
    assert matrix_product_ceiling(size=64, seconds=0.0) > 2 * 64**3 / 0.1
