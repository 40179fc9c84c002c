"""Claims about the recipe of the story GPT: it can be stopped, gone on with, loaded, and shared by two processes."""

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.testing import assert_close

from ch04_gpt_model.gpt_config import GPTConfig
from ch05_pretraining import story_recipe
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.run_settings import LARGEST_RUN_SEED, story_config
from ch05_pretraining.saved_models import load_model, load_story_gpt
from ch05_pretraining.story_recipe import train_story_gpt
from data.own_texts import read_own_text
from data.story_cache import world_hash
from tests.small_models import press_at, weights

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "n_stories": 64, "n_tokenizer_stories": 64, "vocab_size": 400, "n_minis": 64, "mini_steps": 3, "story_steps": 3,
    "batch_size": 4, "mini_batch_size": 4, "most_minis_in_a_row": 2, "warmup_steps": 1, "products": "linear",
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


@contextmanager
def steps_that_take(seconds, monkeypatch):
    """Let a clock run by so many seconds in each step, in which both optimizers move."""
    clock = [0.0]
    handle = register_optimizer_step_post_hook(lambda *_: clock.append(clock[-1] + seconds / 2))
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock[-1])
        yield
    handle.remove()


def test_minutes_become_steps_once_and_are_kept(tmp_path, monkeypatch):
    with steps_that_take(2.0, monkeypatch), pytest.raises(TrainingInterrupted, match="stopped after step 1 of 30"):
        train_story_gpt(tmp_path, quick=True, minutes=1, on_step=press_at(1))  # a minute holds 30 steps of 2 seconds
    with steps_that_take(4.0, monkeypatch), pytest.raises(TrainingInterrupted, match="stopped after step 2 of 30"):
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
        (b"", "the text has not one word: give at least 1,000 bytes"),
        (b"hi there", "the text has 8 bytes in 1 document: give at least 1,000 bytes"),
        (b"\xff\xfe\x00", "text.txt is UTF-16 text"),
        (None, "text.txt cannot be read"),
        (b" \n\t" * 9_000, "not one word"),
    ],
)
def test_a_text_that_teaches_nothing_is_refused_and_begins_nothing(tmp_path, content, sentence):
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        train_story_gpt(tmp_path / "run", text=path, quick=True)
    assert not (tmp_path / "run").exists()
    path.write_text(DIARY, encoding="utf-8")
    assert train_story_gpt(tmp_path / "run", text=path, quick=True).settings["text"]


def test_the_weights_that_predict_the_text_kept_aside_best_are_kept(tmp_path):
    looks = {}

    def look(progress):
        if progress.val_loss is not None:
            looks[progress.step] = progress.val_loss

    done = train_story_gpt(tmp_path, quick=True, text=DIARY, on_step=look)
    assert looks == dict(zip(done.history.val_steps, done.history.val_losses)) and len(looks) == 3
    best = min(done.history.val_losses)
    assert math.isclose(done.scores["validation"].nats_per_token, best, rel_tol=1e-5)
    kept = json.loads((tmp_path / "story_gpt" / "recipe.json").read_text(encoding="utf-8"))
    assert kept["kept_step"] == done.history.best_step and kept["steps"] == 3


@pytest.mark.parametrize("stop", [1, 2])
def test_a_text_run_that_was_stopped_ends_in_the_weights_of_one_that_was_not(tmp_path, stop):
    whole = train_story_gpt(tmp_path / "whole", quick=True, text=DIARY)
    with pytest.raises(TrainingInterrupted):
        train_story_gpt(tmp_path / "parts", quick=True, text=DIARY, on_step=press_at(stop))
    parts = train_story_gpt(tmp_path / "parts", quick=True, text=tmp_path / "parts" / "text.txt")
    assert_close(weights(parts.model), weights(whole.model), rtol=0, atol=0)
    assert parts.history.losses == whole.history.losses and parts.scores == whole.scores


def test_the_tokenizer_learns_nothing_from_what_is_kept_aside(tmp_path):
    text = DIARY + "\n" + "zyzzyva " * 120
    tokenizer = train_story_gpt(tmp_path, quick=True, text=text).tokenizer
    assert len(tokenizer.encode(" zyzzyva")) == len(" zyzzyva")


