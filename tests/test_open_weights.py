"""Published models come in with the logits, gradients and tokens that the transformers library gives them."""

import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.generation import KVCache, generate
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch04_gpt_model.recent_gpt import RecentGPT
from ch05_pretraining.families import FAMILIES, ONLY, READ, REQUIRED, known_keys, llama3_factors, modern_names
from ch05_pretraining.hugging_face import export_hugging_face
from ch05_pretraining.open_weights import load_hugging_face, load_pretrained, pretrained_bytes
from ch05_pretraining.published_tokenizers import PublishedTokenizer
from ch05_pretraining.saved_models import load_model, save_model
from tests.small_models import InFloat64, random_ids, shaken, tiny_model

transformers = pytest.importorskip("transformers")

SHAPE = {"vocab_size": 47, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 48, "bos_token_id": None, "eos_token_id": None,
         "pad_token_id": None}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
GEMMA = {"hidden_size": 36, "head_dim": 8, "sliding_window": 5}  # the root of 36 is whole: theirs is kept in float32
CASES = {
    "Llama 2": ("Llama", {"num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "Llama 3": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "Llama 3.1": ("Llama", {"rope_parameters": LLAMA3, "head_dim": 16}),
    "Llama 3.2": ("Llama", {"rope_parameters": LLAMA3 | {"factor": 32.0}, "tie_word_embeddings": True}),
    "Llama, linear scaling": ("Llama", {"rope_parameters": LINEAR}),
    "Llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 8}),
    "Llama, biases of attention": ("Llama", {"attention_bias": True, "num_key_value_heads": 1}),
    "SmolLM2": ("Llama", {"tie_word_embeddings": True, "num_attention_heads": 3, "num_key_value_heads": 1}),
    "TinyLlama": ("Llama", {"num_key_value_heads": 1, "rms_norm_eps": 1e-2}),
    "Mistral": ("Mistral", {"sliding_window": None, "rms_norm_eps": 1e-5}),
    "Mistral, wide heads": ("Mistral", {"sliding_window": None, "head_dim": 10, "num_key_value_heads": 4}),
    "Mistral, a window as long as the context": ("Mistral", {"sliding_window": 48}),
    "Mistral, a window": ("Mistral", {"sliding_window": 5, "head_dim": 8}),
    "Qwen2": ("Qwen2", {"num_key_value_heads": 4}),
    "Qwen2.5": ("Qwen2", {"tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 8}),
    "Qwen2.5, a window for no block": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 2}),
    "Qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "Qwen3, biases": ("Qwen3", {"head_dim": 4, "attention_bias": True, "num_key_value_heads": 1}),
    "Qwen3, linear scaling": ("Qwen3", {"head_dim": 6, "rope_parameters": LINEAR, "rms_norm_eps": 1e-3}),
    "Qwen2.5, a window in the last block": ("Qwen2", {"use_sliding_window": True, "sliding_window": 5,
                                                      "max_window_layers": 1}),
    "Qwen3, a window in the first block": ("Qwen3", {"use_sliding_window": True, "sliding_window": 7, "head_dim": 6,
                                                     "layer_types": ["sliding_attention", "full_attention"]}),
    "OLMo 2": ("Olmo2", {"num_key_value_heads": 4, "rms_norm_eps": 1e-2}),
    "OLMo 2, groups and biases": ("Olmo2", {"attention_bias": True, "tie_word_embeddings": True}),
    "OLMo 3": ("Olmo3", {"sliding_window": 5, "num_hidden_layers": 5}),
    "OLMo 3, a window in the last block": ("Olmo3", {"sliding_window": 3, "rope_parameters": LINEAR,
                                                     "layer_types": ["full_attention", "sliding_attention"]}),
    "Gemma 3": ("Gemma3", GEMMA | {"num_hidden_layers": 7}),
    "Gemma 3, linear scaling": ("Gemma3", GEMMA | {
        "layer_types": ["full_attention", "sliding_attention"], "query_pre_attn_scalar": 10, "rms_norm_eps": 1e-2,
        "attention_bias": True, "tie_word_embeddings": False, "rope_parameters": {
            "full_attention": LINEAR, "sliding_attention": {"rope_type": "default", "rope_theta": 30.0}}}),
    "Gemma 3, a window as long as the context": ("Gemma3", GEMMA | {"sliding_window": 48, "num_hidden_layers": 6}),
}  # fmt: skip
each_case = pytest.mark.parametrize("case", CASES)


def their_model(case, seed=0, **changes):
    """A random model of transformers, every number of it drawn; build it inside of InFloat64 for exact angles."""
    name, settings = CASES[case]
    model_class = getattr(transformers, f"{name}ForCausalLM")
    model = model_class(model_class.config_class(**SHAPE | settings | changes))
    generator, center = torch.Generator().manual_seed(seed), 0 if name == "Gemma3" else 1  # of the norms' weights
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator) + center * (parameter.ndim == 1))
    return model.eval()


