"""What is saved can be loaded: every public model class through every public pair of save and load.

A model comes back bit for bit, of its own class and with its own settings, or it is refused by its name before a byte
is written. Folders of earlier versions of the course (tests/fixtures/models) still open.
"""

import copy
import json
import shutil
from functools import partial
from itertools import product
from pathlib import Path

import pytest
import tiktoken
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.bpe import GPT2_PATTERN
from ch02_text_data.encoding_files import tokenizer_from_json
from ch02_text_data.text_data import BPETokenizer, RegexTokenizer
from ch03_attention.attention import MultiHeadAttention
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch04_gpt_model.recent_gpt import RecentConfig, RecentGPT
from ch05_pretraining.checkpoints import load_checkpoint, save_checkpoint, unique_tensors
from ch05_pretraining.hugging_face import export_hugging_face
from ch05_pretraining.open_weights import load_hugging_face
from ch05_pretraining.pretraining import TrainConfig, make_optimizers
from ch05_pretraining.saved_models import find_model, load_model, load_story_gpt, save_model
from ch06_finetuning.assistant import load_assistant
from ch06_finetuning.finetuned_models import (
    TextClassifier,
    load_classifier,
    load_finetuned,
    save_classifier,
    save_finetuned,
)
from ch06_finetuning.finetuning import GPTClassifier, MessageDataset, predict
from ch06_finetuning.lora import LoRALinear, apply_lora, lora_layers, merge_lora
from ch06_finetuning.ppo import ActorCritic
from ch06_finetuning.reward_model import RewardModel
from data.durable_folders import CheckpointError
from data.paths import DATA_DIR
from tests.small_models import weights

FIXTURES = Path(__file__).resolve().parent / "fixtures" / "models"
END = "<|endoftext|>"
LABELS = ("glad", "sad", "cross")
TOKENIZER = BPETokenizer.train("the owl sat in the old mill and the fox ran home. " * 20, 300, SPECIAL_TOKENS)
PAD = TOKENIZER.special_tokens["<|pad|>"]
SHAPE = {"vocab_size": TOKENIZER.vocab_size, "context_length": 16, "d_model": 16, "n_heads": 4, "n_layers": 2}


def gpt(**changes):
    return GPTModel(GPTConfig(**SHAPE | changes))


def modern(**changes):
    return ModernGPT(ModernConfig(**SHAPE | changes))


def recent(**changes):
    return RecentGPT(RecentConfig(**SHAPE | changes))


def text_classifier(body):
    return TextClassifier(body, TOKENIZER, LABELS, max_length=12)


GPTS = {
    "GPTModel": gpt,
    "GPTModel, untied, no bias, dropout": lambda: gpt(tie_weights=False, qkv_bias=False, dropout=0.3, d_ff=24),
    "ModernGPT": modern,
    "ModernGPT, grouped, untied": lambda: modern(n_kv_heads=2, tie_weights=False, rope_base=5e5, qk_norm=False),
    "ModernGPT, with every choice": lambda: modern(
        head_width=6, rope_factors=(1.0, 2.0, 8.0), norm_eps=1e-5, qkv_bias=True, out_bias=True, ff_bias=True
    ),
    "RecentGPT, as OLMo": lambda: recent(norms="after", norm_across_heads=True, n_kv_heads=2),
    "RecentGPT, as Gemma": lambda: recent(
        windows=(3, None),
        window_base=9.0,
        norms="both",
        score_width=5.0,
        gelu_gate=True,
        norm_from_one=True,
        scale_embeddings=True,
    ),
}
AROUND = {
    "TextClassifier": text_classifier,
    "GPTClassifier": lambda body: GPTClassifier(body, 3),
    "RewardModel": lambda body: RewardModel(body, TOKENIZER),
    "ActorCritic": ActorCritic,
}
MODELS = GPTS | {
    f"{name} of {body}": lambda around=around, body=body: around(GPTS[body]())
    for name, around in AROUND.items() for body in ("GPTModel", "ModernGPT, grouped, untied")
}  # fmt: skip
MODELS |= {f"LoRA in {name}": lambda make=make: apply_lora(make(), 2, 6) for name, make in MODELS.items()}
PAIRS = {
    "model": (lambda folder, model: save_model(folder, model, TOKENIZER, {}), lambda folder: load_model(folder)[0]),
    "finetuned": (lambda f, model: save_finetuned(f, model, TOKENIZER, {}), lambda folder: load_finetuned(folder)[0]),
    "classifier": (lambda f, model: save_classifier(f, model, TOKENIZER, LABELS, {}), lambda f: load_classifier(f)[0]),
    "hugging face": (lambda f, model: export_hugging_face(model, TOKENIZER, f), load_hugging_face),
}


