"""The models that come with the course are whole, fit the world and the tokenizer, and score what their recipe says."""

import json

import pytest

from ch05_pretraining.story_scores import evaluate_stories
from ch06_finetuning.assistant import mark_assistant
from data.by_hand import load_questions_by_hand
from data.loaders import load_instructions, load_stories
from data.paths import DATA_DIR
from data.story_cache import world_hash
from data.story_world.instruction_task import INSTRUCTION_KINDS
from data.story_world.marking import mark
from shared import SPECIAL_TOKENS, load_assistant, load_story_gpt
from shared.commands.run_report import percent, sample_stories
from tests.sizes import n

GPT, ASSISTANT = DATA_DIR / "story_gpt", DATA_DIR / "story_assistant"
pytestmark = pytest.mark.skipif(not GPT.is_dir(), reason="the models have not been shipped yet")


@pytest.fixture(scope="module")
def story_gpt():
    return load_story_gpt()


@pytest.fixture(scope="module")
def recipes():
    return [json.loads((folder / "recipe.json").read_text(encoding="utf-8")) for folder in (GPT, ASSISTANT)]


def test_both_models_share_one_tokenizer_with_the_chat_specials(story_gpt):
    _, tokenizer = story_gpt
    assistant = load_assistant()
    assert tokenizer.merges == assistant.tokenizer.merges
    assert tuple(tokenizer.special_tokens) == tuple(assistant.tokenizer.special_tokens) == SPECIAL_TOKENS
    assert tokenizer.vocab_size == assistant.model.config.vocab_size == story_gpt[0].config.vocab_size


def test_the_models_were_trained_on_this_story_world(recipes):
    assert world_hash().startswith(recipes[0]["world"]), "the world has changed: train again and ship the new run"


def test_the_models_take_a_few_megabytes():
    for folder in (GPT, ASSISTANT):
        assert sum(path.stat().st_size for path in folder.iterdir()) < 5_000_000


def test_the_loss_is_the_one_that_the_recipe_tells(story_gpt, recipes):
    told = recipes[0]["results"]["splits"]["validation"]
    stories = load_stories("validation", n(100, told["n_stories"]))
    measured = evaluate_stories(*story_gpt, stories)
    assert measured.times_floor == pytest.approx(told["bits_per_word"] / told["floor_bits_per_word"], abs=0.05)


def test_the_world_was_not_made_poor_to_please_the_model(recipes):
    stories = recipes[0]["results"]
    validation = stories["splits"]["validation"]
    assert validation["floor_bits_per_word"] >= 0.85
    assert validation["bits_per_word"] < 0.8 * min(stories["ngrams"].values())


def test_the_story_gpt_comes_close_to_the_floor(recipes):
    validation = recipes[0]["results"]["splits"]["validation"]
    assert validation["bits_per_word"] <= 1.6 * validation["floor_bits_per_word"]


def test_most_told_stories_are_coherent(recipes):
    coherent = recipes[0]["results"]["coherent"]
    assert coherent["n_correct"] >= 0.75 * coherent["n"]


def test_the_assistant_answers_most_held_out_questions_in_new_wordings_too(recipes):
    results = recipes[1]["results"]
    for exam, least in (("overall", 0.8), ("new_wordings", 0.7)):
        assert results[exam]["n_correct"] >= least * results[exam]["n"], exam
    assert {*results["kinds"]} == {*results["new_kinds"]} == {*INSTRUCTION_KINDS}


def test_the_score_by_hand_is_the_one_that_the_recipe_tells(recipes):
    """The answers are greedy, so only a processor's last digits can change one or two of them."""
    told = recipes[1]["results"]["by_hand"]
    found = mark_assistant(load_assistant(), load_questions_by_hand(), max_new_tokens=200).overall
    assert told["n"] == found.n == 100 and abs(found.n_correct - told["n_correct"]) <= 2


def test_the_classifier_that_came_with_them_sorted_nearly_all_messages(recipes):
    accuracy = recipes[0]["results"]["classifier"]["accuracy"]
    assert accuracy["n_correct"] >= 0.98 * accuracy["n"]


def test_told_stories_are_new_and_as_coherent_as_the_recipe_tells(story_gpt, recipes):
    from data.story_world.coherence import check_story

    told, report = sample_stories(*story_gpt, n(40, 200), seed=123), recipes[0]["results"]["coherent"]
    coherent = sum(not check_story(story) for story in told) / len(told)
    assert coherent == pytest.approx(report["n_correct"] / report["n"], abs=0.2)
    assert len(set(told)) == len(told)
    assert not set(told) & {story.text for story in load_stories("train", n(2_000, 20_000))}


def test_the_assistant_answers_held_out_questions(recipes):
    assistant, told = load_assistant(), recipes[1]["results"]["overall"]
    records = load_instructions("test")
    records = records[:: max(1, len(records) // n(60, 600))]
    right = sum(mark(record, assistant.reply(record.prompt, record.history)) for record in records)
    assert right / len(records) >= told["n_correct"] / told["n"] - 0.15, percent(
        {"n_correct": right, "n": len(records)}
    )
