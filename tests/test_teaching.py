"""The teacher's pages: what they name exists, and every misconception is one that a check knows."""

import importlib
import json
import re

import pytest

from shared.commands.lab import notebook_of
from shared.commands.quiz_pages import quizzes
from shared.commands.slides import deck
from shared.exercises import class_numbers, verdict
from tests.test_anatomy import LINES_A_MINUTE, NARRATIVES, WORDS_A_MINUTE
from tests.test_exercises import CHECKS, ROOT, WRONG
from tests.test_questions import wrong_links

FOLDER = ROOT / "shared" / "teaching"
if not FOLDER.is_dir():
    pytest.skip("the teacher's pages are not part of this copy", allow_module_level=True)
PAGES = sorted(FOLDER.glob("*.md"))
CHAPTERS = sorted(FOLDER.glob("ch*.md"))


def headings(chapter: str) -> str:
    notebooks = ROOT.glob(f"ch0{chapter}_*/*.ipynb")
    return " ".join(path.read_text(encoding="utf-8") for path in notebooks if path.name != "exercises.ipynb")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_headings_and_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    assert not [link for link in wrong_links(text, FOLDER) if "#" in link or not (FOLDER / link).is_file()]
    for command, options in re.findall(r"course\.py (\w+)([^`]*)", text):
        source = (ROOT / "shared" / "commands" / f"{command}.py").read_text(encoding="utf-8")
        assert not [one for one in re.findall(r"--\w+", options) if f'"{one}"' not in source], (command, options)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_each_misconception_was_planted_in_its_chapter(page):
    names = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    planted = {answer.__name__ for exercise in WRONG if exercise[0] == page.stem[-1] for answer, _ in WRONG[exercise]}
    assert len(names) >= 6 and set(names) <= planted, set(names) - planted


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_a_chapter_has_a_plan_questions_and_a_rubric_of_a_hundred(page):
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles == ["Board plan", "Minute by minute", "Misconceptions", "To discuss", "Rubric"]
    assert sum(map(int, re.findall(r"\| (\d+) \|$", text, re.MULTILINE))) == 100
    assert len(re.findall(r"^- .+\?$|^- .+\.$", text, re.MULTILINE)) >= 4
    assert len(re.findall(r"^\d\. ", text, re.MULTILINE)) == 5


def rows(title: str) -> list[list[str]]:
    """Return the rows of the table below a heading of the syllabus, without its head."""
    part = (FOLDER / "syllabus.md").read_text(encoding="utf-8").split(f"## {title}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def spread(cell: str) -> list[str]:
    """Return the numbers that a cell names, those of "3.1 to 3.3" in between as well."""
    found = []
    for first, last in re.findall(r"(\d\.\d+)(?: to (\d\.\d+))?", cell):
        chapter, number = first.split(".")
        found += [f"{chapter}.{n}" for n in range(int(number), int((last or first).split(".")[1]) + 1)]
    return found


@pytest.mark.parametrize(("title", "n_sessions", "lecture"), [("Six sessions", 6, 2), ("Twelve sessions", 12, 1)])
def test_the_sessions_name_sections_and_exercises_that_there_are(title, n_sessions, lecture):
    sessions = rows(title)
    assert [row[0] for row in sessions] == [str(number + 1) for number in range(n_sessions)]
    for row in sessions:
        for number in spread(row[lecture]):
            assert f'"## {number} ' in headings(number[0]), number
        assert not [one for one in spread(row[lecture + 1]) if one not in CHECKS]
    if n_sessions == 12:
        given = [one for row in sessions for cell in row[2:] for one in spread(cell)]
        assert sorted(given) == sorted(one for one in CHECKS if re.fullmatch(r"\d\.\d", one))


QUESTIONS = {question.id: question for questions in quizzes().values() for question in questions}
LESSON = re.compile(r"^\| minutes \| session (\d+): (.+?) \|\n\|---\|---\|\n((?:\|.+\n)+)", re.MULTILINE)
LESSONS = [(page.stem, *lesson) for page in CHAPTERS for lesson in LESSON.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "session", "sections", "plan"), LESSONS)
def test_a_lesson_minute_by_minute_is_the_session_of_the_syllabus(page, session, sections, plan):
    """It takes 90 minutes in the syllabus's parts, with all its sections in their order and its exercises."""
    (row,) = [row for row in rows("Twelve sessions") if row[0] == session]
    assert sections == row[1]
    lines = [line.strip("| ").split(" | ", 1) for line in plan.splitlines()]
    minutes = [int(line[0]) for line in lines]
    assert [minutes[0], sum(minutes[1:-2]), *minutes[-2:]] == [8, 35, 40, 7]
    named = [number for _, told in lines[1:-2] for number in re.findall(r"\d\.\d+", told.split(":")[0])]
    assert named == spread(sections)
    assert set(spread(lines[-2][1])) == set(spread(row[2]))


@pytest.mark.parametrize(("page", "session", "sections", "plan"), LESSONS)
def test_a_lesson_begins_with_a_quiz_for_which_there_are_four_questions(page, session, sections, plan):
    told = plan.splitlines()[0]
    if session == "1":
        assert "self_test.md" in told
        return
    chapter, asked, ids = re.search(r"four questions on (?:chapter (\d)|(.+?)): (.+?) \|", told).groups()
    chosen = [QUESTIONS[one] for one in ids.split(", ")]
    assert len({question.id for question in chosen}) == 4
    for question in chosen:
        section = question.section.split()[0]
        assert section.startswith(f"{chapter}.") if chapter else section in spread(asked), question.id