def shaken(make):
    """A model in evaluation mode in which every number is drawn, so that none of them can be lost unseen."""
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def answer(model):
    ids = torch.randint(0, 256, (2, 9), generator=torch.Generator().manual_seed(1))
    found = model(ids)
    return found if isinstance(found, tuple) else (found,)


def assert_same(loaded, model):
    assert_close(weights(loaded), weights(model), rtol=0, atol=0)
    assert all(torch.equal(one, other) for one, other in zip(answer(loaded), answer(model)))
    assert lora_layers(loaded) == lora_layers(model) and not loaded.training
    assert getattr(loaded, "config", None) == getattr(model, "config", None)


def is_kept(pair, name):
    if pair == "hugging face":
        return name.startswith("GPTModel") or name in ("ModernGPT", "ModernGPT, grouped, untied")
    return {"model": name in GPTS, "finetuned": "GPTClassifier" not in name, "classifier": "Classifier" in name}[pair]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_comes_back_or_is_refused_before_a_byte_is_written(name, pair, tmp_path):
    (save, load), model = PAIRS[pair], shaken(MODELS[name])
    if is_kept(pair, name):
        save(tmp_path / "it", model)
        loaded = load(tmp_path / "it")
        assert isinstance(loaded, type(model)) and [path.name for path in tmp_path.iterdir()] == ["it"]
        if pair == "hugging face":  # where a GPT-2 always has a bias on queries, keys and values, and no dropout
            assert all(torch.equal(*both) for both in zip(answer(loaded), answer(model)))
        else:
            assert_same(loaded, model)
    else:
        with pytest.raises(ValueError, match="save_classifier|save_finetuned|save_model|merge_lora"):
            save(tmp_path / "it", model)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_comes_back_from_a_checkpoint_with_its_optimizers(name, tmp_path):
    def make():
        model = shaken(MODELS[name])
        return model, make_optimizers(model, TrainConfig(9, optimizer="adamw" if "LoRA" in name else "muon"))

    model, optimizers = make()
    sum(part.square().sum() for part in answer(model)).backward()
    for optimizer in optimizers:
        optimizer.step()
    save_checkpoint(tmp_path, 1, model, optimizers)
    other, fresh = make()
    checkpoint = load_checkpoint(tmp_path)
    checkpoint.restore(other, fresh)
    assert_same(other, model)
    for mine, theirs in zip(fresh, optimizers):
        mine, theirs = mine.state_dict()["state"], theirs.state_dict()["state"]
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[i][key], theirs[i][key]) for i in theirs for key in theirs[i])


def test_the_right_function_is_named_by_a_folder_that_another_opens(tmp_path):
    save_finetuned(tmp_path / "lora", apply_lora(gpt(), 2, 6), TOKENIZER, {})
    save_finetuned(tmp_path / "reward", RewardModel(gpt(), TOKENIZER), TOKENIZER, {})
    save_classifier(tmp_path / "classifier", GPTClassifier(gpt(), 3), TOKENIZER, LABELS, {})
    for folder, opener in (("lora", "load_finetuned"), ("reward", "load_finetuned"), ("classifier", "load_classifier")):
        with pytest.raises(CheckpointError, match=f"it holds what {opener} opens"):
            load_model(tmp_path / folder)
    with pytest.raises(CheckpointError, match="it holds what load_classifier opens"):
        load_model(FIXTURES / "classifier")
    with pytest.raises(CheckpointError, match="holds a RewardModel and no classifier: use load_finetuned"):
        load_classifier(tmp_path / "reward")
    with pytest.raises(CheckpointError, match="it holds what load_classifier opens"):
        load_assistant(tmp_path / "classifier")


