"""Every exercise keeps its promise: an untouched stub, the answer, and the classic mistakes get different sentences."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from shared.exercises import NotYet, expect, expect_close, expect_equal, forbidden, verdict, without
from shared.exercises.class_numbers import CLASS_SEED, class_seed, dice, use_class_seed
from shared.exercises.values import short

ROOT = Path(__file__).resolve().parent.parent


def _load(folder: Path, name: str) -> dict:
    """Collect one table, for instance CHECKS, from all chapters' files of a folder."""
    table = {}
    for path in sorted(folder.glob("ch*.py")):
        spec = importlib.util.spec_from_file_location(f"{folder.name}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        table.update(getattr(module, name))
    return table


CHECKS = _load(ROOT / "shared" / "exercises" / "checks", "CHECKS")
SOLUTIONS = _load(ROOT / "shared" / "exercises" / "solutions", "SOLUTIONS")
WRONG = _load(ROOT / "tests" / "wrong_answers", "WRONG")
released = pytest.mark.skipif(not SOLUTIONS, reason="the solutions are not part of this copy")
planted = pytest.mark.skipif(not WRONG, reason="the planted wrong answers are not part of this copy")


def not_tried(*arguments, **options):
    """What every stub does."""
    raise NotImplementedError


@pytest.mark.parametrize("exercise", CHECKS)
def test_an_untouched_stub_is_not_tried_yet(exercise):
    assert verdict(exercise, not_tried) == "not tried yet."


@released
@pytest.mark.parametrize("exercise", CHECKS)
def test_the_solution_is_correct(exercise):
    answer, explanation = SOLUTIONS[exercise]
    assert verdict(exercise, answer) == "correct."
    assert len(explanation.split()) >= 10


@planted
@pytest.mark.parametrize("exercise", CHECKS)
def test_classic_mistakes_are_told_apart(exercise):
    said = []
    for answer, fragment in WRONG[exercise]:
        sentence = verdict(exercise, answer)
        assert sentence.startswith("not yet. ") and fragment in sentence, sentence
        said.append(sentence)
    assert len(set(said)) == len(said) >= 6, said


@released
@pytest.mark.parametrize("seed", [1, 3, 5, 7, 2**40])  # a check asks with the numbers of the next class, too
def test_a_class_with_numbers_of_its_own_gets_the_same_verdicts(seed):
    before = class_seed()
    use_class_seed(seed)
    try:
        assert {verdict(exercise, answer) for exercise, (answer, _) in SOLUTIONS.items()} == {"correct."}
        passed = [(e, answer) for e in CHECKS for answer, _ in WRONG[e] if verdict(e, answer) == "correct."]
    finally:
        use_class_seed(before)
    assert not passed


def _known(value) -> str:
    """Write down what an answer was given, so that the same thing is known again."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {value.detach().tolist()}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} {[_known(part) for part in value]}"
    if isinstance(value, torch.nn.Module):
        return _known(value.state_dict())
    if isinstance(value, dict):
        return str({key: _known(part) for key, part in value.items()})
    return type(value).__name__ if " at 0x" in repr(value) else repr(value)


@released
@pytest.mark.parametrize("exercise", CHECKS)
def test_who_has_learned_the_numbers_of_the_course_by_heart_is_not_right_in_a_class(exercise):
    answer, heart = SOLUTIONS[exercise][0], set()

    def learn(*given):
        heart.add(_known(given))
        return answer(*given)

    def recite(*given):
        return answer(*given) if _known(given) in heart else None

    before = class_seed()
    try:
        use_class_seed(0)
        assert verdict(exercise, learn) == "correct."
        use_class_seed(5)
        assert verdict(exercise, recite).startswith("not yet.")
    finally:
        use_class_seed(before)


def test_checks_solutions_and_wrong_answers_speak_of_the_same_exercises():
    assert not WRONG or set(WRONG) == set(CHECKS)
    assert not SOLUTIONS or set(SOLUTIONS) == set(CHECKS)


@pytest.mark.parametrize("path", sorted(ROOT.glob("ch*/exercises.ipynb")), ids=lambda path: path.parent.name)
def test_the_exercise_notebook_asks_for_each_check_of_its_chapter(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    chapter = str(int(path.parent.name[2:4]))
    ids = {exercise for exercise in CHECKS if exercise.split(".")[0] == chapter}
    assert 5 <= len(ids) <= 8
    assert not {exercise for exercise in ids if f'check("{exercise}"' not in code}


# ---------------------------------------------------------------- the machinery itself


CHECK = """
from classroom import expect_equal

def check_double(answer):
    expect_equal("double(3)", answer(3), 6, "Add the number to itself.")

CHECKS = {"9.1": check_double}
"""
SOLUTION = """
def double(x):
    return 2 * x

SOLUTIONS = {"9.1": (double, "Twice the number.")}
"""


@pytest.fixture
def classroom(monkeypatch, tmp_path):
    """The exercises of a course with a single one, so that these tests need no real one."""
    texts = {"checks/ch09.py": CHECK, "solutions/ch09.py": SOLUTION}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "shared" / "exercises").glob("*.py")}
    for name, text in texts.items():
        (tmp_path / "classroom" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "classroom" / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("classroom")
    for name in [name for name in sys.modules if name.split(".")[0] == "classroom"]:
        del sys.modules[name]


def test_check_prints_one_sentence_and_never_raises(classroom, capsys):
    def fails(x):
        return x / 0

    def leaves(x):
        raise SystemExit

    for answer in (lambda x: x + x, lambda x: x, not_tried, fails, leaves, None, lambda x: None, eval("lambda: 6")):
        assert classroom.check("9.1", answer) is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "9.1: correct."
    assert lines[1] == "9.1: not yet. double(3) should be 6, yours is 3. Add the number to itself."
    assert lines[2] == "9.1: not tried yet."
    said = "Your code raised ZeroDivisionError in its line 2: division by zero. It was called as fails(3)."
    assert lines[3] == f"9.1: not yet. {said}"
    assert lines[4].startswith("9.1: not yet. Your code raised SystemExit")
    assert lines[5].startswith("9.1: not yet. Your code raised TypeError")
    assert "yours is None (is there a `return`?)" in lines[6]
    assert lines[7].startswith("9.1: not yet. Look at what your function takes and what it returns; the check met Type")


def test_a_line_is_counted_in_the_answer_and_not_in_a_helper_above_it(classroom, capsys):
    def helper(x):
        return x / 0

    def answer(x):
        y = x
        return helper(y)

    classroom.check("9.1", answer)
    assert "ZeroDivisionError in its line 3: division by zero. It was called as answer(3)." in capsys.readouterr().out


def test_two_values_that_look_the_same_are_told_apart():
    expected = torch.tensor([[7, 8, 9, 1], [5, 1, -100, -100]])
    with pytest.raises(NotYet, match=r"At \[1, 2\] it should be -100, yours is 0\. Look again"):
        expect_equal("targets", expected.clamp(min=0), expected, "Look again.")
    near = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(NotYet, match=r"At \[2\] it should be 3, yours is 3\.0001"):
        expect_close("the loss", (near + torch.tensor([1e-8, 0, 1e-4])).requires_grad_(), near)
    for bad in (torch.nan, torch.inf):
        expected = torch.arange(12.0)
        expected[7] = -torch.inf  # as a masked score
        got = expected.double()
        got[2] += 1e-8
        got[9] = bad
        with pytest.raises(NotYet, match=rf"At \[9\] it should be 9, yours is {bad}\."):
            expect_close("the scores", got, expected)
        with pytest.raises(NotYet, match=rf"At \[9\] it should be {bad}, yours is 9\."):
            expect_close("the scores", expected, got)
    with pytest.raises(NotYet, match="should be \\[266, 67\\], yours is \\[266, 67\\] of shape"):
        expect_equal("The ids", torch.tensor([266, 67]), [266, 67])


def test_a_function_is_taken_away_for_the_time_of_a_check():
    import math

    with pytest.raises(NotYet, match="by hand"), without(math, "sqrt", "Do it by hand."):
        math.sqrt(4)
    assert math.sqrt(4) == 2


def test_an_unknown_exercise_is_named_kindly(classroom, capsys):
    classroom.check("9.7", abs)
    classroom.solution("9.7")
    assert capsys.readouterr().out.count("there is no exercise of this name") == 2


def test_a_solution_shows_code_and_explanation(classroom, capsys):
    classroom.solution("9.1")
    printed = capsys.readouterr().out
    assert "return 2 * x" in printed and "Twice the number." in printed


def test_a_classroom_copy_says_that_solutions_are_not_released(classroom, capsys):
    shutil.rmtree(Path(classroom.__file__).parent / "solutions")
    classroom.solution("9.1")
    assert capsys.readouterr().out == "9.1: the solution has not been released.\n"


def test_the_numbers_of_a_class_stand_in_a_file_of_its_copy(monkeypatch, tmp_path):
    if not CLASS_SEED.exists():
        assert class_seed() == 0 and dice(3).initial_seed() == 3
    (tmp_path / "class_seed.txt").write_text("7", encoding="utf-8")
    monkeypatch.setattr("shared.exercises.class_numbers.CLASS_SEED", tmp_path / "class_seed.txt")
    monkeypatch.setattr("shared.exercises.class_numbers._chosen", [])
    assert class_seed() == 7 and dice(3).initial_seed() not in (3, dice(4).initial_seed())


def test_expectations_name_what_came_and_what_was_expected():
    with pytest.raises(NotYet, match=r"should have the shape \(2, 3\), yours has \(3, 2\)"):
        expect_close("the result", torch.zeros(3, 2), torch.zeros(2, 3))
    with pytest.raises(NotYet, match="the loss should be 1, yours is 2"):
        expect_close("the loss", 2.0, 1.0)
    with pytest.raises(NotYet, match="yours is None"):
        expect_close("the result", None, torch.zeros(1))
    with pytest.raises(NotYet, match="say so"):
        expect(False, "say so")
    expect_close("the loss", torch.tensor(1.0), 1.0)
    expect_equal("ids", torch.tensor([1, 2]), torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("got", "expected", "told"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1, 2]), "ids should be whole numbers, yours are torch.float32"),
        (
            torch.tensor([1, 2]),
            torch.tensor([1.0, 2.0]),
            "ids should be numbers with a decimal point, yours are torch.int64",
        ),
        (
            torch.tensor([1, 0]),
            torch.tensor([True, False]),
            "ids should be True and False, yours are torch.int64",
        ),
    ],
)
def test_a_number_of_another_kind_is_not_equal(got, expected, told):
    with pytest.raises(NotYet, match=told):
        expect_equal("ids", got, expected)
    expect_equal("ids", torch.tensor([1, 2], dtype=torch.int32), torch.tensor([1, 2]))


@pytest.fixture
def watched(monkeypatch, classroom):
    """Judge an answer with a check of this test's own, which may call it as it likes."""

    def judge(answer, calls, **marks):
        marked = classroom.may_change(**marks)(calls) if marks else calls
        monkeypatch.setitem(importlib.import_module("classroom.checks.ch09").CHECKS, "9.1", marked)
        return classroom.verdict("9.1", answer)

    return judge


def _in_place(row):
    row[0] += 1
    return row


@pytest.mark.parametrize("value", [[1.0, 2.0], torch.tensor([1.0, 2.0]), {0: 1.0, 1: torch.tensor(2.0)}])
def test_what_an_answer_was_given_may_not_change(watched, value):
    said = watched(_in_place, lambda fn: fn(value))
    assert said.startswith("not yet. Your function has changed `row`, which it was given: it was ")
    assert watched(lambda row: row[0] + 1, lambda fn: fn(value)) == "correct."


def test_a_check_says_what_its_answers_may_change(watched, classroom):
    assert watched(_in_place, classroom.may_change(0)(lambda fn: fn([1.0, 2.0]))) == "correct."
    assert watched(_in_place, classroom.may_change(1)(lambda fn: fn([1.0, 2.0]))).startswith("not yet. ")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: model.eval(), "its mode, train or eval. Leave"),
        (lambda model: model.requires_grad_(False), "which parameters learn. Leave"),
        (lambda model: model.weight.data.add_(1), "its weights. Leave"),
    ],
)
def test_a_model_that_was_given_stays_as_it_is(watched, change, told):
    assert told in watched(change, lambda fn: fn(torch.nn.Linear(2, 2)))


