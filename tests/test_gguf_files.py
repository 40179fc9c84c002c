"""Models from GGUF files compute what transformers computes with the same numbers; other files are refused."""

import random
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ch04_gpt_model.generation import generate
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.modern_gpt import ModernConfig
from ch05_pretraining.gguf_files import ARCHITECTURES, load_gguf
from ch05_pretraining.gguf_format import QUANTIZATIONS, GGUFFile
from tests.sizes import n
from tests.small_models import random_ids, shaken, weights

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

TOKENS = ["<|end|>", "a", "b", "ab", "<|turn|>"]
TOKENIZER = {
    "model": "gpt2", "pre": "smollm", "tokens": TOKENS, "token_type": [3, 1, 1, 1, 3], "merges": ["a b"],
    "bos_token_id": 0, "eos_token_id": 0, "eot_token_id": 4, "add_bos_token": False,
}  # fmt: skip
SMALL = {"vocab_size": 48, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 40, "rms_norm_eps": 1e-5}  # fmt: skip
SMALL_GPT2 = {"vocab_size": 48, "n_positions": 40, "n_embd": 64, "n_head": 4, "n_layer": 2}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
CASES = {
    "llama, groups": ("llama", {}),
    "llama, every head its own, tied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama, one head for all": ("llama", {"num_key_value_heads": 1, "rms_norm_eps": 1e-6}),
    "llama, wide heads, biases": ("llama", {"head_dim": 32, "attention_bias": True, "mlp_bias": True}),
    "llama 3.1": ("llama", {"rope_parameters": LLAMA3}),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.5}}),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "qwen3": ("qwen3", {"head_dim": 32, "rms_norm_eps": 1e-6}),
    "qwen3, tied": ("qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "gpt2": ("gpt2", {}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 96}),
}  # fmt: skip
PARTS = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip


def their_model(architecture: str, seed: int = 0, **changes):
    """A random model of transformers, every weight drawn so that none is zero or one."""
    shape = SMALL | {"tie_word_embeddings": False} if architecture != "gpt2" else SMALL_GPT2
    config = transformers.AutoConfig.for_model(architecture, **shape | changes, bos_token_id=0, eos_token_id=0)
    return shaken(lambda: transformers.AutoModelForCausalLM.from_config(config), 0.2, seed).float()