@pytest.mark.parametrize("own_text", [False, True])
def test_another_shape_is_kept_and_trained(tmp_path, own_text):
    config = story_config(n_layers=1, d_model=24, n_heads=3, vocab_size=520, context_length=256)
    text = DIARY if own_text else None
    done = train_story_gpt(tmp_path, quick=True, text=text, config=config)
    assert done.model.config.n_layers == 1 and done.model.config.d_ff == 96 and done.model.config.vocab_size <= 520
    assert done.settings["shape"] == config.to_dict() and done.settings["recipe"]["vocab_size"] == 520
    assert train_story_gpt(tmp_path, quick=True, text=text, config=config).history.losses == done.history.losses
    with pytest.raises(ValueError, match="n_layers was 1, now 2"):
        train_story_gpt(tmp_path, quick=True, text=text)


def test_the_text_may_be_named_by_a_string_and_given_in_parts(tmp_path):
    path = tmp_path / "diary.txt"
    path.write_text(DIARY, encoding="utf-8")
    ways = [path, str(path), DIARY, [str(path)], read_own_text(DIARY)]
    hashes = {story_recipe.begin_story_gpt(tmp_path / str(n), text=way)["text"] for n, way in enumerate(ways)}
    assert len(hashes) == 1
    with pytest.raises(ValueError, match="there is no file 'dairy.txt'"):
        train_story_gpt(tmp_path / "typo", text="dairy.txt")


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
    ("name", "sentence"),
    [
        ("tpu", "unknown: use one of auto, cpu, cuda, mps"),
        ("CPU", "unknown: use one of auto"),
        ("cuda:1", "unknown: use one of auto"),
        ("", "unknown: use one of auto"),
        ("mps", "not available: .*use device='cpu'"),
    ],
)
def test_a_device_that_is_not_there_is_named_before_anything_is_made(tmp_path, monkeypatch, name, sentence):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device='{name}' is {sentence}"):
        train_story_gpt(tmp_path / "run", quick=True, device=name)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seed": 0}'])
def test_damaged_settings_are_named(tmp_path, damage):
    (tmp_path / "settings.json").write_text(damage, encoding="utf-8")
    with pytest.raises(ValueError, match=r"settings\.json is damaged.*choose another folder"):
        train_story_gpt(tmp_path, quick=True)


# ---------------------------------------------------------------- settings: checked first, whole, and kept


