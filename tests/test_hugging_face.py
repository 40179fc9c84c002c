"""GPT-2's weights come in and ours go out with the same logits, the same ids and the same answers."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.generation import generate
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.gpt2_config import ONLY, PASSED_OVER, READ, SAME_AS
from ch05_pretraining.hugging_face import export_hugging_face, gpt2_names, load_gpt2
from tests.sizes import LONG_RUN, n
from tests.small_models import tiny_model

transformers = pytest.importorskip("transformers")

SENTENCES = [
    "Once upon a time, there was a little fox.", "  two  spaces\n\nand lines \t end ", "naïve café — “quotes”, 3.14%",
    "日本語 🙂 and a flag 🇳🇴", "it's we'll they've I'm DON'T", "", "a" * 200, "<|endoftext|> typed by a user <|pad|>",
]  # fmt: skip


def their_model(case, **changes):
    """A random GPT-2 of transformers, every weight drawn so that none is zero."""
    generator = torch.Generator().manual_seed(case)

    def draw(*choices):
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    n_head = draw(1, 2, 4)
    shape = {"vocab_size": draw(17, 64, 257), "n_positions": draw(8, 33), "n_embd": 8 * n_head, "n_head": n_head,
             "n_layer": draw(1, 2, 3), "n_inner": draw(None, 24)} | changes  # fmt: skip
    config = transformers.GPT2Config(**shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0,
                                     eos_token_id=0)  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def random_ids(config, case, rows=2):
    generator = torch.Generator().manual_seed(case)
    return torch.randint(config.vocab_size, (rows, config.context_length), generator=generator)


@pytest.mark.parametrize("case", range(n(12, 200)))
def test_gpt2_comes_in_with_the_same_logits_and_greedy_tokens(case, tmp_path):
    theirs = their_model(case)
    theirs.save_pretrained(tmp_path)
    mine = load_gpt2(tmp_path)
    ids = random_ids(mine.config, case)
    assert_close(mine(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)
    mine, theirs = mine.double(), theirs.double()
    assert_close(mine(ids), theirs(ids).logits, rtol=1e-10, atol=1e-10)
    prompt, new = ids[:, :3], mine.config.context_length - 3
    expected = theirs.generate(prompt, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
                               eos_token_id=None, attention_mask=torch.ones_like(prompt))  # fmt: skip
    assert torch.equal(generate(mine, prompt, new), expected)


@pytest.mark.skipif(not LONG_RUN, reason="needs 2 GB of memory and half a minute: COURSE_LONG=1")
def test_the_124m_shape_has_the_same_logits():
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    mine = GPTModel(GPTConfig.gpt2("124M")).eval()
    fill(mine, {name.removeprefix("transformer."): p for name, p in theirs.named_parameters()})
    ids = torch.randint(50_257, (1, 64))
    assert_close(mine(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def fill(model, theirs):
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, (ours, transposed) in gpt2_names(model.config.n_layers).items():
            parameters[ours].copy_(theirs[name].mT if transposed else theirs[name])


def test_names_without_prefix_and_with_old_masks_are_read(tmp_path):
    theirs = their_model(1)
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)
    bare["h.0.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(bare, tmp_path / "model.safetensors")
    mine = load_gpt2(tmp_path)
    ids = random_ids(mine.config, 0)
    assert_close(mine(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_a_size_that_is_not_here_says_how_to_fetch_it(monkeypatch, tmp_path):
    monkeypatch.setattr("ch05_pretraining.hugging_face.DATA_DIR", tmp_path)
    with pytest.raises(ValueError, match="course.py fetch gpt2-124M"):
        load_gpt2("124M")
    with pytest.raises(ValueError, match="there is no file"):
        load_gpt2("125M")


def test_files_that_are_not_gpt2_are_refused_by_name(tmp_path):
    theirs = their_model(2, n_layer=2, n_inner=None)
    theirs.save_pretrained(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    good, good_config = weights.read_bytes(), json.loads(config.read_text(encoding="utf-8"))

    for content, message in [
        (b"<!DOCTYPE html>", "is a web page"), (pickle.dumps({"a": 1}), "is a pickle"),
        (b"PK\x03\x04zip", "is a pickle"),
        (good[: len(good) // 2], "not a whole safetensors"), (b"", "not a whole safetensors"),
    ]:  # fmt: skip
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_gpt2(tmp_path)
    weights.write_bytes(good)
    for changes, message in [
        ({"model_type": "llama"}, "reads 'gpt2' only"), ({"activation_function": "relu"}, "function is 'relu'"),
        ({"n_layer": 3}, "h.2.attn.c_attn.bias, .* and 9 more missing, so"),
        ({"n_layer": 1}, "h.1.attn.c_attn.bias, .* and 9 more unknown, so"), ({"n_inner": 8}, "two models"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
    ]:  # fmt: skip
        config.write_text(json.dumps(good_config | changes), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_gpt2(tmp_path)
    config.unlink()
    with pytest.raises(ValueError, match="has no config.json, so it does not describe a GPT-2: give") as refused:
        load_gpt2(tmp_path)
    assert str(refused.value).count(str(tmp_path)) == 1
    with pytest.raises(ValueError, match="not one of GPT-2's own sizes"):
        load_gpt2(weights)


# ---------------------------------------------------------------- every key of config.json


@pytest.fixture
def changed(tmp_path):
    """A function that saves one small GPT-2 of transformers with some keys of its config changed."""
    their_model(3, n_embd=16, n_head=2, n_layer=2, n_inner=None).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    good = json.loads(file.read_text(encoding="utf-8"))

    def change(**keys):
        file.write_text(json.dumps({key: v for key, v in (good | keys).items() if v != "absent"}), encoding="utf-8")
        return tmp_path

    return change


def their_logits(folder, ids):
    model = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager", dtype="float32")
    return model.eval()(ids).logits


def test_every_key_of_gpt2_stands_in_one_table():
    tables = [set(READ), set(SAME_AS), set(ONLY), *map(set, PASSED_OVER.values())]
    assert sum(map(len, tables)) == len(set().union(*tables))
    theirs = set(transformers.GPT2Config().to_dict()) | set(transformers.GPT2Config.attribute_map)
    assert theirs <= set().union(*tables), theirs - set().union(*tables)


OTHER_ARITHMETIC = [
    {"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}, {"layer_norm_epsilon": 1e-3},
    {"activation_function": "gelu"}, {"activation_function": "relu"}, {"activation_function": "quick_gelu"},
    {"scale_attn_weights": None}, {"activation_function": "tanh", "hidden_size": "absent"},
]  # fmt: skip


@pytest.mark.parametrize("keys", OTHER_ARITHMETIC, ids=str)
def test_a_key_that_changes_the_logits_is_refused_by_its_name(changed, keys):
    ids = torch.randint(17, (1, 8))
    usual, others = their_logits(changed(), ids), their_logits(changed(**keys), ids)
    assert not torch.allclose(usual, others, atol=1e-4), "the refusal would be for nothing"
    with pytest.raises(ValueError, match=rf"{next(iter(keys))} is .*, and this loader reads .* only"):
        load_gpt2(changed(**keys))


@pytest.mark.parametrize(
    "keys",
    [{"add_cross_attention": True}, {"quantization_config": {"bits": 4}}, {"pruned_heads": {"0": [1]}},
     {"architectures": ["GPT2ForSequenceClassification"]}, {"auto_map": {"AutoModel": "own.py"}},
     {"model_type": "absent"}, {"is_encoder_decoder": True}, {"n_head": 3}, {"n_layer": 1.5}, {"n_inner": 0},
     {"tie_word_embeddings": None}, {"n_embd": "8"}, {"n_positions": 10**30}, {"hidden_size": 4}],
    ids=str,
)  # fmt: skip
def test_other_models_are_refused_by_the_key_that_says_so(changed, keys):
    with pytest.raises(ValueError, match=f"does not describe a GPT-2 .*{next(iter(keys))}"):
        load_gpt2(changed(**keys))


@pytest.mark.parametrize(
    "keys",
    [{}, {"attn_pdrop": 0.5, "resid_pdrop": 0.9, "embd_pdrop": 0.1, "summary_first_dropout": 0.3},
     {"reorder_and_upcast_attn": True}, {"initializer_range": 5.0, "use_cache": False, "output_attentions": True},
     {"summary_type": "mean", "summary_use_proj": False, "num_labels": 7, "id2label": {"0": "a"}, "label2id": {"a": 0}},
     {"bos_token_id": 3, "eos_token_id": None, "pad_token_id": 5, "temperature": 9.0, "max_length": 3},
     {"dtype": "float16"}, {"torch_dtype": "bfloat16", "dtype": "absent"}, {"n_ctx": 4}, {"architectures": "absent"},
     {"architectures": ["GPT2Model"]}, {"chunk_size_feed_forward": 2, "is_decoder": True},
     {"activation_function": "absent", "layer_norm_epsilon": "absent", "scale_attn_weights": "absent"},
     {"n_inner": 64}, {"n_embd": "absent", "hidden_size": 16, "n_head": "absent", "num_attention_heads": 2},
     {"tie_word_embeddings": "absent"}, *({"activation_function": name} for name in ONLY["activation_function"])],
    ids=str,
)  # fmt: skip
def test_every_other_key_changes_no_logit(changed, keys, recwarn):
    folder, ids = changed(**keys), torch.randint(17, (1, 8))
    mine = load_gpt2(folder)
    assert not [str(w.message) for w in recwarn if "passed over" in str(w.message)]
    assert_close(mine(ids), their_logits(folder, ids), rtol=1e-4, atol=1e-4)


def test_a_key_that_nobody_knows_is_named_in_a_warning(changed):
    with pytest.warns(UserWarning, match="does not know, and they were passed over: attention_head_type, qk_norm"):
        load_gpt2(changed(qk_norm=True, attention_head_type="multiquery"))


def test_a_second_head_that_the_config_denies_is_refused(changed):
    folder = changed(tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors["transformer.wte.weight"]
    ids = torch.randint(len(embedding), (1, 8))
    for head, tie in [(embedding.clone(), True), (embedding.clone(), False), (torch.randn_like(embedding), False)]:
        save_file(tensors | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
        assert_close(load_gpt2(changed(tie_word_embeddings=tie))(ids), their_logits(folder, ids), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="head of its own .* set it to false in config.json, or take the head out"):
        load_gpt2(changed(tie_word_embeddings=True))


def test_numbers_that_are_quantized_are_refused(changed):
    tensors = load_file(changed() / "model.safetensors")
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"].to(torch.int8)
    save_file(tensors, changed() / "model.safetensors")
    with pytest.raises(ValueError, match="wte.weight holds I8, so it is quantized"):
        load_gpt2(changed())


@pytest.mark.parametrize("length", [60 + 256 * 11, 0x4B50, 0x0280 + 65_536, 0x0480 + 65_536])
def test_whole_weights_open_whatever_their_first_bytes_look_like(changed, length):
    """The file begins with the length of its header, which may spell `<`, `PK` or the first bytes of a pickle."""
    file = changed() / "model.safetensors"
    before, content = load_gpt2(changed()), file.read_bytes()
    n = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + n]) | {"__metadata__": {"note": "x" * (length - n - 100)}}
    header = json.dumps(header, separators=(",", ":")).encode()
    assert len(header) <= length
    file.write_bytes(length.to_bytes(8, "little") + header.ljust(length) + content[8 + n :])
    assert_close(list(load_gpt2(changed()).parameters()), list(before.parameters()), rtol=0, atol=0)


def test_a_bare_file_obeys_the_config_beside_it(changed):
    folder, ids = changed(), torch.randint(17, (1, 8))
    assert torch.equal(load_gpt2(str(folder / "model.safetensors"))(ids), load_gpt2(str(folder))(ids))
    with pytest.raises(ValueError, match="scale_attn_weights is False"):
        load_gpt2(changed(scale_attn_weights=False) / "model.safetensors")


def test_a_folder_without_weights_says_what_it_holds(changed):
    (changed() / "model.safetensors").rename(changed() / "odd.safetensors")
    with pytest.raises(ValueError, match=r"there is no file .*the folder holds config.json, .*odd.safetensors"):
        load_gpt2(changed())


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "model.pth"])
def test_a_folder_that_holds_a_pickle_only_says_so(changed, name):
    (changed() / "model.safetensors").rename(changed() / name)
    with pytest.raises(ValueError, match=f"{name} is a pickle, which can run code when opened: get the model as"):
        load_gpt2(changed())


# ---------------------------------------------------------------- ours go out


@pytest.fixture(scope="module", params=["bytes", "gpt2"])
def tokenizer(request):
    text = "Once upon a time, there was a little fox named Lily. The café was naïve. 3.14 “quotes” — it's we'll 🙂\n\n"
    return BPETokenizer.train(text * 5, 400, SPECIAL_TOKENS, request.param)


@pytest.fixture(scope="module", params=["tied", "no bias", "untied, odd width"])
def exported(request, tokenizer, tmp_path_factory):
    changes = {"tied": {}, "no bias": {"qkv_bias": False}, "untied, odd width": {"tie_weights": False, "d_ff": 40}}
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=48, **changes[request.param]).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    folder = tmp_path_factory.mktemp("exported") / "model"
    return model, export_hugging_face(model, tokenizer, folder)


def test_ours_opens_in_transformers_with_the_same_logits_and_answers(exported, tokenizer):
    model, folder = exported
    theirs, info = transformers.GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = random_ids(model.config, 0)
    assert_close(theirs.eval()(ids).logits, model(ids), rtol=1e-4, atol=1e-4)
    end = tokenizer.special_tokens["<|endoftext|>"]
    prompt = torch.tensor([tokenizer.encode("Once upon a time")])
    room = model.config.context_length - prompt.shape[1]
    assert theirs.generation_config.eos_token_id == end and theirs.config.eos_token_id == end
    expected = theirs.generate(prompt, max_new_tokens=room, do_sample=False)
    assert torch.equal(generate(model, prompt, room, stop_id=end), expected)


def test_a_compiled_model_and_its_dropout_go_out_as_well(exported, tokenizer, tmp_path):
    model = tiny_model(vocab_size=tokenizer.vocab_size, dropout=0.25)
    export_hugging_face(torch.compile(model), tokenizer, tmp_path / "it")
    config = transformers.GPT2Config.from_pretrained(tmp_path / "it")
    assert (config.attn_pdrop, config.embd_pdrop, config.resid_pdrop) == (0.25, 0.25, 0.25)
    assert torch.equal(load_gpt2(tmp_path / "it").token_embedding.weight, model.token_embedding.weight)


def test_a_tokenizer_that_their_files_cannot_hold_is_refused(tokenizer, tmp_path):
    model = tiny_model(vocab_size=300)
    for other in (BPETokenizer.train("abc", 260, ("<|pad|>",)), tokenizer.to_tiktoken(), None):
        with pytest.raises(ValueError, match=r"expected a BPETokenizer with <\|endoftext\|>"):
            export_hugging_face(model, other, tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_ours_comes_back_through_our_own_loader(exported):
    model, folder = exported
    ids = random_ids(model.config, 1)
    assert_close(load_gpt2(folder)(ids), model(ids))


def test_their_tokenizer_gives_our_ids_and_texts(exported, tokenizer):
    theirs = transformers.AutoTokenizer.from_pretrained(exported[1])
    assert len(theirs) == tokenizer.vocab_size
    for text in SENTENCES:
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == ids, text
        assert theirs.decode(ids) == tokenizer.decode(ids)
    assert theirs.eos_token_id == tokenizer.special_tokens["<|endoftext|>"]
    assert theirs.pad_token_id == tokenizer.special_tokens["<|pad|>"]


def test_their_tokenizer_agrees_on_any_text(exported, tokenizer):
    hypothesis = pytest.importorskip("hypothesis")
    theirs = transformers.AutoTokenizer.from_pretrained(exported[1])

    @hypothesis.settings(max_examples=n(100, 5_000), deadline=None, derandomize=True, database=None)
    @hypothesis.given(hypothesis.strategies.text(max_size=40))
    def agrees(text):
        assert theirs(text)["input_ids"] == tokenizer.encode(text)

    agrees()
