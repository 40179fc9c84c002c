"""GPT-2's weights come in and ours go out with the same logits, the same ids and the same answers."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from ch02_text_data.text_data import SPECIAL_TOKENS, BPETokenizer
from ch04_gpt_model.gpt_model import GPTConfig, GPTModel, generate
from ch05_pretraining.hugging_face import export_hugging_face, gpt2_names, load_gpt2
from tests.sizes import LONG_RUN, n

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
        ({"n_layer": 3}, "missing or unknown"), ({"n_layer": 1}, "missing or unknown"), ({"n_inner": 8}, "two models"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
    ]:  # fmt: skip
        config.write_text(json.dumps(good_config | changes), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            load_gpt2(tmp_path)
    config.unlink()
    with pytest.raises(ValueError, match="does not describe a GPT-2"):
        load_gpt2(tmp_path)
    with pytest.raises(ValueError, match="not one of GPT-2's own sizes"):
        load_gpt2(weights)


# ---------------------------------------------------------------- ours go out


@pytest.fixture(scope="module")
def tokenizer():
    text = "Once upon a time, there was a little fox named Lily. The café was naïve. 3.14 “quotes” — it's we'll 🙂\n\n"
    return BPETokenizer.train(text * 5, 400, SPECIAL_TOKENS)


@pytest.fixture(scope="module", params=["tied", "no bias", "untied, odd width"])
def exported(request, tokenizer, tmp_path_factory):
    changes = {"tied": {}, "no bias": {"qkv_bias": False}, "untied, odd width": {"tie_weights": False, "d_ff": 40}}
    torch.manual_seed(0)
    model = GPTModel(GPTConfig(tokenizer.vocab_size, 48, 32, 2, 2, **changes[request.param])).eval()
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
