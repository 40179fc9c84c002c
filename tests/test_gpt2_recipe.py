"""Claims about the recipe for token shards: two processes end where one does, with shares too, and resume exactly."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.autograd.graph import saved_tensors_hooks
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.encoding_files import tokenizer_from_json
from ch02_text_data.shard_loader import ShardLoader
from ch02_text_data.text_data import BPETokenizer
from ch02_text_data.token_shards import write_token_shards
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining import corpus_plan, gpt2_recipe
from ch05_pretraining.checkpoints import list_checkpoints, read_parts
from ch05_pretraining.corpus_plan import plan_training
from ch05_pretraining.documents_apart import loss_of_documents
from ch05_pretraining.evaluation import evaluate, loss_sum
from ch05_pretraining.gpt2_recipe import CORPUS_SHAPES, CorpusSettings, Shape, train_on_corpus
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.machine import arithmetic
from ch05_pretraining.pretraining import TrainConfig
from ch05_pretraining.saved_models import load_model
from ch05_pretraining.scaling import flops_per_token
from data import locks
from data.durable_folders import CheckpointError
from data.loaders import load_stories

ROOT = Path(__file__).resolve().parent.parent
TINY = Shape(lambda vocabulary, context: GPTConfig(vocabulary, context, 24, 2, 3), 3e-3, 1 << 9)
SETTINGS = CorpusSettings("tiny", 32, 4, accumulation_steps=2, max_steps=8, eval_every=2)
WORKER = """
import sys
from ch05_pretraining.gpt2_recipe import CORPUS_SHAPES, main
from tests.test_gpt2_recipe import TINY
CORPUS_SHAPES["tiny"] = TINY
sys.exit(main())
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    texts = [story.text for story in load_stories("train", n=200)]
    (folder / "stories.txt").write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    tokenizer = BPETokenizer.train(texts[:50], 301, SPECIAL_TOKENS)  # an odd number of rows to share out
    write_token_shards([folder / "stories.txt"], folder / "out", tokenizer, kept_aside=0.1, shard_tokens=20_000)
    return folder / "out"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(CORPUS_SHAPES, "tiny", TINY)


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def launch(tmp_path, shards, out, *more):
    """Start two processes by torchrun."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["--shape", "tiny", "--context", "32", "--batch-size", "2", "--accumulate", "2", "--steps", "8"]
    command = [*torchrun, tmp_path / "worker.py", shards, "--out", out, "--eval-every", "2", "--device", "cpu", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(word) for word in [*command, *more]], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process):
    told, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints[-3000:]
    return told


@pytest.fixture(scope="module")
def runs(tmp_path_factory, shards):
    """The same training by one process, by two, and by two with shares of the model."""
    folder = tmp_path_factory.mktemp("runs")
    CORPUS_SHAPES["tiny"] = TINY
    train_on_corpus(shards, folder / "one", SETTINGS, device="cpu")
    told = {"two": finish(launch(folder, shards, folder / "two"))}
    told["shares"] = finish(launch(folder, shards, folder / "shares", "--share"))
    return folder, told


# ---------------------------------------------------------------- many processes


@pytest.mark.parametrize("name", ["two", "shares"])
def test_two_processes_end_with_the_weights_and_losses_of_one(runs, name):
    folder, told = runs
    one, two = weights(folder / "one"), weights(folder / name)
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        assert_close(two[key], tensor, rtol=1e-3, atol=2e-4, msg=lambda words, key=key: f"{key}: {words}")
    losses = [json.loads((folder / run / "history.json").read_text()) for run in ("one", name)]
    for key in ("losses", "val_losses"):
        assert_close(losses[1][key], losses[0][key], rtol=1e-4, atol=1e-5)
    assert len(losses[0]["losses"]) == 8 and len(losses[0]["val_losses"]) == 4
    assert told[name].count("parameters ") == 1 and told[name].count("model in ") == 1


def test_each_process_keeps_a_share_that_any_number_can_read(runs):
    folder, _ = runs
    parts = [folder / "shares" / "checkpoints" / f"part-{k}-of-2" for k in (1, 2)]
    whole = read_parts(folder / "shares" / "checkpoints")
    for name, tensor in weights(folder / "shares").items():
        assert torch.equal(whole[name], tensor), name
    sizes = [
        sum((list_checkpoints(part)[0] / f"{kind}.safetensors").stat().st_size for kind in ("model", "optimizer"))
        for part in parts
    ]
    alone = list_checkpoints(folder / "one" / "checkpoints")[0]
    all_of_it = sum((alone / f"{kind}.safetensors").stat().st_size for kind in ("model", "optimizer"))
    assert max(sizes) < 0.62 * all_of_it  # the names of the tensors stand in both


def test_killed_while_training_two_with_shares_go_on_to_the_same_bits(runs, tmp_path, shards):
    folder, _ = runs
    checkpoints = tmp_path / "out" / "checkpoints" / "part-2-of-2"
    process = launch(tmp_path, shards, tmp_path / "out", "--share")
    until = time.monotonic() + 120
    while not list_checkpoints(checkpoints) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert list_checkpoints(checkpoints), "it was never killed behind a checkpoint"
    finish(launch(tmp_path, shards, tmp_path / "out", "--share"))
    expected = weights(folder / "shares")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "out").items())


def test_parts_that_do_not_belong_together_are_refused(runs, tmp_path):
    with pytest.raises(CheckpointError, match="holds no parts, expected those of one training"):
        read_parts(tmp_path)
    for part in ("part-1-of-2", "part-2-of-2"):
        (tmp_path / part).mkdir()
    with pytest.raises(CheckpointError, match="its 2 parts have no step in common"):
        read_parts(tmp_path)
    (tmp_path / "part-1-of-3").mkdir()
    with pytest.raises(CheckpointError, match="holds parts of trainings by 2 and by 3 processes, expected those of"):
        read_parts(tmp_path)


# ---------------------------------------------------------------- one process


def test_two_processes_refuse_in_one_sentence_which_torchrun_shows_again_at_the_end(tmp_path, shards):
    process = launch(tmp_path, tmp_path / "nowhere", tmp_path / "out")
    _, told = process.communicate(timeout=300)
    above, below = told.split("(What torchrun prints below says only that its processes have ended.)")
    assert process.returncode == 1 and above.count("holds no finished token shards") == 1
    assert "traceback : gpt2_recipe: " in below and below.count("holds no finished token shards") == 1
    assert not (tmp_path / "out").exists()


def test_what_one_of_two_processes_finds_damaged_is_told_without_complaints_of_the_other(runs, tmp_path, shards):
    shutil.copytree(runs[0] / "shares", tmp_path / "shares")
    path = tmp_path / "shares" / "checkpoints" / "part-2-of-2" / "step-00000008" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    process = launch(tmp_path, shards, tmp_path / "shares", "--share")
    _, told = process.communicate(timeout=300)
    above = told.split("(What torchrun prints below")[0]
    assert process.returncode == 1 and above.count("model.safetensors is damaged") == 1
    assert "RuntimeError" not in told and "[rank0]" not in told
    shutil.rmtree(path.parent)  # what the sentence says
    finish(launch(tmp_path, shards, tmp_path / "shares", "--share"))
    assert_close(weights(tmp_path / "shares"), weights(runs[0] / "shares"), rtol=0, atol=0)


def test_interrupted_it_goes_on_to_the_same_bits_and_the_model_opens(runs, tmp_path, shards):
    folder, _ = runs

    def stop(progress):
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="stopped after step 5 of 8"):
        train_on_corpus(shards, tmp_path / "out", SETTINGS, device="cpu", on_step=stop)
    history = train_on_corpus(shards, tmp_path / "out", SETTINGS, device="cpu")
    assert history.steps == [*range(1, 9)] and history.losses[-1] < history.losses[0]
    expected = weights(folder / "one")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "out").items())
    model, tokenizer = load_model(tmp_path / "out" / "model")
    assert tokenizer.vocab_size == model.config.vocab_size == 301


def test_a_training_with_other_settings_keeps_its_folder(tmp_path, shards):
    few = replace(SETTINGS, max_steps=1)
    train_on_corpus(shards, tmp_path, few, device="cpu")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match="holds a training with other settings .*max_steps was 1, now 8.*another folder"
    ):
        train_on_corpus(shards, tmp_path, SETTINGS, device="cpu")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for content in ("{", "", "[]", "3", "null"):
        (tmp_path / "settings.json").write_text(content)
        with pytest.raises(ValueError, match=r"settings\.json is damaged: choose another folder"):
            train_on_corpus(shards, tmp_path, few, device="cpu")


def test_a_training_keeps_its_shards_and_says_so_before_the_trial(tmp_path, shards):
    few, plans = replace(SETTINGS, max_steps=1), []
    train_on_corpus(shards, tmp_path / "out", few, device="cpu")
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(story.text for story in load_stories("train", n=90)))
    tokenizer = tokenizer_from_json((shards / "tokenizer.json").read_bytes())
    write_token_shards([tmp_path / "text.txt"], tmp_path / "other", tokenizer, kept_aside=0.1)
    with pytest.raises(ValueError, match="out holds a training on other shards: give those, or another folder"):
        train_on_corpus(tmp_path / "other", tmp_path / "out", few, device="cpu", on_plan=plans.append)
    assert not plans
    shutil.copytree(shards, tmp_path / "moved")
    assert len(train_on_corpus(tmp_path / "moved", tmp_path / "out", few, device="cpu").losses) == 1


def test_a_second_call_in_a_folder_at_work_is_refused_and_changes_nothing(tmp_path, shards):
    refused = []

    def call_again(progress):
        def call():
            try:
                train_on_corpus(shards, tmp_path, replace(SETTINGS, max_steps=1), device="cpu")
            except ValueError as error:
                refused.append(str(error))

        thread = threading.Thread(target=call)  # as another process, it may not ask for the lock again
        thread.start()
        thread.join()

    history = train_on_corpus(shards, tmp_path, replace(SETTINGS, max_steps=1), device="cpu", on_step=call_again)
    assert len(history.losses) == 1 and len(refused) == 1 and "another process is at work in" in refused[0]


@pytest.mark.parametrize("reason", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_where_the_file_system_has_no_locks_it_trains_all_the_same(tmp_path, shards, monkeypatch, reason):
    def no_lock(file):
        raise OSError(reason, "no locks here")

    monkeypatch.setattr(locks, "_lock", no_lock)
    assert train_on_corpus(shards, tmp_path, replace(SETTINGS, max_steps=1), device="cpu").losses


def test_a_file_in_the_place_of_the_folder_stays(tmp_path, shards):
    (tmp_path / "out").write_text("a learner's")
    with pytest.raises(ValueError, match="out is a file: give a folder for the training"):
        train_on_corpus(shards, tmp_path / "out", SETTINGS, device="cpu")
    assert (tmp_path / "out").read_text() == "a learner's"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "the following arguments are required: shards, --out; --help tells the options"),
        (["SHARDS", "--out", "OUT", "--steps", "0"], "argument --steps: '0' is no whole number of 1 or more"),
        (["SHARDS", "--out", "OUT", "--context", "-3"], "argument --context: '-3' is no whole number of 1 or more"),
        (["SHARDS", "--out", "OUT", "--batch-size", "x" * 99], f"{'x' * 40!r} is no whole number"),
        (["SHARDS", "--out", "OUT", "--learning-rate", "0"], "--learning-rate=0.0: expected above 0 and finite"),
        (["SHARDS", "--out", "OUT", "--batch-size", "1000000"], "give more text, or lower --batch-size"),
        (["SHARDS", "--out", "OUT", "--steps", "9"], "(--steps was 1, now 9): use the same to go on"),
    ],
)
def test_what_is_wrong_with_the_options_is_one_sentence_that_names_them(tmp_path, shards, capsys, words, sentence):
    places = {"SHARDS": str(shards), "OUT": str(tmp_path / "out")}
    few = ["--shape", "tiny", "--context", "32", "--device", "cpu"]
    begun = [str(shards), "--out", str(tmp_path / "out"), *few, "--batch-size", "4", "--accumulate", "1"]
    if "9" in words:
        assert gpt2_recipe.main([*begun, "--steps", "1"]) == 0
        words = [*words, "--batch-size", "4", "--accumulate", "1"]
    assert gpt2_recipe.main([*(few if words else []), *(places.get(word, word) for word in words)]) == 1
    told = capsys.readouterr().err
    assert sentence in told and told.startswith("gpt2_recipe: ") and told.count("\n") == 1
    assert (tmp_path / "out").exists() == ("9" in words)


@pytest.mark.parametrize("pressed", ["in the trial", "in the training", "while saving"])
def test_ctrl_c_says_what_it_has_left(tmp_path, shards, capsys, monkeypatch, pressed):
    def press(*_, **__):
        raise KeyboardInterrupt

    if pressed == "in the trial":
        monkeypatch.setattr(gpt2_recipe, "_trial", press)
    else:
        monkeypatch.setattr(gpt2_recipe, "_show" if pressed == "in the training" else "save_model", press)
    words = [str(shards), "--out", str(tmp_path / "out"), "--shape", "tiny", "--context", "32", "--batch-size", "4",
             "--accumulate", "1", "--steps", "2", "--device", "cpu"]  # fmt: skip
    assert gpt2_recipe.main(words) == 130
    told = capsys.readouterr().err
    expected = {
        "in the trial": "\nStopped before anything was trained. The same command begins again.\n",
        "in the training": f"\nStopped; everything is saved in {tmp_path / 'out'}. The same command goes on.\n",
        "while saving": f"\nStopped; the last checkpoint stands in {tmp_path / 'out'}. The same command goes on.\n",
    }
    assert told == expected[pressed]
    monkeypatch.undo()
    monkeypatch.setitem(CORPUS_SHAPES, "tiny", TINY)
    assert gpt2_recipe.main(words) == 0 and (tmp_path / "out" / "model").is_dir()


def test_settings_of_before_there_were_masks_still_fit(tmp_path, shards):
    few = replace(SETTINGS, max_steps=2)
    train_on_corpus(shards, tmp_path, few, device="cpu")
    then = json.loads((tmp_path / "settings.json").read_text())
    del then["document_mask"], then["shards"]
    (tmp_path / "settings.json").write_text(json.dumps(then))
    assert len(train_on_corpus(shards, tmp_path, few, device="cpu").losses) == 2
    with pytest.raises(ValueError, match="document_mask was False, now True"):
        train_on_corpus(shards, tmp_path, replace(few, document_mask=True), device="cpu")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shape": "huge"}, "shape='huge' is unknown: choose one of small, 124M"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 10**6}, "give more text, or lower batch_size"),
        ({"max_steps": -1}, "max_steps=-1"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"accumulation_steps": 0}, "accumulation_steps=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"precision": "int8"}, "precision='int8'"),
        ({"share": True}, "sharing divides a model among processes, and this is one: start several with torchrun"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, shards, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        train_on_corpus(shards, tmp_path / "out", replace(SETTINGS, **changes), device="cpu")
    with pytest.raises(ValueError, match="holds no finished token shards"):
        train_on_corpus(tmp_path / "nowhere", tmp_path / "out", SETTINGS, device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_without_the_tokenizer_of_the_shards_nothing_is_begun(tmp_path, shards, capsys, content):
    shutil.copytree(shards, tmp_path / "shards")
    path = tmp_path / "shards" / "tokenizer.json"
    path.unlink() if content is None else path.write_bytes(content)
    words = [str(tmp_path / "shards"), "--out", str(tmp_path / "out"), "--shape", "tiny", "--context", "32",
             "--device", "cpu"]  # fmt: skip
    assert gpt2_recipe.main(words) == 1
    assert "tokenizer.json is missing or has changed: delete" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_mask_of_documents_is_an_option_of_the_command(tmp_path, shards):
    words = [str(shards), "--out", str(tmp_path), "--shape", "tiny", "--context", "32", "--steps", "1", "--batch-size",
             "4", "--accumulate", "1", "--device", "cpu"]  # fmt: skip
    assert gpt2_recipe.main([*words, "--document-mask"]) == 0
    assert json.loads((tmp_path / "settings.json").read_text())["document_mask"] is True
    assert gpt2_recipe.main(words) == 1, "another training"


def test_any_whole_number_is_a_seed(tmp_path, shards):
    settings = replace(SETTINGS, max_steps=1, seed=10**30)
    assert len(train_on_corpus(shards, tmp_path, settings, device="cpu").losses) == 1


def test_what_cannot_fit_is_refused_before_anything_is_written(tmp_path, shards, monkeypatch, capsys):
    monkeypatch.setattr(corpus_plan, "free_memory", lambda: 100_000)
    with pytest.raises(ValueError, match="takes about .* GB on each device and 0.0 GB are free: lower --batch-size"):
        train_on_corpus(shards, tmp_path / "out", SETTINGS, device="cpu")
    words = [str(shards), "--out", str(tmp_path / "out"), "--shape", "tiny", "--device", "cpu"]
    assert gpt2_recipe.main(words) == 1
    assert capsys.readouterr().err.startswith("gpt2_recipe: the training takes about ")
    assert not (tmp_path / "out").exists()


def test_without_validation_rows_it_trains_all_the_same(tmp_path, shards):
    text = tmp_path / "text.txt"
    text.write_text("\n<|endoftext|>\n".join(story.text for story in load_stories("train", n=30)), encoding="utf-8")
    tokenizer = BPETokenizer.train([text.read_text(encoding="utf-8")], 300, SPECIAL_TOKENS)
    write_token_shards([text], tmp_path / "shards", tokenizer, kept_aside=0.0)
    plans = []
    few = replace(SETTINGS, max_steps=2)
    history = train_on_corpus(tmp_path / "shards", tmp_path / "out", few, device="cpu", on_plan=plans.append)
    assert len(history.losses) == 2 and not history.val_losses
    assert "validation   none, because too little text was kept aside" in str(plans[0])


def test_validation_rows_that_fill_no_batch_are_looked_at_all_the_same(tmp_path, shards):
    plans = []
    n_rows = ShardLoader(shards, 32, 1, split="validation").n_windows
    wide = replace(SETTINGS, batch_size=n_rows + 1, accumulation_steps=1, max_steps=1)
    history = train_on_corpus(shards, tmp_path, wide, device="cpu", on_plan=plans.append)
    assert len(history.val_losses) == 1 and plans[0].validation_tokens == 32 * n_rows
    model, _ = load_model(tmp_path / "model")
    whole = evaluate(model, ShardLoader(shards, 32, n_rows, split="validation", shuffle=False))
    assert history.val_losses[0] == pytest.approx(whole, rel=1e-5)


def test_a_changed_byte_in_a_shard_is_found_where_asked(tmp_path, shards, capsys):
    shutil.copytree(shards, tmp_path / "shards")
    words = [str(tmp_path / "shards"), "--out", str(tmp_path / "out"), "--shape", "tiny", "--context", "32",
             "--batch-size", "4", "--accumulate", "1", "--steps", "1", "--device", "cpu", "--check-shards"]  # fmt: skip
    assert gpt2_recipe.main(words) == 0
    path = sorted((tmp_path / "shards").glob("train-*.npy"))[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert gpt2_recipe.main(words) == 1
    assert "has changed since it was written: delete" in capsys.readouterr().err


# ---------------------------------------------------------------- the plan


def test_the_plan_of_gpt2_is_that_of_a_pencil():
    config = TrainConfig(1000, accumulation_steps=64)
    shape = CORPUS_SHAPES["124M"].config(50_257, 1024)
    alone = plan_training(shape, 8, 1024, config)
    assert alone.n_parameters == 124_439_808 and alone.step_tokens == 8 * 1024 * 64
    assert [alone.memory[name] for name in ("weights", "gradients", "optimizer")] == [
        4 * 124_439_808,
        4 * 124_439_808,
        8 * 124_439_808,
    ]
    assert alone.flops == pytest.approx(flops_per_token(shape, 1024) * 524_288 * 1000)
    assert "on the way" not in alone.memory
    two = plan_training(shape, 8, 1024, config, world_size=2)
    assert two.memory["on the way"] == 4 * 124_439_808 and two.step_tokens == 2 * alone.step_tokens
    shares = plan_training(shape, 8, 1024, config, world_size=8, share=True)
    assert shares.memory["optimizer"] == 124_439_808 and shares.n_bytes < two.n_bytes
    half = plan_training(shape, 8, 1024, replace(config, precision="bfloat16"))
    assert half.memory["activations"] < alone.memory["activations"] < 2 * half.memory["activations"]
    assert alone.for_a_moment == 20 * 124_439_808 and shares.for_a_moment == 4 * 124_439_808
    assert alone.n_bytes_without_gpu >= alone.n_bytes
    small = plan_training(shape, 1, 64, config)
    assert small.n_bytes_without_gpu == 36 * 124_439_808 > small.n_bytes  # the state, and what is made to save it


PUBLISHED = {"124M": 124_439_808, "355M": 354_823_168, "774M": 774_030_080, "1558M": 1_557_611_200}


@pytest.mark.parametrize(("size", "published"), PUBLISHED.items())
def test_the_plan_prints_the_published_parameters_and_they_are_those_of_the_model(size, published):
    shape = CORPUS_SHAPES[size].config(50_257, 1024)
    plan = plan_training(shape, 8, 1024, TrainConfig(1000))
    assert f"parameters   {published:,}\n" in str(plan)
    with torch.device("meta"):
        assert GPTModel(shape).n_parameters == published == plan.n_parameters


def test_the_llama_shape_has_the_parameters_of_a_pencil():
    shape, width, middle = CORPUS_SHAPES["llama"].config(50_257, 1024), 768, 2048
    attention = 2 * width * width + 2 * width * (4 * 64) + 2 * 64  # q and out, k and v of 4 heads, two norms of a head
    block = attention + 3 * width * middle + 2 * width
    expected = 50_257 * width + 12 * block + width
    with torch.device("meta"):
        assert ModernGPT(shape).n_parameters == expected
    assert plan_training(shape, 8, 1024, TrainConfig(1000)).n_parameters == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("mask", [False, True], ids=["rows", "documents"])
@pytest.mark.parametrize("modern", [False, True], ids=["gpt2", "llama"])
def test_the_plan_says_what_the_forward_pass_keeps(modern, mask, precision):
    shape = ModernConfig(300, 128, 96, 4, 3, n_kv_heads=2) if modern else GPTConfig(300, 128, 96, 4, 3)
    torch.manual_seed(0)
    model, ids = corpus_plan.model_of(shape), torch.randint(300, (4, 129))
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    loss = loss_of_documents(5) if mask else loss_sum
    with saved_tensors_hooks(note, lambda tensor: tensor), arithmetic(torch.device("cpu"), precision):
        loss(model, ids[:, :-1], ids[:, 1:])
    plan = plan_training(shape, 4, 128, TrainConfig(1, precision=precision), document_mask=mask)
    promised = plan.memory["activations"] + plan.memory["attention"]
    found = sum(storage.nbytes() for storage in kept.values())
    assert 0.9 * found < promised < 1.15 * found


def test_the_plan_says_hours_after_the_trial(tmp_path, shards):
    plans = []
    settings = replace(SETTINGS, max_steps=1)
    train_on_corpus(shards, tmp_path / "out", settings, device="cpu", on_plan=plans.append)
    assert len(plans) == 2 and plans[0].seconds_per_step is None and plans[1].seconds_per_step > 0
    assert "not known yet" in str(plans[0]) and str(plans[0]).splitlines()[:-1] == str(plans[1]).splitlines()[:-1]
    hour = replace(plans[0], seconds_per_step=3.6, max_steps=1000, step_tokens=36)
    assert "about 60 min at 10 tokens/s" in str(hour)
    assert "about 10.0 hours at" in str(replace(hour, max_steps=10_000))
    assert "about 36 s at" in str(replace(hour, max_steps=10))


def test_the_rules_fill_in_what_is_left_open(tmp_path, shards):
    open_settings = replace(SETTINGS, accumulation_steps=None, max_steps=None)
    filled = gpt2_recipe._filled_in(
        replace(open_settings, shape="355M", context_length=1024, batch_size=8),
        {"vocab_size": 50_257, "train": [{"tokens": 10**12}]},
        torch.device("cpu"),
        8,
    )
    assert filled.accumulation_steps == 8 and filled.learning_rate == 3e-4  # 8 x 8 x 1,024 x 8 processes = 2**19
    assert filled.max_steps == 20 * 354_823_168 // 2**19 and filled.precision == "float32"
    history = train_on_corpus(shards, tmp_path / "out", replace(open_settings, batch_size=16), device="cpu")
    manifest = json.loads((shards / "manifest.json").read_text())
    assert len(history.losses) == sum(one["tokens"] for one in manifest["train"]) // 512
