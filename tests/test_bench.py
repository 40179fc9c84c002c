"""`course.py bench` in its smallest size: every part measures, the sides take turns, and the page says what it is."""

import dataclasses
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.commands import bench
from shared.commands import bench_measures as measures
from tests.small_models import publish

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = {"shape": "tiny", "precision": "float32", "batch_size": 2, "length": 8, "n_steps": 2}


def test_ratios_are_formed_within_a_turn():
    rates, peaks = {"ours": [2.0, 30.0], "theirs": [1.0, 10.0]}, {"ours": 100.0, "theirs": None}
    comparison = bench.Comparison("speed", rates, peaks)
    assert comparison.ratios("theirs") == [2.0, 3.0]
    row = bench._compared(comparison, "theirs", "tokens/s")
    assert row[3] == "**2.50** (2.00 to 3.00)" and row[4] == "100 / ? MB"


def test_our_training_round_counts_its_tokens():
    units, seconds = measures.training("ours", **OPTIONS)()
    assert units == 2 * 2 * 8 and 0 < seconds < 60


def test_both_sides_train_the_same_shape():
    pytest.importorskip("transformers")
    from ch04_gpt_model.gpt_model import GPTModel

    theirs = sum(p.numel() for p in measures.peer_of("tiny").parameters())
    assert theirs == GPTModel(measures.config_of("tiny")).n_parameters
    units, seconds = measures.training("transformers", **OPTIONS)()
    assert units == 2 * 2 * 8 and 0 < seconds < 60


@pytest.mark.parametrize("side", ["ours", "transformers"])
def test_a_generation_round_writes_as_many_tokens_as_it_says(side):
    if side == "transformers":
        pytest.importorskip("transformers")
    units, _ = measures.generation(side, "tiny", batch_size=2, n_new=5)()
    assert units == 10


def test_a_generation_round_goes_on_until_its_time_is_up():
    units, seconds = measures.generation("ours", "tiny", batch_size=2, n_new=5, seconds=0.2)()
    assert 0.2 <= seconds < 60 and units >= 20 and units % 10 == 0


def test_the_bytes_of_a_step_are_all_the_weights_and_the_cache():
    from ch04_gpt_model.gpt_model import GPTModel

    config = measures.config_of("tiny")
    matrices = {name: p for name, p in GPTModel(config).named_parameters() if p.ndim == 2 and "position" not in name}
    weights = 4 * sum(p.numel() for p in matrices.values())
    cached = 4 * 2 * config.n_layers * 3 * (measures.PROMPT + 5) * config.d_model  # three rows, half of ten tokens
    assert measures.bytes_read("tiny", batch_size=3, n_new=10) == weights + cached


@pytest.mark.parametrize("side", ["float32", "bfloat16", "int8"])
def test_a_round_in_fewer_bits_writes_as_many_tokens_as_it_says(side):
    units, seconds = measures.precision(side, "tiny", n_new=5)()
    assert units == 5 and 0 < seconds < 60


def test_the_eight_bit_model_computes_with_its_eight_bits():
    import torch
    from torch.testing import assert_close

    from ch04_gpt_model.modern_gpt import ModernGPT
    from ch04_gpt_model.quantization import int8_by_row

    torch.manual_seed(0)
    model, ids = ModernGPT(measures.modern_of("tiny")), torch.tensor([[3, 1, 4, 1, 5]])
    exact = model(ids)
    measures._compute_in_int8(model)
    logits = model(ids)
    for layer in measures._linear_layers(model):
        numbers, scale = int8_by_row(layer.weight.detach())
        del layer.forward
        layer.weight = torch.nn.Parameter(numbers * scale)  # the head no longer shares it
    assert_close(logits, model(ids), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits, exact, rtol=1e-4, atol=1e-5)


