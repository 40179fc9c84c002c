"""Claims about the recipe of the story GPT: it can be stopped, gone on with, loaded, and shared by two processes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ch04_gpt_model.gpt_model import GPTConfig
from ch05_pretraining import story_recipe
from ch05_pretraining.checkpoints import load_model, load_story_gpt
from ch05_pretraining.pretraining import TrainingInterrupted
from ch05_pretraining.story_recipe import train_story_gpt
from tests.small_models import press_at, weights

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "n_stories": 64, "n_tokenizer_stories": 64, "vocab_size": 400, "n_minis": 64, "mini_steps": 3, "story_steps": 3,
    "batch_size": 4, "mini_batch_size": 4, "most_minis_in_a_row": 2, "warmup_steps": 1, "precision": "float32",
    "eval_every": 3, "n_watched": 4, "n_validation": 4, "n_heldout": 2,
}  # fmt: skip
DIARY = "\n".join(f"On day {i} the fox and the owl walked {i % 7} miles and found a red button." for i in range(160))
WORKER = """
import sys
from ch05_pretraining import story_recipe
from tests import test_story_recipe
test_story_recipe.make_small(story_recipe)
story_recipe.main(sys.argv[1:])
"""


def make_small(recipe) -> None:
    """Shrink the sizes of a quick run and of its model, so that it takes a moment."""
    recipe.QUICK.update(SMALL)
    recipe.GPTConfig.story = classmethod(lambda cls: cls(400, 320, 32, 2, 2))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(story_recipe, "QUICK", dict(story_recipe.QUICK))
    monkeypatch.setattr(GPTConfig, "story", GPTConfig.__dict__["story"])
    make_small(story_recipe)


# ---------------------------------------------------------------- from the first step to the last


@pytest.mark.parametrize("stop", [2, 4])  # among the very short stories, and among the whole ones
def test_a_run_that_was_stopped_ends_in_the_weights_of_one_that_was_not(tmp_path, stop):
    whole = train_story_gpt(tmp_path / "whole", quick=True, seed=3)
    with pytest.raises(TrainingInterrupted, match=f"stopped after step {stop} of 6"):
        train_story_gpt(tmp_path / "parts", quick=True, seed=3, on_step=press_at(stop))
    parts = train_story_gpt(tmp_path / "parts", quick=True, seed=3)
    assert_close(weights(parts.model), weights(whole.model), rtol=0, atol=0)
    assert parts.history.losses == whole.history.losses and parts.scores == whole.scores


def test_a_finished_run_is_only_loaded(tmp_path):
    first = train_story_gpt(tmp_path, quick=True)
    again = train_story_gpt(tmp_path, quick=True, on_step=lambda _: pytest.fail("it trained again"))
    assert_close(weights(again.model), weights(first.model), rtol=0, atol=0)
    assert again.scores == first.scores and again.history.losses == first.history.losses
    assert set(first.scores) == {"validation", *story_recipe.HELD_OUT}
    assert all(math.isfinite(score.bits_per_word) for score in first.scores.values())


def test_a_damaged_model_is_made_again_from_the_last_checkpoint(tmp_path):
    first = train_story_gpt(tmp_path, quick=True)
    (tmp_path / "story_gpt" / "model.safetensors").write_bytes(b"short")
    again = train_story_gpt(tmp_path, quick=True)
    assert_close(weights(again.model), weights(first.model), rtol=0, atol=0)
    assert load_model(tmp_path / "story_gpt")


@pytest.mark.parametrize("other", [{"seed": 1}, {"quick": False}, {"minutes": 2.0}, {"text": DIARY}])
def test_a_run_keeps_its_settings(tmp_path, other):
    with pytest.raises(TrainingInterrupted):
        train_story_gpt(tmp_path, quick=True, on_step=press_at(1))
    with pytest.raises(ValueError, match=rf"other settings \(.*{next(iter(other))} was .*choose another folder"):
        train_story_gpt(tmp_path, **{"quick": True} | other)
    with pytest.raises(ValueError, match="holds a run already"):
        train_story_gpt(tmp_path, quick=True, resume=False)


def test_minutes_become_steps_once_and_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(story_recipe, "_seconds_per_step", lambda *_: 2.0)
    with pytest.raises(TrainingInterrupted, match="of 30"):  # 6 steps of 2 s would last 12 s; a minute holds 30
        train_story_gpt(tmp_path, quick=True, minutes=1, on_step=press_at(1))
    monkeypatch.setattr(story_recipe, "_seconds_per_step", lambda *_: pytest.fail("measured again"))
    with pytest.raises(TrainingInterrupted, match="stopped after step 2 of 30"):
        train_story_gpt(tmp_path, quick=True, minutes=1, on_step=press_at(2))


# ---------------------------------------------------------------- a text of one's own


def test_a_text_of_ones_own_is_learned_from_the_command_line(tmp_path, capsys):
    (tmp_path / "diary.txt").write_text(DIARY, encoding="utf-8")
    story_recipe.main(["--text", str(tmp_path / "diary.txt"), "--quick", "--name", "diary"])
    told = capsys.readouterr().out
    assert "bits per word" in told and "times the floor" not in told  # nobody knows the floor of a diary
    assert str(tmp_path / "runs" / "diary" / "story_gpt") in told
    model, tokenizer = load_story_gpt("diary")
    assert tokenizer.decode(tokenizer.encode("the fox and the owl")) == "the fox and the owl"
    settings = json.loads((tmp_path / "runs" / "diary" / "settings.json").read_text(encoding="utf-8"))
    assert settings["recipe"]["mini_steps"] == 0 and settings["world"] is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "0 characters and not one word"),
        (b"hi there", "give a text of several thousand"),
        (b"\xff\xfe\x00", "no readable UTF-8 text"),
        (None, "no readable UTF-8 text .*give the path of a plain text file"),
        (b" \n\t" * 9_000, "27,000 characters and not one word"),
    ],
)
def test_a_text_that_teaches_nothing_is_refused(tmp_path, content, sentence):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        train_story_gpt(tmp_path / "run", text=path, quick=True)


def test_the_module_is_a_command_of_its_own():
    command = [sys.executable, "-m", "ch05_pretraining.story_recipe", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(option in done.stdout for option in ("--text", "--minutes", "--seed", "--device", "--quick", "--name"))


# ---------------------------------------------------------------- two processes, other devices


@pytest.mark.parametrize("own_text", [False, True])
def test_torchrun_with_two_processes_makes_the_model_of_one(tmp_path, own_text):
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    (tmp_path / "diary.txt").write_text(DIARY, encoding="utf-8")
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    words = ["--quick", "--name", "two", *(["--text", str(tmp_path / "diary.txt")] if own_text else [])]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(tmp_path / "worker.py"), *words], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("model in ") == 1
    alone = train_story_gpt(tmp_path / "one", quick=True, text=tmp_path / "diary.txt" if own_text else None)
    together, _ = load_story_gpt("two")
    for name, two in weights(together).items():
        one = weights(alone.model)[name]
        if "embedding" not in name:
            assert_close(two, one, rtol=1e-3, atol=1e-4, msg=lambda told, name=name: f"{name}: {told}")
        else:  # AdamW makes a step of the rounding where a row's gradient is nearly zero
            assert (~torch.isclose(two, one, rtol=1e-3, atol=1e-4)).float().mean() <= 1e-3, name
            assert_close(two, one, rtol=1e-3, atol=3e-3)


@pytest.mark.parametrize(
    ("name", "sentence"), [("tpu", "use one of auto, cpu, cuda, mps"), ("mps", "use device='cpu'")]
)
def test_a_device_that_is_not_there_is_named_before_anything_is_made(tmp_path, monkeypatch, name, sentence):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device='{name}' is .*{sentence}"):
        train_story_gpt(tmp_path / "run", quick=True, device=name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seed": 0}'])
def test_damaged_settings_are_named(tmp_path, damage):
    (tmp_path / "settings.json").write_text(damage, encoding="utf-8")
    with pytest.raises(ValueError, match=r"settings\.json is damaged.*choose another folder"):
        train_story_gpt(tmp_path, quick=True)
