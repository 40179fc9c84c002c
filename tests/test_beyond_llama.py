"""Chapter 4's parts beyond Llama: each against its layer in transformers, and by hand what no library says."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from ch03_attention.attention import causal_mask
from ch04_gpt_model.generation import KVCache
from ch04_gpt_model.mixture_of_experts import MixtureOfExperts, balance_loss, moved_bias, route
from ch04_gpt_model.modern_gpt import GroupedQueryAttention, ModernConfig, ModernGPT
from ch04_gpt_model.other_attention import (
    LatentAttention,
    WindowAttention,
    delta_rule,
    delta_rule_at_once,
    sink_weights,
    window_mask,
)
from ch04_gpt_model.recent_gpt import NormFromOne, RecentConfig, RecentGPT
from tests.sizes import n
from tests.small_models import InFloat64, random_ids, shaken

TINY = ModernConfig(vocab_size=23, context_length=20, d_model=24, n_heads=6, n_layers=2, n_kv_heads=2)


def filled(layer, seed=0):
    """The layer in double precision, all its parameters drawn anew."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return layer


def windowed(config, window):
    model = ModernGPT(config)
    for block in model.blocks:
        block.attention = WindowAttention(config, window)
    return model


# --- a mixture of experts --------------------------------------------------------------------------------------------


def copy_experts(theirs, ours):
    """Give our experts the weights of theirs, which lie in one tensor."""
    with torch.no_grad():
        for expert, gate_up, down in zip(ours.experts, theirs.experts.gate_up_proj, theirs.experts.down_proj):
            gate, up = gate_up.chunk(2)
            expert.gate_proj.weight.copy_(gate), expert.up_proj.weight.copy_(up), expert.down_proj.weight.copy_(down)
        ours.router.weight.copy_(theirs.gate.weight)


@pytest.mark.parametrize("seed", range(n(3, 20)))
def test_a_softmax_router_is_mixtrals(seed):
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    config = mixtral.MixtralConfig(hidden_size=8, intermediate_size=6, num_local_experts=5, num_experts_per_tok=2)
    with InFloat64():
        theirs = filled(mixtral.MixtralSparseMoeBlock(config), seed)
    ours = MixtureOfExperts(8, 6, n_experts=5, n_active=2).double()
    copy_experts(theirs, ours)
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    with InFloat64():
        scores, everyone = ours.router(x).flatten(0, 1), torch.ones(2, 7)  # without a mask theirs has float32 shares
        expected, loss = theirs(x), mixtral.load_balancing_loss_func((scores,), 5, 2, everyone)
    assert_close(ours(x), expected, rtol=0, atol=1e-12)
    assert_close(balance_loss(ours.affinities, ours.chosen), loss, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(n(3, 20)))
def test_a_sigmoid_router_with_a_bias_and_a_shared_expert_is_deepseeks(seed):
    deepseek = pytest.importorskip("transformers.models.deepseek_v3.modeling_deepseek_v3")
    config = deepseek.DeepseekV3Config(
        hidden_size=8, moe_intermediate_size=6, n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2,
        n_group=1, topk_group=1, routed_scaling_factor=1.0)  # fmt: skip
    with InFloat64():
        theirs = filled(deepseek.DeepseekV3MoE(config), seed)
    theirs.gate.e_score_correction_bias += torch.randn(6) * 0.3
    ours = MixtureOfExperts(8, 6, n_experts=6, n_active=2, d_shared=6, sigmoid=True).double()
    copy_experts(theirs, ours)
    ours.shared.load_state_dict(theirs.shared_experts.state_dict())
    ours.bias.copy_(theirs.gate.e_score_correction_bias)
    x = torch.randn(2, 7, 8, dtype=torch.float64)
    with InFloat64():
        assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


def test_the_bias_chooses_and_does_not_weigh():
    affinities = torch.tensor([[0.5, 0.3, 0.2]])
    weights, chosen = route(affinities, 2, torch.tensor([-1.0, 0.0, 0.0]))
    assert chosen.tolist() == [[1, 2]]
    assert_close(weights, torch.tensor([[0.6, 0.4]]))


