"""Chapter 4: the model against GPT-2, its cache, and the text that comes out of it."""

import copy
import dataclasses
import json
import math
import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ch04_gpt_model.generation import KVCache, evaluating, generate, next_tokens, stream
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import (
    GELU,
    FeedForward,
    GPTModel,
    LayerNorm,
    TransformerBlock,
    gelu,
    layer_norm,
    require_ids,
)
from ch04_gpt_model.sampling import Sampler, next_token_probabilities
from tests.sizes import n
from tests.small_models import random_ids, shaken, sine_weights

TINY = GPTConfig(vocab_size=23, context_length=12, d_model=12, n_heads=3, n_layers=2)


def tiny_model(seed=0, config=TINY):
    return shaken(lambda: GPTModel(config), 0.5, seed)


@pytest.fixture
def model():
    return tiny_model()


# --- the pieces ------------------------------------------------------------------------------------------------------


def test_layer_norm_equals_pytorch():
    x = torch.randn(3, 5, 8, dtype=torch.float64) * 4 + 2
    weight, bias = torch.randn(2, 8, dtype=torch.float64)
    assert_close(layer_norm(x, weight, bias), F.layer_norm(x, (8,), weight, bias), rtol=0, atol=1e-12)
    layer = LayerNorm(8).double()
    layer.weight.data, layer.bias.data = weight, bias
    assert_close(layer(x), layer_norm(x, weight, bias), rtol=0, atol=1e-12)


def test_layer_norm_divides_by_the_width_and_not_by_one_less():
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)  # biased variance 1, unbiased 2
    assert_close(layer_norm(x, torch.ones(2), torch.zeros(2), eps=0.0), torch.tensor([-1.0, 1.0], dtype=torch.float64))


def test_layer_norm_survives_a_constant_vector():
    assert torch.equal(LayerNorm(4)(torch.full((2, 4), 7.0)), torch.zeros(2, 4))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_equals_pytorch(approximate):
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    assert_close(gelu(x, approximate), F.gelu(x, approximate=approximate), rtol=0, atol=1e-12)


def test_the_gelu_class_is_the_tanh_one():
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    assert_close(GELU()(x), gelu(x, "tanh"), rtol=0, atol=1e-12)
    assert not torch.allclose(GELU()(x), gelu(x, "none"), rtol=0, atol=1e-5)


def test_gradients_of_the_hand_written_pieces():
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(2, 5, dtype=torch.float64).unbind()
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    assert torch.autograd.gradcheck(layer_norm, (x, weight, bias), rtol=1e-5, atol=1e-7)
    assert torch.autograd.gradcheck(gelu, (x,), rtol=1e-5, atol=1e-7)


def test_feed_forward_treats_each_token_by_itself():
    feed_forward, x = FeedForward(8).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    assert feed_forward.up_proj.out_features == 32
    assert_close(feed_forward(x)[:, 2:3], feed_forward(x[:, 2:3]))


def test_a_block_adds_to_the_stream_what_its_two_branches_read_after_their_norms():
    block, x = TransformerBlock(TINY).double(), torch.randn(2, 5, 12, dtype=torch.float64)
    middle = x + block.attention(block.norm1(x))
    assert_close(block(x), middle + block.feed_forward(block.norm2(middle)))


def test_gradients_of_a_whole_one_layer_model():
    model = tiny_model(config=dataclasses.replace(TINY, n_layers=1, d_model=6, vocab_size=7, d_ff=8))
    ids, targets = random_ids(model.config, 2, 4), random_ids(model.config, 2, 4, seed=1)
    names, weights = zip(*((name, p.detach().requires_grad_()) for name, p in model.named_parameters()))

    def loss(*weights):
        logits = torch.func.functional_call(model, dict(zip(names, weights)), ids)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    assert torch.autograd.gradcheck(loss, weights, rtol=1e-5, atol=1e-7)


# --- the whole model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(n(50, 1000)))
def test_changing_the_future_leaves_the_past_unchanged(seed, model):
    dice = random.Random(seed)
    length = dice.randint(2, TINY.context_length)
    cut = dice.randrange(1, length)
    ids = random_ids(TINY, 2, length, seed)
    edited = ids.clone()
    edited[:, cut:] = (edited[:, cut:] + 1) % TINY.vocab_size
    assert torch.equal(model(ids)[:, :cut], model(edited)[:, :cut])
    assert not torch.allclose(model(ids)[:, cut:], model(edited)[:, cut:])