def test_settings_are_whole_before_the_first_work_and_the_same_at_the_end(tmp_path, monkeypatch):
    seen = []

    def look(*_, **__):
        seen.append(json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8")))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(story_recipe.BPETokenizer, "train", look)
        for minutes in (None, 1):
            with pytest.raises(KeyboardInterrupt):
                train_story_gpt(tmp_path / "run", quick=True, seed=3, text=DIARY, minutes=minutes)
            assert (tmp_path / "run" / "text.txt").read_text(encoding="utf-8") == DIARY + "\n"
            os.rename(tmp_path / "run", tmp_path / f"run-{minutes}")
    plain, timed = seen
    assert plain["seed"] == 3 and plain["quick"] and plain["device"] == "cpu" and plain["world"] is None
    assert plain["shape"] == GPTConfig.story().to_dict() and plain["recipe"]["keep_best"]
    assert timed == plain | {"minutes": 1.0, "recipe": None}
    settings = train_story_gpt(tmp_path / "run-None", quick=True, seed=3, text=DIARY).settings
    assert settings == plain == json.loads((tmp_path / "run-None" / "settings.json").read_text(encoding="utf-8"))


BAD = [
    {"seed": -1}, {"seed": 2**32}, {"seed": 1.5}, {"seed": True}, {"seed": "1"}, {"minutes": 0}, {"minutes": math.nan},
    {"minutes": -math.inf}, {"minutes": 1e9}, {"minutes": "5"}, {"quick": 1}, {"device": "gpu"}, {"text": 3},
    {"config": GPTConfig(500, 320, 2048, 4, 64)}, {"config": GPTConfig(300, 320, 32, 2, 2)},
    {"config": GPTConfig(600, 100, 32, 2, 2)}, {"config": GPTConfig(600, 320, 4, 2, 2)},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD, ids=str)
@pytest.mark.parametrize("call", [train_story_gpt, story_recipe.begin_story_gpt])
def test_an_option_that_cannot_be_used_is_refused_and_begins_nothing(tmp_path, call, options):
    with pytest.raises(ValueError) as caught:
        call(tmp_path / "run", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_the_largest_seed_fits_every_generator():
    """With a billion steps and a thousand processes; the formulas are those of `train` and of the curriculum."""
    seed, step, rank = LARGEST_RUN_SEED, 10**9, 1023
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
    torch.Generator().manual_seed(seed * 1_000_003 + step)
    with pytest.raises((ValueError, RuntimeError)):
        torch.manual_seed(5 * seed * 1_000_003 * 1_009)


def test_another_number_type_is_the_same_option(tmp_path):
    numpy = pytest.importorskip("numpy")
    begun = story_recipe.begin_story_gpt(tmp_path, seed=numpy.int64(3), minutes=2, quick=True)
    assert begun == story_recipe.begin_story_gpt(tmp_path, seed=3, minutes=numpy.float32(2), quick=True)


def test_a_run_whose_settings_are_gone_is_not_begun_anew_among_its_results(tmp_path):
    train_story_gpt(tmp_path, quick=True, text=DIARY)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match="holds checkpoints, but that run's settings.json is gone: bring it back"):
        train_story_gpt(tmp_path, quick=True, text=DIARY)


def test_settings_of_a_newer_course_are_refused(tmp_path):
    (tmp_path / "settings.json").write_text('{"format": 3, "seed": 0}', encoding="utf-8")
    with pytest.raises(ValueError, match="has format 3, this course reads up to 2: update the course"):
        train_story_gpt(tmp_path, quick=True)


def test_a_notebook_does_not_train_where_another_process_does(tmp_path):
    refused = []

    def another(progress):
        if progress.step == 1:
            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

    def attempt():
        try:
            train_story_gpt(tmp_path, quick=True, text=DIARY)
        except ValueError as error:
            refused.append(str(error))

    train_story_gpt(tmp_path, quick=True, text=DIARY, on_step=another)
    assert len(refused) == 1 and "another process is at work in" in refused[0]


# ---------------------------------------------------------------- runs of the course before one settings file


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """Those runs where the course looks for runs, and the sizes with which they were made."""
    sizes = {"vocab_size": 272, "n_stories": 16, "n_tokenizer_stories": 16, "n_minis": 16}
    monkeypatch.setattr(story_recipe, "QUICK", story_recipe.QUICK | sizes)
    monkeypatch.setattr(GPTConfig, "story", classmethod(lambda cls: cls(272, 64, 8, 2, 1)))
    return Path(shutil.copytree(ROOT / "tests" / "fixtures" / "earlier_runs", tmp_path / "runs"))


def test_a_story_run_of_an_earlier_course_goes_on_to_the_same_losses(earlier):
    settings = earlier / "stopped-stories" / "settings.json"
    kept = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(kept | {"world": "another world"}), encoding="utf-8")
    with pytest.raises(ValueError, match="the course's stories have changed since .*stopped-stories was begun"):
        train_story_gpt(earlier / "stopped-stories", quick=True, seed=4)
    settings.write_text(json.dumps(kept | {"world": world_hash()[:16]}), encoding="utf-8")  # the text is still the same
    with pytest.raises(ValueError, match="seed was 4, now 0"):
        train_story_gpt(earlier / "stopped-stories", quick=True)
    done = train_story_gpt(earlier / "stopped-stories", quick=True, seed=4)
    expected = json.loads((earlier / "expected.json").read_text(encoding="utf-8"))["losses"]
    assert_close(done.history.losses, expected, rtol=1e-3, atol=1e-3)
    assert done.history.losses[:4] == expected[:4]  # from its checkpoint
    kept = json.loads(settings.read_text(encoding="utf-8"))
    assert kept["format"] == 2 and kept["device"] == "cpu" and kept["seed"] == 4


@pytest.mark.parametrize("name", ["finished-text", "stopped-text"])
def test_a_text_run_of_an_earlier_course_is_refused_by_name_and_its_model_opens(earlier, name):
    before = {path: path.read_bytes() for path in (earlier / name).rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"{name} was begun by an earlier version .*text.txt can begin another run"):
        train_story_gpt(earlier / name, quick=True, text=earlier / name / "text.txt")
    assert before == {path: path.read_bytes() for path in (earlier / name).rglob("*") if path.is_file()}
    if name == "finished-text":
        model, tokenizer = load_story_gpt(name)
        assert tokenizer.decode(tokenizer.encode("the fox")) == "the fox" and model.config == GPTConfig.story()
    again = train_story_gpt(earlier / "anew", quick=True, text=earlier / name / "text.txt")
    assert again.settings["text"]


def test_a_run_of_an_earlier_course_that_had_only_begun_begins_as_it_was_meant(earlier):
    with pytest.raises(ValueError, match="seed was 5, now 0"):
        train_story_gpt(earlier / "begun-text", quick=True, text=earlier / "begun-text" / "text.txt")
    done = train_story_gpt(earlier / "begun-text", quick=True, seed=5, text=earlier / "begun-text" / "text.txt")
    assert done.settings["format"] == 2 and done.settings["text"] and (earlier / "begun-text" / "story_gpt").is_dir()
