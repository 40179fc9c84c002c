"""Claims about the recipe with two processes: sixteen bits, masked documents, unequal rows, and other numbers of them.

One start of two processes trains every case, stops it after five steps, and goes on in a second folder.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.shard_loader import ShardLoader
from ch02_text_data.text_data import BPETokenizer
from ch02_text_data.token_shards import write_token_shards
from ch05_pretraining.checkpoints import copy_tensors, read_parts
from ch05_pretraining.corpus_plan import model_of
from ch05_pretraining.documents_apart import loss_of_documents
from ch05_pretraining.evaluation import evaluate, evaluation_totals, loss_sum
from ch05_pretraining.gpt2_recipe import CORPUS_SHAPES, CorpusSettings, train_on_corpus
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.machine import gradients_travel, own_share, sum_over_ranks
from ch05_pretraining.saved_models import load_model
from data.loaders import load_stories
from tests.test_gpt2_recipe import TINY

ROOT = Path(__file__).resolve().parent.parent
BASE = CorpusSettings("tiny", 32, 2, accumulation_steps=2, max_steps=8, eval_every=2, precision="float32")
KINDS = {
    "plain": BASE,
    "masked": replace(BASE, document_mask=True),
    "bfloat16": replace(BASE, precision="bfloat16"),
    "float16": replace(BASE, precision="float16"),
}
CASES = {
    f"{kind}-{way}": replace(one, share=way == "shares") for kind, one in KINDS.items() for way in ("two", "shares")
}
WORKER = """
import sys
import torch.distributed as dist
from ch05_pretraining.machine import leave_together
from tests import test_recipe_together
dist.init_process_group("gloo")
getattr(test_recipe_together, sys.argv[1])(*sys.argv[2:])
leave_together()
"""


def stop_after_five(progress):
    if progress.step == 5 and dist.get_rank() == 0:
        raise KeyboardInterrupt


def run_cases(shards, folder):
    """Train each case without a stop and, elsewhere, with one."""
    CORPUS_SHAPES["tiny"] = TINY
    for name, settings in CASES.items():
        train_on_corpus(shards, Path(folder) / name, settings, device="cpu")
        try:
            train_on_corpus(shards, f"{folder}/{name}-stopped", settings, device="cpu", on_step=stop_after_five)
        except TrainingInterrupted:
            train_on_corpus(shards, f"{folder}/{name}-stopped", settings, device="cpu")


def read_by_three(shards, folder):
    """Three processes take the weights that two have kept, evaluate, share them out, and try to go on."""
    CORPUS_SHAPES["tiny"] = TINY
    rank, world_size = dist.get_rank(), dist.get_world_size()
    checkpoints, loader = Path(folder) / "plain-shares" / "checkpoints", rows(shards, 1, rank, world_size)
    model = model_of(TINY.config(vocabulary_of(shards), 32))
    copy_tensors(model, read_parts(checkpoints), checkpoints)
    for part in (*model.blocks, model):
        fully_shard(part)
    n_rows = len(own_share(model.head.weight))
    ids, targets = next(iter(loader))
    with gradients_travel(model, now=False):  # a batch of a step, and not its last
        loss_sum(model, ids, targets).backward()
    n_gradients = sum(own_share(p.grad).numel() for p in model.parameters() if p.grad is not None)
    total, count = sum_over_ranks(evaluation_totals(model, loader), torch.device("cpu"))
    try:
        train_on_corpus(shards, Path(folder) / "plain-shares", CASES["plain-shares"], device="cpu")
        refused = ""
    except ValueError as error:
        refused = str(error)
    told = {"loss": total / count, "rows": n_rows, "gradients": n_gradients, "refused": refused}
    (Path(folder) / f"three-{rank}.json").write_text(json.dumps(told), encoding="utf-8")


def rows(shards, batch_size, rank=0, world_size=1, split="validation"):
    return ShardLoader(shards, 32, batch_size, split=split, shuffle=split == "train", rank=rank, world_size=world_size)


def vocabulary_of(shards):
    return json.loads((Path(shards) / "manifest.json").read_text(encoding="utf-8"))["vocab_size"]


def together(tmp_path, n, *words):
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launch, str(tmp_path / "worker.py"), *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of documents of a few words to two stories, most of whose last rows are short."""
    folder = tmp_path_factory.mktemp("shards")
    stories = [story.text for story in load_stories("train", n=300)]
    texts = [2 * text if i % 60 == 0 else text[: 16 + 13 * (i % 9)] for i, text in enumerate(stories)]
    (folder / "texts.txt").write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    tokenizer = BPETokenizer.train(stories[:50], 301, SPECIAL_TOKENS)  # an odd number of rows to share out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ch02_text_data.token_shards.JOB", 300)
        write_token_shards([folder / "texts.txt"], folder / "out", tokenizer, kept_aside=0.2, shard_tokens=100)
    return folder / "out"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shards):
    """Every case by two processes, and every kind by one that reads as many rows in a step."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CORPUS_SHAPES, "tiny", TINY)
        for kind, settings in KINDS.items():
            train_on_corpus(shards, folder / kind, replace(settings, batch_size=4), device="cpu")
    together(folder, 2, "run_cases", shards, folder)
    return folder


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def history(folder):
    return json.loads((folder / "history.json").read_text(encoding="utf-8"))


def moved(run, start):
    """How far a training has carried the weights, all in one vector."""
    return torch.cat([(tensor - start[name]).flatten() for name, tensor in weights(run).items()])


@pytest.fixture(scope="module")
def start(shards):
    with torch.random.fork_rng():
        torch.manual_seed(BASE.seed)
        return dict(model_of(TINY.config(vocabulary_of(shards), 32)).named_parameters())


# ---------------------------------------------------------------- two processes and one


def test_the_two_processes_get_unequal_numbers_of_tokens(shards):
    counts = [[int((targets != IGNORE_INDEX).sum()) for _, targets in rows(shards, 2, rank, 2, "train")]
              for rank in range(2)]  # fmt: skip
    assert sum(a != b for a, b in zip(*counts)) > 5


def test_many_rows_that_are_learned_from_hold_a_border(shards):
    end = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))["end_id"]
    learned = islice(rows(shards, 4, split="train"), 16)  # two batches of four in each of eight steps
    assert sum(int((ids[:, 1:] == end).any(dim=1).sum()) for ids, _ in learned) > 16


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_losses_of_one(runs, name):
    two, one = history(runs / name), history(runs / name.split("-")[0])
    exact = name.startswith(("plain", "masked"))
    for key in ("losses", "val_losses"):
        assert_close(two[key], one[key], rtol=1e-4 if exact else 3e-3, atol=1e-5)
    assert two["skipped"] == one["skipped"] and len(two["val_losses"]) == 4


@pytest.mark.parametrize("name", CASES)
def test_two_processes_carry_the_weights_where_one_does(runs, start, name):
    one, two = moved(runs / name.split("-")[0], start), moved(runs / name, start)
    exact = name.startswith(("plain", "masked"))
    assert (one - two).norm() < (0.01 if exact else 0.2) * one.norm()
    assert two.norm() > 0.1


@pytest.mark.parametrize("name", CASES)
def test_stopped_by_one_process_both_go_on_to_the_same_bits(runs, name):
    whole, stopped = weights(runs / name), weights(runs / f"{name}-stopped")
    assert all(torch.equal(tensor, whole[key]) for key, tensor in stopped.items())
    assert history(runs / f"{name}-stopped")["losses"] == history(runs / name)["losses"]


def test_sixteen_bits_were_computed_in(runs):
    exact = history(runs / "plain-two")["losses"]
    for kind in ("bfloat16", "float16"):
        for way in ("two", "shares"):
            rounded = history(runs / f"{kind}-{way}")["losses"]
            assert rounded != exact
            assert_close(rounded, exact, rtol=0.05, atol=0)


def test_the_mask_changes_what_is_learned(runs):
    for way in ("two", "shares"):
        masked, plain = (history(runs / f"{kind}-{way}")["losses"] for kind in ("masked", "plain"))
        assert masked[0] != plain[0] and masked[-1] != plain[-1]
    told = json.loads((runs / "masked-two" / "settings.json").read_text(encoding="utf-8"))
    assert told["document_mask"] is True


@pytest.mark.parametrize("name", ["plain-two", "plain-shares", "masked-two", "masked-shares"])
def test_the_last_look_is_what_the_kept_model_gets_on_the_validation_shards(runs, shards, name):
    model, tokenizer = load_model(runs / name / "model")
    loss = {"loss": loss_of_documents(tokenizer.special_tokens["<|endoftext|>"])} if "masked" in name else {}
    expected = evaluate(model, rows(shards, 4), 20, **loss)
    assert history(runs / name)["val_losses"][-1] == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- another number of processes


def test_three_processes_read_what_two_have_kept_and_do_not_go_on_with_it(runs, shards, tmp_path):
    before = {path: path.read_bytes() for path in (runs / "plain-shares").rglob("*") if path.is_file()}
    together(tmp_path, 3, "read_by_three", shards, runs)
    told = [json.loads((runs / f"three-{rank}.json").read_text(encoding="utf-8")) for rank in range(3)]
    assert sum(one["rows"] for one in told) == 301 and max(one["rows"] for one in told) == 101
    model, _ = load_model(runs / "plain-shares" / "model")
    held = [one["gradients"] for one in told]
    assert sum(held) == model.n_parameters and max(held) < 0.4 * model.n_parameters, "gradients stay shares, too"
    n_batches = len(rows(shards, 1, 0, 3))
    expected = evaluate(model, rows(shards, 3), n_batches)
    assert [one["loss"] for one in told] == 3 * [pytest.approx(expected, rel=1e-5)]
    for one in told:
        assert "world_size was 2, now 3" in one["refused"] and "another folder to start anew" in one["refused"]
    assert before == {path: path.read_bytes() for path in (runs / "plain-shares").rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["plain-two", "plain-shares"])
def test_one_process_does_not_go_on_with_the_training_of_two(runs, shards, monkeypatch, name):
    monkeypatch.setitem(CORPUS_SHAPES, "tiny", TINY)
    before = {path: path.read_bytes() for path in (runs / name).rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="world_size was 2, now 1"):
        train_on_corpus(shards, runs / name, replace(CASES[name], share=False), device="cpu")
    assert before == {path: path.read_bytes() for path in (runs / name).rglob("*") if path.is_file()}