@pytest.mark.parametrize("seed", range(5))
def test_the_first_loss_is_that_of_a_uniform_guess(seed):
    torch.manual_seed(seed)
    model = GPTModel(GPTConfig.story())
    ids, targets = random_ids(model.config, 4, 64, seed), random_ids(model.config, 4, 64, seed + 100)
    loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()).item()
    assert abs(loss - math.log(model.config.vocab_size)) < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_one_batch_can_be_learned_by_heart(seed):
    torch.manual_seed(seed)
    config = GPTConfig(vocab_size=31, context_length=16, d_model=32, n_heads=4, n_layers=2)
    model, ids, targets = GPTModel(config), random_ids(config, 4, 16, seed), random_ids(config, 4, 16, seed + 100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(150):
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_weights_start_as_gpt2_prescribes():
    config = dataclasses.replace(GPTConfig.story(), n_layers=8)
    model = GPTModel(config)
    for name, parameter in model.named_parameters():
        expected = 0.02 / math.sqrt(16) if name.endswith(("out_proj.weight", "down_proj.weight")) else 0.02
        if parameter.ndim == 2:
            assert abs(parameter.std().item() / expected - 1) < 0.05, name
        else:
            assert torch.equal(parameter, torch.full_like(parameter, 0.0 if name.endswith("bias") else 1.0)), name


@pytest.mark.parametrize(
    ("size", "tied", "count"),
    [
        ("124M", True, 124_439_808),
        ("124M", False, 163_037_184),
        ("355M", True, 354_823_168),
        ("774M", True, 774_030_080),
        ("1558M", True, 1_557_611_200),
    ],
)
def test_gpt2_has_as_many_parameters_as_its_authors_released(size, tied, count):
    with torch.device("meta"):  # shapes without memory
        model = GPTModel(dataclasses.replace(GPTConfig.gpt2(size), tie_weights=tied))
    assert model.n_parameters == count


def test_the_head_shares_its_memory_with_the_embedding(model):
    assert model.head.weight.data_ptr() == model.token_embedding.weight.data_ptr()
    assert copy.deepcopy(model).float().head.weight is not model.token_embedding.weight
    copied = copy.deepcopy(model).float()
    assert copied.head.weight is copied.token_embedding.weight
    untied = GPTModel(dataclasses.replace(TINY, tie_weights=False))
    assert untied.head.weight.data_ptr() != untied.token_embedding.weight.data_ptr()
    assert untied.n_parameters == model.n_parameters + TINY.vocab_size * TINY.d_model


def test_hidden_is_what_the_head_reads(model):
    ids = random_ids(TINY, 2, 7)
    assert model.hidden(ids).shape == (2, 7, TINY.d_model)
    assert torch.equal(model.head(model.hidden(ids)), model(ids))


def test_attention_maps_belong_to_what_each_block_reads(model):
    ids = random_ids(TINY, 2, 7)
    maps = model.attention_maps(ids)
    assert [m.shape for m in maps] == [(2, 3, 7, 7)] * 2
    second = model.blocks[1]
    assert_close(maps[1], second.attention.weights(second.norm1(model.blocks[0](model.embed(ids)))))


def test_dropout_works_while_training_only():
    model, ids = GPTModel(dataclasses.replace(TINY, dropout=0.5)), random_ids(TINY, 2, 7)
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("training", [False, True])
def test_a_hook_sees_what_passes_a_dropout(dropout, training):
    model, seen = GPTModel(dataclasses.replace(TINY, dropout=dropout)).train(training), []
    for part in (model.drop, model.blocks[0].drop):
        part.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model(random_ids(TINY, 1, 7))
    assert seen == [(1, 7, 12)] * 3  # once in front of the blocks, twice in the first


# --- the configuration -----------------------------------------------------------------------------------------------


def test_a_config_survives_json():
    config = dataclasses.replace(TINY, dropout=0.1, tie_weights=False)
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert GPTConfig.from_dict({k: v for k, v in TINY.to_dict().items() if k != "d_ff"}).d_ff == 48


def test_a_width_that_nobody_gave_follows_the_model():
    for config in (GPTConfig.story(), GPTConfig.from_dict(json.loads(json.dumps(GPTConfig.story().to_dict())))):
        wider = dataclasses.replace(config, d_model=256)
        assert (config.d_ff, wider.d_ff, dataclasses.replace(wider, n_layers=1, d_model=64).d_ff) == (512, 1024, 256)
        assert wider == GPTConfig(3072, 320, 256, 4, 4) and hash(wider) == hash(GPTConfig(3072, 320, 256, 4, 4))
        assert copy.deepcopy(config) == config and repr(config.d_ff) == "512"


def test_a_width_that_was_given_stays():
    config = dataclasses.replace(TINY, d_ff=20)
    assert dataclasses.replace(config, d_model=24).d_ff == 20
    assert dataclasses.replace(config, d_model=24, d_ff=None).d_ff == 96
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.n_layers = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 5}, "n_heads=5 does not divide d_model=12"),
        ({"n_layers": 0}, "n_layers=0 is not a whole number >= 1"),
        ({"vocab_size": 2.5}, "vocab_size=2.5 is not a whole number"),
        ({"d_model": "wide"}, "d_model='wide' is not a whole number"),
        ({"d_ff": 0}, "d_ff=0 is not a whole number"),
        ({"d_ff": 24.5}, "d_ff=24.5 is not a whole number"),
        ({"context_length": -1}, "context_length=-1 is not"),
        ({"n_layers": True}, "n_layers=True is not a whole number"),
        ({"d_ff": True}, "d_ff=True is not a whole number"),
        ({"dropout": 1.0}, "dropout=1.0 is not a probability below 1"),
        ({"dropout": float("nan")}, "dropout=nan is not"),
    ],
)
def test_an_impossible_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_config_dictionaries_name_what_is_wrong_with_them():
    with pytest.raises(ValueError, match=r"unknown keys \['n_embd'\] and lacks \['d_model'\]"):
        GPTConfig.from_dict({**{k: v for k, v in TINY.to_dict().items() if k != "d_model"}, "n_embd": 12})
    with pytest.raises(ValueError, match="GPT-2 has no size '125M'; choose one of 124M, 355M, 774M, 1558M"):
        GPTConfig.gpt2("125M")


