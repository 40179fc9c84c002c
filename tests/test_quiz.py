"""The quizzes: every question has its section and its goal, every choice its reason, and marks follow the key."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from shared.commands.quiz_pages import letters, mark_quiz, quizzes, sheet, write_sheets

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "shared" / "teaching" / "quiz"
if not FOLDER.is_dir():
    pytest.skip("the quizzes are not part of this copy", allow_module_level=True)
QUIZZES = quizzes()
QUESTIONS = [question for questions in QUIZZES.values() for question in questions]


def texts(chapter: str, notebook: str) -> list[str]:
    (path,) = ROOT.glob(f"{chapter}_*/{notebook}.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


def goals(chapter: str, notebook: str) -> int:
    (text,) = [text for text in texts(chapter, notebook) if text.startswith("## You will be able to")]
    return len(re.findall(r"^[-*] ", text, re.MULTILINE))


@pytest.mark.parametrize("chapter", QUIZZES)
def test_a_chapter_has_twelve_questions_and_every_goal_one(chapter):
    (narrative,) = [path.name.split("_", 1)[1] for path in ROOT.glob(f"{chapter}_*")]
    assert len(QUIZZES[chapter]) >= 12
    asked = {question.goal for question in QUIZZES[chapter] if question.notebook == narrative}
    assert asked == set(range(1, goals(chapter, narrative) + 1))


def test_there_is_a_quiz_for_each_chapter():
    assert set(QUIZZES) == {path.name[:4] for path in ROOT.glob("ch[0-9]*")}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_a_question_stands_on_a_section_and_explains_each_choice(question):
    chapter = f"ch{int(question.id.split('q')[0]):02d}"
    headings = [m for text in texts(chapter, question.notebook) for m in re.findall(r"^##+ (.+)$", text, re.MULTILINE)]
    assert question.section in headings, question.section
    assert 1 <= question.goal <= goals(chapter, question.notebook)
    assert 3 <= len(question.choices) <= 5 and 1 <= len(question.key()) < len(question.choices)
    assert len({choice.text for choice in question.choices}) == len({choice.why for choice in question.choices})
    assert all(len(choice.why.split()) >= 5 and choice.why.endswith(".") for choice in question.choices)
    assert question.ask.endswith(("?", ":", "."))


def test_ids_are_counted_and_given_once():
    for chapter, questions in QUIZZES.items():
        assert [question.id for question in questions] == [f"{int(chapter[2:])}q{n + 1}" for n in range(len(questions))]


def test_the_right_choice_stands_at_every_letter_and_is_not_the_longest():
    """Whoever has not read the chapter should not find it by its place or its length."""
    single = [question for question in QUESTIONS if len(question.key()) == 1]
    places = Counter(question.key() for question in single if len(question.choices) == 4)
    assert min(places[letter] for letter in "abcd") >= 0.1 * sum(places.values())
    longest = 0
    for question in single:
        right, wrong = ([len(c.text) for c in question.choices if c.right is kind] for kind in (True, False))
        longest += max(right) > max(wrong)
    assert longest <= 0.4 * len(single)


def test_a_page_shows_no_answer_and_its_key_shows_all(tmp_path):
    written = write_sheets(tmp_path, seed=3)
    assert len(written) == 12 and all(path.is_file() for path in written)
    for chapter, questions in QUIZZES.items():
        page, key = sheet(chapter, questions, 3), sheet(chapter, questions, 3, key=True)
        assert page.count("<section>") == len(questions) and 'class="right"' not in page
        assert key.count('class="right"') == sum(len(question.key()) for question in questions)
        assert not [c.why for q in questions for c in q.choices if c.why[:30] in page]
        assert key.count("goal ") == len(questions) and page == (tmp_path / "quiz" / f"{chapter}.html").read_text(
            "utf-8"
        )


def test_another_class_gets_another_order_and_its_own_key():
    assert [q.key(1) for q in QUESTIONS] != [q.key(2) for q in QUESTIONS]
    for question in QUESTIONS:
        right = [choice for letter, choice in zip("abcde", question.shuffled(2)) if letter in question.key(2)]
        assert set(right) == {choice for choice in question.choices if choice.right}


def test_answers_are_marked_by_the_key_of_the_class(tmp_path):
    asked = QUESTIONS[:3]
    path = tmp_path / "answers.csv"
    rows = [["learner", *(q.id for q in asked)], ["Ada", *(q.key(5).upper() for q in asked)], ["Bob", "", "z", "?"], []]
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    table = list(csv.reader(io.StringIO(mark_quiz(path, 5))))
    assert table[1:] == [
        ["Ada", "3", "3", "1", "1", "1"],
        ["Bob", "0", "3", "0", "0", "0"],
        ["right", "", "2", "1", "1", "1"],
    ]
    assert letters(" C, a;") == "ac"


@pytest.mark.parametrize("content", ["", "name,3q1\nAda,b\n", "learner,99q1\nAda,b\n"])
def test_a_table_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "answers.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="should begin with a line such as learner,3q1"):
        mark_quiz(path)


def test_the_command_writes_pages_and_marks_without_a_class(tmp_path, capsys):
    from shared.commands import grade

    assert grade.main(["--sheets", "--seed", "5", "--out", str(tmp_path)]) == 0
    path = tmp_path / "answers.csv"
    path.write_text(f"learner,3q1\n=1+1,{quizzes()['ch03'][0].key(5)}\n", encoding="utf-8")
    assert grade.main(["--quiz", str(path), "--seed", "5", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "quiz.csv").read_text(encoding="utf-8-sig").splitlines()[1] == "'=1+1,1,1,1"
    assert (tmp_path / "quiz_key" / "ch03.html").is_file() and "quiz.csv" in capsys.readouterr().out
    assert grade.main([]) == 1 and "give the folder" in capsys.readouterr().err