def test_lora_goes_on_learning_after_loading_and_merges_to_the_same_logits(tmp_path):
    model = shaken(lambda: apply_lora(gpt(), 2, 6))
    loaded, _ = load_finetuned(save_finetuned(tmp_path / "it", model, TOKENIZER, {}))
    trainable = [name for name, p in loaded.named_parameters() if p.requires_grad]
    assert trainable == [name for name, p in model.named_parameters() if p.requires_grad] and trainable
    merge_lora(loaded)
    assert_close(answer(loaded), answer(model), rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in loaded.parameters())
    assert_same(load_model(save_model(tmp_path / "merged", loaded, TOKENIZER, {}))[0], loaded)


def test_an_assistant_with_lora_layers_is_opened_as_an_assistant(tmp_path):
    model = shaken(lambda: apply_lora(gpt(), 2, 6))
    save_finetuned(tmp_path / "it", model, TOKENIZER, {})
    assert_same(load_assistant(str(tmp_path / "it")).model, model)


# ---------------------------------------------------------------- states of a model


class Deeper(GPTModel):
    def forward(self, ids, cache=None):
        return 2 * super().forward(ids, cache)


def own_gpt_model():
    """A learner's own class of the same name, as in a notebook."""
    own = type("GPTModel", (GPTModel,), {"__module__": "__main__"})
    return own(GPTConfig(**SHAPE))


def changed(change, make=gpt):
    def made():
        model = make()
        result = change(model)
        return result if isinstance(result, nn.Module) else model

    return made


def put(place, part):
    def change(model):
        parent, _, last = place.rpartition(".")
        setattr(model.get_submodule(parent), last, part)

    return change


WRAPPED = {
    "compiled": changed(torch.compile),
    "compiled in place": changed(lambda model: model.compile()),
    "data parallel": changed(nn.DataParallel),
    "compiled, data parallel, modern": changed(lambda model: nn.DataParallel(torch.compile(model)), modern),
    "in training mode": changed(lambda model: model.train()),
    "bfloat16": changed(lambda model: model.bfloat16()),
    "float16": changed(lambda model: model.half(), modern),
    "half frozen": changed(lambda model: model.blocks[0].requires_grad_(False) and None),
    "one part in bfloat16": changed(lambda model: model.head.bfloat16() and None),
    "weights in one storage": changed(lambda model: nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(model.parameters()), model.parameters())),
    "not contiguous": changed(lambda model: setattr(
        model.blocks[0].feed_forward.up_proj.weight, "data", torch.randn(16, 64).T)),
}  # fmt: skip


@pytest.mark.parametrize("state", WRAPPED)
def test_a_model_comes_back_from_every_state_that_keeps_its_numbers(state, tmp_path):
    model = WRAPPED[state]()
    plain = getattr(getattr(model, "module", model), "_orig_mod", getattr(model, "module", model))
    save_checkpoint(tmp_path / "run", 1, model)
    for save in (save_model, save_finetuned):
        loaded, _ = load_finetuned(save(tmp_path / "it", model, TOKENIZER, {}))
        assert type(loaded) is type(plain) and not loaded.training
        assert_close(weights(loaded), {k: v.float() for k, v in weights(plain).items()}, rtol=0, atol=0)
    fresh = type(plain)(plain.config)
    load_checkpoint(tmp_path / "run").restore(torch.compile(fresh))
    assert_close(weights(fresh), {k: v.float() for k, v in weights(plain).items()}, rtol=0, atol=0)


