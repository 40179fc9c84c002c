"""Another routine for the products of linear layers gives the same numbers, and training and generation may use it."""

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from ch04_gpt_model import generation
from ch04_gpt_model.gpt_model import GPTConfig, GPTModel, generate
from ch04_gpt_model.products import LinearBy, linear_by_columns, linear_by_convolution, linear_by_packing
from ch05_pretraining import machine, pretraining
from ch05_pretraining.pretraining import TrainConfig, train
from ch05_pretraining.scaling import matrix_product_ceiling

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
    inputs, slopes = [t for t in (x, weight, bias) if t is not None], torch.randn_like(theirs)
    assert_close(torch.autograd.grad(ours, inputs, slopes), torch.autograd.grad(theirs, inputs, slopes))


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
    torch.manual_seed(0)
    model, ids = GPTModel(GPTConfig(50, 16, 12, 3, 2)), torch.randint(50, (2, 9))
    for routine in ROUTINES:
        with torch.no_grad(), LinearBy(routine):
            logits = model(ids)
        assert_close(logits, model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("use_cache", [True, False])
def test_large_models_are_read_by_columns_and_write_the_same(monkeypatch, n_rows, use_cache):
    torch.manual_seed(0)
    model, ids = GPTModel(GPTConfig(50, 16, 12, 3, 2)), torch.randint(50, (n_rows, 4))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)  # large differences between logits, so that rounding decides nothing
    usual, calls = generate(model, ids, 20, use_cache=use_cache), []
    monkeypatch.setattr(generation, "LARGE", 0)
    by_columns = generation.linear_by_columns
    monkeypatch.setattr(generation, "linear_by_columns", lambda *given: calls.append(1) or by_columns(*given))
    assert torch.equal(generate(model, ids, 20, use_cache=use_cache), usual)
    assert len(calls) == 20 * (2 * 4 + 1)  # each step: four layers in each of two blocks, and the head


def heads_packed(monkeypatch, model, n_rows, **options):
    """Generate, and give the tokens and how often a head was packed and such a head was asked."""
    packed, asked = [], []

    def pack(weight):
        packed.append(weight)
        product = linear_by_packing(weight)
        return lambda x, other, bias=None: asked.append(other is weight) or product(x, other, bias)

    monkeypatch.setattr(generation, "linear_by_packing", pack)
    torch.manual_seed(2)
    return generate(model, torch.randint(50, (n_rows, 4)), 20, **options), len(packed), sum(asked)


@pytest.mark.parametrize("use_cache", [True, False])
def test_the_head_is_packed_once_for_several_rows_and_writes_the_same(monkeypatch, use_cache):
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(50, 16, 12, 3, 2))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)  # large differences between logits, so that rounding decides nothing
    rows, n_packed, n_asked = heads_packed(monkeypatch, model, 3, use_cache=use_cache)
    assert (n_packed, n_asked) == (1, 20)
    assert heads_packed(monkeypatch, model, 1)[1:] == (0, 0)
    monkeypatch.setattr(generation, "linear_by_packing", lambda weight: F.linear)
    torch.manual_seed(2)
    assert torch.equal(generate(model, torch.randint(50, (3, 4)), 20, use_cache=use_cache), rows)


def test_after_training_the_head_is_packed_anew(monkeypatch):
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(50, 16, 12, 3, 2, tie_weights=False))
    first = heads_packed(monkeypatch, model, 2)[0]
    with torch.no_grad():
        model.head.weight.neg_()
    assert not torch.equal(heads_packed(monkeypatch, model, 2)[0], first)


def test_a_head_that_is_no_linear_layer_is_called_as_it_is(monkeypatch):
    model = GPTModel(GPTConfig(50, 16, 12, 3, 2))
    model.head = nn.Sequential(model.head)
    assert heads_packed(monkeypatch, model, 2)[1:] == (0, 0)


def batches(n):
    torch.manual_seed(1)
    return [tuple(torch.randint(50, (2, 3, 9))) for _ in range(n)]


def trained(n_steps=3, **options):
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(50, 16, 12, 3, 2))
    history = train(model, batches(n_steps), None, TrainConfig(n_steps, 1e-3, warmup_steps=0, **options))
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), history.losses


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
        torch.manual_seed(0)
        model = GPTModel(GPTConfig(50, 16, 12, 3, 2))
        try:
            train(model, batches(4), None, config, checkpoint_dir=tmp_path, resume=True, on_step=on_step)
        except KeyboardInterrupt:
            monkeypatch.setattr(pretraining, "faster_products", lambda *_: "linear")  # would now win the trial
    assert torch.equal(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), whole)


@pytest.mark.parametrize(("seconds", "device", "chosen"), [
    (0.94, "cpu", "convolution"), (0.96, "cpu", "linear"), (2.0, "cpu", "linear"), (0.5, "meta", "linear"),
])  # fmt: skip
def test_the_convolution_must_win_clearly_and_on_a_cpu(monkeypatch, seconds, device, chosen):
    taken = {("float32", "linear"): 1.0, ("float32", "convolution"): seconds}
    monkeypatch.setattr(machine, "_fastest_pass", lambda loss, parameters, device, way: taken[way])
    assert machine.faster_products(None, [], torch.device(device)) == chosen


def test_a_pass_of_the_trial_is_timed_on_its_own_routine(monkeypatch, counted):
    monkeypatch.setattr(machine, "linear_by_convolution", counted)
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    for products, n_calls in (("linear", 0), ("convolution", 3)):
        seconds = machine._fastest_pass(
            lambda: layer(x).sum(), list(layer.parameters()), torch.device("cpu"), ("float32", products)
        )
        assert seconds > 0 and counted.calls == n_calls


def test_an_unknown_routine_is_refused():
    with pytest.raises(ValueError, match="products='conv': expected one of linear, convolution, auto"):
        TrainConfig(1, products="conv")


@pytest.mark.parametrize("slow", ["linear_by_convolution", "F.linear"])
def test_the_ceiling_is_that_of_the_faster_routine(monkeypatch, slow):
    monkeypatch.setattr(f"ch05_pretraining.scaling.{slow}", lambda *_: time.sleep(0.2))
    assert matrix_product_ceiling(size=64, seconds=0.0) > 2 * 64**3 / 0.1
