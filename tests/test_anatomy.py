"""One anatomy for all notebooks: title, order of headings, stated times, marks of difficulty (see CONTRIBUTING.md)."""

import re

import pytest

from tests.test_notebooks import NOTEBOOKS, ROOT, code_cells, is_ignored, n_lines, read, tags, texts

NARRATIVES = [path for path in NOTEBOOKS if path.name != "exercises.ipynb"]
EXERCISES = [path for path in NOTEBOOKS if path.name == "exercises.ipynb"]
ORDER = ["You will be able to", "Set-up", "The problem", "All together", "Hand-over", "Limits", "Recap", "Recall",
         "Sources"]  # fmt: skip
WORDS_A_MINUTE, LINES_A_MINUTE, MINUTES_A_TRY = 180, 10, 2

each_narrative = pytest.mark.parametrize("path", NARRATIVES, ids=lambda p: p.stem)
each_exercises = pytest.mark.parametrize("path", EXERCISES, ids=lambda p: p.parent.name)


def headings(path) -> list[str]:
    """Return the headings of a notebook below its title, without their section numbers."""
    found = [line for text in texts(path) for line in text.splitlines() if re.match(r"#{2,3} ", line)]
    return [re.sub(r"^#+ (?:[A-Z\d]+\.\d+ )?", "", line) for line in found]


def stated_minutes(path) -> int:
    return int(re.search(r"\*Reading:\* about (\d+) minutes with the things to try\.", texts(path)[0]).group(1))


def reading_minutes(path) -> float:
    """Words, lines of code outside final cells, and things to try, each with its time."""
    words = sum(len(text.split()) for text in texts(path))
    lines = sum(n_lines(cell) for cell in code_cells(path) if "final" not in tags(cell))
    tries = sum(text.count("**Try it") for text in texts(path))
    return words / WORDS_A_MINUTE + lines / LINES_A_MINUTE + tries * MINUTES_A_TRY


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_title_is_the_chapters_number_and_a_name(path):
    number = int(path.parent.name[2:4])
    assert re.match(rf"# {number} · [A-Z][^\n]*\n\n", texts(path)[0]), texts(path)[0][:80]


@each_narrative
def test_below_the_title_stand_the_claim_and_what_it_needs(path):
    first = texts(path)[0]
    assert re.search(r"\n\n\*\*[^*]+\.\*\*\n\n\*You need:\* .+ \*Reading:\* .+ \*Running:\* about .+\.$", first), first


@each_narrative
def test_the_head_says_which_numbers_may_differ_on_another_machine(path):
    section, told = "", []
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"^## (\S+)", cell.source, re.MULTILINE) or [section])[-1]
        elif is_ignored(cell) and section not in told:
            told.append(section)
    print_ = "print" if len(told) > 1 else "prints"
    also = f", digits in figures and what {' and '.join(told)} {print_}" if told else " and digits in figures"
    others = "other printed numbers" if told else "printed numbers"
    sentence = f" *Elsewhere:* times{also} may differ from ours; {others} should not."
    assert texts(path)[0].endswith(sentence), sentence


@each_narrative
def test_the_headings_come_in_one_order(path):
    titles = headings(path)
    assert [name for title in titles for name in ORDER if title == name or title.startswith(f"{name}:")] == ORDER


@each_narrative
def test_the_stated_reading_time_follows_the_rule(path):
    assert stated_minutes(path) % 5 == 0
    assert abs(stated_minutes(path) - reading_minutes(path)) <= 5, f"the rule gives {reading_minutes(path):.0f}"


@each_narrative
def test_the_readme_states_the_same_time(path):
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    row = next(line for line in page.splitlines() if line.startswith("|") and name in line)
    assert f"| {stated_minutes(path)} min |" in row, row


def exercise_minutes(path) -> int:
    return sum(int(n) for text in texts(path) for n in re.findall(r"\*★{1,3}, (\d+) minutes\.\*", text))


def test_the_readme_states_the_hours_of_all_together():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    hours = int(re.search(r"about (\d+) hours with the exercises", page)[1])
    minutes = sum(map(stated_minutes, NARRATIVES)) + sum(map(exercise_minutes, EXERCISES))
    assert abs(hours - minutes / 60) <= 1, f"{minutes / 60:.1f} hours"


def section_minutes(path, *numbers: str) -> float:
    """Return the reading time of some sections by the rule."""
    inside, words, lines, tries = False, 0, 0, 0
    for cell in read(path).cells:
        if cell.cell_type == "code":
            lines += n_lines(cell) if inside and "final" not in tags(cell) else 0
            continue
        for line in cell.source.splitlines():
            inside = line.startswith(tuple(f"## {number} " for number in numbers)) if line.startswith("## ") else inside
            words += len(line.split()) if inside else 0
            tries += line.count("**Try it") if inside else 0
    return words / WORDS_A_MINUTE + lines / LINES_A_MINUTE + tries * MINUTES_A_TRY


def test_the_readmes_shorter_ways_add_up():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    main = {int(path.parent.name[2:4]): path for path in NARRATIVES if path.stem == path.parent.name[5:]}
    training = {"twenty-five": 25}[re.search(r"In about ([\w-]+) minutes on two CPU cores", page)[1]]
    evening = stated_minutes(main[1]) + section_minutes(main[2], "2.2") + training
    evening += section_minutes(main[3], "3.1", "3.2", "3.3")
    assert "*An evening*, about two hours: `run`, then chapter 1, section 2.2 and sections 3.1 to 3.3" in page
    assert abs(evening - 120) <= 15, f"{evening:.0f} minutes"
    exercises = {int(path.parent.name[2:4]): exercise_minutes(path) for path in EXERCISES}
    gpt = sum(stated_minutes(main[chapter]) for chapter in (2, 3, 4, 5)) + exercises[3] + exercises[4]
    assert re.search(r"\*The GPT itself\*,\sabout ten hours: chapters 2 to 5, with the exercises of 3 and 4", page)
    assert abs(gpt - 600) <= 45, f"{gpt / 60:.1f} hours"


@each_narrative
def test_a_path_is_read_in_two_hours(path):
    assert reading_minutes(path) <= 120


@each_exercises
def test_an_exercise_says_how_hard_it_is_and_how_long_it_takes(path):
    assert "Difficulty: ★" in texts(path)[0]
    graded = [text for text in texts(path) if re.match(r"## \d+m?\.\d+ ", text)]
    assert len(graded) >= 5
    for text in graded:
        assert re.search(r"\n\n\*★{1,3}, \d+ minutes\.\*", text), text[:120]