OTHERS = {
    "a subclass": (lambda: Deeper(GPTConfig(**SHAPE)), "class .*Deeper"),
    "a class of the same name": (own_gpt_model, "class __main__.GPTModel"),
    "no GPT": (lambda: MultiHeadAttention(16, 4), "MultiHeadAttention"),
    "a container": (lambda: nn.ModuleDict({"gpt": gpt()}), "ModuleDict"),
    "no module": (lambda: {"weights": 1}, "builtins.dict"),
    "the meta device": (lambda: gpt().to("meta"), "on the device 'meta'"),
    "float64": (lambda: gpt().double(), "float64"),
    "another activation": (changed(put("blocks.0.feed_forward.gelu", nn.ReLU())), "gelu is torch.*ReLU"),
    "another norm": (changed(put("final_norm", nn.LayerNorm(16))), "final_norm is torch"),
    "another epsilon": (changed(put("blocks.1.norm1.eps", 1e-3)), "blocks.1.norm1.eps is 0.001, expected 1e-05"),
    "a head switched off": (changed(put("blocks.0.attention.head_mask", torch.ones(4))), "head_mask is torch.Tensor"),
    "no mask": (changed(put("blocks.0.attention.causal", False)), "causal is False, expected True"),
    "other heads": (changed(put("blocks.0.attention.n_heads", 2)), "n_heads is 2, expected 4"),
    "another dropout": (changed(put("drop.p", 0.5)), "drop.p is 0.5, expected nothing"),
    "another config": (changed(put("config", GPTConfig(**SHAPE | {"n_heads": 2}))), "n_heads is 4, expected 2"),
    "untied by hand": (changed(lambda m: m.__setattr__("head", copy.deepcopy(m.head))), "head.weight"),
    "tied by hand": (changed(lambda m: setattr(m.head, "weight", m.token_embedding.weight),
                             lambda: gpt(tie_weights=False)), "head.weight is missing"),
    "blocks shared": (changed(lambda m: m.blocks.__setitem__(1, m.blocks[0])), "blocks.1 is missing"),
    "a block more": (changed(lambda m: m.blocks.extend([*gpt().blocks]) and None), "blocks.2 .* expected nothing"),
    "a buffer more": (changed(lambda m: m.register_buffer("mean", torch.ones(2))), "mean is .* expected nothing"),
    "an attribute more": (changed(put("note", "mine")), "note is 'mine', expected nothing"),
    "a forward of its own": (changed(put("forward", lambda ids: ids)), "forward is .*function"),
    "a hook": (changed(lambda m: m.blocks[0].register_forward_hook(lambda *_: None)), "blocks.0_forward_hooks"),
    "a hook before": (changed(lambda m: m.register_forward_pre_hook(lambda *_: None)), "forward_pre_hooks"),
    "pruned": (changed(lambda m: prune.l1_unstructured(m.blocks[0].attention.out_proj, "weight", 0.5) and None),
               "out_proj"),
    "weight norm": (changed(lambda m: parametrizations.weight_norm(m.blocks[0].attention.out_proj) and None),
                    "out_proj"),
    "a LoRA strength of its own": (changed(put("blocks.0.attention.qkv_proj.scale", 0.0),
                                           lambda: apply_lora(gpt(), 2, 6)), "scale is 0.0, expected 3.0|merge_lora"),
    "too large for half": (changed(lambda m: m.head.weight.data.fill_(1e6)), "too large for dtype='float16'"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_could_not_come_back_is_refused_by_its_name(name, tmp_path):
    make, message = OTHERS[name]
    for save in (save_model, save_finetuned):
        with pytest.raises(ValueError, match=message):
            save(tmp_path / "it", make(), TOKENIZER, {}, "float16" if name == "too large for half" else "float32")
    if name != "too large for half":
        with pytest.raises(ValueError, match=message):
            export_hugging_face(make(), TOKENIZER, tmp_path / "it")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_model_is_refused(tmp_path):
    torch.backends.quantized.engine = next(e for e in torch.backends.quantized.supported_engines if e != "none")
    model = torch.ao.quantization.quantize_dynamic(gpt().eval(), {nn.Linear}, torch.qint8)
    with pytest.raises(ValueError, match=r"is torch\.ao\..*Linear, expected torch\.nn"):
        save_model(tmp_path / "it", model, TOKENIZER, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tokenizer", [None, "gpt2", RegexTokenizer.from_text("the owl")], ids=["none", "text", "own"])
def test_a_tokenizer_without_a_file_is_refused(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="of which this course makes no file: give the BPETokenizer"):
        save_model(tmp_path / "deep" / "it", gpt(), tokenizer, {})
    assert not list(tmp_path.iterdir())


def gpt2_like():
    """tiktoken's class with its bytes in another order than ours, as in GPT-2's vocabulary, and a special token."""
    ranks = {bytes([(7 * byte + 33) % 256]): byte for byte in range(256)} | {b"ow": 256, b"owl": 257, b" \xf0\x9f": 258}
    return tiktoken.Encoding("gpt2-like", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={END: 259})


@pytest.mark.parametrize("tokenizer", [gpt2_like(), TOKENIZER.to_tiktoken()], ids=lambda t: t.name)
def test_a_model_that_reads_with_tiktokens_class_comes_back_with_it(tokenizer, tmp_path):
    text = "the owl's 🦊 and the\n\n café <|endoftext|>"
    for save, load, model in (
        (save_model, load_model, gpt()), (save_finetuned, load_finetuned, RewardModel(gpt(), copy.deepcopy(tokenizer))),
        (lambda f, m, t, r: save_classifier(f, m, t, LABELS, r), load_classifier, GPTClassifier(gpt(), 3)),
    ):  # fmt: skip
        loaded, read = load(save(tmp_path / "it", model, tokenizer, {}))
        assert read.encode_ordinary(text) == tokenizer.encode_ordinary(text)
        assert read.encode(text, allowed_special="all") == tokenizer.encode(text, allowed_special="all")
        assert (read.name, read.n_vocab) == (tokenizer.name, tokenizer.n_vocab)
    assert loaded.classify("owl")[0] == "glad"
    with pytest.raises(ValueError, match="reads with another tokenizer"):
        save_finetuned(tmp_path / "it", RewardModel(gpt(), gpt2_like()), TOKENIZER.to_tiktoken(), {})
    with pytest.raises(ValueError, match=r"found a damaged tokenizer \('name'\)"):
        tokenizer_from_json(b'{\n"format": "tiktoken, version 1"}')


def test_the_bytes_that_were_verified_are_those_that_are_used(tmp_path, monkeypatch):
    """Nothing is read a second time, when it may have changed."""
    folder, read = save_model(tmp_path / "it", gpt(), TOKENIZER, {}), []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read.append(self.name) or read_bytes(self))
    load_model(folder)
    assert sorted(read) == sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("recipe", [{"path": Path("x")}, {"loss": torch.ones(2)}, {(1, 2): 3}, {"s": {1}}], ids=str)
def test_a_recipe_that_json_cannot_hold_is_refused(recipe, tmp_path):
    for save in (lambda: save_model(tmp_path / "it", gpt(), TOKENIZER, recipe),
                 lambda: save_checkpoint(tmp_path / "it", 1, gpt(), extra=recipe)):  # fmt: skip
        with pytest.raises(CheckpointError, match="JSON cannot hold what is to be kept"):
            save()
    assert not list(tmp_path.iterdir())


def test_saving_draws_no_random_number(tmp_path):
    model, before = gpt(), torch.get_rng_state()
    save_model(tmp_path / "it", model, TOKENIZER, {})
    save_finetuned(tmp_path / "it", model, TOKENIZER, {})
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- checkpoints of another model or optimizer


def test_a_checkpoint_of_other_arithmetic_is_refused_before_a_weight_changes(tmp_path):
    cases = {
        "blocks.0.attention.d_head was 4, now 8": (gpt, lambda: gpt(n_heads=2)),
        "attention.base was 10000.0, now 500.0": (modern, lambda: modern(rope_base=500.0)),
        "attention.factors was None, now": (modern, lambda: modern(rope_factors=(2.0, 2.0))),
        "scale was 3.0, now 4.0": (lambda: apply_lora(gpt(), 2, 6), lambda: apply_lora(gpt(), 2, 8)),
        "pad_id was None, now 7": (lambda: GPTClassifier(gpt(), 3), lambda: GPTClassifier(gpt(), 3, 7)),
        "norm1.eps was 1e-06, now 0.1": (modern, changed(put("blocks.0.norm1.eps", 0.1), modern)),
    }
    for number, (message, (saved, other)) in enumerate(cases.items()):
        save_checkpoint(tmp_path / str(number), 1, saved())
        model = other()
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(CheckpointError, match=f"holds another model: .*{message}"):
            load_checkpoint(tmp_path / str(number)).restore(model)
        assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_checkpoint_goes_on_with_another_dropout_and_with_what_a_learner_counts(tmp_path):
    class Counting(nn.Module):
        def __init__(self, model, seen):
            super().__init__()
            self.model, self.seen = model, seen

    save_checkpoint(tmp_path, 1, Counting(gpt(dropout=0.1), seen=5))
    other = Counting(gpt(dropout=0.4), seen=7)
    load_checkpoint(tmp_path).restore(other)
    assert other.seen == 7 and other.model.config.dropout == 0.4


OPTIMIZERS = {
    "SGD": torch.optim.SGD, "SGD with momentum": partial(torch.optim.SGD, momentum=0.9),
    "AMSGrad": partial(torch.optim.Adam, amsgrad=True), "fused": partial(torch.optim.AdamW, fused=True),
    "Adafactor": torch.optim.Adafactor, "NAdam": torch.optim.NAdam, "ASGD": torch.optim.ASGD,
    "Rprop": torch.optim.Rprop, "Adagrad": torch.optim.Adagrad,
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_in_the_same_bits_with_any_optimizer_of_torch(name, tmp_path):
    def make():
        model = shaken(gpt)
        return model, OPTIMIZERS[name](model.parameters(), lr=0.01)

    def step(model, optimizer):
        optimizer.zero_grad()
        answer(model)[0].square().mean().backward()
        optimizer.step()

    model, optimizer = make()
    step(model, optimizer)
    save_checkpoint(tmp_path, 1, model, optimizer)
    other, fresh = make()
    load_checkpoint(tmp_path).restore(other, fresh)
    for pair in ((model, optimizer), (other, fresh)):
        step(*pair)
    assert_close(weights(other), weights(model), rtol=0, atol=0)


def test_an_optimizer_that_keeps_lists_is_refused(tmp_path):
    model = gpt()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure():
        loss = answer(model)[0].square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    with pytest.raises(CheckpointError, match="LBFGS keeps more than numbers"):
        save_checkpoint(tmp_path, 1, model, optimizer)
    assert not list(tmp_path.iterdir())


def test_optimizers_of_other_parameters_are_refused(tmp_path):
    model = GPTClassifier(gpt(), 3)
    model.model.requires_grad_(False)
    config = TrainConfig(9)
    save_checkpoint(tmp_path, 1, model, make_optimizers(model, config))
    checkpoint = load_checkpoint(tmp_path)
    model.requires_grad_(True)
    with pytest.raises(CheckpointError, match="saved with other optimizers, or with optimizers of other parameters"):
        checkpoint.restore(model, make_optimizers(model, config))
    checkpoint.restore(model)


# ---------------------------------------------------------------- folders of earlier versions


@pytest.mark.parametrize("name", ["gpt", "gpt_half", "story_gpt", "story_assistant"])
def test_model_folders_of_earlier_versions_open_bit_for_bit(name):
    folder = (FIXTURES if name.startswith("gpt") else DATA_DIR) / name
    for load in (load_model, load_finetuned, load_story_gpt):
        model, tokenizer = load(folder)
        stored = load_file(folder / "model.safetensors")
        assert_close(weights(model), {key: tensor.float() for key, tensor in stored.items()}, rtol=0, atol=0)
        assert type(model) is GPTModel and tokenizer.vocab_size == model.config.vocab_size
        kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert kept.pop("class", "GPTModel") == "GPTModel"  # earlier versions did not write it
        assert model.config.to_dict() == kept


def test_a_classifier_folder_of_an_earlier_version_opens_with_its_labels():
    classifier, tokenizer = load_classifier(FIXTURES / "classifier")
    stored = load_file(FIXTURES / "classifier" / "classifier.safetensors")
    assert_close(weights(classifier), stored, rtol=0, atol=0)
    assert classifier.labels == ["glad", "sad", "cross"]
    assert classifier.pad_id == tokenizer.special_tokens["<|pad|>"] and classifier.max_length == 16
    assert classifier.classify("the owl")[0] in classifier.labels


def test_a_checkpoint_of_an_earlier_version_is_restored_with_its_optimizers():
    checkpoint = load_checkpoint(FIXTURES / "checkpoints")
    model = GPTModel(GPTConfig(checkpoint.model["token_embedding.weight"].shape[0], 16, 8, 2, 1))
    optimizers = make_optimizers(model, TrainConfig(9, optimizer="muon"))
    checkpoint.restore(model, optimizers)
    folder = checkpoint.folder
    assert (checkpoint.step, checkpoint.extra) == (2, {"note": "two"})
    assert_close(weights(model), load_file(folder / "model.safetensors"), rtol=0, atol=0)
    restored = {f"{number}.{index}.{name}": value for number, one in enumerate(optimizers)
                for index, state in one.state_dict()["state"].items() for name, value in state.items()}  # fmt: skip
    assert_close(restored, load_file(folder / "optimizer.safetensors"), rtol=0, atol=0)


# ---------------------------------------------------------------- one rule for names and folders


@pytest.mark.parametrize("kind, load", [("story_gpt", load_story_gpt), ("assistant", load_assistant),
                                        ("classifier", load_classifier)])  # fmt: skip
def test_a_model_is_found_by_its_runs_name_and_then_as_a_folder(kind, load, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)

    def save(folder, size):
        body = gpt(context_length=size)
        if kind == "classifier":
            return save_classifier(folder, GPTClassifier(body, 2), TOKENIZER, ["a", "b"], {})
        return save_model(folder, body, TOKENIZER, {})

    def size(source):
        model = load(source)
        model = model.model if kind == "assistant" else model[0]
        return (model.model if kind == "classifier" else model).config.context_length

    save(tmp_path / "runs" / "mine" / kind, 17)
    folder = save(tmp_path / "elsewhere" / "it", 18)
    save(tmp_path / "both", 19)
    save(tmp_path / "runs" / "both" / kind, 20)
    assert size("mine") == size(str(tmp_path / "runs" / "mine")) == size(tmp_path / "runs" / "mine") == 17
    assert size("runs/mine") == size(Path("runs/mine") / kind) == size(f"runs/mine/{kind}/") == 17
    assert size(folder) == size(str(folder)) == size("elsewhere/it") == size(Path("elsewhere", "it")) == 18
    assert size("both") == 20 and size(Path("both")) == size("./both") == 19, "a name comes first, a Path is a folder"
    for source in ("other", str(tmp_path / "other"), tmp_path / "other", "", 3, None, "x" * 300, "a\0b"):
        with pytest.raises(CheckpointError, match="neither as a run's name nor as a folder; runs with one: both, mine"):
            load(source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty has no manifest.json"):
        load("empty")
    with pytest.raises(CheckpointError, match="under 'shipped'" if kind == "classifier" else "under 'other'") as error:
        load("shipped" if kind == "classifier" else "other")
    assert ("take 'shipped'" in str(error.value)) == (kind != "classifier")


def test_a_run_that_waits_between_two_renames_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path))
    folder = save_model(tmp_path / "mine" / "story_gpt", gpt(), TOKENIZER, {})
    folder.rename(folder.with_name(".story_gpt.old"))
    assert load_story_gpt("mine")[0].config.context_length == 16
    assert find_model("mine", "story_gpt") == folder


# ---------------------------------------------------------------- a classifier that reads texts


@pytest.fixture
def classifier():
    return shaken(lambda: text_classifier(gpt()))


def test_a_loaded_classifier_gives_its_labels_back_and_reads_as_before(classifier, tmp_path):
    plain = GPTClassifier(classifier.model, 3, PAD)
    plain.head = classifier.head
    for saved in (plain, classifier):
        folder = save_classifier(tmp_path / "it", saved, TOKENIZER, LABELS, {"loss": 0.5}, max_length=12)
        loaded, tokenizer = load_classifier(str(folder))
        assert loaded.labels == list(LABELS) and loaded.max_length == 12 and tokenizer.merges == TOKENIZER.merges
        texts = ["the owl", "an old mill. ", "FOX", "é🙂", "<|pad|>"]
        assert loaded.classify(texts) == classifier.classify(texts)


def test_classify_says_what_predict_says_whatever_stands_beside_a_text(classifier):
    texts = ["the owl sat", "fox", "in the mill", "the fox ran home"]
    rows = [type("Row", (), {"text": text, "label": "sad"}) for text in texts]
    dataset = MessageDataset(rows, TOKENIZER, LABELS, 12)
    _, expected = predict(classifier, [(ids[None], label[None]) for ids, label in dataset])
    together = classifier.classify(texts)
    assert together == [classifier.classify(text) for text in texts] == classifier.classify(tuple(texts))
    for (label, probabilities), row in zip(together, expected):
        assert list(probabilities) == list(LABELS) and label == LABELS[row.argmax()]
        assert torch.equal(torch.tensor(list(probabilities.values())), row)
    assert classifier.classify([]) == []


def test_special_tokens_in_a_text_are_read_as_text(classifier):
    typed = classifier.classify("<|pad|>")
    assert typed != classifier.classify("|pad|") and sum(typed[1].values()) == pytest.approx(1)
    ids = [TOKENIZER.special_tokens["<|endoftext|>"], *TOKENIZER.encode("<|pad|>")]
    assert PAD not in ids
    assert typed[1] == pytest.approx(dict(zip(LABELS, classifier(torch.tensor([ids])).softmax(-1)[0].tolist())))


def test_a_long_text_is_cut_as_in_training_with_a_warning(classifier):
    start = "the owl sat in the old mill and the fox "
    with pytest.warns(UserWarning, match="1 of 2 texts have more than 12 tokens, of which only the first were read"):
        cut, _ = classifier.classify([start * 50, "owl"])
    with pytest.warns(UserWarning):
        assert cut == classifier.classify(start * 2)


@pytest.mark.parametrize("texts", ["", "  \n", ["owl", ""], ["owl", None], [3], None], ids=repr)
def test_a_text_without_a_word_is_refused(classifier, texts):
    with pytest.raises((ValueError, TypeError), match="give a text to classify|not iterable"):
        classifier.classify(texts)


@pytest.mark.parametrize(
    "labels, message",
    [({"glad", "sad", "cross"}, "labels are a set: give a list"), (frozenset(LABELS), "are a frozenset"),
     ("abc", "labels are a str"), (iter(LABELS), "give a list"), (dict.fromkeys(LABELS), "labels are a dict"),
     (["glad", "sad", "sad"], "different words"), ([0, 1, 2], "different words"), (["a", "b", " "], "different words"),
     ([None, "a", "b"], "different words"), (["glad", "sad"], "found 2 labels for 3 classes"),
     (["a", "b", "c", "d"], "found 4 labels for 3 classes"),
     (["sad", "glad", "cross"], "but the classifier's own are")],
)  # fmt: skip
def test_labels_that_do_not_name_the_classes_are_refused(classifier, labels, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_classifier(tmp_path / "it", classifier, TOKENIZER, labels, {})
    assert not list(tmp_path.iterdir())


def test_an_untrained_classifier_finds_its_labels_equally_likely(tmp_path):
    save_classifier(tmp_path / "it", GPTClassifier(gpt(), 2), TOKENIZER, ("ham", "spam"), {})
    assert load_classifier(tmp_path / "it")[0].classify("the owl") == ("ham", {"ham": 0.5, "spam": 0.5})


def test_a_set_of_labels_is_refused_where_rows_are_made():
    row = type("Row", (), {"text": "owl", "label": "sad"})
    with pytest.raises(ValueError, match="labels are a set: give a list, whose order is the order of the classes"):
        MessageDataset([row], TOKENIZER, set(LABELS), 12)


def test_a_model_that_reads_with_another_tokenizer_is_refused(classifier, tmp_path):
    foreign = BPETokenizer.train("another text of other words", 300, SPECIAL_TOKENS)
    numbered = BPETokenizer(TOKENIZER.merges, TOKENIZER.special_tokens, "gpt2")
    for model, other in product((classifier, RewardModel(gpt(), TOKENIZER)), (foreign, numbered)):
        with pytest.raises(ValueError, match="reads with another tokenizer than the one given"):
            save_finetuned(tmp_path / "it", model, other, {})
    assert not list(tmp_path.iterdir())
    save_finetuned(tmp_path / "it", copy.deepcopy(classifier), copy.deepcopy(TOKENIZER), {})


def test_a_damaged_classifier_is_refused(classifier, tmp_path):
    folder = save_classifier(tmp_path / "it", classifier, TOKENIZER, LABELS, {})
    shutil.copy(folder / "config.json", folder / "classifier.safetensors")
    with pytest.raises(CheckpointError, match="classifier.safetensors is damaged"):
        load_classifier(folder)


def test_every_lora_layer_is_a_lora_layer_again(tmp_path):
    model = shaken(lambda: apply_lora(modern(tie_weights=False), 3, 0.7, targets=("head", "q_proj", "gate_proj")))
    loaded, _ = load_finetuned(save_finetuned(tmp_path / "it", model, TOKENIZER, {}))
    places = [name for name, part in loaded.named_modules() if isinstance(part, LoRALinear)]
    assert len(places) == 5 and lora_layers(loaded)["head"] == {"rank": 3, "alpha": 0.7}
    assert unique_tensors(loaded).keys() == unique_tensors(model).keys()
