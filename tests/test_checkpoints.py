"""Files survive kill -9, damage is always seen, and nothing in a file can run code."""

import errno
import json
import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint, unique_tensors
from ch05_pretraining.pretraining import TrainConfig, make_optimizers, train
from ch05_pretraining.saved_models import load_model, load_story_gpt, save_model
from data.durable_folders import CheckpointError, json_bytes, read_folder, write_folder
from tests.sizes import n
from tests.small_models import TINY, random_batches, tiny_model, weight_vector

REMEDY = "delete|choose another|make it again|update|start again|train with"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="killing a copy of this process needs os.fork")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three checkpoints of one run, of which two are kept."""
    folder = tmp_path_factory.mktemp("saved")
    model = tiny_model()
    optimizers = make_optimizers(model, TrainConfig(9, optimizer="muon"))
    model(random_batches(1)[0][0]).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    for step in (1, 2, 3):
        save_checkpoint(folder, step, model, optimizers, {"note": f"å {step}"})
    return folder, model, optimizers


@pytest.fixture
def copied(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run"


def test_the_two_newest_are_kept_and_come_back_as_they_were(saved):
    folder, model, optimizers = saved
    assert [p.name for p in list_checkpoints(folder)] == ["step-00000003", "step-00000002"]
    checkpoint = load_checkpoint(folder)
    other = tiny_model(seed=1)
    fresh = make_optimizers(other, TrainConfig(9, optimizer="muon"))
    checkpoint.restore(other, fresh)
    assert checkpoint.step == 3 and checkpoint.extra == {"note": "å 3"}
    assert torch.equal(weight_vector(other), weight_vector(model))
    for mine, theirs in zip(fresh, optimizers):
        mine, theirs = mine.state_dict()["state"], theirs.state_dict()["state"]
        assert mine.keys() == theirs.keys() and len(mine)
        for index in mine:
            assert mine[index].keys() == theirs[index].keys()
            assert all(torch.equal(mine[index][k], theirs[index][k]) for k in mine[index])


def test_shared_weights_are_stored_once_and_stay_shared(saved):
    stored = load_checkpoint(saved[0]).model
    assert "token_embedding.weight" in stored and "head.weight" not in stored
    other = tiny_model(seed=1)
    load_checkpoint(saved[0]).restore(other)
    assert other.head.weight is other.token_embedding.weight


def damage(folder, chance):
    """Spoil one file of a checkpoint in one of the ways that happen; say how."""
    file = chance.choice(sorted(folder.iterdir()))
    content = file.read_bytes()
    ways = {
        "flip": lambda: flip(content, chance),
        "truncate": lambda: content[: chance.randrange(len(content))],
        "append": lambda: content + bytes([chance.randrange(256)]),
        "empty": lambda: b"",
        "web page": lambda: b"<!DOCTYPE html><html><body>Not found</body></html>",
        "zeros": lambda: bytes(len(content)),
        "pickle": lambda: pickle.dumps({"weights": [1, 2, 3]}),
        "swap": lambda: chance.choice([p for p in sorted(folder.iterdir()) if p != file]).read_bytes(),
        "delete": None,
    }
    way = chance.choice(list(ways))
    if way == "delete":
        file.unlink()
    else:
        file.write_bytes(ways[way]())
    return f"{way} {file.name}", file.read_bytes() != content if file.exists() else True


def flip(content, chance):
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def test_damaged_checkpoints_are_always_refused_with_a_remedy(copied):
    chance, good = random.Random(0), {p.name: p.read_bytes() for p in (copied / "step-00000003").iterdir()}
    folder = copied / "step-00000003"
    for _ in range(n(500, 5_000)):
        for name, content in good.items():
            (folder / name).write_bytes(content)
        what, changed = damage(folder, chance)
        if changed:
            with pytest.raises(CheckpointError, match=REMEDY):
                load_checkpoint(folder)
                pytest.fail(f"accepted after: {what}")


def test_the_loader_falls_back_to_the_newest_good_one_and_says_so(copied):
    (copied / "step-00000003" / "model.safetensors").write_bytes(b"short")
    with pytest.warns(UserWarning, match="fell back to .*step-00000002.*damaged"):
        assert load_checkpoint(copied).step == 2
    shutil.rmtree(copied / "step-00000002")
    with pytest.raises(CheckpointError, match="start again"):
        load_checkpoint(copied)
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        load_checkpoint(copied / "nowhere")


def test_a_newer_format_names_the_remedy(copied):
    folder = copied / "step-00000003"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_bytes(json_bytes(manifest | {"format": 2}))
    with pytest.raises(CheckpointError, match="update the course"):
        load_checkpoint(folder)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_with_a_valid_manifest_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    write_folder(tmp_path / "step-00000001", {name: bomb for name in ("model.safetensors", "optimizer.safetensors",
                                                                      "state.json", "config.json")})  # fmt: skip
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(tmp_path / "step-00000001")
    with pytest.raises(CheckpointError, match="does not hold a model"):
        load_model(tmp_path / "step-00000001")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["../outside.json", "/etc/passwd", "a/b"])
def test_a_manifest_cannot_point_outside_its_folder(tmp_path, name):
    folder = write_folder(tmp_path / "one", {"a": b"1"})
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"][name] = manifest["files"].pop("a")
    (folder / "manifest.json").write_bytes(json_bytes(manifest))
    with pytest.raises(CheckpointError, match="damaged"):
        read_folder(folder)


def test_another_model_is_refused_before_a_weight_changes(saved):
    other = tiny_model(n_layers=1)
    before = weight_vector(other).clone()
    with pytest.raises(CheckpointError, match="holds another model"):
        load_checkpoint(saved[0]).restore(other)
    wide = tiny_model(context_length=16)
    with pytest.raises(CheckpointError, match=r"position_embedding.weight is \(32, 32\) there and \(16, 32\)"):
        load_checkpoint(saved[0]).restore(wide)
    assert torch.equal(weight_vector(other), before)


# ---------------------------------------------------------------- kills


def child(work):
    """Start a copy of this process that does the work and ends; return its id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def seconds_of(work, times=1):
    begun = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begun) / times