def test_balance_costs_least_where_experts_are_equally_busy():
    even = torch.full((4, 4), 0.25)
    chosen = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0]])
    assert_close(balance_loss(even, chosen), torch.tensor(2.0))
    lopsided = torch.tensor([0.7, 0.1, 0.1, 0.1]).expand(4, 4)
    assert balance_loss(lopsided, torch.tensor([[0, 1]] * 4)) > 3


def test_the_shares_of_a_balance_loss_are_as_exact_as_the_affinities():
    affinities = torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.3, 0.7]], dtype=torch.float64)
    expected = torch.tensor(2 * (2 / 3 * 1.4 / 3 + 1 / 3 * 1.6 / 3), dtype=torch.float64)  # 2 of 3 choose expert 0
    assert_close(balance_loss(affinities, torch.tensor([[0], [0], [1]])), expected, rtol=0, atol=1e-15)


def test_a_bias_moves_toward_the_idle():
    bias = moved_bias(torch.zeros(3), torch.tensor([[0], [0], [0], [1], [1], [2]]), step=0.5)
    assert bias.tolist() == [-0.5, 0.0, 0.5]


@pytest.mark.parametrize("n_active", [0, 4])
def test_a_token_uses_at_least_one_expert_and_no_more_than_there_are(n_active):
    with pytest.raises(ValueError, match=f"n_active={n_active} of 3 experts"):
        route(torch.rand(2, 3), n_active)


def test_all_experts_active_and_equal_are_one_expert():
    mixture = filled(MixtureOfExperts(8, 6, n_experts=3, n_active=3))
    for expert in mixture.experts:
        expert.load_state_dict(mixture.experts[0].state_dict())
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    assert_close(mixture(x), mixture.experts[0](x))


# --- windows and sinks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 8])
def test_a_window_is_mistrals(window):
    mistral = pytest.importorskip("transformers.models.mistral.modeling_mistral")
    config = mistral.MistralConfig(vocab_size=23, hidden_size=24, intermediate_size=16, num_hidden_layers=2,
                                   num_attention_heads=6, num_key_value_heads=2, sliding_window=window, head_dim=4,
                                   rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
                                   attn_implementation="eager")  # fmt: skip
    with InFloat64():
        theirs = filled(mistral.MistralForCausalLM(config)).eval()
    shape = ModernConfig(23, 20, 24, 6, 2, n_kv_heads=2, d_ff=16, qk_norm=False, tie_weights=False)
    ours = windowed(shape, window).double()
    names = {"embed_tokens": "token_embedding", "self_attn": "attention", "o_proj": "out_proj", "mlp": "feed_forward",
             "input_layernorm": "norm1", "post_attention_layernorm": "norm2", "model.layers": "blocks",
             "model.norm": "final_norm", "lm_head": "head", "model.": ""}  # fmt: skip
    weights = {}
    for name, weight in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        weights[name] = weight
    ours.load_state_dict(weights)
    ids = random_ids(shape, 2, 12)
    with InFloat64():
        expected = theirs(ids).logits
    assert_close(ours(ids), expected, rtol=0, atol=1e-11)


def test_a_window_as_long_as_the_text_changes_nothing():
    ours, full = filled(WindowAttention(TINY, 9)), filled(GroupedQueryAttention(TINY))
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    assert_close(ours(x), full(x))
    assert not torch.allclose(filled(WindowAttention(TINY, 8))(x), full(x))


def test_the_weights_of_a_window_are_those_it_reads_with():
    layer, x = filled(WindowAttention(TINY, 3)), torch.randn(2, 9, 24, dtype=torch.float64)
    weights, (_, _, v) = layer.weights(x), layer.qkv(x)
    assert not weights[..., ~window_mask(9, 9, 3)].any() and weights[..., window_mask(9, 9, 3)].all()
    heads = weights @ v.repeat_interleave(3, dim=1)
    assert_close(layer.out_proj(heads.transpose(1, 2).flatten(2)), layer(x))


def test_a_window_marks_itself_and_those_before():
    assert window_mask(2, 4, 2).int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert torch.equal(window_mask(3, 5, 5), causal_mask(3, 5))
    with pytest.raises(ValueError, match="window=0"):
        window_mask(2, 2, 0)


