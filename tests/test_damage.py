"""Files that the course wrote and that were cut, flipped or swapped since: refused in a sentence, or harmless.

Checkpoints have their own tests (tests/test_checkpoints.py), GGUF files too (tests/test_gguf_files.py). Here is each
other kind of file that the course reads again. Where a hash guards it, damage is refused or changes nothing; where none
does, a text may have changed, and then whatever is read is still of the right kind or refused.
"""

import pickle
import random
import warnings
from types import SimpleNamespace

import pytest
import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.shard_loader import ShardLoader, require_whole_shards
from ch02_text_data.text_data import BPETokenizer
from ch02_text_data.token_shards import write_token_shards
from ch05_pretraining.hugging_face import export_hugging_face
from ch05_pretraining.open_weights import load_pretrained
from ch05_pretraining.run_settings import FORMAT, PARTS, keep_settings, stored_settings
from ch05_pretraining.saved_models import load_model, save_model
from ch06_finetuning.finetuned_models import load_classifier, load_finetuned, save_classifier, save_finetuned
from ch06_finetuning.finetuning import GPTClassifier
from ch06_finetuning.lora import apply_lora
from data import files, story_cache
from data.story_world.marking import Instruction
from data.story_world.message_task import Message
from shared.commands.own_models import begun_with, keep_rows, kept_rows, never_begun
from shared.commands.run import Run
from tests.sizes import n
from tests.small_models import tiny_model

TEXT = "the cat sat on the mat and the dog sat on the cat "


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT * 5, 300, SPECIAL_TOKENS)


def weights_of(model) -> dict:
    return {name: tensor.tolist() for name, tensor in model.state_dict().items()}


MESSAGES = [Message("a cat", "ham"), Message("a dog", "spam")]
INSTRUCTIONS = [
    Instruction("own", "Say a.", "a", ("a",), (("Say b.", "b"),)),
    Instruction("own", "Say c.", "c", ("c",)),
]
SETTINGS = {"base": "story", "lora": False, "epochs": 3, "seed": 0}
ABOUT = {"kind": "instructions", "settings": SETTINGS, "file": "own.jsonl", "sha256": "0" * 64}


def rows_in(folder, kind, rows):
    split = SimpleNamespace(train=rows, validation=rows[:1], test=rows[-1:])
    keep_rows(folder, split, ABOUT | {"kind": kind})


def read_rows(folder, kind):
    return begun_with(folder), kept_rows(folder, kind)


def write_shards(folder, tokenizer):
    folder.mkdir()
    (folder.parent / "a.txt").write_text(TEXT * 40, encoding="utf-8")
    write_token_shards([folder.parent / "a.txt"], folder, tokenizer, kept_aside=0.0, shard_tokens=300)


def read_shards(folder):
    require_whole_shards(folder)
    loader = ShardLoader(folder, 16, 2, shuffle=False)
    return [(ids.tolist(), targets.tolist()) for ids, targets in loader]


def small(tokenizer):
    return tiny_model(vocab_size=tokenizer.vocab_size)


# kind of file -> how it is made in a folder, how it is read again, and whether hashes guard it all
KINDS = {
    "a model": (lambda folder, t: save_model(folder, small(t), t, {"seed": 0}), load_model, True),
    "a classifier": (
        lambda folder, t: save_classifier(folder, GPTClassifier(small(t), 2), t, ["no", "yes"], {}),
        load_classifier,
        True,
    ),
    "a model with LoRA": (
        lambda folder, t: save_finetuned(folder, apply_lora(small(t), 2, 4.0), t, {}),
        load_finetuned,
        True,
    ),
    "stories": (
        lambda folder, t: story_cache.cached_stories(folder, "train", 2, 0, mini=True),
        lambda folder: story_cache.cached_stories(folder, "train", 2, 0, mini=True),
        True,
    ),
    "token shards": (write_shards, read_shards, False),  # all ids are guarded, what the manifest says of itself is not
    "a tokenizer": (
        lambda folder, t: folder.mkdir() or t.save(folder / "tokenizer.json"),
        lambda folder: BPETokenizer.load(folder / "tokenizer.json"),
        False,
    ),
    "a folder for transformers": (lambda folder, t: export_hugging_face(small(t), t, folder), load_pretrained, False),
    "a run's settings": (
        lambda folder, t: folder.mkdir() or keep_settings(folder, {**dict.fromkeys(PARTS, 1), "format": FORMAT}),
        stored_settings,
        False,
    ),
    "a run's results": (
        lambda folder, t: folder.mkdir() or Run(folder, {}).save(),
        lambda folder: Run(folder, {}).state,
        False,
    ),
    "own messages": (
        lambda folder, t: rows_in(folder, "messages", MESSAGES),
        lambda folder: read_rows(folder, "messages"),
        False,
    ),
    "own instructions": (
        lambda folder, t: rows_in(folder, "instructions", INSTRUCTIONS),
        lambda folder: read_rows(folder, "instructions"),
        False,
    ),
}


