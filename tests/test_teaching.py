"""The teacher's pages: what they name exists, and every misconception is one that a check knows."""

import re

import pytest

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
    chapter, asked = re.search(r"four questions on (?:chapter (\d)|(.+?)) \|", told).groups()
    number = chapter or asked[0]
    quiz = (FOLDER / "quiz" / f"ch0{number}.toml").read_text(encoding="utf-8")
    found = re.findall(r'^section = "(\d\.\d+) ', quiz, re.MULTILINE)
    assert len(found if chapter else [one for one in found if one in spread(asked)]) >= 4


def test_every_session_has_its_lesson_minute_by_minute_in_the_page_of_its_chapter():
    planned = [(page, session) for page, session, *_ in LESSONS]
    assert planned == [(f"ch0{(number + 1) // 2}", str(number)) for number in range(1, 13)]


def test_the_minutes_of_a_session_and_the_shares_of_the_mark_add_up():
    text = (FOLDER / "syllabus.md").read_text(encoding="utf-8")
    for line, minutes in zip(re.findall(r"^Each session: (.+)\.$", text, re.MULTILINE), (180, 90)):
        assert sum(map(int, re.findall(r"\d+", line))) == minutes
    assert sum(map(int, re.findall(r"\| (\d+) %", text))) == 100


def test_the_self_test_has_an_answer_for_each_question():
    questions, answers = (FOLDER / "self_test.md").read_text(encoding="utf-8").split("<details>")
    count = [re.findall(r"^(\d)\. ", part, re.MULTILINE) for part in (questions, answers)]
    assert count[0] == count[1] and len(count[0]) == 8
    assert [x * x for x in range(4)] == [0, 1, 4, 9] and "`[0, 1, 4, 9]`" in answers


def test_every_page_is_in_the_readme_of_the_folder():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} - {"README.md"} == set(re.findall(r"\]\((\w+\.md)\)", text))