def kill_after(pid, seconds):
    """Kill -9 a child after a while; say whether it was still running."""
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


@needs_fork
def test_kill_while_saving_never_leaves_an_unreadable_run(tmp_path):
    chance, model = random.Random(1), tiny_model()
    optimizers = make_optimizers(model, TrainConfig(9))
    folder, killed, newest = tmp_path / "run", 0, 0
    duration = seconds_of(lambda: save_checkpoint(folder, 0, model, optimizers), times=5)

    def save_forever():
        for step in range(newest + 1, 100_000):
            save_checkpoint(folder, step, model, optimizers)

    while killed < n(100, 1_000) or newest <= n(10, 100):  # a busy machine needs more kills to get anywhere
        assert kill_after(child(save_forever), chance.random() * 4 * duration)
        killed += 1
        step = load_checkpoint(folder).step  # a warning would fail: nothing may need a fall-back
        assert step >= newest
        newest = step
        assert killed < 20 * n(100, 1_000), f"{killed} kills, and only {newest} checkpoints in between"
    save_checkpoint(folder, newest + 1, model, optimizers)
    assert len(list_checkpoints(folder)) == 2


@needs_fork
def test_kill_while_replacing_a_model_leaves_the_old_or_the_new_one(tmp_path):
    chance, folder = random.Random(2), tmp_path / "model"
    duration = seconds_of(lambda: write_folder(folder, {"a": b"0" * 1000}), times=5)

    def replace_forever():
        for number in range(100_000):
            write_folder(folder, {"a": str(number % 10).encode() * 1000})

    for _ in range(n(40, 1_000)):
        kill_after(child(replace_forever), chance.random() * 4 * duration)
        content = read_folder(folder)["a"]
        assert content == content[:1] * 1000


@needs_fork
def test_kill_while_training_ends_in_the_same_bits(tmp_path):
    chance, data = random.Random(3), random_batches(5)
    config = TrainConfig(60, optimizer="muon", eval_every=10, checkpoint_every=2)
    whole = tiny_model(dropout=0.1)
    duration = seconds_of(lambda: train(whole, data, data[:1], config, checkpoint_dir=tmp_path / "whole"))
    folder = tmp_path / "killed"

    def work():
        train(tiny_model(dropout=0.1), data, data[:1], config, checkpoint_dir=folder, resume=True)

    for _ in range(8):
        kills = 0
        while kills < n(10, 400) and not (folder / "step-00000060").exists():
            kills += kill_after(child(work), (0.1 + 0.2 * chance.random()) * duration)
        if kills >= 3:
            break
        shutil.rmtree(folder)  # the time was taken in a slow moment, the kills came too late: again, sooner
        duration /= 2
    assert kills >= 3 and list_checkpoints(folder)
    resumed = tiny_model(seed=3, dropout=0.1)
    history = train(resumed, data, data[:1], config, checkpoint_dir=folder, resume=True)
    assert history.steps == list(range(1, 61))
    assert torch.equal(weight_vector(resumed), weight_vector(whole))


# ---------------------------------------------------------------- disks