# --- GPT-2 as transformers has it ------------------------------------------------------------------------------------


def reference(config, dtype):
    """A GPT-2 of transformers with random weights, biases and norms included, and ours with the same."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_length,
            n_embd=config.d_model,
            n_head=config.n_heads,
            n_layer=config.n_layers,
            n_inner=config.d_ff,
        )
    )
    theirs = theirs.to(dtype).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    with torch.device("meta"):
        ours = GPTModel(config).eval()
    ours = ours.to_empty(device="cpu").to(dtype)
    ours.head.weight = ours.token_embedding.weight
    ours.load_state_dict(renamed(theirs.transformer.state_dict()), strict=False)
    return theirs, ours


def renamed(weights):
    """GPT-2's own names to ours; its Conv1D matrices are stored (in, out)."""
    table = {
        "wte.": "token_embedding.", "wpe.": "position_embedding.", "ln_f.": "final_norm.", "h.": "blocks.",
        "ln_1.": "norm1.", "ln_2.": "norm2.", "attn.c_attn.": "attention.qkv_proj.",
        "attn.c_proj.": "attention.out_proj.", "mlp.c_fc.": "feed_forward.up_proj.",
        "mlp.c_proj.": "feed_forward.down_proj.",
    }  # fmt: skip
    result = {}
    for name, weight in weights.items():
        transposed = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        for old, new in table.items():
            name = new + name[len(old) :] if name.startswith(old) else name.replace("." + old, "." + new)
        result[name] = weight.t() if transposed else weight
    return result


@pytest.mark.parametrize("seed", range(n(12, 200)))
def test_logits_equal_those_of_transformers(seed):
    torch.manual_seed(seed)
    dice = random.Random(seed)
    n_heads = dice.choice([1, 2, 3, 4])
    config = GPTConfig(
        vocab_size=dice.randint(5, 300),
        context_length=dice.randint(4, 40),
        d_model=n_heads * dice.choice([2, 4, 8, 16]),
        n_heads=n_heads,
        n_layers=dice.randint(1, 4),
        d_ff=dice.choice([None, 24]),
    )
    theirs, ours = reference(config, torch.float64)
    ids = random_ids(config, dice.randint(1, 3), dice.randint(1, config.context_length), seed)
    with torch.no_grad():
        assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-10)


