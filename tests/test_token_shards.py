"""Token shards: every document once, the same bytes whoever interrupts, batches without a list of rows."""

import itertools
import json
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import torch

from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.shard_loader import ShardLoader, document_mask, read_manifest, shuffled_place
from ch02_text_data.text_data import BPETokenizer
from ch02_text_data.token_shards import ShardProgress, write_token_shards
from data import document_stream
from data.document_stream import BORDER
from shared.commands import tokens
from tests.small_models import tiktoken_of_bytes

DOCUMENTS = [
    f"Story {number}: the owl said hello to the fox, {'and again ' * (number % 7)}and slept." for number in range(90)
]
END = 256


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(f"\n{BORDER}\n".join(DOCUMENTS[:50]), encoding="utf-8")
    (folder / "b.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in DOCUMENTS[50:]), encoding="utf-8")
    return [folder / "a.txt", folder / "b.jsonl"]


@pytest.fixture
def small_jobs(monkeypatch):
    monkeypatch.setattr("ch02_text_data.token_shards.JOB", 500)


def write(texts, folder, **options):
    return write_token_shards(
        texts, folder, tiktoken_of_bytes(), **{"kept_aside": 0.2, "shard_tokens": 1_000} | options
    )


def documents_of(folder, split):
    shards = [np.load(folder / shard["file"]) for shard in read_manifest(folder)[split]]
    text = b"".join(bytes([id_]) if id_ < END else b"\0" for id_ in np.concatenate(shards).tolist())
    return text.decode().removesuffix("\0").split("\0")


def test_every_document_stands_in_one_split_once(texts, tmp_path, small_jobs):
    manifest = write(texts, tmp_path / "out")
    found = {split: documents_of(tmp_path / "out", split) for split in ("train", "validation")}
    assert sorted(found["train"] + found["validation"]) == sorted(DOCUMENTS)
    assert found["train"] == [text for text in DOCUMENTS if text in found["train"]], "the order of the files is kept"
    assert 5 < len(found["validation"]) < 35 and len(manifest["train"]) > 3
    for split, documents in found.items():
        assert sum(shard["documents"] for shard in manifest[split]) == len(documents)


def test_an_interrupted_writing_ends_with_the_same_bytes(texts, tmp_path, small_jobs):
    write(texts, tmp_path / "whole")

    def stop(progress):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            write(texts, tmp_path / "begun", on_shard=stop)
    with pytest.raises(ValueError, match="holds no finished token shards"):
        read_manifest(tmp_path / "begun")
    write(texts, tmp_path / "begun", processes=2)  # the number of processes changes nothing
    whole, begun = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("whole", "begun"))
    assert whole == begun and len(whole) > 5