def saved(model, folder, **options):
    model.save_pretrained(folder, **options)
    return folder


def test_their_formulas_in_float64_are_the_same_formulas():
    """The float64 reference below differs from the library as released by float32's rounding alone."""
    as_released = their_model("Llama 3.1").double()
    with InFloat64():
        exact, ids = their_model("Llama 3.1").double(), random_ids(as_released.config, 1, 40)
        exact_logits = exact(ids).logits
    assert exact.model.rotary_emb.inv_freq.dtype == torch.float64
    assert 1e-12 < (exact_logits - as_released(ids).logits).abs().max() < 1e-4


@each_case
def test_logits_and_gradients_are_those_of_transformers_in_float64(case, tmp_path):
    with InFloat64():
        theirs = their_model(case).double()
        ids = random_ids(theirs.config, 2, 48)
        expected = theirs(ids).logits
        F.cross_entropy(expected[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    ours = load_hugging_face(saved(theirs, tmp_path), "float64")
    logits = ours(ids)
    assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    parameters = dict(ours.named_parameters())
    grads = {name.removeprefix("model."): p.grad for name, p in theirs.named_parameters()}
    assert_close(
        {theirs: parameters[name].grad for theirs, (name, _) in modern_names(ours.config).items()},
        grads,
        rtol=1e-9,
        atol=1e-12,
    )


@each_case
def test_logits_and_greedy_tokens_are_those_of_transformers_as_released(case, tmp_path):
    theirs = their_model(case)
    ours, ids = load_hugging_face(saved(theirs, tmp_path)), random_ids(theirs.config, 2, 48)
    assert not ours.training and {p.dtype for p in ours.parameters()} == {torch.float32}
    with torch.no_grad():
        logits = theirs(ids).logits
        assert_close(ours(ids), logits, rtol=0, atol=5e-6 * logits.abs().max().item())
    expected = theirs.generate(ids[:, :5], max_new_tokens=20, min_new_tokens=20, do_sample=False)
    assert torch.equal(generate(ours, ids[:, :5], 20), expected)


@each_case
def test_cached_logits_are_the_uncached_ones(case, tmp_path):
    ours = load_hugging_face(saved(their_model(case), tmp_path), "float64")
    ids, cache = random_ids(ours.config, 2, 48), KVCache(ours.config, 2, dtype=torch.float64)
    with torch.no_grad():
        parts = [ours(part, cache) for part in ids.split([20, 1, 1, 26], dim=1)]
        assert_close(torch.cat(parts, dim=1), ours(ids), rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", ["10KB", "1GB"])
def test_numbers_come_from_one_file_or_several_in_any_precision(dtype, size, tmp_path):
    theirs = their_model("Qwen3").to(getattr(torch, dtype))
    saved(theirs, tmp_path, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 3) == (size == "10KB")
    for asked in ("float32", dtype):
        ours = dict(load_hugging_face(tmp_path, asked).named_parameters())
        assert {p.dtype for p in ours.values()} == {getattr(torch, asked)}
        numbers = {name.removeprefix("model."): p.to(getattr(torch, asked)) for name, p in theirs.named_parameters()}
        names = modern_names(load_hugging_face(tmp_path).config)
        assert_close({name: ours[mine] for name, (mine, _) in names.items()}, numbers, rtol=0, atol=0)


def test_a_model_comes_with_its_tokenizer(tmp_path):
    tokenizer = BPETokenizer.train("the owl sat in the old mill. " * 9, 300, SPECIAL_TOKENS)
    export_hugging_face(tiny_model(vocab_size=tokenizer.vocab_size), tokenizer, tmp_path / "gpt2")
    model, read = load_pretrained(tmp_path / "gpt2")
    assert model.config.vocab_size == read.vocab_size == tokenizer.vocab_size
    assert read.encode("an owl sat") == tokenizer.encode("an owl sat")
    saved(their_model("Llama 3.2", vocab_size=tokenizer.vocab_size), tmp_path / "llama")
    (tmp_path / "llama" / "tokenizer.json").write_bytes((tmp_path / "gpt2" / "tokenizer.json").read_bytes())
    model, read = load_pretrained(str(tmp_path / "llama"), "bfloat16")
    ids = torch.tensor([read.encode("the old owl")])
    assert read.decode(generate(model, ids, 3)[0, : ids.shape[1]].tolist()) == "the old owl"


def test_a_model_whose_tokenizer_is_of_another_kind_is_opened_alone(tmp_path):
    saved(their_model("TinyLlama"), tmp_path)
    pieces = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "byte_fallback": True}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(pieces), encoding="utf-8")
    with pytest.raises(ValueError, match="SentencePiece"):
        load_pretrained(tmp_path)
    assert load_hugging_face(tmp_path).config.n_kv_heads == 1


# ---------------------------------------------------------------- what is refused, and what changes nothing


def described(folder, case="Llama 3.1", **changes):
    """A folder with the config of a case but for these changes ("absent": the key is missing), and no numbers yet."""
    name, settings = CASES[case]
    config_class = getattr(transformers, f"{name}ForCausalLM").config_class
    config = config_class(**SHAPE | settings, architectures=[f"{name}ForCausalLM"])
    keys = config.to_dict() | {"model_type": config_class.model_type} | changes
    text = json.dumps({key: value for key, value in keys.items() if value != "absent"})
    (folder / "config.json").write_text(text, encoding="utf-8")
    return folder


OTHER_MODELS = [
    ("Llama 2", {"model_type": "gemma3"}, "model_type is 'gemma3'.* 'gpt2' or 'llama' or .*: give a fo"),
    ("Llama 2", {"model_type": "olmo"}, "model_type is 'olmo'"),
    ("Llama 2", {"model_type": "mixtral"}, "model_type is 'mixtral'"),
    ("Llama 2", {"model_type": "qwen3_moe"}, "model_type is 'qwen3_moe'"),
    ("Llama 2", {"model_type": "absent"}, "it has no model_type"),
    ("Llama 2", {"model_type": "absent", "d_model": 8}, "a config of this course, whose folders load_model opens"),
    ("Llama 2", {"architectures": ["LlamaForSequenceClassification"]}, "architectures is .'LlamaForSequenceClass"),
    ("Llama 2", {"hidden_act": "gelu"}, "hidden_act is 'gelu', and this loader reads 'silu' or 'swish' only"),
    ("Llama 2", {"hidden_size": "absent"}, "it lacks hidden_size"),
    ("Llama 2", {"vocab_size": None, "num_hidden_layers": "absent"}, "it lacks vocab_size, num_hidden_layers"),
    ("Llama 2", {"num_attention_heads": 5}, "n_heads=5 does not divide d_model=24"),
    ("Llama 2", {"num_attention_heads": 0}, "num_attention_heads is 0, expected a whole number from 1"),
    ("Llama 2", {"num_key_value_heads": 3}, "n_kv_heads=3 does not divide n_heads=4"),
    ("Llama 2", {"hidden_size": "24"}, "hidden_size is '24', expected a whole number from 1"),
    ("Llama 2", {"head_dim": 5}, "a head is 5 wide"),
    ("Llama 2", {"rms_norm_eps": 0}, "rms_norm_eps is 0, expected a number above 0"),
    ("Llama 2", {"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5', expected a number above 0"),
    ("Llama 2", {"rms_norm_eps": None}, "rms_norm_eps is None, expected a number above 0"),
    ("Llama 2", {"rms_norm_eps": math.nan}, "rms_norm_eps is nan, expected a number above 0"),
    ("Llama 2", {"max_position_embeddings": 10**12}, "max_position_embeddings is 10{12}, expected a whole number"),
    ("Llama 2", {"num_hidden_layers": 2.0}, "num_hidden_layers is 2.0, expected a whole number"),
    ("Llama 2", {"num_key_value_heads": "4"}, "num_key_value_heads is '4', expected a whole number"),
    ("Mistral", {"sliding_window": "8"}, "sliding_window is '8', expected a whole number"),
    ("Qwen2.5", {"max_window_layers": "2"}, "max_window_layers is '2', expected a whole number"),
    ("Llama 2", {"layer_types": 5}, "layer_types is 5, expected a list of names"),
    ("Llama 2", {"layer_types": [["x"]]}, "layer_types is .*'x'.*, expected a list of names"),
    ("Llama 2", {"rope_parameters": "absent", "rope_theta": None}, "rope_theta is None, expected a number above 0"),
    ("Llama 2", {"rope_parameters": "absent", "rope_scaling": "linear"}, "rope_scaling is 'linear', expected keys"),
    ("Llama 2", {"rope_parameters": LLAMA3 | {"factor": 0}}, "factor is 0, expected a number above 0"),
    ("Llama 2", {"rope_parameters": LINEAR | {"factor": "x"}}, "factor is 'x', expected a number above 0"),
    ("Llama 2", {"tie_word_embeddings": None}, "tie_word_embeddings is None, and this loader reads False or True"),
    ("Llama 2", {"attention_bias": 1}, "attention_bias is 1, and this loader reads False or True only"),
    ("Llama 2", {"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
    ("Llama 2", {"auto_map": {"AutoModel": "own.py"}}, "auto_map is"),
    ("Llama 2", {"num_local_experts": 8}, "num_local_experts is 8"),
    ("Llama 2", {"rope_interleaved": True}, "rope_interleaved is True"),
    ("Llama 2", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ("Llama 2", {"rope_parameters": LINEAR | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
    *(("Llama 2", {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0}}, f"rope_type is {kind!r}")
      for kind in ("yarn", "dynamic", "longrope", "mrope", None)),
    ("Llama 2", {"rope_parameters": "absent", "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "type is 'dynamic'"),
    ("Llama 2", {"rope_parameters": {"rope_type": "linear"}}, "rope_scaling of the type 'linear' lacks factor"),
    ("Llama 2", {"rope_parameters": LLAMA3 | {"low_freq_factor": None}}, "type 'llama3' lacks low_freq_factor"),
    ("Llama 2", {"rope_parameters": LLAMA3 | {"low_freq_factor": 4.0}}, "high_freq_factor is 4.0 and low_freq_f"),
    ("Llama 2", {"rope_parameters": LINEAR | {"mscale": 2}}, "type 'linear' has mscale, which it does not know"),
    ("Llama 2", {"rope_parameters": LINEAR, "rope_scaling": LLAMA3}, "and rope_parameters, which means the same, is"),
    ("Llama 2", {"rope_parameters": LINEAR | {"factor": -1.0}}, "factor is -1.0, expected a number above 0"),
    ("Llama 2", {"rope_parameters": LINEAR | {"rope_theta": 0.5}}, "rope_base=0.5 is not a number above 1"),
    ("Mistral", {"layer_types": ["full_attention", "sliding_attention"]}, "in this family all blocks are 'full_att"),
    ("Mistral", {"sliding_window": 8, "layer_types": ["full_attention"] * 2}, "in this family all blocks are 'sliding"),
    ("Llama 2", {"sliding_window": 8}, "sliding_window is 8, and in this family no block has a window"),
    ("OLMo 2", {"layer_types": ["sliding_attention"] * 2}, "in this family all blocks are 'full_attention' here"),
    ("Qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, "'sliding_attention', and no window is in use"),
    ("OLMo 3", {"sliding_window": None}, "'sliding_attention', and no window is in use"),
    ("OLMo 3", {"layer_types": ["chunked_attention"] * 5}, "layer_types has .'chunked_attention'., and this loader"),
    ("OLMo 3", {"layer_types": ["full_attention"] * 4}, "layer_types names 4 blocks and num_hidden_layers is 5"),
    ("OLMo 3", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "rope_type is 'yarn'"),
    ("OLMo 3", {"rms_norm_eps": 2}, "norm_eps=2 is not between 0 and 1"),
    ("OLMo 3", {"layer_types": "absent", "sliding_window_pattern": 0}, "sliding_window_pattern is 0, expected a whole"),
    ("Gemma 3", {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
    ("Gemma 3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping is 50.0"),
    ("Gemma 3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
    ("Gemma 3", {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    ("Gemma 3", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0, expected a number above 0"),
    ("Gemma 3", {"architectures": ["Gemma3ForConditionalGeneration"]}, "architectures is"),
    ("Gemma 3", {"rope_parameters": LINEAR}, "rope_parameters is .*expected settings under 'full_attention' and"),
    ("Gemma 3", {"rope_parameters": {"sliding_attention": LINEAR}}, "rope_parameters has .* expected a rope_type and"),
    ("Gemma 3", {"rope_parameters": {"sliding_attention": {"rope_type": "yarn"}}}, "rope_type is 'yarn'"),
    ("Gemma 3", {"rope_parameters": {"sliding_attention": {"rope_theta": 0}}}, "rope_theta is 0, expected a number"),
    ("Gemma 3", {"rope_parameters": {"sliding_attention": {"rope_theta": 0.5}}}, "window_base=0.5 is not a number"),
    ("Qwen2.5", {"dual_chunk_attention_config": {"chunk_size": 8}}, "dual_chunk_attention_config is"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "changes", "message"), OTHER_MODELS, ids=lambda value: str(value)[:60])
def test_a_model_that_ours_cannot_compute_is_refused_by_the_key_before_its_numbers_are_looked_for(
    case, changes, message, tmp_path
):
    folder = described(tmp_path, case, **{"sliding_window": 8} | changes if case == "Qwen2.5" else changes)
    for load in (load_hugging_face, load_pretrained):
        with pytest.raises(ValueError, match=message) as refused:
            load(folder)
        assert "\n" not in str(refused.value)


def their_logits(folder, ids):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()(ids).logits


@pytest.mark.parametrize(
    ("case", "changes"),
    [("Llama 3.1", {}), ("Llama 3.1", {"attention_dropout": 0.5, "pretraining_tp": 2, "initializer_range": 9.0}),
     ("Llama 3.1", {"rope_parameters": "absent", "rope_theta": 500.0, "rope_scaling": LLAMA3}),
     ("Llama 3.1", {"rope_parameters": {key: LLAMA3[key] for key in LLAMA3 if "original" not in key}}),
     ("Llama 3.1", {"num_key_value_heads": 2, "is_llama_config": True, "rope_interleaved": False}),
     ("Llama, linear scaling", {"rope_parameters": "absent", "rope_theta": 90.0,
                                "rope_scaling": {"type": "linear", "factor": 4.0}}),
     ("Llama 2", {"rope_parameters": "absent", "rope_theta": 77.0}), ("Llama 2", {"rope_parameters": "absent"}),
     ("Llama 2", {"num_key_value_heads": "absent", "rms_norm_eps": "absent", "hidden_act": "absent"}),
     ("Llama 2", {"head_dim": "absent", "tie_word_embeddings": "absent", "attention_bias": "absent"}),
     ("Llama 2", {"architectures": "absent", "dtype": "bfloat16", "temperature": 9.0, "use_cache": False}),
     ("Qwen2.5", {"sliding_window": 3, "use_sliding_window": "absent", "layer_types": "absent"}),
     ("Qwen2.5", {"max_window_layers": 0}),
     ("Qwen2.5, a window in the last block", {"layer_types": None}),
     ("Mistral, a window", {"use_sliding_window": False}),
     ("OLMo 3", {"layer_types": "absent"}),
     ("Gemma 3", {"layer_types": "absent", "sliding_window_pattern": 3, "_sliding_window_pattern": "absent",
                  "rope_parameters": "absent", "rope_theta": 90.0, "rope_local_base_freq": 20.0,
                  "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "cache_implementation": "hybrid"}),
     ("Gemma 3", {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": 20.0}}}),
     ("Gemma 3", {"rope_parameters": {"full_attention": LINEAR}}), ("Gemma 3", {"tie_word_embeddings": "absent"}),
     ("Qwen3", {"tie_word_embeddings": True, "rope_theta": 4.0})],
    ids=str,
)  # fmt: skip
def test_every_other_key_means_to_us_what_it_means_to_them(case, changes, tmp_path, recwarn):
    saved(their_model(case), tmp_path)
    described(tmp_path, case, **changes)
    ids = torch.randint(47, (1, 48), generator=torch.Generator().manual_seed(0))
    ours = load_hugging_face(tmp_path)
    assert not [str(w.message) for w in recwarn if "passed over" in str(w.message)]
    with torch.no_grad():
        assert_close(ours(ids), their_logits(tmp_path, ids), rtol=1e-4, atol=1e-4)


def test_every_key_of_their_configs_is_known_and_stands_in_one_table():
    for family in FAMILIES.values():
        theirs = getattr(transformers, f"{family.name}ForCausalLM").config_class().to_dict()
        assert theirs.keys() <= known_keys(), theirs.keys() - known_keys()
        assert not (READ.keys() | REQUIRED.keys()) & ONLY.keys() and not family.switches.keys() & READ.keys()


def test_a_window_that_hides_nothing_makes_no_model_of_its_own(tmp_path):
    saved(their_model("Mistral, a window as long as the context"), tmp_path)
    assert type(load_hugging_face(tmp_path)) is ModernGPT
    described(tmp_path, "Mistral, a window as long as the context", sliding_window=47)
    model = load_hugging_face(tmp_path)
    assert type(model) is RecentGPT and model.config.windows == (47, 47)


def test_a_recent_model_is_kept_by_save_model_and_written_for_no_other_library(tokenizer, tmp_path):
    saved(their_model("Gemma 3", vocab_size=tokenizer.vocab_size), tmp_path / "theirs")
    model = load_hugging_face(tmp_path / "theirs")
    save_model(tmp_path / "ours", model, tokenizer, {})
    back, _ = load_model(tmp_path / "ours")
    ids = random_ids(model.config, 2, 40)
    assert type(back) is RecentGPT and back.config == model.config
    assert_close(back.eval()(ids), model(ids), rtol=0, atol=0)
    with pytest.raises(ValueError, match="found a RecentGPT, and .*: keep it with save_model"):
        export_hugging_face(model, tokenizer, tmp_path / "exported")


def test_a_key_that_nobody_knows_is_named_in_a_warning(tmp_path):
    saved(their_model("Llama 2"), tmp_path)
    with pytest.warns(UserWarning, match="Llama does not know, and they were passed over: qk_clip"):
        load_hugging_face(described(tmp_path, "Llama 2", qk_clip=3))


@pytest.fixture
def shards(tmp_path):
    """The folder of a small model in several files, and its tensors by their names."""
    saved(their_model("Llama 3.2"), tmp_path, max_shard_size="10KB")
    files = sorted(tmp_path.glob("*.safetensors"))
    return tmp_path, {name: (file, tensor) for file in files for name, tensor in load_file(file).items()}


def put(where, name, tensor=None):
    """Write the file of a tensor anew with this tensor, or without it."""
    file = where[1][name][0] if name in where[1] else next(iter(where[1].values()))[0]
    tensors = {key: value for key, (home, value) in where[1].items() if home == file} | {name: tensor}
    save_file({key: value.contiguous() for key, value in tensors.items() if value is not None}, file, {"format": "pt"})


def test_files_that_do_not_fit_are_refused_in_one_sentence(shards):
    folder, tensors = shards
    name, norm = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
    number = tensors[name][1]
    for tensor, message in [
        (None, "layers.1.mlp.up_proj.weight missing, so config.json and weights are of two models"),
        (number.T, r"has shape \(24, 40\) where config.json leads us to expect \(40, 24\)"),
        (number.to(torch.int8), "layers.1.mlp.up_proj.weight holds I8, so it is quantized: get it unquantized"),
        (number.to(torch.float8_e4m3fn), "holds F8_E4M3, so it is quantized"),
        (torch.full_like(number, torch.nan), "model.layers.1.mlp.up_proj.weight holds numbers that are not finite"),
    ]:  # fmt: skip
        put(shards, name, tensor)
        with pytest.raises(ValueError, match=message):
            load_hugging_face(folder)
    put(shards, name, number)
    for extra in ("model.layers.1.mlp.up_proj.bias", "model.layers.2.mlp.up_proj.weight", "model.norm.bias", "odd"):
        put(shards, extra, torch.ones(2))
        with pytest.raises(ValueError, match=rf"{extra.removeprefix('model.')} unknown, so config.json"):
            load_hugging_face(folder)
    put(shards, "model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(3))  # as in old files
    assert torch.equal(load_hugging_face(folder).final_norm.weight, tensors[norm][1])
    put(shards, norm.removeprefix("model."), tensors[norm][1])
    with pytest.raises(ValueError, match="holds norm.weight, and so does .*: get these files again"):
        load_hugging_face(folder)


@pytest.mark.parametrize(("case", "key"), [("Llama 3.2", "num_hidden_layers"), ("GPT-2", "n_layer")])
def test_more_blocks_than_the_files_hold_are_refused_at_once(case, key, tmp_path):
    if case == "GPT-2":
        small = transformers.GPT2Config(vocab_size=47, n_positions=8, n_embd=8, n_head=2, n_layer=2)
        saved(transformers.GPT2LMHeadModel(small), tmp_path)
    else:
        saved(their_model(case), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {key: 10**8}), encoding="utf-8")
    for look in (load_hugging_face, pretrained_bytes):
        with pytest.raises(ValueError, match="config.json says 100000000 blocks and the files hold .* tensors"):
            look(tmp_path)


def test_sizes_that_nobody_can_count_are_refused(tmp_path):
    saved(their_model("Llama 2"), tmp_path)
    described(tmp_path, "Llama 2", hidden_size=10**8, num_attention_heads=10**8, head_dim=10**8)
    for look in (load_hugging_face, pretrained_bytes):
        with pytest.raises(ValueError, match="the model's sizes are too large for any machine") as refused:
            look(tmp_path)
        assert "\n" not in str(refused.value)


def test_two_unequal_heads_are_refused(shards):
    folder, tensors = shards
    embedding = tensors["model.embed_tokens.weight"][1]
    put(shards, "lm_head.weight", embedding.clone())
    assert torch.equal(load_hugging_face(folder).head.weight, embedding)
    for head in (embedding + 1e-3, embedding[:-1].clone()):
        put(shards, "lm_head.weight", head)
        with pytest.raises(ValueError, match="holds a head of its own .* set it to false in config.json"):
            load_hugging_face(folder)


def test_missing_and_damaged_files_are_refused_in_one_sentence(shards):
    folder, tensors = shards
    file, index = tensors["model.norm.weight"][0], folder / "model.safetensors.index.json"
    whole, listed = file.read_bytes(), index.read_text(encoding="utf-8")
    for content, message in [(whole[:-1], "not a whole safetensors"),
                             *((bytes([n, 2]) + whole[2:], "not a whole safetensors") for n in (60, 128)),
                             (b"", "not a whole safetensors"),
                             (b"<html>", "is a web page"), (b"PK\x03\x04zip", "is a pickle")]:  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_hugging_face(folder)
    file.unlink()
    with pytest.raises(ValueError, match=rf"lacks {file.name} of the \d files in model.safetensors.index.json"):
        load_hugging_face(folder)
    for text in ("", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": 3}}'):
        index.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="index.json does not list the files of a model"):
            load_hugging_face(folder)
    index.write_text(listed, encoding="utf-8")
    index.unlink()
    with pytest.raises(ValueError, match=r"lacks model.safetensors.index.json, which lists the files model-00001-of-"):
        load_hugging_face(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ValueError, match=r"there is no file .*model.safetensors \(the folder holds config.json"):
        load_hugging_face(folder)


def test_a_source_that_is_none_is_refused_with_what_could_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr("ch05_pretraining.open_weights.CACHE_DIR", tmp_path)
    (tmp_path / "studio").mkdir()
    (tmp_path / "studio" / "model.Q4_K.gguf").touch()
    (tmp_path / "model.safetensors").touch()
    for source, message in [
        ("smollm2", "smollm2 is not on this machine .*course.py fetch smollm2"),
        ("smollm3", "there is no model under 'smollm3': give smollm2, the folder of a model with config.json, or a"),
        (tmp_path / "studio", "has no config.json, but model.Q4_K.gguf: give that file"),
        (tmp_path / "model.safetensors", "holds numbers and not what they mean: give its folder"),
        (tmp_path, "has no config.json, so it does not describe a GPT-2, Llama, .* OLMo 3 or Gemma 3: give"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load_pretrained(source)


def test_precisions_and_memory_are_looked_at_first(shards, monkeypatch):
    folder, _ = shards
    with pytest.raises(ValueError, match="dtype='int8' is unknown: use one of float32, bfloat16, float16, float64"):
        load_hugging_face(folder, "int8")
    n_bytes = 4 * load_hugging_face(folder).n_parameters
    for free, dtype, enough in [(n_bytes, "float32", True), (n_bytes - 1, "float32", False),
                                (n_bytes - 1, "bfloat16", True), (n_bytes // 2 - 1, "float16", False)]:  # fmt: skip
        monkeypatch.setattr("psutil.virtual_memory", lambda free=free: SimpleNamespace(available=free))
        if enough:
            load_hugging_face(folder, dtype)
        else:
            with pytest.raises(ValueError, match="the model takes .* GB of memory and .* GB are free: close other"):
                load_hugging_face(folder, dtype)


def test_numbers_too_large_for_a_precision_are_refused(shards):
    put(shards, "model.norm.weight", torch.full((24,), 1e6))
    assert load_hugging_face(shards[0], "bfloat16").final_norm.weight.max() > 9e5
    with pytest.raises(ValueError, match="model.norm.weight holds numbers that are not finite in float16"):
        load_hugging_face(shards[0], "float16")


def test_the_model_owns_its_numbers(shards):
    """Files may be overwritten while the model that was read from them is in use."""
    folder, tensors = shards
    model, numbers = load_hugging_face(folder), tensors["model.embed_tokens.weight"][1].clone()
    for file in {file for file, _ in tensors.values()}:
        with open(file, "r+b") as there:
            there.write(b"\0" * file.stat().st_size)
    assert_close(model.token_embedding.weight.data, numbers, rtol=0, atol=0)
    assert model.head.weight is model.token_embedding.weight and all(p.requires_grad for p in model.parameters())


# ---------------------------------------------------------------- ours go out


MODERN = {
    "Llama": {"qk_norm": False},
    "Llama, every choice": {"qk_norm": False, "qkv_bias": True, "out_bias": True, "ff_bias": True, "head_width": 6,
                            "n_kv_heads": 2, "norm_eps": 1e-5, "rope_base": 500.0, "tie_weights": False},
    "Llama, one bias": {"qk_norm": False, "out_bias": True},
    "Llama 3.1": {"qk_norm": False, "rope_base": 5e5, "n_kv_heads": 1, "rope_factors": 8192.0},
    "Llama, short": {"qk_norm": False, "rope_base": 100.0, "head_width": 16, "rope_factors": 16.0},
    "Qwen2": {"qk_norm": False, "qkv_bias": True, "n_kv_heads": 2},
    "Qwen3": {"n_kv_heads": 2},
    "Qwen3, every choice": {"qkv_bias": True, "out_bias": True, "head_width": 12, "rope_factors": (2.5,) * 6},
    "Qwen3, one bias": {"qkv_bias": True},
}  # fmt: skip


def modern(name, vocab_size):
    settings = {"vocab_size": vocab_size, "context_length": 40, "d_model": 32, "n_heads": 4, "n_layers": 2}
    config = ModernConfig(**settings | MODERN[name] | {"rope_factors": None})
    factors = MODERN[name].get("rope_factors")
    if isinstance(factors, float):
        factors = llama3_factors(config, 8.0, 1.0, 4.0, factors)
    return shaken(lambda: ModernGPT(dataclasses.replace(config, rope_factors=factors)), 0.3).float()


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train("the owl sat in the old mill and the fox ran home. " * 9, 300, SPECIAL_TOKENS)


@pytest.mark.parametrize("name", MODERN)
def test_ours_opens_in_transformers_with_the_same_logits_and_comes_back(name, tokenizer, tmp_path):
    model = modern(name, tokenizer.vocab_size)
    folder = export_hugging_face(model, tokenizer, tmp_path / "it")
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(theirs).__name__ == f"{name.split()[0].strip(',')}ForCausalLM"
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = random_ids(model.config, 2, 40)
    with torch.no_grad():
        logits = model(ids)
        assert_close(theirs.eval()(ids).logits, logits, rtol=0, atol=1e-5 * logits.abs().max().item())
    back, read = load_pretrained(folder)
    assert_close(back(ids), logits, rtol=0, atol=0 if "one bias" not in name else 1e-5)
    assert back.config == model.config or "one bias" in name
    assert read.encode("an owl") == tokenizer.encode("an owl") == transformers.AutoTokenizer.from_pretrained(
        folder)("an owl")["input_ids"]  # fmt: skip


def test_a_published_tokenizer_goes_out_with_its_chat_template(tokenizer, tmp_path):
    folder = export_hugging_face(modern("Llama", tokenizer.vocab_size), tokenizer, tmp_path / "first")
    template = "{% for m in messages %}<|user|>{{ m.content }}<|endoftext|>{% endfor %}<|assistant|>"
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    model, read = load_pretrained(folder)
    again = export_hugging_face(model, read, tmp_path / "second")
    theirs, messages = transformers.AutoTokenizer.from_pretrained(again), [{"role": "user", "content": "the owl"}]
    ids = theirs.apply_chat_template(messages, add_generation_prompt=True)
    assert load_pretrained(again)[1].chat_ids(messages) == read.chat_ids(messages) == list(ids["input_ids"])
    end = tokenizer.special_tokens["<|endoftext|>"]
    assert load_pretrained(again)[1].end_ids == read.end_ids == (end,)
    assert transformers.GenerationConfig.from_pretrained(again).eos_token_id in (end, [end])


@pytest.mark.parametrize("make", [lambda size: modern("Llama", size), lambda size: tiny_model(vocab_size=size)])
def test_a_tokenizer_larger_than_its_model_goes_neither_out_nor_in(make, tokenizer, tmp_path):
    n, folder = tokenizer.vocab_size, tmp_path / "it"
    with pytest.raises(ValueError, match=f"found {n} tokens and {n - 1} embeddings; expected one for each"):
        export_hugging_face(make(n - 1), tokenizer, folder)
    assert not folder.exists()
    file = export_hugging_face(make(n + 1), tokenizer, folder) / "tokenizer.json"  # unused embeddings are usual
    read, definition = load_pretrained(folder)[1], json.loads(file.read_text(encoding="utf-8"))
    definition["added_tokens"] += [
        definition["added_tokens"][0] | {"content": f"<|{i}|>", "id": n + i} for i in range(2)
    ]
    file.write_text(json.dumps(definition), encoding="utf-8")
    with pytest.raises(ValueError, match=f"found {n + 2} tokens and {n + 1} embeddings; .* the folder is .*it"):
        load_pretrained(folder)
    larger = PublishedTokenizer.from_folder(folder)
    with pytest.raises(ValueError, match=f"found {n + 2} tokens and {n + 1} embeddings"):
        export_hugging_face(make(n + 1), larger, tmp_path / "again")
    assert larger.encode("an owl") == read.encode("an owl")


def test_what_no_family_has_is_refused(tokenizer, tmp_path):
    for changes, message in [
        ({"ff_bias": True}, "ff_bias=True stands beside qk_norm=True"),
        ({"rope_factors": (1.0, 2.0, 8.0, 8.0)}, "rope_factors are neither all equal nor those of Llama 3.1"),
    ]:
        config = ModernConfig(tokenizer.vocab_size, 40, 32, 4, 2, **changes)
        with pytest.raises(ValueError, match=f"{message}.*keep .* with save_model"):
            export_hugging_face(ModernGPT(config), tokenizer, tmp_path / "it")
    assert not list(tmp_path.iterdir())