def test_the_124m_shape_equals_transformers():
    theirs, ours = reference(GPTConfig.gpt2("124M"), torch.float32)
    ids = random_ids(ours.config, 1, 12)
    with torch.no_grad():
        logits, expected = ours(ids), theirs(ids).logits
    assert_close(logits, expected, rtol=0, atol=1e-4)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


def test_greedy_text_equals_that_of_transformers():
    config = dataclasses.replace(TINY, context_length=40)
    theirs, ours = reference(config, torch.float64)
    ids = random_ids(config, 2, 5)
    expected = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert torch.equal(generate(ours, ids, 30), expected)


def sine_model():
    return sine_weights(GPTModel(GPTConfig(vocab_size=5, context_length=4, d_model=4, n_heads=2, n_layers=2)).double())


SINE_LOGITS = [  # after the first and the last token, computed with transformers 5.3.0
    [-0.212374199732, -1.764155911451, -1.440698710844, 0.414173182749, 1.828792792690],
    [-0.247141182906, -1.750919826691, -1.393529074924, 0.445136619603, 1.810636929505],
]


def test_logits_equal_the_stored_ones_of_transformers():
    logits = sine_model()(torch.tensor([[0, 3, 1, 4]]))
    assert_close(logits[0, [0, 3]], torch.tensor(SINE_LOGITS, dtype=torch.float64), rtol=0, atol=1e-9)


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 7])
@pytest.mark.parametrize("rows", [1, 3])
def test_reading_in_chunks_gives_the_same_logits(model, rows, chunk):
    ids, cache = random_ids(TINY, rows, 12), KVCache(TINY, rows, dtype=torch.float64)
    pieces = [model(piece, cache) for piece in ids.split(chunk, dim=1)]
    assert cache.length == 12
    assert_close(torch.cat(pieces, dim=1), model(ids), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(n(20, 500)))
def test_cached_generation_equals_uncached_past_the_context_edge(seed):
    dice, model = random.Random(seed), tiny_model(seed)
    ids = random_ids(TINY, dice.randint(1, 3), dice.randint(1, 15), seed)  # some prompts are longer than the context
    settings = {"temperature": dice.choice([0.0, 3.0, 10.0]), "top_k": dice.choice([None, 5]), "seed": seed}
    cached = generate(model, ids, 20, **settings)
    assert cached.shape == (len(ids), ids.shape[1] + 20)
    assert torch.equal(cached, generate(model, ids, 20, use_cache=False, **settings))
    assert settings["temperature"] == 0 or len(cached[:, ids.shape[1] :].unique()) > 1  # not one token for ever


def test_a_switched_off_head_is_off_in_the_cache_too(model):
    ids = random_ids(TINY, 1, 6)
    whole = model(ids)
    model.blocks[1].attention.head_mask = torch.tensor([1.0, 0.0, 1.0])
    assert not torch.allclose(model(ids), whole)
    assert_close(model(ids, KVCache(TINY, 1, dtype=torch.float64)), model(ids), rtol=0, atol=1e-10)
    assert torch.equal(generate(model, ids, 6), generate(model, ids, 6, use_cache=False))


def test_the_cache_forgets_when_its_length_is_lowered(model):
    ids, cache = random_ids(TINY, 1, 8), KVCache(TINY, 1, dtype=torch.float64)
    first = model(ids, cache)
    cache.length = 3
    assert_close(model(ids[:, 3:], cache), first[:, 3:], rtol=0, atol=1e-10)


def test_the_cache_takes_the_memory_it_says():
    cache = KVCache(GPTConfig.gpt2("124M"), 1, device="meta")
    assert cache.n_bytes == 2 * 12 * 1024 * 768 * 4


# --- generation ------------------------------------------------------------------------------------------------------