def test_a_result_stays_as_it_is_when_the_answer_is_called_again(watched):
    row, table = [], torch.zeros(2)

    def fills_one_list(n):
        row[:] = [n]
        return row

    def fills_one_tensor(n):
        return table.fill_(n)

    for answer in (fills_one_list, fills_one_tensor):
        said = watched(answer, lambda fn: [fn(n) for n in (1, 2)])
        assert f"What {answer.__name__}(1) returned has changed with the next call" in said
    assert watched(lambda n: [n], lambda fn: [fn(n) for n in (1, 2)]) == "correct."


def test_a_result_keeps_the_number_format_that_is_given(watched):
    given = torch.ones(2), torch.ones(2, dtype=torch.int32), torch.ones(2, dtype=torch.bool)
    assert "given numbers in torch.float32 and returned torch.float64" in watched(
        lambda x, ids, mask: x.double(), lambda fn: fn(*given)
    )
    assert "given numbers in torch.int32 and returned torch.int64" in watched(
        lambda x, ids, mask: (x, [ids.long()]), lambda fn: fn(*given)
    )
    assert watched(lambda x, ids, mask: (x, ids, mask.double()[:0].bool()), lambda fn: fn(*given)) == "correct."
    assert watched(lambda x, ids, mask: x.double(), lambda fn: fn(*given), number_format=True) == "correct."


