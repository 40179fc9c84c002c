"""Every exercise keeps its promise: an untouched stub, the answer, and the classic mistakes get different sentences."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from shared.exercises import NotYet, expect, expect_close, expect_equal, verdict, without
from shared.exercises.class_numbers import CLASS_SEED, class_seed, dice, use_class_seed

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
    assert len(set(said)) == len(said) >= 3, said


@released
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6, 7, 8, 9, 2**40])
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
    texts["__init__.py"] = (ROOT / "shared" / "exercises" / "__init__.py").read_text(encoding="utf-8")
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