def test_greedy_takes_the_most_likely_token_each_time(model):
    ids = random_ids(TINY, 2, 4)
    for _ in range(15):
        ids = torch.cat([ids, model(ids[:, -12:])[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(generate(model, ids[:, :4], 15), ids)


def test_a_finished_row_is_filled_with_the_stop_id(model):
    ids = random_ids(TINY, 3, 4)
    free = generate(model, ids, 10)
    stop_id = free[0, 6].item()
    stopped = generate(model, ids, 10, stop_id=stop_id)
    for row, all_tokens in zip(stopped[:, 4:].tolist(), free[:, 4:].tolist()):
        end = all_tokens.index(stop_id) + 1 if stop_id in all_tokens else len(all_tokens)
        assert row == (all_tokens[:end] + [stop_id] * 10)[: len(row)]
    alone = generate(model, ids[:1], 10, stop_id=stop_id)
    assert alone[0, 4:].tolist() == free[0, 4 : free[0].tolist().index(stop_id, 4) + 1].tolist()


def test_a_finished_row_stays_finished_while_others_are_drawn(model):
    ids = random_ids(TINY, 3, 4)
    free = generate(model, ids, 11, temperature=10.0, seed=5)
    stop_id = free[0, 6].item()
    stopped = generate(model, ids, 11, temperature=10.0, seed=5, stop_id=stop_id)
    assert (stopped[0, 6:] == stop_id).all() and not (free[0, 7:] == stop_id).all()
    assert stopped.shape == free.shape and (stopped[1:] == free[1:]).float().mean() > 0.5  # the others go on


@pytest.mark.parametrize("use_cache", [True, False])
def test_past_the_edge_the_newest_tokens_are_read(model, use_cache):
    context = TINY.context_length
    ids = random_ids(TINY, 64, context + 5)
    drawn = generate(model, ids, 1, temperature=10.0, seed=3, use_cache=use_cache)[:, -1]
    with torch.inference_mode():
        newest, oldest = (model(part)[:, -1] for part in (ids[:, -context:], ids[:, :context]))
    assert torch.equal(drawn, Sampler(10.0, seed=3)(newest))
    assert not torch.equal(drawn, Sampler(10.0, seed=3)(oldest))


def test_the_same_seed_draws_the_same_text(model):
    ids = random_ids(TINY, 2, 4)
    first, again, other = (generate(model, ids, 15, temperature=1.5, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_without_a_seed_the_global_generator_decides(model):
    ids = random_ids(TINY, 2, 4)
    torch.manual_seed(3)
    first, second = (generate(model, ids, 15, temperature=1.5) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(generate(model, ids, 15, temperature=1.5), first) and not torch.equal(first, second)


def test_one_likely_token_is_the_same_as_greedy(model):
    ids = random_ids(TINY, 2, 4)
    greedy = generate(model, ids, 10)
    for setting in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-30}):
        assert torch.equal(generate(model, ids, 10, **{"temperature": 1.0, "seed": 0, **setting}), greedy)


def test_asking_for_more_than_the_vocabulary_means_all_of_it(model):
    ids = random_ids(TINY, 2, 4)
    drawn = generate(model, ids, 10, temperature=1.0, seed=5)
    assert torch.equal(generate(model, ids, 10, temperature=1.0, seed=5, top_k=10_000), drawn)
    assert torch.equal(generate(model, ids, 10, temperature=1.0, seed=5, top_p=1.0), drawn)


def test_nothing_new_is_the_prompt_itself(model):
    ids = random_ids(TINY, 2, 4)
    assert torch.equal(generate(model, ids, 0), ids)


def test_generation_leaves_the_model_as_it_was():
    model = GPTModel(dataclasses.replace(TINY, dropout=0.5)).train()
    model.blocks[1].eval()  # each module keeps its own mode
    modes, ids = [module.training for module in model.modules()], random_ids(TINY, 1, 4)
    assert torch.equal(generate(model, ids, 5), generate(model, ids, 5))
    assert [module.training for module in model.modules()] == modes and False in modes and True in modes


def attributes(model):
    return [set(vars(module)) for module in model.modules()]


def test_generation_leaves_no_short_way_behind(model):
    before = attributes(model)
    generate(model, random_ids(TINY, 1, 4), 2)
    assert attributes(model) == before


def test_between_two_tokens_of_a_stream_the_model_is_as_it_was():
    model = GPTModel(dataclasses.replace(TINY, dropout=0.5)).train()
    before, ids = attributes(model), random_ids(TINY, 1, 4)
    first, second = stream(model, ids, 5), stream(model, ids, 5)
    tokens = [(next(first), next(second)) for _ in range(3)]
    assert all(one == other for one, other in tokens)  # no dropout in either
    for either in (model, copy.deepcopy(model)):
        assert attributes(either) == before
        assert all(module.training for module in either.modules())
    assert list(first) == list(second) and model.training


def test_a_part_put_in_between_two_tokens_drops_nothing(model):
    ids, expected = random_ids(TINY, 1, 4), generate(model, random_ids(TINY, 1, 4), 5)[0, 4:].tolist()
    tokens = stream(model, ids, 5)
    written = [next(tokens)]
    model.final_norm = torch.nn.Sequential(model.final_norm, torch.nn.Dropout(0.9))
    assert model.final_norm[1].training
    assert written + list(tokens) == expected


def test_a_part_replaced_while_a_text_is_written_is_the_one_used(model):
    ids = random_ids(TINY, 1, 4)
    tokens = stream(model, ids, 3)
    next(tokens)
    model.head = torch.nn.Linear(TINY.d_model, TINY.vocab_size).to(model.head.weight)
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data[:] = torch.arange(TINY.vocab_size).flip(0)  # token 0, whatever is read
    assert list(tokens) == [0, 0]


def test_hooks_are_called_while_a_text_is_written(model):
    ids, seen = random_ids(TINY, 2, 4), []
    expected = generate(model, ids, 5)
    handle = model.blocks[0].norm1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    assert torch.equal(generate(model, ids, 5), expected) and seen == [4, 1, 1, 1, 1]
    handle.remove()
    handle = model.head.register_forward_pre_hook(lambda module, inputs: -inputs[0])  # the likeliest is now the least
    assert not torch.equal(generate(model, ids, 5), expected)
    handle.remove()
    assert torch.equal(generate(model, ids, 5), expected) and len(seen) == 5


def test_a_hook_added_between_two_tokens_is_called(model):
    ids, seen = random_ids(TINY, 1, 4), []
    tokens = stream(model, ids, 5)
    next(tokens)
    handle = model.final_norm.register_forward_hook(lambda *_: seen.append(1))
    next(tokens), next(tokens)
    handle.remove()
    assert len(list(tokens)) == 2 and len(seen) == 2


def test_a_hook_on_every_module_is_called_while_a_text_is_written(model):
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        generate(model, random_ids(TINY, 1, 4), 2)
    finally:
        handle.remove()
    assert seen.count(model.blocks[0].feed_forward.gelu) == 2


def test_the_loop_reads_only_what_is_new():
    model, ids, sampler = tiny_model(), random_ids(TINY, 2, 4), Sampler()
    read = []
    model.blocks[0].register_forward_hook(lambda module, inputs, output: read.append(output.shape[1]))
    with torch.inference_mode():
        list(next_tokens(model, ids, 11, sampler))
        assert read == [4, 1, 1, 1, 1, 1, 1, 1, 1, 12, 12]  # the context holds 12; from there on the window is read
        read.clear()
        list(next_tokens(model, ids, 10, sampler, use_cache=False))
        assert read == [4, 5, 6, 7, 8, 9, 10, 11, 12, 12]


def test_an_error_leaves_each_module_its_own_mode():
    model = GPTModel(dataclasses.replace(TINY, dropout=0.5)).train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyboardInterrupt), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyboardInterrupt
    assert [module.training for module in model.modules()] == modes


class Stumbling(FeedForward):
    def forward(self, x):
        raise ZeroDivisionError


def test_an_error_in_a_part_leaves_the_model_callable(model):
    ids, whole = random_ids(TINY, 1, 4), model.blocks[0].feed_forward
    model.blocks[0].feed_forward = Stumbling(TINY.d_model, TINY.d_ff)
    before = attributes(model)
    with pytest.raises(ZeroDivisionError):
        generate(model, ids, 3)
    assert attributes(model) == before
    model.blocks[0].feed_forward = whole
    assert model(ids).isfinite().all()


def test_generated_ids_can_be_trained_on(model):
    ids = generate(model, random_ids(TINY, 1, 4), 6)
    model(ids).sum().backward()
    assert model.head.weight.grad.isfinite().all()


def test_streamed_tokens_are_the_generated_ones(model):
    ids = random_ids(TINY, 1, 4)
    settings = {"temperature": 1.0, "top_k": 6, "seed": 4, "stop_id": 3}
    assert list(stream(model, ids, 15, **settings)) == generate(model, ids, 15, **settings)[0, 4:].tolist()


# --- drawing a token -------------------------------------------------------------------------------------------------


def test_tokens_are_drawn_as_often_as_their_probability_says():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf])
    counts = torch.bincount(Sampler(0.8, seed=0)(logits.expand(20_000, 5)), minlength=5)
    expected = next_token_probabilities(logits[None], 0.8)[0] * 20_000
    assert counts[4] == 0
    assert ((counts - expected)[:4] ** 2 / expected[:4]).sum() < 16.3  # chi-squared, 3 degrees of freedom, p = 0.001


def test_the_drawn_tokens_are_the_same_on_every_machine():
    logits = torch.linspace(-1, 1, 10).sin().expand(12, 10)
    assert Sampler(1.0, seed=0)(logits).tolist() == [9, 8, 6, 9, 8, 8, 3, 5, 7, 5, 6, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_greedy_takes_the_first_of_the_likeliest(dtype):
    logits = torch.tensor([[0.0, 2, 1, 2], [3, -math.inf, 3, 0]], dtype=dtype, requires_grad=True)
    chosen = Sampler()(logits)
    assert chosen.tolist() == [1, 0] and chosen.dtype == torch.int64


def test_top_k_keeps_k_and_top_p_the_fewest_that_reach_p():
    probabilities = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15]])
    kept = lambda **limit: next_token_probabilities(probabilities.log(), **limit)[0]  # noqa: E731
    assert_close(kept(top_k=2), torch.tensor([0, 4, 0, 3, 0.0], dtype=torch.float64) / 7)
    assert_close(kept(top_p=0.8), torch.tensor([0, 0.4, 0, 0.3, 0.15], dtype=torch.float64) / 0.85)
    assert_close(kept(top_p=0.3), torch.tensor([0, 1, 0, 0, 0.0], dtype=torch.float64))
    assert_close(kept(top_k=3, top_p=0.8), torch.tensor([0, 4, 0, 3, 0.0], dtype=torch.float64) / 7)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.tensor([[1, 23]]), r"token id 23 is not in 0..22; encode the text with the tokenizer"),
        (torch.tensor([[1, -1]]), r"token id -1 is not in 0..22"),
        (torch.tensor([1, 2]), r"of shape \(2,\); give int64 of shape \(batch, tokens\)"),
        (torch.tensor([[1.0]]), "ids are torch.float32"),
        ([[1, 2]], r"ids are a list and no tensor; give int64 of shape \(batch, tokens\)"),
        (torch.empty(2, 0, dtype=torch.int64), r"of shape \(2, 0\).*at least one token"),
        (torch.empty(0, 3, dtype=torch.int64), r"of shape \(0, 3\)"),
        (torch.ones(1, 13, dtype=torch.int64), "13 tokens were given and the context holds 12; shorten them, or use"),
    ],
)
def test_the_model_refuses_ids_it_cannot_read(model, ids, message):
    with pytest.raises(ValueError, match=message):
        model(ids)