@pytest.mark.parametrize("call, number", [("fsync", errno.ENOSPC), ("fsync", errno.EDQUOT), ("replace", errno.EACCES)])
def test_a_full_or_closed_disk_gets_a_sentence_and_spoils_nothing(copied, saved, monkeypatch, call, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    before = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(CheckpointError, match=r"could not write .*it needs \d+\.\d MB.*untouched"):
            save_checkpoint(copied, 4, saved[1], saved[2])
    assert {p: p.read_bytes() for p in copied.rglob("*") if p.is_file()} == before
    assert load_checkpoint(copied).step == 3


def test_a_folder_with_somebody_elses_files_is_never_replaced(tmp_path):
    ours, new = {"a": b"1", "b": b"2"}, {"a": b"3"}
    for name, spoil in {
        "a file": lambda folder: (folder / "notes.txt").write_text("mine", encoding="utf-8"),
        "a folder": lambda folder: (folder / "data").mkdir(),
        "a hidden folder": lambda folder: (folder / ".git").mkdir(),
        "nothing of ours": lambda folder: [path.unlink() for path in folder.iterdir()] and (folder / "c").touch(),
    }.items():
        folder = write_folder(tmp_path / name, ours)
        spoil(folder)
        before = {path: path.is_file() and path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(CheckpointError, match="it holds what this course did not write .*: choose another folder"):
            write_folder(folder, new)
        assert {path: path.is_file() and path.read_bytes() for path in folder.iterdir()} == before
    for name, spoil in {
        "as it was": lambda folder: None,
        "empty": lambda folder: [path.unlink() for path in folder.iterdir()],
        "looked at": lambda folder: (folder / ".DS_Store").touch(),
        "damaged": lambda folder: [(folder / "manifest.json").write_bytes(b"{"), (folder / "b").unlink()],
    }.items():
        folder = write_folder(tmp_path / name, ours)
        spoil(folder)
        assert read_folder(write_folder(folder, new)) == new
    with pytest.raises(CheckpointError, match="has no name of its own"):
        write_folder(".", new)


def test_the_folder_one_stands_in_can_be_read(tmp_path, tokenizer, monkeypatch):
    monkeypatch.chdir(save_model(tmp_path / "m", tiny_model(), tokenizer, {}))
    for here in (".", "", Path(), "../m", "../m/."):
        assert load_model(here)[0].config == TINY
    assert load_story_gpt(".")[0].config == TINY


def test_a_file_where_the_folder_should_be_gets_a_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(CheckpointError, match="choose another folder"):
        save_checkpoint(tmp_path / "taken", 1, tiny_model())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_gets_a_sentence(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="could not write"):
        save_checkpoint(tmp_path / "run", 1, tiny_model())


def test_windows_busy_errors_are_waited_out(tmp_path, monkeypatch):
    real, refusals = os.replace, iter([5, 32, 33])

    def busy(source, target):
        if number := next(refusals, 0):
            error = PermissionError(errno.EACCES, "busy")
            error.winerror = number
            raise error
        real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    assert read_folder(write_folder(tmp_path / "one", {"a": b"1"})) == {"a": b"1"}


# ---------------------------------------------------------------- finished models


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train("the cat sat on the mat " * 5, 300, SPECIAL_TOKENS)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 0.0), ("float16", 2e-3)])
def test_a_model_comes_back_with_its_tokenizer(tmp_path, tokenizer, dtype, tolerance):
    model = tiny_model(vocab_size=tokenizer.vocab_size).eval()
    save_model(tmp_path / "m", model, tokenizer, {"seed": 0}, dtype)
    loaded, read = load_model(tmp_path / "m")
    ids = torch.tensor([read.encode("the cat")])
    assert (loaded(ids) - model(ids)).abs().max() <= tolerance and not loaded.training
    assert read.merges == tokenizer.merges and read.special_tokens == tokenizer.special_tokens
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors", "tokenizer.json",
                                                            "recipe.json", "manifest.json"}  # fmt: skip
    sizes = (tmp_path / "m" / "model.safetensors").stat().st_size
    assert sizes < model.n_parameters * (4 if dtype == "float32" else 2) + 10_000
    with pytest.raises(ValueError, match="use 'float16' or 'float32'"):
        save_model(tmp_path / "m", model, tokenizer, {}, "int8")


def test_a_model_can_be_replaced_and_a_kill_between_the_renames_is_survived(tmp_path, tokenizer):
    first, second = tiny_model(0), tiny_model(1)
    for model in (first, second):
        save_model(tmp_path / "m", model, tokenizer, {})
    assert torch.equal(weight_vector(load_model(tmp_path / "m")[0]), weight_vector(second))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    os.replace(tmp_path / "m", tmp_path / ".m.old")
    assert torch.equal(weight_vector(load_model(tmp_path / "m")[0]), weight_vector(second))


def test_a_run_is_found_by_its_name(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path))
    with pytest.raises(CheckpointError, match="none yet"):
        load_story_gpt("mine")
    model = tiny_model()
    save_model(tmp_path / "mine" / "story_gpt", model, tokenizer, {})
    assert torch.equal(weight_vector(load_story_gpt("mine")[0]), weight_vector(model))
    with pytest.raises(CheckpointError, match="runs with one: mine"):
        load_story_gpt("other")


def test_tensors_are_named_once_each_and_buffers_that_are_kept_are_included():
    model = tiny_model()
    model.register_buffer("kept", torch.ones(2))
    model.register_buffer("forgotten", torch.ones(2), persistent=False)
    names = unique_tensors(model)
    assert "kept" in names and "forgotten" not in names and "head.weight" not in names
    assert len({t.data_ptr() for t in names.values()}) == len(names)
    assert TINY.tie_weights