@pytest.mark.parametrize("how", ["full", "killed"])
def test_wherever_a_writing_ends_early_the_next_one_goes_on(texts, tmp_path, small_jobs, monkeypatch, how):
    """A disk that fills at each write in turn, or a process that is killed at each and leaves its half-written file."""
    from data import files

    def write_threads(folder):  # one job after another in this process: many writings in little time
        with monkeypatch.context() as patch:
            patch.setattr("ch02_text_data.token_shards.ProcessPoolExecutor", InThisProcess)
            return write(texts, folder, shard_tokens=3_000)

    write_threads(tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    n_writes = 0
    for number in itertools.count(1):
        with monkeypatch.context() as patch:
            patch.setattr(files, "replace", EndsEarly(files.replace, number, how))
            if how == "killed":
                patch.setattr(Path, "unlink", lambda *_, **__: None)
            try:
                write_threads(tmp_path / str(number))
                break  # there are fewer writes than that
            except OSError as error:
                assert Path(error.filename).parent == tmp_path / str(number)
            except Killed:
                pass
        n_writes = number
        write_threads(tmp_path / str(number))
        assert {path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()} == whole, number
    assert n_writes > 5


class Killed(BaseException):
    """Stands for the end of the process."""


class EndsEarly:
    """Moves files to their places, all but one."""

    def __init__(self, move, number, how):
        self.move, self.left, self.how = move, number, how

    def __call__(self, source, target):
        self.left -= 1
        if self.left == 0:
            raise OSError(28, "No space left on device") if self.how == "full" else Killed
        self.move(source, target)


class InThisProcess:
    """Does what a pool of processes does, at once."""

    def __init__(self, processes, context, initializer, given):
        initializer(*given)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def submit(self, work, *given):
        done = Future()
        done.set_result(work(*given))
        return done


def test_a_folder_with_shards_of_something_else_is_left_alone(texts, tmp_path):
    write(texts, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for options, wrong in (({"kept_aside": 0.5}, "kept_aside"), ({"shard_tokens": 5}, "shard_tokens")):
        with pytest.raises(ValueError, match=f"holds shards with other {wrong}: choose another folder"):
            write(texts, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="other files"):
        write(texts[:1], tmp_path / "out")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with pytest.raises(ValueError, match="holds a.txt and no shards|holds b.jsonl and no shards"):
        write(texts, texts[0].parent)
    with pytest.raises(ValueError, match="processes=0"):
        write(texts, tmp_path / "other", processes=0)


def test_a_long_document_has_one_end(tmp_path, monkeypatch, small_jobs):
    monkeypatch.setattr(document_stream, "LONG", 100)
    path = tmp_path / "long.txt"
    text = "The owl flew on and on. " * 300
    path.write_text(text, encoding="utf-8")
    manifest = write([path], tmp_path / "out", kept_aside=0)
    assert documents_of(tmp_path / "out", "train") == [text]
    assert sum(shard["documents"] for shard in manifest["train"]) == 1 < len(manifest["train"])


def test_the_parts_of_long_documents_stay_together(tmp_path, monkeypatch, small_jobs):
    monkeypatch.setattr(document_stream, "LONG", 200)
    long = [f"Beginning {number}. " + " ".join(f"{number} and {word}" for word in range(150)) for number in range(12)]
    (tmp_path / "long.txt").write_text(f"\n{BORDER}\n".join(long), encoding="utf-8")

    def stop(progress):
        raise KeyboardInterrupt

    for _ in range(3):  # and so they do when a writing goes on in the middle of one
        with pytest.raises(KeyboardInterrupt):
            write([tmp_path / "long.txt"], tmp_path / "out", kept_aside=0.5, on_shard=stop)
    write([tmp_path / "long.txt"], tmp_path / "out", kept_aside=0.5)
    found = {split: documents_of(tmp_path / "out", split) for split in ("train", "validation")}
    assert sorted(found["train"] + found["validation"]) == sorted(long) and all(found.values())


@pytest.mark.parametrize("n_places", [1, 2, 3, 7, 64, 1_000])
def test_a_shuffle_without_a_list_gives_each_place_once(n_places):
    order = [shuffled_place(place, n_places, "seed 0") for place in range(n_places)]
    assert sorted(order) == list(range(n_places))
    if n_places > 7:
        other = [shuffled_place(place, n_places, "seed 1") for place in range(n_places)]
        stayed = sum(place == number for number, place in enumerate(order))
        assert order != other and stayed < n_places / 4


def test_an_epoch_reads_each_window_once_shared_among_processes(texts, tmp_path, small_jobs):
    write(texts, tmp_path / "out")
    one = ShardLoader(tmp_path / "out", 16, 6, seed=3)
    two = [ShardLoader(tmp_path / "out", 16, 3, seed=3, rank=rank, world_size=2) for rank in range(2)]
    for together, first, second in zip(one, *two):
        rows = [row[: row.tolist().index(0)] if 0 in row else row for ids in (first[0], second[0]) for row in ids]
        assert [row.tolist() for row in rows] == [
            r[: r.tolist().index(0)].tolist() if 0 in r else r.tolist() for r in together[0]
        ]
    assert one.n_windows - 6 < 6 * len(one) <= one.n_windows
    places = [one.window(place) for place in range(one.n_windows)]
    n_targets = sum(int((targets != IGNORE_INDEX).sum()) for _, targets in places)
    shards = read_manifest(tmp_path / "out")["train"]
    assert n_targets == sum(shard["tokens"] - 1 for shard in shards), "no token is lost, however short the last window"
    first = [ids.tolist() for ids, _ in one]
    one.set_epoch(1)
    assert first != [ids.tolist() for ids, _ in one]
    one.set_epoch(0, 4)
    assert first[4:] == [ids.tolist() for ids, _ in one]


def test_targets_are_the_ids_one_place_on(texts, tmp_path):
    write(texts, tmp_path / "out")
    for ids, targets in ShardLoader(tmp_path / "out", 16, 4, shuffle=False):
        graded = targets[:, :-1] != IGNORE_INDEX
        assert torch.equal(ids[:, 1:][graded[:, : ids.shape[1] - 1]], targets[:, :-1][graded])


def test_a_token_reads_its_own_document_only():
    mask = document_mask(torch.tensor([[5, 9, 6, 7, 9, 8]]), end_id=9)[0, 0]
    first, second = [[1, 0, 0, 0, 0, 0]], [[0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0]]
    third = [[0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 1, 1]]
    expected = first + second + third
    assert mask.int().tolist() == expected


def test_shards_that_are_missing_or_too_few_are_refused(texts, tmp_path):
    manifest = write(texts, tmp_path / "out")
    with pytest.raises(ValueError, match="give more text, or lower batch_size"):
        ShardLoader(tmp_path / "out", 16, 100_000)
    with pytest.raises(ValueError, match="rank=2, world_size=2"):
        ShardLoader(tmp_path / "out", 16, 1, rank=2, world_size=2)
    path = tmp_path / "out" / manifest["train"][0]["file"]
    whole = path.read_bytes()
    for n_bytes in (0, 5, 100, len(whole) - 2):  # nothing, a part of the header, no ids, one id too few
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(ValueError, match="is missing or has another length: delete"):
            ShardLoader(tmp_path / "out", 16, 1)
    path.unlink()
    with pytest.raises(ValueError, match="is missing or has another length"):
        ShardLoader(tmp_path / "out", 16, 1)


@pytest.mark.parametrize("name", ["manifest.json", "begun.json"])
def test_a_damaged_record_is_said_in_one_sentence_and_left_as_it_is(texts, tmp_path, name):
    write(texts, tmp_path / "out")
    whole = (tmp_path / "out" / "manifest.json").read_bytes()
    (tmp_path / "out" / "manifest.json").rename(tmp_path / "out" / name)
    for content in (b"", b"{", b"[]", whole[:-20], b"\xff" + whole, whole.replace(b'"format": 1', b'"format": 2')):
        assert content != whole
        (tmp_path / "out" / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is (damaged|no record of token shards).*write the shards again"):
            write(texts, tmp_path / "out")
        assert (tmp_path / "out" / name).read_bytes() == content


def test_the_time_left_is_told_from_what_this_call_has_read(texts, tmp_path, small_jobs):
    seen = []

    def stop(progress):
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(texts, tmp_path / "out", on_shard=stop)
    write(texts, tmp_path / "out", on_shard=seen.append)
    assert {one.bytes_before for one in seen[:3]} == {0}
    assert {one.bytes_before for one in seen[3:]} == {seen[2].bytes_read} and len(seen) > 4


def test_the_command_tells_the_time_left_after_an_interruption(capsys):
    tokens._show(ShardProgress(600, 400, 1_000, 50), 10.0)  # 200 bytes in ten seconds, 400 are left
    assert "about 20 s left" in capsys.readouterr().out


def test_the_command_writes_shards_with_a_vocabulary_of_the_text(texts, tmp_path, capsys):
    words = [str(texts[0].parent), "--out", str(tmp_path / "out"), "--vocabulary", "300", "--processes", "1"]
    assert tokens.main(words) == 0 and tokens.main(words) == 0
    assert "train: " in capsys.readouterr().out
    tokenizer = BPETokenizer.load(tmp_path / "out" / "tokenizer.json")
    ids, _ = ShardLoader(tmp_path / "out", 32, 1, shuffle=False).window(0)
    assert tokenizer.decode(ids[:12].tolist()) in "".join(DOCUMENTS)
    capsys.readouterr()
    words[words.index("300")] = "310"  # what was asked for anew is not passed over in silence
    assert tokens.main(words) == 1
    assert "holds shards with other tokenizer and vocab_size" in capsys.readouterr().err
    assert tokens.main([str(tmp_path / "nowhere")]) == 1