def test_ids_are_checked_wherever_they_live():
    require_ids(torch.tensor([[0, 22]], dtype=torch.int32), 23)
    require_ids(torch.zeros(1, 5, dtype=torch.int64, device="meta"), 23, 5)
    require_ids(torch.zeros(1, 5, dtype=torch.int64), 23, 12, n_cached=7)
    with pytest.raises(ValueError, match="5 tokens after 8 cached ones were given and the context holds 12"):
        require_ids(torch.zeros(1, 5, dtype=torch.int64), 23, 12, n_cached=8)
    with pytest.raises(ValueError, match="6 tokens were given and the context holds 5"):
        require_ids(torch.zeros(1, 6, dtype=torch.int64, device="meta"), 23, 5)
    for bad, named in (([[3, 23, -4]], 23), ([[-1, 50]], -1), ([[5], [2**40]], 2**40)):  # the first one
        with pytest.raises(ValueError, match=rf"token id {named} is not in 0..22; encode the text with"):
            require_ids(torch.tensor(bad), 23)


def test_the_cache_refuses_what_it_has_no_room_for(model):
    ids = random_ids(TINY, 2, 6)
    with pytest.raises(ValueError, match="7 tokens after 6 cached ones were given and the context holds 12"):
        cache = KVCache(TINY, 2, dtype=torch.float64)
        model(ids, cache)
        model(random_ids(TINY, 2, 7), cache)
    with pytest.raises(ValueError, match="room for 1 rows of 12 tokens and was given 2 of 6"):
        model(ids, KVCache(TINY, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match="room for 2 rows of 4 tokens and was given 2 of 6"):
        model(ids, KVCache(TINY, 2, max_length=4, dtype=torch.float64))
    with pytest.raises(ValueError, match="batch_size=0 and max_length=12 must both be >= 1"):
        KVCache(TINY, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.5}, "temperature=-0.5 is not a number >= 0; use 0 for"),
        ({"temperature": float("nan")}, "temperature=nan is not"),
        ({"temperature": float("inf")}, "temperature=inf is not"),
        ({"top_k": 0}, "top_k=0 keeps no token"),
        ({"top_k": 2.5}, "top_k=2.5"),
        ({"top_p": 0.0}, r"top_p=0.0 is not in \(0, 1\]"),
        ({"top_p": 1.1}, "top_p=1.1 is not"),
        ({"top_p": float("nan")}, "top_p=nan is not"),
        ({"stop_id": 23}, r"stop_id=23 is not in 0..22"),
        ({"temperature": "hot"}, "temperature=hot is not a number"),
        ({"temperature": None}, "temperature=None is not a number"),
        ({"top_p": "most"}, r"top_p=most is not in \(0, 1\]"),
        ({"temperature": 1.0, "seed": 2**64}, r"seed=\d+ is not a whole number from 0 to"),
        ({"temperature": 1.0, "seed": "lucky"}, "seed=lucky is not a whole number"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1 is not a whole number >= 0; give"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5 is not a whole number"),
        ({"ids": [[1, 2]]}, "ids are a list and no tensor; give int64 of shape"),
        ({"ids": torch.empty(1, 0, dtype=torch.int64)}, r"of shape \(1, 0\); give int64 .* at least one token"),
        ({"ids": torch.tensor([4, 5])}, r"of shape \(2,\); give int64 of shape \(batch, tokens\)"),
        ({"ids": torch.tensor([[4, 99]])}, r"token id 99 is not in 0..22"),
    ],
)
def test_generation_refuses_what_means_nothing(model, settings, message):
    request = {"ids": torch.tensor([[1, 2]]), "max_new_tokens": 3, **settings}
    with pytest.raises(ValueError, match=message):
        generate(model, request.pop("ids"), request.pop("max_new_tokens"), **request)