def test_two_blocks_reach_twice_as_far_and_no_farther():
    model, ids = shaken(lambda: windowed(TINY, 4), 0.4), random_ids(TINY, 1, 14)
    edited = ids.clone()
    edited[0, 5] = (edited[0, 5] + 1) % 23
    changed = (model(ids) != model(edited)).any(dim=-1)[0]
    assert changed.tolist() == [False] * 5 + [True] * 7 + [False] * 2  # 5 to 5 + 2 * (4 - 1)


def test_a_window_reads_in_portions():
    model, ids = shaken(lambda: windowed(TINY, 4), 0.4), random_ids(TINY, 2, 14)
    cache = KVCache(TINY, batch_size=2, dtype=torch.float64)
    assert_close(torch.cat([model(part, cache) for part in ids.split([5, 1, 8], dim=1)], dim=1), model(ids))


def test_a_sink_is_that_of_gpt_oss():
    gpt_oss = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    q, k, v = torch.randn(3, 2, 4, 6, 8, dtype=torch.float64)
    sinks, mask = torch.randn(4, dtype=torch.float64), causal_mask(6)
    layer = SimpleNamespace(num_key_value_groups=1, sinks=sinks, training=False)
    blocked = torch.zeros(6, 6, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    _, expected = gpt_oss.eager_attention_forward(layer, q, k, v, blocked, scaling=8**-0.5)
    scores = (q @ k.transpose(-2, -1) * 8**-0.5).masked_fill(~mask, -torch.inf)
    assert_close(sink_weights(scores, sinks[:, None, None]), expected, rtol=0, atol=1e-12)


def test_a_sink_leaves_a_head_free_to_read_nothing():
    weights = sink_weights(torch.tensor([-9.0, -9.0]), 0.0)
    assert weights.sum() < 0.001
    assert_close(sink_weights(torch.tensor([1.0, 2.0]), -torch.inf), torch.tensor([1.0, 2.0]).softmax(0))


# --- latent attention ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(n(3, 20)))
def test_latent_attention_is_deepseeks(seed):
    deepseek = pytest.importorskip("transformers.models.deepseek_v3.modeling_deepseek_v3")
    config = deepseek.DeepseekV3Config(
        hidden_size=16, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=6, v_head_dim=4,
        qk_nope_head_dim=4, qk_rope_head_dim=2, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        attn_implementation="eager", rope_interleave=False)  # fmt: skip
    with InFloat64():
        theirs, turns = (
            filled(deepseek.DeepseekV3Attention(config, 0), seed),
            deepseek.DeepseekV3RotaryEmbedding(config),
        )
    ours = LatentAttention(16, 4, d_head=4, d_latent=6, d_rotated=2).double()
    names = {
        "q_proj": "q_proj",
        "kv_a_proj_with_mqa": "down_proj",
        "kv_a_layernorm": "latent_norm",
        "o_proj": "out_proj",
    }
    weights = {f"{new}.weight": getattr(theirs, old).weight for old, new in names.items()}
    up = theirs.kv_b_proj.weight
    ours.load_state_dict(weights | {"up_proj.weight": up})
    x, places = torch.randn(2, 7, 16, dtype=torch.float64), torch.arange(7)[None]
    blocked = torch.zeros(7, 7, dtype=torch.float64).masked_fill(~causal_mask(7), -torch.inf)
    with InFloat64():
        expected = theirs(x, turns(x, places), blocked)[0]
    assert_close(ours(x), expected, rtol=0, atol=1e-11)


def test_keys_can_stay_latent():
    layer = filled(LatentAttention(16, 4, d_head=4, d_latent=6, d_rotated=2))
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    (q, q_place), (latent, k_place) = layer.queries(x), layer.stored(x)
    up_k, up_v = layer.up_proj.weight.unflatten(0, (4, -1)).chunk(2, dim=1)  # 2 x (H, K, L)
    scores = (q @ up_k @ latent[:, None].transpose(-2, -1) + q_place @ k_place.transpose(-2, -1)) / 6**0.5
    weights = scores.masked_fill(~causal_mask(7), -torch.inf).softmax(dim=-1)
    heads = weights @ latent[:, None] @ up_v.transpose(-2, -1)
    assert_close(layer.out_proj(heads.transpose(1, 2).flatten(2)), layer(x))


# --- the delta rule --------------------------------------------------------------------------------------------------


def notes(n_tokens=9, seed=0):
    """Random queries, keys of length 1, values, shares to write and shares to keep: (2, 3, T, …)."""
    torch.manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, n_tokens, 8, dtype=torch.float64)
    write, keep = torch.rand(2, 2, 3, n_tokens, dtype=torch.float64) * 0.9 + 0.05
    return q, k / k.norm(dim=-1, keepdim=True), v, write, keep