def test_each_check_is_tried_with_the_numbers_of_two_classes(watched, classroom):
    seeds, numbers = [], importlib.import_module("classroom.class_numbers")
    own = numbers.class_seed()
    assert watched(abs, lambda fn: seeds.append(numbers.class_seed())) == "correct."
    assert seeds == [own, own + 1] and numbers.class_seed() == own


def test_numbers_are_compared_in_the_digits_that_they_have():
    third = torch.tensor([1 / 3], dtype=torch.float64)
    for got, expected in ((0.333333, 1 / 3), (third.float().double(), third), (third.float() + 1e-4, third.float())):
        with pytest.raises(NotYet, match="should be"):
            expect_close("the share", got, expected)
    with pytest.raises(NotYet, match=r"More exactly, it should be 0\.333333333333, yours is 0\.333333\. Yours agrees"):
        expect_close("the share", 0.333333, 1 / 3)
    expect_close("the share", float(torch.tensor(1 / 3)), 1 / 3)
    expect_close("the share", third.float(), third)


def test_a_function_of_pytorch_is_refused_under_all_its_names():
    x = torch.zeros(1, 1, 2, 2)
    for kernel in (
        torch.nn.functional.scaled_dot_product_attention,
        torch._C._nn.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention,
        torch.ops.aten.scaled_dot_product_attention.default,
    ):
        with pytest.raises(NotYet, match="by hand"), forbidden("by hand", "scaled_dot_product_attention"):
            kernel(x, x, x)
    with forbidden("by hand", "scaled_dot_product_attention", option="enable_gqa"):
        torch.nn.functional.scaled_dot_product_attention(x, x, x)


def test_values_are_written_in_one_line():
    pair = (torch.zeros(2), [torch.ones(2, 2)], "two\nlines")
    assert short(pair) == "([0, 0] of shape (2,), [[1, 1, 1, 1] of shape (2, 2)], 'two\\nlines')"
    assert short({"a": torch.tensor(0.123456)}) == "{'a': 0.123456}"
    assert "\n" not in short(torch.zeros(30).numpy())


@pytest.mark.parametrize(
    ("got", "expected", "told"),
    [
        (list(range(9)), [*range(8), 7], r"At \[8\] it should be 7, yours is 8\."),
        ([1] * 7, [1] * 8, r"Up to \[6\] both are equal; yours has 7 and not 8\."),
        (torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, 2], [3, 5]]), r"At \[1, 1\] it should be 5, yours is 4\."),
    ],
)
def test_the_first_place_that_differs_is_told(got, expected, told):
    with pytest.raises(NotYet, match=told):
        expect_equal("the row", got, expected)
