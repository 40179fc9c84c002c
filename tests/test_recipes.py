"""Claims about the two fine-tunings of `python course.py run`: how they stop, go on, are loaded and are graded."""

from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.saved_models import load_model, save_model
from ch06_finetuning import recipes
from data.by_hand import load_questions_by_hand
from data.durable_folders import CheckpointError
from data.loaders import load_instructions, load_messages, load_stories
from data.story_world.message_task import MESSAGE_LABELS
from data.story_world.reading_questions import READING
from tests.small_models import press_at, tiny_model, weights

STEPS = 4


CLASSIFIER = SimpleNamespace(
    train=recipes.finetune_classifier, model=lambda run: run.classifier, loader="create_message_loader", phases=1
)
ASSISTANT = SimpleNamespace(
    train=recipes.finetune_assistant, model=lambda run: run.assistant.model, loader="create_instruction_loader",
    phases=2,
)  # fmt: skip
each_kind = pytest.mark.parametrize("kind", [CLASSIFIER, ASSISTANT], ids=["classifier", "assistant"])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small story GPT that has not learned anything yet, saved as a run saves it."""
    stories = [story.text for story in load_stories("train", n=200)]
    prompts = [record.prompt for record in load_instructions("train")[:200]]
    tokenizer = BPETokenizer.train(stories + prompts, 600, SPECIAL_TOKENS)
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=512, d_model=16, n_layers=1)
    return save_model(tmp_path_factory.mktemp("base") / "story_gpt", model, tokenizer, {}, dtype="float32")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few steps, and few records to be graded on."""
    monkeypatch.setattr(recipes, "QUICK_STEPS", STEPS)
    monkeypatch.setattr(recipes, "load_messages", lambda split: load_messages(split)[:200])
    monkeypatch.setattr(recipes, "load_stories", lambda split, n: load_stories(split, n=min(n, 8)))
    few = {"train": 150, "validation": 150, "test": 12, "new_wordings": 12}
    monkeypatch.setattr(
        recipes, "load_instructions", lambda split, n=None, n_wordings=None: load_instructions(split)[: few[split]]
    )


@pytest.mark.parametrize(
    "kind, stops", [(CLASSIFIER, [2]), (ASSISTANT, [2, STEPS + 2])], ids=["classifier", "assistant"]
)
def test_a_fine_tuning_that_was_stopped_ends_in_the_weights_of_one_that_was_not(kind, stops, base, tmp_path):
    whole = kind.train(tmp_path / "whole", base, quick=True, seed=2)
    for stop in stops:
        with pytest.raises(TrainingInterrupted, match=f"stopped after step 2 of {STEPS}"):
            kind.train(tmp_path / "parts", base, quick=True, seed=2, on_step=press_at(stop))
        assert not (tmp_path / "parts").exists(), "a model that is not finished stands in the place of a finished one"
    parts = kind.train(tmp_path / "parts", base, quick=True, seed=2)
    assert_close(weights(kind.model(parts)), weights(kind.model(whole)), rtol=0, atol=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"], "checkpoints were left behind"


@each_kind
def test_the_device_may_be_chosen_by_the_machine_and_an_unknown_one_is_refused(kind, base, tmp_path):
    with pytest.raises(ValueError, match="device='gpu' is unknown: use one of auto, cpu, cuda, mps"):
        kind.train(tmp_path / "it", base, quick=True, device="gpu")
    assert not (tmp_path / "it").exists()
    kind.train(tmp_path / "it", base, quick=True, device="auto")
    assert (tmp_path / "it" / "manifest.json").is_file()


@each_kind
def test_a_finished_one_is_only_loaded_and_one_begun_anew_trains(kind, base, tmp_path):
    first = kind.train(tmp_path / "it", base, quick=True)
    again = kind.train(tmp_path / "it", base, quick=True, on_step=lambda _: pytest.fail("it trained again"))
    assert_close(weights(kind.model(again)), weights(kind.model(first)), rtol=0, atol=0)
    steps = []
    kind.train(tmp_path / "it", base, quick=True, seed=1, resume=False, on_step=steps.append)
    anew = kind.train(tmp_path / "it", base, quick=True)
    assert [progress.step for progress in steps] == list(range(1, kind.phases * STEPS + 1))
    assert {progress.max_steps for progress in steps} == {kind.phases * STEPS}
    before, after = weights(kind.model(first)), weights(kind.model(anew))
    assert any(not torch.equal(before[name], after[name]) for name in before)


@each_kind
def test_the_pretrained_model_stays_as_it_was(kind, base, tmp_path):
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    trained = kind.train(tmp_path / "it", base, quick=True)
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    embedding = kind.model(trained).state_dict()
    name = next(name for name in embedding if name.endswith("token_embedding.weight"))
    assert not torch.equal(embedding[name].float(), load_model(base)[0].token_embedding.weight)


def all_of(record):
    """A message, or a whole talk: a short second question stands in many."""
    return getattr(record, "text", None) or (*record.history, record.prompt)


@each_kind
def test_validation_and_test_records_never_reach_the_training_loader(kind, base, tmp_path, monkeypatch):
    seen, create = [], getattr(recipes, kind.loader)

    def watched(records, *arguments, **options):
        seen.append((options.get("shuffle", True), {all_of(record) for record in records}))
        return create(records, *arguments, **options)

    monkeypatch.setattr(recipes, kind.loader, watched)
    kind.train(tmp_path / "it", base, quick=True)
    trained = set().union(*(texts for shuffled, texts in seen if shuffled))
    others = set().union(*(texts for shuffled, texts in seen if not shuffled))
    others |= {all_of(record) for record in [*load_instructions("test"), *load_messages("test")]}
    assert trained and others and not trained & others


@each_kind
def test_a_base_that_is_missing_or_damaged_is_named(kind, base, tmp_path):
    with pytest.raises(CheckpointError, match="there is no folder .*nowhere"):
        kind.train(tmp_path / "it", tmp_path / "nowhere", quick=True)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in base.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="is damaged"):
        kind.train(tmp_path / "it", damaged, quick=True)
    assert not (tmp_path / "it").exists()


