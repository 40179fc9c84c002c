"""Claims about the words for how sure an answer was, and about the examples that the chat shows."""

import json
from types import SimpleNamespace

import pytest

from ch06_finetuning.metrics import Rate
from data.loaders import load_instructions
from data.paths import DATA_DIR
from data.story_world.instruction_task import INSTRUCTION_KINDS
from shared.commands.chat_abilities import EXAMPLES, GROUPS, load_groups
from shared.commands.chat_sureness import MEASURED, WORDS, Sureness, model_hash, sureness_of
from shared.maintenance.examples import choose_examples
from shared.maintenance.sureness import Answer, answers_of, choose_borders, count_right

SURENESS = Sureness((0.4, 0.9), {"sure": (57, 60), "guessing": (3, 10)})


@pytest.mark.parametrize(
    ("probabilities", "word"),
    [([0.99, 0.9], "sure"), ([0.99, 0.89], "fairly sure"), ([0.4], "fairly sure"), ([1.0, 0.39, 1.0], "guessing")],
)
def test_an_answer_is_as_sure_as_its_least_sure_token(probabilities, word):
    assert SURENESS.word("It is a kite.", probabilities) == word


@pytest.mark.parametrize("answer", ["", " \n", "Once there was a fox.\nHe ran.", "very " * 31])
def test_of_a_story_and_of_nothing_nothing_is_said(answer):
    assert SURENESS.word(answer, [0.99]) == SURENESS.sentence(answer, [0.99]) == ""


def test_a_share_is_told_where_enough_answers_were_counted():
    assert SURENESS.sentence("Ada.", [0.95]) == "sure: of 100 such answers, 95 were right"
    assert SURENESS.sentence("Ada.", [0.5]) == "fairly sure" and SURENESS.sentence("Ada.", [0.1]) == "guessing"


def answers(*groups):
    return [Answer("Ada.", [p], number < right) for p, right, n in groups for number in range(n)]


def test_the_borders_are_where_enough_answers_are_right():
    assert choose_borders(answers((0.2, 5, 10), (0.5, 8, 10), (0.9, 10, 10))) == (0.5, 0.9)
    assert choose_borders(answers((0.2, 10, 10))) == (0.2, 0.2)


def test_neighbors_in_the_wrong_order_are_pooled():
    """Four of five right below, one of five above: together five of ten, which no word promises."""
    assert choose_borders(answers((0.2, 4, 5), (0.3, 1, 5), (0.9, 20, 20))) == (0.9, 0.9)
    assert choose_borders(answers((0.2, 2, 4), (0.5, 3, 4), (0.6, 2, 4), (0.9, 0, 1))) == (2.0, 2.0)


def test_answers_are_counted_by_word():
    counted = count_right(answers((0.1, 1, 3), (0.5, 2, 2), (0.95, 4, 5)), (0.4, 0.9))
    assert counted == {"guessing": [1, 3], "fairly sure": [2, 2], "sure": [4, 5]}


def test_an_answer_is_marked_with_the_probabilities_of_its_tokens():
    def stream_likely(prompt, history):
        assert (prompt, history) == ("Who?", [])
        yield from [("Ada", [("Ada", 0.75), ("Karl", 0.25)]), (".", [(".", 0.5)])]

    record = SimpleNamespace(kind="who", prompt="Who?", history=[], accepted=("Ada",), wanted=(), rivals=(), told=())
    told = SimpleNamespace(kind="tell", prompt="A story", history=[])
    assistant = SimpleNamespace(stream_likely=stream_likely)
    assert [tuple(answer) for answer in answers_of(assistant, [told])] == []
    (answer,) = answers_of(assistant, [record])
    assert answer == ("Ada.", [0.75, 0.5], False)


def test_only_the_assistant_that_was_measured_is_said_to_be_sure(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.commands.chat_sureness.MEASURED", tmp_path / "sureness.json")
    assert sureness_of("shipped") is None
    found = {"borders": [0.5, 0.9], "new_wordings": {"sure": [9, 9]}, "model": model_hash(DATA_DIR / "story_assistant")}
    (tmp_path / "sureness.json").write_text(json.dumps(found), encoding="utf-8")
    assert sureness_of("shipped") == Sureness((0.5, 0.9), {"sure": (9, 9)})
    assert sureness_of("default") is None and sureness_of("smollm2") is None
    (tmp_path / "sureness.json").write_text(json.dumps(found | {"model": "another"}), encoding="utf-8")
    assert sureness_of("shipped") is None


def test_sure_answers_of_the_shipped_assistant_are_right_more_often_on_rows_that_chose_nothing():
    found = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {}
    told = "run python -m shared.maintenance.sureness: another assistant is shipped than was measured"
    assert found.get("model") == model_hash(DATA_DIR / "story_assistant"), told
    for split in ("test", "new_wordings"):
        rates = [Rate(*found[split][word]) for word in WORDS if found[split][word][1] >= 30]
        assert all(less.interval[1] < more.interval[0] for less, more in zip(rates, rates[1:]))


# ---------------------------------------------------------------------------------------------------- examples


def test_every_kind_of_question_has_its_place_and_its_examples():
    assert sorted(kind for labels in GROUPS.values() for kind in labels) == sorted(INSTRUCTION_KINDS)
    abilities = [ability for group in load_groups() for ability in group.abilities]
    assert all(len(ability.examples) >= 4 for ability in abilities)
    assert len({ability.label for ability in abilities}) == len(INSTRUCTION_KINDS)


def test_the_examples_are_those_that_the_program_chooses():
    assert json.loads(EXAMPLES.read_text(encoding="utf-8")) == choose_examples()


def test_no_example_is_asked_in_a_test():
    shown = {talk[-1] for talks in json.loads(EXAMPLES.read_text(encoding="utf-8")).values() for talk in talks}
    told = {prompt for prompt in shown if len(prompt) > 40}  # short ones, such as "Thanks!", are said everywhere
    tested = {record.prompt for split in ("test", "new_wordings") for record in load_instructions(split)}
    assert len(told) > 100 and not told & tested