def test_the_bytes_of_the_matrices_are_those_of_their_formats():
    import torch

    from ch04_gpt_model.modern_gpt import ModernGPT
    from ch04_gpt_model.quantization import int8_by_row, to_q4

    torch.manual_seed(0)
    matrices = [layer.weight.detach() for layer in measures._linear_layers(ModernGPT(measures.modern_of("tiny")))]
    for name, packed in [("float32", [[w] for w in matrices]), ("bfloat16", [[w.bfloat16()] for w in matrices]),
                         ("int8", map(int8_by_row, matrices)), ("Q4_0", map(to_q4, matrices))]:  # fmt: skip
        assert measures.weight_bytes("tiny", name) == sum(part.nbytes for parts in packed for part in parts)


def test_the_large_shape_is_that_of_smollm2():
    assert measures.weight_bytes("135M", "float32") == 4 * (134_515_008 - 61 * 576)  # the norms are no matrices


def test_a_draft_and_unequal_prompts_write_what_each_alone_writes():
    mine, theirs = (measures.drafted(side, n_new=12, n_stories=200)() for side in ("ours", "alone"))
    assert mine["ids"] == theirs["ids"] and mine["units"] == theirs["units"] == 4 * 12
    assert {len(text) for text in mine["ids"]} == {measures.PROMPT + 12}
    mine, theirs = (measures.unequal(side, "tiny", n_new=6, lengths=(3, 7))() for side in ("ours", "alone"))
    assert mine["units"] == theirs["units"] == 2 * 6 and [len(text) for text in mine["ids"]] == [9, 13]


def test_the_part_on_faster_answers_tells_bits_drafts_and_batches():
    bits, together, told = bench.answers(bench.TINY)
    assert [line.split(" | ")[0] for line in bits.splitlines()[2:]] == [
        f"| tiny, {name}" for name in ("float32", "bfloat16", "int8", "Q4_0")]  # fmt: skip
    assert "| tiny, float32 |" in bits and "**1.00** (1.00 to 1.00)" in bits.splitlines()[2]
    assert together.count("tokens/s |") == 4 and "of 4 texts with a draft and " in told


def test_reading_counts_its_bytes():
    units, seconds = measures.reading(4_000.0, seconds=0.0)()
    assert units == 4_000 and 0 < seconds < 1


def test_stories_are_as_many_bytes_as_asked_for():
    texts = measures.story_texts(50_000)
    assert 50_000 <= len("".join(texts).encode("utf-8")) < 55_000


def test_both_tokenizers_have_the_vocabulary_that_was_asked_for():
    pytest.importorskip("tokenizers")
    texts = measures.story_texts(20_000)
    assert measures._bpe_ours(400)(texts).vocab_size == measures._bpe_peer(400)(texts).get_vocab_size() == 400


def test_the_clock_of_the_yardstick_counts_no_looking(monkeypatch):
    now = iter([0.0, 3.0, 10.0, 11.0])
    monkeypatch.setattr(measures.time, "perf_counter", lambda: next(now))
    clock = measures._Clock()
    clock.stop()
    clock.go_on()
    clock.stop()
    assert clock.seconds == 4.0


def test_a_side_works_in_a_process_of_its_own_and_knows_its_memory():
    done = bench.compare("tiny", "training", {"ours": {"side": "ours"} | OPTIONS}, rounds=2)
    assert len(done.rates["ours"]) == 2 and min(done.rates["ours"]) > 0
    assert done.peaks["ours"] is None or 50 < done.peaks["ours"] < 5_000


def test_a_side_that_fails_says_why():
    with pytest.raises(ValueError, match="GPT-2 has no size 'huge'"):
        bench.compare("none", "training", {"ours": {"side": "ours"} | OPTIONS | {"shape": "huge"}}, rounds=1)


def test_a_side_that_has_ended_says_why_too():
    side = bench.Side("training", {"side": "ours"} | OPTIONS)
    side.wait_until_ready()
    side.process.kill()
    side.process.wait()
    with pytest.raises(ValueError, match="the measurement training .* stopped: it said nothing"):
        side.round()