@pytest.mark.parametrize("seed", range(n(5, 50)))
def test_the_delta_rule_at_once_is_the_delta_rule(seed):
    given = notes(seed=seed)
    assert_close(delta_rule_at_once(*given), delta_rule(*given)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"])
def test_the_delta_rule_is_qwen3_nexts(name):
    qwen3_next = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    q, k, v, write, keep = notes()
    given = [x.transpose(1, 2) for x in (q * 8**0.5, k, v, keep.log(), write)]  # theirs divides q by the root of K
    with InFloat64():
        expected, state = getattr(qwen3_next, name)(*given, initial_state=None, output_final_state=True)
    outputs, ours = delta_rule(q, k, v, write, keep)
    assert_close(outputs, expected.transpose(1, 2), rtol=0, atol=1e-11)
    assert_close(ours, state, rtol=0, atol=1e-11)


def test_a_text_is_read_in_two_portions():
    given = notes()
    first, state = delta_rule(*(x[:, :, :4] for x in given))
    second, _ = delta_rule(*(x[:, :, 4:] for x in given), state=state)
    assert_close(torch.cat([first, second], dim=-2), delta_rule(*given)[0])


def test_a_value_written_anew_takes_the_old_ones_place():
    key, ones = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.ones(3)
    _, state = delta_rule(key, key, torch.tensor([[3.0], [5.0], [7.0]]), ones, ones)
    assert state.tolist() == [[7.0], [5.0]]


# --- recent models: their parity with transformers stands in test_open_weights.py ------------------------------------


def recent(**changes):
    return RecentGPT(RecentConfig(23, 20, d_model=24, n_heads=6, n_layers=2, n_kv_heads=2, **changes))


def test_a_recent_gpt_that_chooses_nothing_is_a_modern_one():
    ours, plain = shaken(recent, 0.4), shaken(lambda: ModernGPT(TINY), 0.4)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    ids = random_ids(TINY, 2, 12)
    assert torch.equal(ours(ids), plain(ids))


def test_blocks_with_a_window_may_turn_by_a_base_of_their_own():
    factors = (2.0, 3.0)
    blocks = recent(windows=(4, None), window_base=50.0, rope_factors=factors).blocks
    assert [(b.attention.window, b.attention.base, b.attention.factors) for b in blocks] == [
        (4, 50.0, None), (20, 10_000.0, factors)]  # fmt: skip


def test_a_score_width_divides_the_scores():
    ours, plain = shaken(lambda: recent(score_width=16), 0.4), shaken(recent, 0.4)
    x = torch.randn(1, 5, 24, dtype=torch.float64)
    (q, k, _), (plain_q, plain_k, _) = (model.blocks[0].attention.qkv(x) for model in (ours, plain))
    assert_close(q, plain_q / 2), assert_close(k, plain_k)  # the root of 16 where it was that of 4


def test_a_new_recent_gpt_has_norms_of_scale_one():
    torch.manual_seed(0)
    from_one = recent(norm_from_one=True, norms="both")
    assert sum(isinstance(part, NormFromOne) for part in from_one.modules()) == 2 * 6 + 1
    torch.manual_seed(0)
    ids = random_ids(TINY, 1, 9)
    assert_close(from_one(ids), recent(norms="both")(ids))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"windows": (4,)}, "windows=.* are not 2 whole"), ({"windows": (4, 0)}, "windows=.* are not 2 whole"),
     ({"windows": (True, None)}, "windows="), ({"windows": 4}, "windows=4 are not 2"),
     ({"window_base": 1}, "window_base=1 is not a number above 1"), ({"window_base": "x"}, "window_base='x'"),
     ({"norms": "behind"}, "norms='behind' is not one of before, after, both"),
     ({"score_width": 0}, "score_width=0 is not a number above 0"), ({"gelu_gate": 1}, "gelu_gate=1 is neither True")],
    ids=str,
)  # fmt: skip
def test_settings_of_a_recent_gpt_are_looked_at(changes, message):
    with pytest.raises(ValueError, match=message):
        recent(**changes)
