"""Texts, stories, checksums and the catalogue."""

import os
import re

import pytest

from data import checksums, story_cache
from data.loaders import (
    catalogue,
    load_instructions,
    load_messages,
    load_preferences,
    load_stories,
    load_text,
)
from data.story_world.engine import SPLITS, StoryWorld
from tests.sizes import n

STORY = "the-wrong-piano"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("data.loaders.CACHE_DIR", tmp_path)
    return tmp_path


# ------------------------------------------------------------------------------------------------------------- texts
def test_our_story_is_long_enough_for_a_tokenizer_lesson():
    text = load_text(STORY)
    words = [piece for piece in re.split(r"([,.:;?_!\"()']|--|\s)", text) if piece.strip()]
    assert 20_000 <= len(text.encode("utf-8")) <= 22_500
    assert len(set(words)) > 1_000
    assert all(sign in text for sign in ("--", ";", '"', "'", "?", "!", ":", "\n\n"))
    assert text.isascii(), "the first tokenizer of chapter 2 should meet no surprise"


def test_an_unknown_text_is_refused_with_the_list_of_names():
    with pytest.raises(ValueError, match=f"no text 'the-wrong-pian'; expected one of .*{STORY}.*the-verdict"):
        load_text("the-wrong-pian")


def test_a_text_that_was_not_fetched_says_how_to_fetch_it(cache):
    with pytest.raises(ValueError, match="python course.py fetch the-verdict"):
        load_text("the-verdict")


def test_a_fetched_text_is_loaded(cache):
    (cache / "the-verdict.txt").write_text("I had always thought", encoding="utf-8")
    assert load_text("the-verdict") == "I had always thought"


# ----------------------------------------------------------------------------------------------------------- stories
def test_stories_come_from_the_world_in_order(cache):
    world = StoryWorld(0, split="validation")
    assert load_stories("validation", n=5) == [world.story() for _ in range(5)]


def test_the_second_call_reads_the_same_stories_from_the_cache(cache, monkeypatch):
    first = load_stories("train", n=20, seed=3)
    monkeypatch.setattr(story_cache, "write_stories", lambda *_: pytest.fail("the cache was not used"))
    assert load_stories("train", n=20, seed=3) == first


def test_more_stories_begin_with_the_same_ones(cache):
    assert load_stories("test", n=12)[:5] == load_stories("test", n=5)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "one line less", "bad utf-8"])
def test_a_damaged_cache_is_made_anew(cache, damage):
    stories = load_stories("train", n=10)
    (path,) = cache.glob("*.jsonl")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes({
        "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "cut": content[:middle],
        "empty": b"",
        "foreign": b"<html>not found</html>",
        "one line less": b"\n".join(content.split(b"\n")[:-2]) + b"\n",
        "bad utf-8": content[:middle] + b"\xff" + content[middle + 1 :],
    }[damage])  # fmt: skip
    assert load_stories("train", n=10) == stories
    assert path.read_bytes() == content, "the file should have been written again"


def test_a_change_of_the_world_gives_the_cache_another_name(cache, monkeypatch):
    load_stories("train", n=2)
    monkeypatch.setattr(story_cache, "world_hash", lambda: "0" * 64)
    load_stories("train", n=2)
    assert len(list(cache.glob("*.jsonl"))) == 2


def test_a_cache_that_cannot_be_written_costs_no_story(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setattr("data.loaders.CACHE_DIR", tmp_path / "file")
    assert len(load_stories("train", n=2)) == 2


def test_no_half_written_file_stays_when_writing_fails(cache, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert len(load_stories("train", n=2)) == 2
    assert not list(cache.iterdir())


def test_bad_requests_for_stories_are_refused():
    with pytest.raises(ValueError, match="no split 'trian'; expected one of train, validation, test"):
        load_stories("trian")
    for bad in (0, -1, 2.5, True, "10"):
        with pytest.raises(ValueError, match="is not a whole number of at least 1"):
            load_stories(n=bad)
    with pytest.raises(ValueError, match="seed=-1"):
        load_stories(n=1, seed=-1)


@pytest.mark.parametrize("load", [load_messages, load_instructions, load_preferences])
def test_an_unknown_split_is_refused_with_the_names(load):
    with pytest.raises(ValueError, match="no split 'dev'; expected one of train, validation, test"):
        load("dev")


def test_no_story_is_told_twice_and_none_is_in_two_splits():
    each = n(500, 5_000)
    texts = {split: [story.text for story in load_stories(split, n=each)] for split in SPLITS if split != "all"}
    for split, stories in texts.items():
        assert len(set(stories)) == each, f"{split} tells a story twice"
    everything = [text for stories in texts.values() for text in stories]
    assert len(set(everything)) == len(everything)


def test_the_hero_of_a_held_out_story_is_not_in_training():
    def triples(split, count):
        facts = [story.facts for story in load_stories(split, n=count)]
        return {(fact["plot"], fact["hero"]["name"], fact["hero"]["kind"]) for fact in facts}

    train = triples("train", n(4_000, 20_000))
    for split in ("validation", "test"):
        assert not train & triples(split, n(500, 2_000)), f"train and {split} share a plot, name and kind"


# --------------------------------------------------------------------------------------- checksums and the catalogue
def test_what_is_made_has_the_checksums_of_the_readme():
    assert checksums.tables() == checksums.written_tables(), "after a wanted change: python -m data.checksums --update"


def test_a_changed_letter_changes_the_checksum():
    message = load_messages("test")[0]
    assert checksums._checksum([message]) != checksums._checksum([message._replace(text=message.text.upper())])


def test_the_readme_names_every_data_file_and_its_license():
    text = checksums.README.read_text(encoding="utf-8")
    assert "CC0" in text
    folders = ("texts", "story_world/tables_tasks", "own_examples")
    for path in [path for folder in folders for path in checksums.DATA_DIR.glob(f"{folder}/*")]:
        assert path.name in text, f"data/README.md does not mention {path.name}"


def test_the_catalogue_pins_every_file():
    for name, entry in catalogue().items():
        assert entry["title"] and entry["license"], name
        for file in entry["files"]:
            assert re.fullmatch(r"[0-9a-f]{64}", file["sha256"])
            assert isinstance(file["bytes"], int) and file["bytes"] > 0
            assert all(url.startswith("https://") for url in file.get("urls", []))
            assert "urls" in file if "wheel" not in entry else "member" in file
            assert not file["path"].startswith("/") and ".." not in file["path"].split("/")
    paths = [file["path"] for entry in catalogue().values() for file in entry["files"]]
    assert len(set(paths)) == len(paths)


def test_the_names_that_errors_and_chapters_mention_are_in_the_catalogue():
    assert {"the-verdict", "tiny-shakespeare", "gpt2-124M", "gpt2-tokenizer", "smollm2"} <= set(catalogue())