def test_every_session_has_its_lesson_minute_by_minute_in_the_page_of_its_chapter():
    planned = [(page, session) for page, session, *_ in LESSONS]
    assert planned == [(f"ch0{(number + 1) // 2}", str(number)) for number in range(1, 13)]


def test_the_minutes_of_a_session_and_the_shares_of_the_mark_add_up():
    text = (FOLDER / "syllabus.md").read_text(encoding="utf-8")
    for line, minutes in zip(re.findall(r"^Each session: (.+)\.$", text, re.MULTILINE), (180, 90)):
        assert sum(map(int, re.findall(r"\d+", line))) == minutes
    assert sum(map(int, re.findall(r"\| (\d+) %", text))) == 100


def test_each_check_asks_with_the_numbers_of_the_class_but_one(monkeypatch):
    asked = []
    seed = class_numbers.class_seed
    monkeypatch.setattr(class_numbers, "class_seed", lambda: asked.append(1) or seed())
    fixed = []
    for path in sorted((ROOT / "shared" / "exercises" / "solutions").glob("ch*.py")):
        solutions = importlib.import_module(f"shared.exercises.solutions.{path.stem}").SOLUTIONS
        for exercise, (answer, _) in solutions.items():
            asked.clear()
            assert verdict(exercise, answer) == "correct."
            fixed += [] if asked else [exercise]
    text = (FOLDER / "integrity.md").read_text(encoding="utf-8")
    assert fixed == re.findall(r"One check of (?:\d+) has nothing to draw: (\d\.\d)", text) == ["4.4"]
    assert f"One check of {len(CHECKS)} has" in text


def test_the_self_test_has_an_answer_for_each_question():
    questions, answers = (FOLDER / "self_test.md").read_text(encoding="utf-8").split("<details>")
    count = [re.findall(r"^(\d)\. ", part, re.MULTILINE) for part in (questions, answers)]
    assert count[0] == count[1] and len(count[0]) == 8
    assert [x * x for x in range(4)] == [0, 1, 4, 9] and "`[0, 1, 4, 9]`" in answers


def test_every_page_is_in_the_readme_of_the_folder():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} - {"README.md"} == set(re.findall(r"\]\((\w+\.md)\)", text))


# ---------------------------------------------------------------- how long it takes to prepare a lesson

STEP = 5 / 60  # minutes to run a cell and look at what it shows


def of_sections(numbers: list[str]) -> tuple[int, int, int]:
    """Return the words of sections without their folded answers, the lines of code on slides, and the code cells."""
    words = lines = cells = 0
    for path in [path for path in NARRATIVES if path.parent.name.startswith(f"ch0{numbers[0][0]}")]:
        here = False
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "code":
                cells += here
                lines += len(text.splitlines()) * (here and "slide" in cell["metadata"].get("tags", []))
                continue
            for part in re.split(r"^(?=## )", text, flags=re.MULTILINE):
                heading = re.match(r"## (\S+)", part)
                here = heading[1] in numbers if heading else here
                words += len(re.sub(r"<details>.*?</details>", "", part, flags=re.DOTALL).split()) * here
    return words, lines, cells


def preparation(session: str, page: str, sections: str) -> float:
    """Return the minutes that the four steps of the README take, as the course counts reading."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    of_the_other = sum(len(m[0].split()) for m in LESSON.finditer(text) if m[1] != session)
    (row,) = [row for row in rows("Twelve sessions") if row[0] == session]
    words, lines, cells = of_sections(spread(sections))
    exercises = (ROOT / notebook_of(page).parent / "exercises.ipynb").read_text(encoding="utf-8")
    asked = [re.search(rf"## {re.escape(one)} .+?(\d+) minutes\.", exercises, re.DOTALL)[1] for one in spread(row[2])]
    ids = re.findall(r"\dq\d+", next(plan for _, number, _, plan in LESSONS if number == session).splitlines()[0])
    for question in [QUESTIONS[one] for one in ids]:
        words += sum(len(f"{choice.text} {choice.why}".split()) for choice in question.choices)
    aloud = len(text.split("## Board plan")[1].split("\n## ")[0].split())
    words += len(text.split()) - of_the_other + aloud + 100 * (len(asked) - 1)  # an exercise and its answer
    return words / WORDS_A_MINUTE + lines / LINES_A_MINUTE + cells * STEP + max(map(int, asked))


def test_a_lesson_is_prepared_in_forty_five_minutes():
    minutes = [preparation(session, page, sections) for page, session, sections, _ in LESSONS]
    said = re.search(r"take (\d+) to (\d+) minutes", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert [round(min(minutes)), round(max(minutes))] == [int(said[1]), int(said[2])] and max(minutes) < 45


def test_the_readme_says_how_many_slides_a_deck_has():
    counts = [len(deck(notebook_of(page.stem))[1]) for page in CHAPTERS]
    assert f"{min(counts)} to {max(counts)} slides" in (FOLDER / "README.md").read_text(encoding="utf-8")