def test_a_turn_is_done_alone_and_beside_a_busy_process():
    options = {"ours": {"side": "ours"} | OPTIONS}
    settings = {"ours": {**os.environ, "OMP_NUM_THREADS": "1"}}
    done = bench.compare("tiny", "training", options, rounds=2, settings=settings, also_beside=True)
    assert {label: len(rates) for label, rates in done.rates.items()} == {"ours": 2, "ours" + bench.BESIDE: 2}
    assert min(min(rates) for rates in done.rates.values()) > 0


def test_an_unknown_part_is_refused(capsys):
    assert bench.main(["--only", "speed"]) == 1
    assert "there is no part 'speed'" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["folder", "missing/page.md", "file/page.md"])
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path, capsys, monkeypatch, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(bench, "Side", lambda *_: pytest.fail("it was measured first"))
    assert bench.main(["--tiny", "--output", str(tmp_path / place)]) == 1
    assert "is no place for a file: name one in a folder that exists" in capsys.readouterr().err


def test_the_busy_process_is_busy_and_gone_afterwards():
    with bench.busy_process() as process:
        assert process.poll() is None
    assert process.poll() is not None


def test_the_busy_process_ends_with_the_one_that_began_it():
    code = (
        "import sys\n"
        "from shared.commands import bench\n"
        "with bench.busy_process() as busy:\n"
        "    print(busy.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    ours = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)
    number = int(ours.stdout.readline())
    ours.kill()
    ours.wait()
    for _ in range(100):
        if not _is_running(number):
            return
        time.sleep(0.1)
    pytest.fail("it still counts")


def _is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_busy_rows_compare_what_differs_in_one_thing(monkeypatch):
    """Alone and beside, with our way to wait and PyTorch's, ours and transformers: all else is equal."""
    asked = {}

    def compare(title, measure, sides, rounds, settings, also_beside):
        asked.update(sides=sides, settings=settings, also_beside=also_beside)
        alone, beside = (17.0, 17.0, 10.0), (8.0, 6.0, 4.0)
        rates = {label: rate for label, rate in zip(sides, alone)}
        rates |= {label + bench.BESIDE: rate for label, rate in zip(sides, beside)}
        return bench.Comparison(title, {name: [rate] * 2 for name, rate in rates.items()})

    monkeypatch.setattr(bench, "compare", compare)
    for name in bench.SAY_HOW_TO_WAIT:
        monkeypatch.delenv(name, raising=False)
    table, told = bench.busy(bench.TINY)
    assert "| tiny, float32, ours | 17 tokens/s | 8 tokens/s | **0.47** (0.47 to 0.47) |  |  |" in table
    waits = "by itself | 17 tokens/s | 6 tokens/s | **0.35** (0.35 to 0.35) "
    peer = "transformers | 10 tokens/s | 4 tokens/s | **0.40** (0.40 to 0.40) "
    assert waits + "| **1.00** (1.00 to 1.00) | **1.33** (1.33 to 1.33) |" in table
    assert peer + "| **1.70** (1.70 to 1.70) | **2.00** (2.00 to 2.00) |" in table
    assert asked["also_beside"] and len(asked["sides"]) == 3
    for name, options in asked["sides"].items():
        assert options["side"] == ("transformers" if "transformers" in name else "ours")
        assert ("GOMP_SPINCOUNT" in asked["settings"][name]) == ("by itself" not in name)
        assert asked["settings"][name]["MALLOC_MMAP_MAX_"] == "0"
    assert "GOMP_SPINCOUNT=2000" in told


def test_a_part_of_the_page_leaves_the_released_one_alone(tmp_path, capsys):
    released = ROOT / "BENCHMARKS.md"
    before = released.read_bytes() if released.exists() else None
    assert bench.main(["--tiny", "--only", "cache"]) == 0
    assert "With and without the cache" in capsys.readouterr().out
    assert (released.read_bytes() if released.exists() else None) == before


def test_the_whole_page_is_written_in_one_run(tmp_path):
    for package in ("transformers", "tokenizers"):
        pytest.importorskip(package)
    page = tmp_path / "page.md"
    assert bench.main(["--tiny", "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [title for title, _ in bench.GROUPS.values()]
    assert re.search(r"Measured \d{4}-\d\d-\d\d", text) and "load before it began" in text
    assert "nan" not in text and str(ROOT) not in text


OTHER_COPY = """import json, sys
print("ready", flush=True)
for _ in sys.stdin:
    print(json.dumps({{"units": 1.0, "seconds": {seconds}}}), flush=True)
print(json.dumps({{"peak_mb": 77}}), flush=True)
"""


@pytest.mark.parametrize("module", bench.MEASURES)
@pytest.mark.parametrize("seconds, told", [(1e6, "No median is below 0.95."), (1e-9, "Below 0.95: training tiny")])
def test_another_copy_of_the_course_measures_itself(tmp_path, capsys, module, seconds, told):
    path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
    path.parent.mkdir(parents=True)
    (tmp_path / "shared" / "__init__.py").touch()
    path.write_text(OTHER_COPY.format(seconds=seconds), encoding="utf-8")
    assert bench.main(["--tiny", "--against", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count(" / 77 MB |") == 5 and told in said and "this copy | the other" in said
    assert not (tmp_path / "BENCHMARKS.md").exists()


@pytest.mark.parametrize("place", ["missing", "."])
def test_what_is_no_copy_of_the_course_is_refused(tmp_path, capsys, place):
    assert bench.main(["--tiny", "--against", str(tmp_path / place)]) == 1
    assert "holds no copy of the course that can be measured" in capsys.readouterr().err


def test_the_peers_are_those_of_the_tests():
    wanted = (ROOT / "tests" / "requirements-bench.txt").read_text(encoding="utf-8")
    tested = (ROOT / "tests" / "requirements-test.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^[\w-]+==\S+", wanted, re.MULTILINE)
    assert pins and all(pin in tested for pin in pins)


def test_the_released_page_tells_of_every_part():
    page = ROOT / "BENCHMARKS.md"
    if not page.is_file():
        pytest.skip("the page has not been measured yet")
    text = page.read_text(encoding="utf-8")
    assert not [title for title, _ in bench.GROUPS.values() if f"## {title}" not in text]


# ---------------------------------------------------------------- a published model


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory):
    """A tiny Llama of random weights, as its publisher would lay it out."""
    for package in ("transformers", "tokenizers"):
        pytest.importorskip(package)
    return publish(tmp_path_factory.mktemp("published") / "tiny")


def test_both_sides_of_the_bench_write_the_same(published_folder):
    mine, theirs = (measures.published(side, str(published_folder), n_new=12)() for side in ("ours", "transformers"))
    assert mine["ids"] == theirs["ids"] and len(mine["ids"]) == 12
    assert mine["units"] == theirs["units"] == 12 and min(mine["seconds"], theirs["seconds"]) > 0
    assert mine["bytes"] == theirs["bytes"]


def test_the_part_of_the_page_tells_speed_memory_and_whether_the_words_are_the_same(published_folder):
    table, told = bench.published(dataclasses.replace(bench.TINY, published=published_folder))
    assert table.count("tokens/s |") == 2 and " MB |" in table and "GB/s |" in table
    assert "the first 4 of the 4 tokens are the same" in told


def test_a_bench_without_the_model_says_how_to_get_it(tmp_path):
    (told,) = bench.published(dataclasses.replace(bench.TINY, published=tmp_path / "no.gguf"))
    assert "python course.py fetch smollm2" in told


def test_the_model_that_is_measured_is_the_one_that_fetch_brings():
    from ch05_pretraining.open_weights import FETCHED
    from data.paths import CACHE_DIR

    assert bench.Plan().published == CACHE_DIR / FETCHED["smollm2"]