def test_stream_refuses_before_the_first_token_is_asked_for(model):
    with pytest.raises(ValueError, match="stream takes one prompt"):
        stream(model, random_ids(TINY, 2, 4), 3)
    with pytest.raises(ValueError, match="top_k=0 keeps no token"):
        stream(model, random_ids(TINY, 1, 4), 3, top_k=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_model_is_named_and_not_sampled_from(model, temperature):
    model.final_norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="logits hold NaN or infinity"):
        generate(model, random_ids(TINY, 1, 4), 3, temperature=temperature)


numbers = st.one_of(st.none(), st.integers(-2, 40), st.floats(-1, 3), st.just(float("nan")), st.just(float("inf")))


@settings(max_examples=n(200, 2000), deadline=None)
@given(
    temperature=st.one_of(st.floats(-1, 5), st.just(float("nan"))),
    top_k=numbers,
    top_p=st.one_of(st.none(), st.floats(-0.5, 1.5), st.just(float("nan"))),
    stop_id=st.one_of(st.none(), st.integers(-2, 30)),
    length=st.integers(0, 15),
    new=st.integers(-1, 4),
)
def test_any_request_gets_tokens_or_our_error(temperature, top_k, top_p, stop_id, length, new):
    limits = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "stop_id": stop_id, "seed": 0}
    ids = random_ids(TINY, 1, length)
    try:
        out = generate(FUZZED, ids, new, **limits)
    except ValueError as error:
        assert ";" in str(error)  # what was found; what to do
    else:
        assert torch.equal(out[:, :length], ids) and 0 <= out.min() and out.max() < TINY.vocab_size


FUZZED = tiny_model()
