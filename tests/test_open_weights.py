"""Published models come in with the logits, gradients and tokens that the transformers library gives them."""

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.generation import KVCache, generate
from ch05_pretraining.families import modern_names
from ch05_pretraining.hugging_face import export_hugging_face
from ch05_pretraining.open_weights import load_hugging_face, load_pretrained
from tests.small_models import random_ids, tiny_model

transformers = pytest.importorskip("transformers")

SHAPE = {"vocab_size": 47, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 48, "bos_token_id": None, "eos_token_id": None,
         "pad_token_id": None}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
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
    "Qwen2": ("Qwen2", {"num_key_value_heads": 4}),
    "Qwen2.5": ("Qwen2", {"tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 8}),
    "Qwen2.5, a window for no block": ("Qwen2", {"use_sliding_window": True, "max_window_layers": 2}),
    "Qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "Qwen3, biases": ("Qwen3", {"head_dim": 4, "attention_bias": True, "num_key_value_heads": 1}),
    "Qwen3, linear scaling": ("Qwen3", {"head_dim": 6, "rope_parameters": LINEAR, "rms_norm_eps": 1e-3}),
}
each_case = pytest.mark.parametrize("case", CASES)


class InFloat64(TorchFunctionMode):
    """Their formulas as they are, but in float64 wherever they ask for float32: norms, angles and softmax."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = ([torch.float64 if a is torch.float32 else a for a in args], dict(kwargs or {}))
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in kwargs.items()}
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*args, **kwargs)


def their_model(case, seed=0, **changes):
    """A random model of transformers, every number of it drawn; build it inside of InFloat64 for exact angles."""
    name, settings = CASES[case]
    config = getattr(transformers, f"{name}Config")(**SHAPE | settings | changes)
    model, generator = getattr(transformers, f"{name}ForCausalLM")(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
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
