"""Claims about the lesson *who is who*: its statements are true, it widens as planned, only its words are graded."""

import re
from collections import Counter

import pytest
import torch
from torch import nn

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.curriculum import batches_from
from ch06_finetuning.lesson import WHO_IS_WHO, LessonBatches, LessonStage, lesson_row, mark_lesson
from data.story_world.reading_questions import READING, feelings
from data.story_world.scene import invented_name, position
from data.story_world.tasks import PortableRandom, split_of, words
from data.story_world.who_is_who import LESSON_PARTS, write_lesson

FEELINGS = dict(n_names=80, part="feelings")
STAGES = [dict(n_names=4, plain=True), dict(n_names=4), dict(n_names=80), FEELINGS]
FORMS = {
    "people": {"who", "animal", "name", "kind"},
    "kinds": {"yesno"},
    "feelings": {"who", "animal", "name", "kind", "feeling", "felt", "yesno", "unknown"},
    "yes or no": {"yesno"},
    "scenes": {*READING},
}
NAMES = {name for names in words().names.values() for name in names}


def lessons(count, **stage):
    rng = PortableRandom("test")
    return [write_lesson(rng, **stage) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [lesson.text + "".join(s.begins + s.word for s in lesson.statements) for lesson in lessons(200, **FEELINGS)]
    return BPETokenizer.train(texts, 500, SPECIAL_TOKENS)


# -------------------------------------------------------------------------------------------------------- the words
GIVEN = {"who": 1, "name": 1, "animal": 3, "kind": 0}  # where in a statement the other half of the pair stands


def pairs_of(lesson):
    """The (name, kind) pairs that the statements tell, each in up to four ways."""
    for form, begins, word in lesson.statements:
        if form in GIVEN:
            pair = begins.split()[GIVEN[form]], word.strip()
            yield pair[::-1] if form in ("who", "name") else pair


@pytest.mark.parametrize("stage", STAGES)
def test_a_lesson_is_known_from_its_text_and_says_the_same_in_both_directions(stage):
    for lesson in lessons(150, **stage):
        pairs = set(pairs_of(lesson))
        names, kinds = [name for name, _ in pairs], [kind for _, kind in pairs]
        assert all(word in lesson.text for word in (*names, *kinds)), lesson
        assert len(set(names)) == len(set(kinds)) == len(names), f"a name with two kinds, or a kind twice: {lesson}"


def test_in_the_first_stage_name_and_kind_stand_in_one_sentence():
    for lesson in lessons(100, **STAGES[0]):
        sentences = [sentence.rstrip(".").split() for sentence in lesson.text.split(". ")]
        assert len(sentences) == 2
        assert all([{*pair} <= {*sentence} for sentence in sentences].count(True) == 1 for pair in pairs_of(lesson))


@pytest.mark.parametrize("part", ["kinds", "yes or no", "scenes"])
def test_yes_and_no_say_the_fact_first_and_follow_from_it(part):
    checked, kinds = Counter(), [*words().animals, "girl", "boy"]
    for lesson in lessons(200, n_names=80, part=part):
        for form, begins, word in lesson.statements:
            fact, _, verdict = word.strip().rpartition(", so ")
            asked, _, told = begins.partition(" In this story, ")
            if form != "yesno" or not told:
                continue
            checked[verdict, fact in kinds] += 1
            assert position(fact, lesson.text) >= 0 and position(told.split()[0], lesson.text) >= 0, lesson
            assert verdict == ("yes" if position(fact, asked) >= 0 else "no"), (lesson, begins, word)
            others = {*kinds} if fact in kinds else {*feelings()}
            assert verdict == "yes" or any(position(other, asked) >= 0 for other in others - {fact}), (begins, word)
    assert min(checked["yes", True], checked["no", True]) >= 15, checked
    assert part == "kinds" or min(checked["yes", False], checked["no", False]) >= 15, checked


def test_what_is_not_known_was_not_told():
    asked = [
        (lesson, begins, word)
        for lesson in lessons(400, **FEELINGS)
        for form, begins, word in lesson.statements
        if form == "unknown"
    ]
    assert len(asked) >= 100 and {word for *_, word in asked} == {
        " I do not know that, but you can ask me about a short story"
    }
    for lesson, begins, _ in asked:
        for told in [feeling for feeling in feelings() if f"who was {feeling}" in begins.lower()]:
            assert position(told, lesson.text) < 0, (lesson, begins)


def test_every_part_asks_what_it_says_and_two_parts_are_never_the_same():
    for part, forms in FORMS.items():
        told = lessons(300, n_names=80, part=part)
        assert {form for lesson in told for form, _, _ in lesson.statements} == forms
        assert all(1 <= len(set(lesson.statements)) == len(lesson.statements) <= 10 for lesson in told)
    assert set(FORMS) == set(LESSON_PARTS)
    with pytest.raises(ValueError, match="part='kind' is unknown: choose one of people, kinds, feelings, yes or no"):
        write_lesson(PortableRandom("test"), 4, part="kind")


def test_what_decides_a_statement_is_never_that_of_a_test_question():
    decided = Counter()
    for part in ("people", "feelings"):
        for lesson in lessons(300, n_names=80, part=part):
            for form, begins, word in lesson.statements:
                if form in ("who", "animal"):
                    name, kind = (begins.split()[3], word.strip())
                    kind, name = (begins.split()[1], word.strip()) if form == "who" else (kind, name)
                    decided[split_of(form, kind, name)] += 1
    for lesson in lessons(300, n_names=80, part="kinds"):
        for _, begins, word in lesson.statements:
            right, _, verdict = word.strip().partition(", so ")
            wrong = [kind for kind in words().animals if position(kind, begins.partition("?")[0]) >= 0]
            if verdict == "no" and len(wrong) == 1:
                decided[split_of("yesno", right, wrong[0])] += 1
    assert set(decided) == {"train"} and decided["train"] > 1_000


def test_no_two_in_a_text_have_the_same_name():
    rng = PortableRandom("names")
    taken = [invented_name(rng) for _ in range(100)]
    names = [invented_name(rng, taken) for _ in range(1_000)]
    assert not [(one, other) for one in taken for other in names if one in other or other in one]


def test_feelings_are_those_of_the_text_and_some_names_are_known_from_nowhere():
    told = lessons(200, **FEELINGS)
    for lesson in told:
        for form, begins, word in lesson.statements:
            if form in ("feeling", "felt"):
                name, feeling = (begins.split()[3], word.strip()) if form == "feeling" else (word, begins.split()[4])
                places = [found.start() for found in re.finditer(feeling, lesson.text)]
                assert any(name.strip() in lesson.text[place - 25 : place] for place in places), lesson
    asked = [word.strip() for lesson in told for form, _, word in lesson.statements if form in ("who", "name")]
    assert 0.15 < sum(name not in NAMES for name in asked) / len(asked) < 0.35


def test_few_names_are_the_same_few_every_time():
    def asked(form, n_names):
        return {s.word for lesson in lessons(200, n_names=n_names) for s in lesson.statements if s.form == form}

    assert len(asked("name", 4)) == len(asked("kind", 4)) == 4
    assert asked("who", 4) < asked("who", 8) < asked("who", 80) and len(asked("animal", 80)) == len(words().animals)
    felt = {
        s.word for lesson in lessons(200, n_names=4, part="feelings") for s in lesson.statements if s.form == "feeling"
    }
    assert len(felt) == 4


# ------------------------------------------------------------------------------------------------------ the batches
def test_only_the_words_that_are_to_be_known_are_graded(tokenizer):
    lesson = lessons(1, **STAGES[1])[0]
    ids, spans = lesson_row(lesson, tokenizer)
    assert tokenizer.decode(ids) == lesson.text + "".join(f"{s.begins}{s.word}." for s in lesson.statements)
    assert [(form, tokenizer.decode(ids[start:end])) for form, start, end in spans] == [
        (s.form, s.word) for s in lesson.statements
    ]
    _, targets = next(iter(LessonBatches(tokenizer, [LessonStage(1, 4)], batch_size=1)))
    rows = LessonBatches(tokenizer, [LessonStage(1, 4)], batch_size=1, max_length=20)
    short_ids, short = next(iter(rows))
    assert short_ids.shape[1] <= 20 and torch.equal(short, targets[:, : short.shape[1]])
    graded = tokenizer.decode(targets[targets >= 0].tolist()).split()
    assert graded and set(graded) <= NAMES | set(words().animals)


def test_a_batch_is_a_function_of_seed_and_number_wherever_one_begins(tokenizer):
    stages = [LessonStage(2, 4, plain_share=0.5), LessonStage(3, 80, 0.0, "feelings")]
    make = lambda seed=0: LessonBatches(tokenizer, stages, batch_size=2, seed=seed)  # noqa: E731
    whole = list(make())
    assert len(whole) == len(make()) == 5
    later = batches_from(make(), 3)
    assert all(torch.equal(a, b) for batch in whole[3:] for a, b in zip(batch, next(later)))
    assert not torch.equal(whole[0][0], next(iter(make(seed=1)))[0])


def test_the_stages_come_one_after_another(tokenizer):
    stages = [LessonStage(2, 4, plain_share=1.0), LessonStage(3, 4)]
    rows = LessonBatches(tokenizer, stages, batch_size=8)
    assert [rows.stage_of(number) for number in range(6)] == [stages[0]] * 2 + [stages[1]] * 4
    texts = [[tokenizer.decode(row.tolist()) for row in ids] for ids, _ in rows]
    plain = [all(text.split()[0] in ("The", "There") or text.split()[1] in ("the", "was") for text in b) for b in texts]
    assert plain == [True, True, False, False, False]
    with pytest.raises(ValueError, match="leave nothing to learn: give each at least one step"):
        LessonBatches(tokenizer, [LessonStage(0, 4)])


def test_every_tenth_batch_is_of_stories(tokenizer):
    stories = [(torch.full((5,), k), torch.full((5,), k)) for k in range(1, 5)]
    rows = LessonBatches(tokenizer, [LessonStage(20, 4)], batch_size=2, stories=stories, replay_batch=3)
    old = [number for number, (ids, targets) in enumerate(rows) if torch.equal(ids, targets)]
    assert old == [9, 19]
    ids, _ = list(rows)[9]
    assert ids.shape == (3, 5) and len(set(ids[:, 0].tolist())) == 3
    with pytest.raises(ValueError, match="replay_batch=5 does not fit 4 stories: choose 1 to 4"):
        LessonBatches(tokenizer, [LessonStage(20, 4)], stories=stories, replay_batch=5)


def test_the_lesson_of_the_recipe_never_narrows_within_a_part():
    for part in LESSON_PARTS:
        stages = [stage for stage in WHO_IS_WHO if stage.part == part]
        assert all(a.n_names <= b.n_names and a.plain_share >= b.plain_share for a, b in zip(stages, stages[1:]))
        assert stages[-1].n_names == len(NAMES)
    assert list(dict.fromkeys(stage.part for stage in WHO_IS_WHO)) == [*LESSON_PARTS]


# -------------------------------------------------------------------------------------------------------- the marks
class Peeks(nn.Module):
    """Says the token that comes next, or the one after the newest, whatever it is."""

    def __init__(self, vocab_size, honest):
        super().__init__()
        self.vocab_size, self.honest, self.nothing = vocab_size, honest, nn.Parameter(torch.zeros(1))

    def forward(self, ids):
        said = ids.roll(-1, dims=1) if self.honest else torch.zeros_like(ids)
        return nn.functional.one_hot(said, self.vocab_size).float()


def test_who_knows_every_word_gets_all_marks_and_who_knows_none_gets_none(tokenizer):
    for knows in (True, False):
        marks = mark_lesson(Peeks(tokenizer.vocab_size, knows), tokenizer, n_lessons=30)
        assert {"who", "felt", "yesno"} < set(marks) <= FORMS["scenes"]
        assert all(rate.n_correct == knows * rate.n for rate in marks.values())
