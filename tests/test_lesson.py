"""Claims about the lesson *who is who*: its statements are true, it widens as planned, only its words are graded."""

from collections import Counter, defaultdict

import pytest
import torch
from torch import nn

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.curriculum import batches_from
from ch06_finetuning.lesson import WHO_IS_WHO, LessonBatches, LessonStage, lesson_row, mark_lesson
from data.story_world.scene import invented_name
from data.story_world.tasks import PortableRandom, words
from data.story_world.who_is_who import write_lesson

STAGES = [dict(n_names=4, plain=True), dict(n_names=4), dict(n_names=80), dict(n_names=80, feelings=True)]
FORMS = {"who", "animal", "name", "kind", "feeling", "felt", "yesno", "unknown"}
NAMES = {name for names in words().names.values() for name in names}


def lessons(count, **stage):
    rng = PortableRandom("test")
    return [write_lesson(rng, **stage) for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [
        lesson.text + "".join(s.begins + s.word for s in lesson.statements) for lesson in lessons(200, **STAGES[3])
    ]
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
        names, kinds = zip(*set(pairs_of(lesson)))
        assert all(word in lesson.text for word in (*names, *kinds)), lesson
        assert len(set(names)) == len(set(kinds)) == len(names), f"a name with two kinds, or a kind twice: {lesson}"


def test_in_the_first_stage_name_and_kind_stand_in_one_sentence():
    for lesson in lessons(100, **STAGES[0]):
        sentences = [sentence.rstrip(".").split() for sentence in lesson.text.split(". ")]
        assert len(sentences) == 2
        assert all([{*pair} <= {*sentence} for sentence in sentences].count(True) == 1 for pair in pairs_of(lesson))


def test_yes_and_no_are_right_and_what_is_not_known_was_not_told():
    checked = Counter()
    for lesson in lessons(400, **STAGES[3]):
        by_form = defaultdict(list)
        for statement in lesson.statements:
            by_form[statement.form].append(statement)
        true = dict(pairs_of(lesson))
        felt = {one.begins.split()[3]: one.word.strip() for one in by_form["feeling"]}
        for _, begins, word in by_form["yesno"]:
            _, name, *_, asked = begins.rstrip("?").split()
            known = true if begins.startswith(" Is") else felt
            if name in known:
                checked[word] += 1
                assert word == (" Yes" if known[name] == asked else " No"), lesson
        for _, begins, word in by_form["unknown"]:
            checked[word] += 1
            feeling = begins.rstrip("?").split()[-1]
            assert not any(feeling in one.begins + one.word for one in by_form["felt"] + by_form["feeling"]), lesson
    assert min(checked[word] for word in (" Yes", " No", " I do not know")) >= 40, checked


def test_no_two_in_a_text_have_the_same_name():
    rng = PortableRandom("names")
    taken = [invented_name(rng) for _ in range(100)]
    names = [invented_name(rng, taken) for _ in range(1_000)]
    assert not [(one, other) for one in taken for other in names if one in other or other in one]


def test_feelings_are_those_of_the_text_and_some_names_are_known_from_nowhere():
    told = lessons(200, **STAGES[3])
    forms = {form for lesson in told for form, _, _ in lesson.statements}
    assert forms == FORMS
    for lesson in told:
        for form, begins, word in lesson.statements:
            if form in ("feeling", "felt"):
                name, feeling = (
                    (begins.split()[3], word) if form == "feeling" else (word, begins.split()[-1].rstrip("?"))
                )
                clause = lesson.text[lesson.text.rindex(feeling.strip()) - 25 :]
                assert name.strip() in clause[:25], lesson
    asked = [word.strip() for lesson in told for form, _, word in lesson.statements if form in ("who", "name")]
    assert 0.15 < sum(name not in NAMES for name in asked) / len(asked) < 0.35


def test_few_names_are_the_same_few_every_time():
    def asked(form, n_names):
        return {s.word for lesson in lessons(200, n_names=n_names) for s in lesson.statements if s.form == form}

    assert len(asked("who", 4)) == len(asked("animal", 4)) == 4
    assert asked("who", 4) < asked("who", 8) < asked("who", 80) and len(asked("animal", 80)) == len(words().animals)


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
    stages = [LessonStage(2, 4, plain_share=0.5), LessonStage(3, 80, feelings=True)]
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


def test_the_lesson_of_the_recipe_never_narrows():
    assert all(a.n_names <= b.n_names and a.plain_share >= b.plain_share for a, b in zip(WHO_IS_WHO, WHO_IS_WHO[1:]))
    assert WHO_IS_WHO[-1].n_names == len(NAMES) and WHO_IS_WHO[-1].feelings


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
        marks = mark_lesson(Peeks(tokenizer.vocab_size, knows), tokenizer, n_lessons=12)
        assert set(marks) == FORMS
        assert all(rate.n_correct == knows * rate.n for rate in marks.values())