def comparable(value):
    """Give what two readings may be compared by: of a model its weights, of a tokenizer what it reads a text as."""
    if isinstance(value, tuple):
        return [comparable(part) for part in value]
    if isinstance(value, torch.nn.Module):
        return type(value).__name__, weights_of(value), getattr(value, "labels", None)
    return value.encode(TEXT) if hasattr(value, "encode") and not isinstance(value, str) else value


def spoil(content: bytes, others: list[bytes], dice: random.Random) -> bytes | None:
    """Give a file's content after one of the accidents that happen; None where the file is gone."""
    place, bit = dice.randrange(len(content)), 1 << dice.randrange(8)
    accidents = [
        lambda: content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :],
        lambda: content[:place] + bytes([dice.randrange(256)]) + content[place + 1 :],
        lambda: content[:place],
        lambda: content[place:],
        lambda: content[:place] + content[place + 1 + dice.randrange(9) :],
        lambda: content + content[place:],
        lambda: bytes(len(content)),
        lambda: b"",
        lambda: b"[]",
        lambda: b"{}",
        lambda: b"null",
        lambda: b'{"format": 10}',
        lambda: b"<!DOCTYPE html><html><body>Not found</body></html>",
        lambda: pickle.dumps({"weights": [1, 2, 3]}),
        lambda: dice.choice(others),
        lambda: None,
    ]
    return accidents[min(dice.randrange(24), len(accidents) - 1) if dice.random() < 0.6 else dice.randrange(2)]()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_in_a_sentence_or_changes_nothing(kind, tokenizer, tmp_path):
    make, read, guarded = KINDS[kind]
    folder, dice, n_refused = tmp_path / "it", random.Random(kind), 0
    make(folder, tokenizer)
    good = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size}
    right = comparable(read(folder))
    for _ in range(n(25, 500)):
        path = dice.choice(list(good))
        content = spoil(good[path], [text for other, text in good.items() if other != path] or [b"x"], dice)
        path.unlink() if content is None else path.write_bytes(content)
        what = f"{path.name} as {content[:60] if content else content!r}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = read(folder)
        except ValueError as error:
            n_refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1500, what
        except Exception as error:  # a refusal that is none of ours
            raise AssertionError(f"{type(error).__name__}: {error}, after {what}") from error
        else:
            assert not guarded or comparable(got) == right, f"read another thing after {what}"
        for other, text in good.items():
            if not other.is_file() or other == path or kind == "stories":
                other.write_bytes(text)
    assert n_refused or kind in ("stories", "a run's results")  # these two are made anew


@pytest.mark.parametrize("kind", ["messages", "instructions"])
def test_a_run_whose_rows_did_not_fit_on_the_disk_begins_again(kind, tmp_path, monkeypatch):
    rows = MESSAGES if kind == "messages" else INSTRUCTIONS
    for number in range(3):
        move, left = files.replace, iter(range(number))

        def full(source, target, move=move, left=left):
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            move(source, target)

        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(files, "replace", full)
            rows_in(tmp_path / kind, kind, rows)
        assert len(list((tmp_path / kind).iterdir())) == number
        assert never_begun(tmp_path / kind) and begun_with(tmp_path / kind) is None
    (tmp_path / kind / "finetune.json.123.part").touch()  # of a process that was killed there
    assert never_begun(tmp_path / kind) and never_begun(tmp_path / "nowhere")
    rows_in(tmp_path / kind, kind, rows)
    assert not never_begun(tmp_path / kind) and begun_with(tmp_path / kind)["kind"] == kind
    (tmp_path / "rows.json").touch()
    (tmp_path / "diary.txt").touch()
    assert not never_begun(tmp_path)  # somebody else's