def test_a_saved_classifier_comes_back_with_its_scores(base, tmp_path):
    run = recipes.finetune_classifier(tmp_path / "it", base, quick=True)
    classifier, tokenizer = recipes.load_classifier(tmp_path / "it")
    rows = load_messages("test")[:40]
    again = recipes.classifier_report(classifier, tokenizer, rows)
    before = recipes.classifier_report(run.classifier, run.tokenizer, rows)
    assert torch.equal(torch.as_tensor(again.confusion), torch.as_tensor(before.confusion))
    assert_close(weights(classifier), weights(run.classifier), rtol=0, atol=0)
    (tmp_path / "it" / "classifier.safetensors").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match="is damaged"):
        recipes.load_classifier(tmp_path / "it")


def test_classifier_and_baseline_are_graded_on_the_same_messages(base, tmp_path):
    run = recipes.finetune_classifier(tmp_path / "it", base, quick=True)
    rows = load_messages("test")[:200]
    counts = torch.tensor([sum(row.label == label for row in rows) for label in MESSAGE_LABELS])
    for report in (run.report, run.baseline):
        assert torch.equal(torch.as_tensor(report.confusion).sum(dim=1), counts)
    assert torch.as_tensor(run.by_hand.confusion).sum(dim=1).tolist() == [15, 15, 15, 15]


def test_the_assistant_is_marked_by_kind_and_its_stories_before_and_after(base, tmp_path):
    run = recipes.finetune_assistant(tmp_path / "it", base, quick=True)
    assert run.marks.overall.n == 12 == sum(rate.n for rate in run.marks.kinds.values())
    assert run.new_wordings.overall.n == 12 == len({record.prompt for record in run.new_wordings.records})
    assert {"who", "animal", "feeling", "felt", "yesno", "unknown", "order"} <= set(run.lesson) <= set(READING)
    assert run.stories_before.n_stories == run.stories_after.n_stories == 8
    assert run.stories_before.nats_per_token != run.stories_after.nats_per_token
    assert [record.prompt for record in run.by_hand.records] == [
        record.prompt for record in load_questions_by_hand()[:20]
    ]
