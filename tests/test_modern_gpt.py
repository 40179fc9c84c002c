"""Chapter 4's modern GPT: each part against PyTorch, the whole against transformers' Llama and Qwen3, and its cache."""

import copy
import dataclasses
import json
import random

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ch03_attention.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from ch04_gpt_model.generation import KVCache, generate
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import FeedForward
from ch04_gpt_model.modern_gpt import (
    GroupedQueryAttention,
    ModernBlock,
    ModernConfig,
    ModernGPT,
    RMSNorm,
    SwiGLU,
    rms_norm,
    rotate,
)
from tests.sizes import n
from tests.small_models import random_ids, shaken, sine_weights

TINY = ModernConfig(vocab_size=23, context_length=12, d_model=24, n_heads=6, n_layers=2, n_kv_heads=2)


def tiny_model(seed=0, config=TINY):
    return shaken(lambda: ModernGPT(config), 0.4, seed)


@pytest.fixture
def model():
    return tiny_model()


def random_config(chance):
    n_kv_heads, d_head = chance.choice([1, 2, 3]), chance.choice([2, 4, 6])
    n_heads, biases, qk_norm = n_kv_heads * chance.choice([1, 2, 3]), chance.random() < 0.5, chance.random() < 0.5
    head_width = chance.choice([None, 4, 8])
    slower = chance.choice([None, (2.5,) * ((head_width or d_head) // 2)])
    return ModernConfig(chance.randint(7, 40), chance.randint(4, 20), d_model=n_heads * d_head, n_heads=n_heads,
                        n_layers=chance.randint(1, 3), n_kv_heads=n_kv_heads, d_ff=chance.choice([None, 10]),
                        rope_base=chance.choice([100.0, 10_000.0]), qk_norm=qk_norm, tie_weights=chance.random() < 0.5,
                        norm_eps=chance.choice([1e-6, 1e-2]), head_width=head_width, rope_factors=slower,
                        qkv_bias=biases, out_bias=biases, ff_bias=biases and not qk_norm)  # fmt: skip


# --- the pieces ------------------------------------------------------------------------------------------------------


def test_rms_norm_equals_pytorch():
    x, weight = torch.randn(3, 5, 8, dtype=torch.float64) * 4 + 2, torch.randn(8, dtype=torch.float64)
    reference = torch.nn.RMSNorm(8, eps=1e-6).double()
    reference.weight.data = weight
    assert_close(rms_norm(x, weight), reference(x), rtol=0, atol=1e-12)
    layer = RMSNorm(8).double()
    layer.weight.data = weight
    assert_close(layer(x), reference(x), rtol=0, atol=1e-12)


def test_rms_norm_keeps_the_mean_that_layer_norm_takes_away():
    x = torch.tensor([3.0, 4.0], dtype=torch.float64)  # mean square 12.5
    assert_close(rms_norm(x, torch.ones(2).double(), eps=0.0), x / 12.5**0.5)
    assert_close(rms_norm(x + 1, torch.ones(2).double(), eps=0.0), (x + 1) / 20.5**0.5)


def test_a_vector_of_zeros_stays_one():
    assert torch.equal(RMSNorm(4)(torch.zeros(2, 4)), torch.zeros(2, 4))


def test_gradients_of_the_hand_written_pieces():
    x, weight = torch.randn(2, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    assert torch.autograd.gradcheck(rms_norm, (x, weight), rtol=1e-5, atol=1e-7)
    assert torch.autograd.gradcheck(lambda x: rotate(x, 3), (x,), rtol=1e-5, atol=1e-7)


def test_rotations_are_products_with_complex_numbers():
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    pairs = torch.complex(x[..., :4], x[..., 4:])
    speeds = torch.tensor([10_000.0 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    turned = pairs * torch.exp(1j * (torch.arange(9).double()[:, None] * speeds))
    assert_close(rotate(x), torch.cat([turned.real, turned.imag], dim=-1), rtol=0, atol=1e-12)


def test_a_rotation_keeps_lengths_and_leaves_the_first_token_alone():
    x = torch.randn(5, 7, 6, dtype=torch.float64)
    assert_close(rotate(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotate(x)[:, 0], x[:, 0]) and not torch.allclose(rotate(x)[:, 1], x[:, 1])


def test_scores_depend_on_the_distance_alone():
    chance = random.Random(0)
    q, k = torch.randn(2, 1, 8, dtype=torch.float64).unbind()  # one query, one key: (1, K)
    for _ in range(n(50, 1000)):
        i, j, shift = chance.randrange(50), chance.randrange(50), chance.randrange(1000)
        here, there = (rotate(q, i + s) @ rotate(k, j + s).T for s in (0, shift))
        assert_close(here, there, rtol=0, atol=1e-9)
    assert not torch.allclose(rotate(q, 3) @ rotate(k, 0).T, rotate(q, 4) @ rotate(k, 0).T)


def test_a_start_continues_where_the_tokens_before_ended():
    x = torch.randn(2, 9, 4, dtype=torch.float64)
    assert_close(torch.cat([rotate(x[:, :4]), rotate(x[:, 4:], start=4)], dim=1), rotate(x))


def test_factors_slow_each_pair_down_by_its_own_number():
    x, factors = torch.randn(2, 9, 6, dtype=torch.float64), (1.0, 2.5, 8.0)
    pairs = torch.complex(x[..., :3], x[..., 3:])
    speeds = torch.tensor([100.0 ** (-2 * i / 6) / factors[i] for i in range(3)], dtype=torch.float64)
    turned = pairs * torch.exp(1j * (torch.arange(4, 13).double()[:, None] * speeds))
    assert_close(rotate(x, 4, 100.0, factors), torch.cat([turned.real, turned.imag], dim=-1), rtol=0, atol=1e-12)


def test_swiglu_is_its_formula_and_costs_what_the_feed_forward_part_cost():
    layer, x = SwiGLU(48, 128).double(), torch.randn(2, 5, 48, dtype=torch.float64)
    gate, up = layer.gate_proj(x), layer.up_proj(x)
    assert_close(layer(x), layer.down_proj(gate / (1 + torch.exp(-gate)) * up), rtol=0, atol=1e-12)
    matrices = [sum(p.numel() for p in part.parameters() if p.ndim == 2) for part in (layer, FeedForward(48))]
    assert matrices[0] == matrices[1]
    assert ModernConfig(9, 4, d_model=48, n_heads=4, n_layers=1).d_ff == 128


def test_attention_is_that_of_chapter_3_with_each_key_and_value_repeated():
    for qk_norm in (False, True):
        attention = GroupedQueryAttention(dataclasses.replace(TINY, qk_norm=qk_norm)).double()
        x = torch.randn(2, 7, 24, dtype=torch.float64)
        q, k, v = attention.qkv(x)
        assert q.shape == (2, 6, 7, 4) and k.shape == v.shape == (2, 2, 7, 4)
        k, v = k.repeat_interleave(3, dim=1), v.repeat_interleave(3, dim=1)
        by_hand = scaled_dot_product_attention(q, k, v, causal_mask(7)).transpose(1, 2).flatten(2)
        assert_close(attention(x), attention.out_proj(by_hand), rtol=0, atol=1e-12)
        assert_close(attention.weights(x) @ v, scaled_dot_product_attention(q, k, v, causal_mask(7)))


def test_heads_may_be_wider_or_narrower_together_than_the_model():
    for head_width in (2, 8):
        attention = GroupedQueryAttention(dataclasses.replace(TINY, head_width=head_width))
        q, k, v = attention.qkv(torch.randn(2, 7, 24))
        assert q.shape == (2, 6, 7, head_width) and k.shape == v.shape == (2, 2, 7, head_width)
        assert attention(torch.randn(2, 7, 24)).shape == (2, 7, 24)


def test_the_biases_of_attention_and_feed_forward_are_there_when_asked_for_and_begin_at_zero():
    def biases(**changes):
        parameters = ModernBlock(dataclasses.replace(TINY, **changes)).named_parameters()
        return {name.removesuffix("_proj.bias"): p for name, p in parameters if name.endswith("bias")}

    assert not biases()
    assert biases(qkv_bias=True).keys() == {"attention.q", "attention.k", "attention.v"}
    assert biases(out_bias=True).keys() == {"attention.out"}
    assert biases(ff_bias=True).keys() == {"feed_forward.gate", "feed_forward.up", "feed_forward.down"}
    model = ModernGPT(dataclasses.replace(TINY, qkv_bias=True, out_bias=True, ff_bias=True))
    assert not any(p.any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_every_norm_of_a_model_adds_the_eps_of_its_config():
    norms = [part for part in ModernGPT(dataclasses.replace(TINY, norm_eps=0.5)).modules() if isinstance(part, RMSNorm)]
    assert len(norms) == 2 * 4 + 1 and {norm.eps for norm in norms} == {0.5}


def test_with_as_many_heads_of_keys_the_first_token_gets_what_chapter_3_gives_it():
    """No rotation at position 0 and only itself to read: all that is left is the value and the output matrix."""
    config = ModernConfig(9, 4, d_model=12, n_heads=3, n_layers=1, qk_norm=False)
    ours, theirs = GroupedQueryAttention(config), MultiHeadAttention(12, 3)
    theirs.qkv_proj.weight.data = torch.cat([p.weight for p in (ours.q_proj, ours.k_proj, ours.v_proj)])
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.out_proj.weight.data, torch.zeros(12)
    x = torch.randn(2, 1, 12)
    assert_close(ours(x), theirs(x))


def test_query_norms_bound_the_scores():
    attention = GroupedQueryAttention(TINY).double()
    x = torch.randn(1, 6, 24, dtype=torch.float64) * 1e3
    q, k, _ = attention.qkv(x)
    assert (q[:, :2] @ k.transpose(-2, -1) / 4**0.5).abs().max() <= 4**0.5 + 1e-9  # sqrt(K), whatever x is
    free = GroupedQueryAttention(dataclasses.replace(TINY, qk_norm=False)).double()
    q, k, _ = free.qkv(x)
    assert (q[:, :2] @ k.transpose(-2, -1)).abs().max() > 1e3


# --- the whole model -------------------------------------------------------------------------------------------------


def test_the_future_does_not_change_the_past(model):
    for seed in range(n(50, 1000)):
        ids = random_ids(TINY, 2, 12, seed)
        cut = 1 + seed % 11
        edited = ids.clone()
        edited[:, cut:] = (edited[:, cut:] + 1) % TINY.vocab_size
        assert torch.equal(model(ids)[:, :cut], model(edited)[:, :cut])
        assert not torch.allclose(model(ids)[:, cut:], model(edited)[:, cut:])


def test_the_order_of_the_tokens_matters_without_a_table_of_positions(model):
    ids = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]])
    assert not hasattr(model, "position_embedding")
    assert not torch.allclose(model(ids)[0, -1], model(ids)[1, -1])


def test_the_first_loss_is_about_that_of_an_even_guess():
    config = ModernConfig(vocab_size=500, context_length=32, d_model=48, n_heads=4, n_layers=4, n_kv_heads=2)
    for seed in range(5):
        torch.manual_seed(seed)
        ids = random_ids(config, 8, 32, seed)
        loss = F.cross_entropy(ModernGPT(config)(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        assert abs(loss.item() - torch.tensor(500.0).log().item()) < 0.1


def test_it_learns_one_batch_by_heart():
    model, ids = ModernGPT(dataclasses.replace(TINY, d_model=48)), random_ids(TINY, 4, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_published_sizes_of_llama_come_out_to_the_last_parameter():
    shapes = {
        6_738_415_616: ModernConfig(32_000, 2048, 4096, 32, 32, d_ff=11_008, qk_norm=False, tie_weights=False),
        68_976_648_192: ModernConfig(32_000, 4096, 8192, 64, 80, n_kv_heads=8, d_ff=28_672, qk_norm=False,
                                     tie_weights=False),
    }  # fmt: skip
    for expected, config in shapes.items():
        with torch.device("meta"):
            assert ModernGPT(config).n_parameters == expected


def test_attention_maps_are_the_weights_of_every_block(model):
    maps = model.attention_maps(random_ids(TINY, 2, 9))
    assert [tuple(m.shape) for m in maps] == [(2, 6, 9, 9)] * 2
    assert_close(maps[1].sum(dim=-1), torch.ones(2, 6, 9, dtype=torch.float64))


# --- against transformers, and the stored values where it is absent ---------------------------------------------------


def transformers_twin(model):
    """Build transformers' Llama (Qwen3 where queries and keys are normalized) with the weights of our model."""
    transformers = pytest.importorskip("transformers")
    c = model.config
    name = "Qwen3" if c.qk_norm else "Llama"
    rope = {"rope_type": "linear", "factor": c.rope_factors[0]} if c.rope_factors else {"rope_type": "default"}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=c.vocab_size, hidden_size=c.d_model, intermediate_size=c.d_ff, num_hidden_layers=c.n_layers,
        num_attention_heads=c.n_heads, num_key_value_heads=c.n_kv_heads, head_dim=c.d_head, rms_norm_eps=c.norm_eps,
        max_position_embeddings=c.context_length, tie_word_embeddings=c.tie_weights,
        rope_parameters={"rope_theta": c.rope_base} | rope, attention_bias=c.qkv_bias, mlp_bias=c.ff_bias,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    theirs = getattr(transformers, f"{name}ForCausalLM")(config).double().eval()
    words = {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "head": "lm_head", "blocks":
             "model.layers", "norm1": "input_layernorm", "norm2": "post_attention_layernorm", "attention": "self_attn",
             "out_proj": "o_proj", "feed_forward": "mlp"}  # fmt: skip
    weights = {".".join(words.get(word, word) for word in key.split(".")): value
               for key, value in model.state_dict().items()}  # fmt: skip
    theirs.load_state_dict(weights)
    return theirs


def test_logits_are_those_of_transformers_llama_and_qwen3():
    chance, seen = random.Random(0), set()
    for case in range(n(8, 200)):
        config = random_config(chance)
        ours, ids = tiny_model(case, config), random_ids(config, 2, config.context_length, case)
        theirs = transformers_twin(ours)
        with torch.no_grad():  # their angles are float32
            assert_close(theirs(ids).logits, ours(ids), rtol=1e-5, atol=1e-5)
        seen.add(config.qk_norm)
    assert seen == {False, True}


def test_greedy_tokens_are_those_of_transformers():
    for qk_norm in (False, True):
        ours = tiny_model(3, dataclasses.replace(TINY, qk_norm=qk_norm, tie_weights=False))
        start = random_ids(TINY, 2, 4)
        theirs = transformers_twin(ours).generate(start, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        assert torch.equal(generate(ours, start, 8), theirs)


def test_logits_are_the_stored_ones():
    """Computed once with transformers 5.3.0 (LlamaForCausalLM and Qwen3ForCausalLM, float64)."""
    for qk_norm, expected in STORED.items():
        config = ModernConfig(5, 6, d_model=8, n_heads=4, n_layers=2, n_kv_heads=2, d_ff=12, qk_norm=qk_norm)
        ours = sine_weights(ModernGPT(config).double())(torch.tensor([[0, 3, 1, 4]]))[0, -1]
        assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-5)


STORED = {
    False: [-1.336798423, 0.653161169, 0.603972156, -1.330798912, 0.889142323],
    True: [0.041595165, 0.276110985, -0.351382997, 0.118129674, 0.218845222],
}


# --- the cache, and text ---------------------------------------------------------------------------------------------


def test_cached_logits_are_the_uncached_ones():
    chance = random.Random(0)
    for case in range(n(20, 500)):
        config = random_config(chance)
        model, rows = tiny_model(case, config), chance.randint(1, 3)
        ids, cache = random_ids(config, rows, config.context_length, case), KVCache(config, rows, dtype=torch.float64)
        size = chance.choice([1, 3, 7])
        with torch.no_grad():
            parts = [model(part, cache) for part in ids.split(size, dim=1)]
            assert_close(torch.cat(parts, dim=1), model(ids), rtol=0, atol=1e-10)


def test_the_cache_is_smaller_by_the_number_of_heads_that_share(model):
    full = GPTConfig(23, 12, d_model=24, n_heads=6, n_layers=2)
    assert KVCache(TINY, 1).n_bytes * 3 == KVCache(full, 1).n_bytes
    assert KVCache(TINY, 1).n_bytes == 2 * 2 * 2 * 4 * 12 * 4  # keys and values, blocks, heads, K, tokens, bytes


def test_generated_tokens_are_the_same_with_and_without_the_cache(model):
    for seed in range(n(10, 200)):
        ids = random_ids(TINY, 2, 1 + seed % 12, seed)
        for settings in ({}, {"temperature": 1.0, "seed": seed}):
            with_cache, without = (generate(model, ids, 20, use_cache=use, **settings) for use in (True, False))
            assert torch.equal(with_cache, without)


def test_a_rotation_that_forgets_its_place_would_be_noticed(model):
    """The cached test above can fail: a new token rotated as if it were the first gives other logits."""
    ids, cache = random_ids(TINY, 1, 8), KVCache(TINY, 1, dtype=torch.float64)
    with torch.no_grad():
        model(ids[:, :7], cache)
        for block in model.blocks:
            block.attention.qkv = lambda x, start=0, qkv=block.attention.qkv: qkv(x, 0)
        assert not torch.allclose(model(ids[:, 7:], cache)[:, -1], model(ids)[:, -1], atol=1e-6)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_kv_heads": 4}, "n_kv_heads=4 does not divide n_heads=6"),
        ({"n_kv_heads": 0}, "n_kv_heads=0 is not a whole number >= 1"),
        ({"n_kv_heads": 2.0}, "n_kv_heads=2.0 is not a whole number >= 1"),
        ({"d_model": 18}, "a head is 3 wide"),
        ({"rope_base": 1.0}, "rope_base=1.0 is not a number above 1"),
        ({"dropout": 0.1}, "dropout=0.1 was given and this model has none"),
        ({"norm_eps": 0.0}, "norm_eps=0.0 is not between 0 and 1"),
        ({"head_width": 0}, "a head is 0 wide; give an even whole number"),
        ({"head_width": 4.0}, "a head is 4.0 wide"),
        ({"head_width": 5}, "a head is 5 wide"),
        ({"rope_factors": (1.0,)}, r"rope_factors=\(1.0,\) are not 2 numbers above 0"),
        ({"rope_factors": (1.0, 0.0)}, "are not 2 numbers above 0"),
        ({"rope_factors": (1.0, 2.0), "head_width": 8}, "are not 4 numbers above 0"),
        ({"rope_factors": 5}, "rope_factors=5 are not 2 numbers above 0"),
        ({"rope_factors": ("1", "2")}, "are not 2 numbers above 0"),
        ({"rope_factors": "12"}, "rope_factors=12 are not 2 numbers above 0"),
        ({"rope_factors": True}, "rope_factors=True are not 2 numbers above 0"),
        ({"rope_base": "10000"}, "rope_base='10000' is not a number"),
        ({"rope_base": None}, "rope_base=None is not a number"),
        ({"rope_base": float("nan")}, "rope_base=nan is not a number above 1"),
        ({"norm_eps": "x"}, "norm_eps='x' is not a number"),
        ({"norm_eps": None}, "norm_eps=None is not a number"),
        ({"dropout": "0"}, "dropout='0' is not a number"),
        ({"n_kv_heads": True}, "n_kv_heads=True is not a whole number"),
        ({"n_kv_heads": True, "n_heads": 1}, "n_kv_heads=True is not a whole number"),
        ({"n_layers": True}, "n_layers=True is not a whole number"),
        ({"head_width": True}, "head_width=True is not a whole number"),
        ({"qkv_bias": "false"}, "qkv_bias='false' is neither True nor False"),
        ({"qk_norm": "no"}, "qk_norm='no' is neither True nor False"),
        ({"tie_weights": 1}, "tie_weights=1 is neither True nor False"),
        ({"n_heads": 5}, "n_heads=5 does not divide d_model=24"),
        ({"vocab_size": 0}, "vocab_size=0 is not a whole number"),
    ],
)
def test_a_bad_shape_is_refused_in_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **changes)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.ones(3, 8), {"factors": (2.0,)}, r"factors=\(2.0,\) are not 4 numbers above 0"),
        (torch.ones(3, 8), {"factors": (2.0, 1.0, 0.0, 1.0)}, "are not 4 numbers above 0"),
        (torch.ones(3, 8, dtype=torch.int64), {}, r"found torch.int64 of shape \(3, 8\); give"),
        (torch.ones(3, 7), {}, "with K even"),
        (torch.ones(8), {}, "with K even"),
        (torch.ones(3, 8), {"base": 0.0}, "base=0.0 is not a number above 0"),
        (torch.ones(3, 8), {"base": -10.0}, "base=-10.0 is not a number above 0"),
        (torch.ones(3, 8), {"base": float("nan")}, "base=nan is not a number above 0"),
    ],
)
def test_a_rotation_that_cannot_be_is_refused(x, options, message):
    with pytest.raises(ValueError, match=message):
        rotate(x, **options)


def test_bad_ids_are_refused_in_one_sentence(model):
    with pytest.raises(ValueError, match="token id 23 is not in 0..22"):
        model(torch.tensor([[0, 23]]))
    with pytest.raises(ValueError, match="13 tokens were given and the context holds 12"):
        model(torch.zeros(1, 13, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one token"):
        model(torch.zeros(1, 0, dtype=torch.int64))


def test_sizes_that_were_left_open_follow_the_others():
    config = ModernConfig(23, 12, d_model=24, n_heads=6, n_layers=2)
    for old in (config, ModernConfig.from_dict(json.loads(json.dumps(config.to_dict())))):
        assert dataclasses.replace(old, d_model=48, n_heads=12) == ModernConfig(23, 12, 48, 12, 2)
        assert (old.d_ff, old.n_kv_heads) == (64, 6)
    assert dataclasses.replace(TINY, n_heads=4).n_kv_heads == 2  # given, and kept


def test_a_config_survives_json():
    special = dataclasses.replace(TINY, head_width=6, rope_factors=(1.0, 2.0, 8.0), norm_eps=1e-5, out_bias=True)
    for config in (TINY, special):
        assert ModernConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert copy.deepcopy(TINY) == TINY and TINY != dataclasses.replace(TINY, qk_norm=False)


def test_a_config_of_earlier_versions_gives_the_model_that_it_gave():
    old = {"vocab_size": 23, "context_length": 12, "d_model": 24, "n_heads": 6, "n_layers": 2, "d_ff": 64,
           "dropout": 0.0, "qkv_bias": False, "tie_weights": True, "n_kv_heads": 2, "rope_base": 10_000.0,
           "qk_norm": True}  # fmt: skip
    assert ModernConfig.from_dict(old) == TINY


def test_a_block_adds_to_the_stream_what_its_two_branches_read_after_their_norms():
    block, x = ModernBlock(TINY).double(), torch.randn(2, 5, 24, dtype=torch.float64)
    middle = x + block.attention(block.norm1(x))
    assert_close(block(x), middle + block.feed_forward(block.norm2(middle)))