def permuted(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """The order in which llama.cpp's converter writes the rows of queries and keys."""
    return (
        weight.reshape(n_heads, 2, weight.shape[0] // n_heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def their_tensors(theirs, architecture: str) -> dict[str, np.ndarray]:
    """The numbers of a model of transformers by the names, and in the order, of a GGUF file."""
    tensors, config = {}, theirs.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": getattr(config, "num_key_value_heads", 0)}
    for name, parameter in theirs.named_parameters():
        words, kind = name.rsplit(".", 1)
        block = [word for word in words.split(".") if word.isdigit()]
        part = PARTS[words.split(f".{block[0]}.")[1] if block else words]
        numbers = parameter.detach().numpy()
        if words.split(".")[-1] in ("c_attn", "c_proj", "c_fc") and kind == "weight":
            numbers = numbers.T
        if architecture == "llama" and part in heads:
            numbers = permuted(numbers, heads[part])
        tensors[f"blk.{block[0]}.{part}.{kind}" if block else f"{part}.{kind}"] = numbers
    return tensors


def their_fields(theirs, architecture: str) -> dict:
    config = theirs.config
    fields = {"context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
              "block_count": config.num_hidden_layers, "attention.head_count": config.num_attention_heads}  # fmt: skip
    if architecture == "gpt2":
        return fields | {
            "feed_forward_length": config.n_inner or 4 * config.n_embd,
            "attention.layer_norm_epsilon": 1e-5,
        }
    rope = config.rope_parameters
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    linear = (
        {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]} if rope["rope_type"] == "linear" else {}
    )
    return fields | {
        "feed_forward_length": config.intermediate_size, "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps, "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": head, "attention.key_length": head, "attention.value_length": head, **linear,
    }  # fmt: skip


def llama3_factors(theirs) -> np.ndarray:
    """How many times slower transformers turns each pair than its base says."""
    slowed = theirs.model.rotary_emb.inv_freq
    plain = theirs.config.rope_parameters["rope_theta"] ** (-torch.arange(len(slowed)) / len(slowed))
    return (plain / slowed).numpy()


def add_field(writer, key: str, value) -> None:
    if key == "general.alignment":
        writer.add_custom_alignment(value)
        return
    if isinstance(value, list):
        writer.add_array(key, value)
        return
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    kinds[type(value)](key, value)


def write_gguf(path, architecture: str, fields: dict, tensors: dict, quantization="F32", **changes):
    """Write a GGUF file; None takes a field away, tensors of one axis and odd rows stay in F32."""
    writer = gguf.GGUFWriter(path, architecture)
    named = {f"{architecture}.{key}": value for key, value in fields.items()}
    named |= {f"tokenizer.ggml.{key}": value for key, value in TOKENIZER.items()}
    for key, value in (named | changes).items():
        if value is not None:
            add_field(writer, key, value)
    kind = gguf.GGMLQuantizationType[quantization]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    for name, numbers in tensors.items():
        numbers = np.ascontiguousarray(numbers, dtype=np.float32)
        if numbers.ndim == 1 or numbers.shape[-1] % block:
            writer.add_tensor(name, numbers)
        elif quantization.endswith("_K"):  # which the package does not write: random blocks with small factors
            writer.add_tensor(name, random_blocks(numbers.shape, block, size, quantization), raw_dtype=kind)
        else:
            writer.add_tensor(name, gguf.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


FACTORS = {  # where a block keeps its factors
    "Q2_K": slice(80, 84), "Q3_K": slice(108, 110), "Q4_K": slice(0, 4), "Q5_K": slice(0, 4), "Q6_K": slice(208, 210),
}  # fmt: skip


def random_blocks(shape, block: int, size: int, quantization: str) -> np.ndarray:
    chance = np.random.default_rng(len(shape) + shape[-1])
    blocks = chance.integers(0, 256, (*shape[:-1], shape[-1] // block, size), dtype=np.uint8)
    factors = chance.uniform(-0.002, 0.002, (*blocks.shape[:-1], 2)).astype(np.float16).view(np.uint8)
    place = FACTORS[quantization]
    blocks[..., place] = factors[..., : place.stop - place.start]
    return blocks.reshape(*shape[:-1], -1)


def file_of(theirs, path, **options):
    architecture = theirs.config.model_type
    tensors = their_tensors(theirs, architecture)
    if getattr(theirs.config, "rope_parameters", None) and theirs.config.rope_parameters["rope_type"] == "llama3":
        tensors["rope_freqs.weight"] = llama3_factors(theirs)
    return write_gguf(path, architecture, their_fields(theirs, architecture), tensors, **options)


def in_float64(theirs):
    """The same model in float64, with norms and rotations that do not round to float32 on their way."""
    factors = {"llama3": llama3_factors, "linear": lambda theirs: theirs.config.rope_parameters["factor"]}
    rope = getattr(theirs.config, "rope_parameters", None) or {"rope_type": None}
    slower = torch.as_tensor(factors.get(rope["rope_type"], lambda theirs: 1.0)(theirs)).double()
    theirs = theirs.double()

    def norm(self, x):
        return x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon) * self.weight

    def rotary(self, x, position_ids):
        pairs = len(self.inv_freq)
        speeds = rope["rope_theta"] ** (-torch.arange(pairs, dtype=torch.float64) / pairs) / slower
        angles = (position_ids[..., None] * speeds).repeat(1, 1, 2)
        return angles.cos(), angles.sin()

    for module in theirs.modules():
        kind = type(module).__name__
        if kind.endswith(("RMSNorm", "RotaryEmbedding")):
            module.forward = types.MethodType(norm if kind.endswith("RMSNorm") else rotary, module)
    return theirs


# ---------------------------------------------------------------- the same numbers, the same logits


@pytest.mark.parametrize("case", CASES)
def test_logits_and_greedy_tokens_are_those_of_transformers(case, tmp_path):
    architecture, changes = CASES[case]
    theirs = their_model(architecture, **changes)
    path = file_of(theirs, tmp_path / "model.gguf")
    mine, tokenizer = load_gguf(path)
    ids = random_ids(mine.config, 2, 20)
    assert_close(mine(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
    prompt = ids[:, :3]
    expected = theirs.generate(prompt, max_new_tokens=20, min_new_tokens=20, do_sample=False, pad_token_id=0,
                               eos_token_id=None, attention_mask=torch.ones_like(prompt))  # fmt: skip
    assert torch.equal(generate(mine, prompt, 20), expected)
    exact, _ = load_gguf(path, "float64")
    assert_close(exact(ids), in_float64(theirs)(ids).logits, rtol=1e-12, atol=1e-12)
    assert not mine.training and tokenizer.encode("aab") == [1, 3] and tokenizer.end_ids == (0, 4)


def test_every_architecture_has_a_case():
    assert {architecture for architecture, _ in CASES.values()} == set(ARCHITECTURES)


def test_the_shape_is_read_in_our_words(tmp_path):
    theirs = their_model("llama", head_dim=32, attention_bias=True, rope_parameters=LLAMA3)
    config = load_gguf(file_of(theirs, tmp_path / "model.gguf"))[0].config
    factors = tuple(llama3_factors(theirs).tolist())
    assert config == ModernConfig(
        48, 40, 64, 4, 2, 96, n_kv_heads=2, rope_base=500.0, qk_norm=False, norm_eps=1e-5, head_width=32,
        rope_factors=factors, qkv_bias=True, out_bias=True, tie_weights=False,
    )  # fmt: skip
    assert load_gguf(file_of(their_model("gpt2"), tmp_path / "g.gguf"))[0].config == GPTConfig(48, 40, 64, 4, 2, 256)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("quantization", [name for name, _, _ in QUANTIZATIONS.values()])
def test_every_quantization_gives_what_its_package_gives(architecture, quantization, tmp_path):
    wide = {"n_embd": 256, "n_head": 8} if architecture == "gpt2" else {"hidden_size": 256, "num_attention_heads": 8}
    theirs = their_model(architecture, **wide)
    path = file_of(theirs, tmp_path / "model.gguf", quantization=quantization)
    reader = gguf.GGUFReader(path)
    assert quantization in {tensor.tensor_type.name for tensor in reader.tensors}
    mine, file = weights(load_gguf(path)[0]), GGUFFile(path)
    seen = []
    for tensor in reader.tensors:
        numbers = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(file.numbers(tensor.name).reshape(numbers.shape), numbers)
        if numbers.ndim == 2:
            assert np.array_equal(file.numbers(tensor.name, 3, 17), numbers[3:17])
        block = tensor.name.split(".")[1] if tensor.name.startswith("blk.") else None
        if architecture == "llama" and (".attn_q." in tensor.name or ".attn_k." in tensor.name):
            n_heads = 8 if ".attn_q." in tensor.name else 2
            numbers = numbers.reshape(n_heads, -1, 2, 256).swapaxes(1, 2).reshape(numbers.shape)
        ours = [name for name, each in mine.items() if (block is None or f"blocks.{block}." in name)
                and each.shape == numbers.shape and torch.equal(each, torch.tensor(numbers))]  # fmt: skip
        assert ours, tensor.name
        seen += ours
    assert set(seen) == set(mine)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_numbers_are_held_in_the_precision_that_is_asked_for(dtype, tmp_path):
    path = file_of(their_model("qwen3", head_dim=16), tmp_path / "model.gguf", quantization="Q8_0")
    exact, mine = load_gguf(path, "float64")[0], load_gguf(path, dtype)[0]
    for name, numbers in weights(exact).items():
        assert torch.equal(weights(mine)[name], numbers.to(getattr(torch, dtype)))


def test_a_tied_head_is_one_tensor_and_nothing_is_drawn(tmp_path):
    path = file_of(their_model("llama", tie_word_embeddings=True), tmp_path / "model.gguf")
    before = torch.get_rng_state()
    mine, _ = load_gguf(path)
    assert mine.head.weight is mine.token_embedding.weight and all(p.requires_grad for p in mine.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    mine(random_ids(mine.config, 1, 4)).sum().backward()


# ---------------------------------------------------------------- the format


def test_fields_and_places_are_those_of_the_package(tmp_path):
    more = {"general.name": "Ünï", "a.bool": True, "a.float": 0.1, "a.texts": ["x", "", "日本"], "a.numbers": [1, 2, 3],
            "a.floats": [0.5, -1.0], "general.alignment": 64}  # fmt: skip
    path = file_of(their_model("qwen2"), tmp_path / "model.gguf", quantization="Q4_0", **more)
    file, reader = GGUFFile(path), gguf.GGUFReader(path)
    theirs = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert file.fields == theirs and more.items() <= (file.fields | {"a.float": 0.1}).items()
    for tensor in reader.tensors:
        place = file.tensors[tensor.name]
        assert (place.shape, place.quantization) == (tuple(tensor.shape[::-1]), tensor.tensor_type.name)
        assert (place.start, place.n_bytes) == (tensor.data_offset, tensor.n_bytes)
    assert len(file.tensors) == len(reader.tensors)


def test_the_table_of_quantizations_is_that_of_the_package():
    for number, (name, block, size) in QUANTIZATIONS.items():
        kind = gguf.GGMLQuantizationType[name]
        assert kind == number and gguf.GGML_QUANT_SIZES[kind] == (block, size)
    assert {name for name, _, _ in QUANTIZATIONS.values()} == {
        *("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
    }


# ---------------------------------------------------------------- what is refused


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a good file, and where its numbers begin."""
    path = file_of(their_model("llama"), tmp_path_factory.mktemp("good") / "model.gguf", quantization="Q8_0")
    return path.read_bytes(), min(place.start for place in GGUFFile(path).tensors.values())


def refuse(path, sentence="is not a GGUF file that can be read here"):
    with pytest.raises(ValueError, match=sentence) as told:
        load_gguf(path)
    assert "\n" not in str(told.value) and str(path) in str(told.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"GG", "is no GGUF file"),
        (b"GGUF", "ends after 4 bytes, in the middle of its header: fetch it again"),
        (b"GGUF\x03\0\0", "ends after 7 bytes, in the middle of its header"),
        (b"GGUF\0\0\0\0", "GGUF's version 0"),
        (b"GGUF\x01\0\0\0", "GGUF's version 1"),
        (b"GGUF\x04\0\0\0", "GGUF's version 4"),
        (b"GGUF\0\0\0\x03" + bytes(40), "big-endian"),
        (b"GGUF\x03\0\0\0", "in the middle of its header"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"\x10\0\0\0\0\0\0\0" + b'{"a": 1}', "holds safetensors"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x80\x02}q\0.", "is a pickle"),
        (b"lmgg\x01\0", "the format before GGUF"),
        (bytes(200), "is no GGUF file"),
    ],
)
def test_another_file_is_named_by_what_it_is(tmp_path, content, sentence):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    refuse(path, sentence)


def test_an_archive_a_folder_and_nothing_at_all_are_refused(tmp_path, good):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("model.gguf", good[0][:100])
    refuse(tmp_path / "model.zip", "is a zip archive")
    refuse(tmp_path / "nothing.gguf", "there is no file")
    refuse(tmp_path, "there is no file")
    with pytest.raises(ValueError, match="dtype='float8' is not one of float32"):
        load_gguf(tmp_path / "nothing.gguf", "float8")


def test_a_file_that_was_cut_is_refused_wherever_it_was_cut(tmp_path, good):
    content, first = good
    chance = random.Random(0)
    cuts = [*range(8, first, max(1, first // n(40, 1500))), *(chance.randrange(first, len(content)) for _ in range(10))]
    for cut in cuts:
        path = tmp_path / f"{cut}.gguf"  # Windows does not let a file be written anew that is still mapped
        path.write_bytes(content[:cut])
        refuse(path)


@pytest.mark.filterwarnings("ignore:these fields are not known", "ignore:invalid value")
def test_a_header_with_a_flipped_bit_is_refused_or_harmless(tmp_path, good):
    content, first = good
    chance = random.Random(1)
    refused = 0
    for case in range(n(150, 5000)):
        path, damaged = tmp_path / f"{case}.gguf", bytearray(content)
        damaged[chance.randrange(first)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            load_gguf(path)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    assert refused > n(75, 2500)


@pytest.fixture
def changed(tmp_path):
    """A function that writes a small file with some of its fields and tensors changed; None takes one away."""
    theirs = {architecture: their_model(architecture) for architecture in ("llama", "gpt2")}

    def write(architecture="llama", tensors=(), **fields):
        held = their_tensors(theirs[architecture], architecture) | dict(tensors)
        held = {name: numbers for name, numbers in held.items() if numbers is not None}
        return write_gguf(tmp_path / "model.gguf", architecture, their_fields(theirs[architecture], architecture), held,
                          **fields)  # fmt: skip

    return write


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"split.count": 2}, "split.count=2; expected a model in one file"),
        ({"general.type": "adapter"}, "general.type='adapter'"),
        ({"llama.attention.sliding_window": 16}, "sliding_window=16"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type='yarn'"),
        ({"llama.rope.scaling.type": "longrope"}, "rope.scaling.type='longrope'"),
        ({"llama.rope.scaling.attn_factor": 1.25}, "rope.scaling.attn_factor=1.25"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count=8; expected 16"),
        ({"llama.attention.value_length": 32}, "attention.value_length=32; expected 16"),
        ({"llama.expert_count": 8}, "expert_count=8; expected 0"),
        ({"llama.expert_used_count": 2}, "expert_used_count=2; expected 0"),
        ({"llama.attention.causal": False}, "attention.causal=False"),
        ({"llama.logit_scale": 0.5}, "logit_scale=0.5"),
        ({"llama.final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
        ({"llama.context_length": None}, "no field or tensor 'context_length'"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "no field or tensor 'attention.layer_norm_rms_epsilon'"),
        ({"llama.attention.head_count": [4, 4]}, "damaged description"),
        ({"llama.attention.head_count": 0}, "damaged description"),
        ({"llama.attention.head_count": 3}, "n_heads=3 does not divide"),
        ({"llama.attention.head_count_kv": 3}, "n_kv_heads=3 does not divide"),
        ({"llama.block_count": 3}, "no tensor for blocks.2"),
        ({"llama.block_count": 1}, "the tensor blk.1.attn_q.weight, for which"),
        ({"llama.block_count": 2**32 - 1}, "block_count=4294967295 and 21 tensors"),
        ({"llama.embedding_length": 128}, r"of the shape \(48, 64\); expected \(48, 128\)"),
        ({"llama.feed_forward_length": 80}, "blk.0.ffn_gate.weight of the shape"),
        ({"llama.rope.freq_base": 0.5}, "rope_base=0.5"),
        ({"tokenizer.ggml.model": "llama"}, "which is SentencePiece"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "tokenizer.ggml.pre='unheard-of'"),
        ({"tokenizer.ggml.tokens": None}, "no whole list tokenizer.ggml.tokens"),
    ],
)
def test_what_ours_cannot_compute_is_refused_by_its_name(changed, fields, sentence):
    refuse(changed(**fields), sentence)


def test_a_window_as_long_as_the_context_is_none(changed):
    window = {"llama.attention.sliding_window": 40, "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 9.0}
    assert load_gguf(changed(**window))[0].config.rope_factors is None


def test_gpt2_with_another_eps_is_refused(changed):
    refuse(changed("gpt2", **{"gpt2.attention.layer_norm_epsilon": 1e-6}), "layer_norm_epsilon=.*expected 1e-5")


def test_another_architecture_is_refused_by_its_name(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "gemma3", {}, {"token_embd.weight": np.ones((4, 4))})
    refuse(path, "general.architecture='gemma3'; expected one of llama, qwen2, qwen3, gpt2")


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"blk.1.ffn_up.weight": None}, "no tensor for blocks.1.feed_forward.up_proj.weight"),
        ({"token_embd.weight": None}, "no field or tensor 'token_embd.weight'"),
        ({"blk.0.attn_q.bias": np.ones(64)}, "no tensor for blocks.0.attention.k_proj.bias"),
        ({"blk.0.attn_q_norm.weight": np.ones(16)}, "the tensor blk.0.attn_q_norm.weight, for which"),
        ({"blk.0.ffn_gate_exps.weight": np.ones((2, 4))}, "the tensor blk.0.ffn_gate_exps.weight, for which"),
        ({"mystery": np.ones(3)}, "the tensor mystery, for which"),
        ({"output_norm.weight": np.ones(32)}, "output_norm.weight of the shape"),
        ({"blk.0.attn_v.weight": np.ones((64, 64))}, "blk.0.attn_v.weight of the shape"),
        ({"rope_freqs.weight": np.ones(5)}, "are not 8 numbers"),
        ({"output_norm.weight": np.full(64, np.nan)}, "output_norm.weight that are not finite in float32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(changed, tensors, sentence):
    refuse(changed(tensors=tensors), sentence)


def test_an_unknown_quantization_is_refused_by_its_name(tmp_path):
    path = tmp_path / "model.gguf"
    refuse(
        file_of(their_model("llama"), path, quantization="MXFP4"),
        "token_embd.weight is quantized as MXFP4, expected one of F32",
    )
    content = path.read_bytes()
    place = content.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 2 * 8  # after two lengths
    other = tmp_path / "other.gguf"
    other.write_bytes(content[:place] + b"\xe7\x03\0\0" + content[place + 4 :])
    refuse(other, "token_embd.weight is quantized as number 999")


def test_numbers_too_large_for_float16_are_refused(changed):
    path = changed(tensors={"output_norm.weight": np.full(64, 1e5)})
    with pytest.raises(ValueError, match="output_norm.weight that are not finite in float16; take 'float32'"):
        load_gguf(path, "float16")
    load_gguf(path, "bfloat16")


def test_a_vocabulary_larger_than_the_model_is_refused(changed):
    tokens = [f"<{i}>" for i in range(49)]
    fields = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * 49, "tokenizer.ggml.merges": ["< 1"]}
    fields["tokenizer.ggml.tokens"][1:4] = ["<", "1", "<1"]
    refuse(changed(**fields), "found 49 tokens and 48 embeddings")


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(changed, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=1000))
    monkeypatch.setattr("gguf.dequantize", lambda *_: pytest.fail("numbers were read"))
    refuse(changed(), "GB of memory and 0.0 GB are free")


def test_unknown_fields_are_named_in_a_warning(changed):
    with pytest.warns(UserWarning, match="passed over: brand.new"):
        load_gguf(changed(**{"llama.brand.new": 1}))


def test_the_missing_package_is_told(changed, monkeypatch):
    path = changed()
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ValueError, match="gguf is not installed.*python course.py fetch smollm2"):
        load_gguf(path)
