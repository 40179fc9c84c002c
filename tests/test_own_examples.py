"""Claims about the examples of own data: they go through the commands, and the table is of these files."""

import re

import pytest

from ch06_finetuning.own_data import RowSplit
from data.own_instructions import read_instructions
from data.own_messages import read_messages
from data.paths import DATA_DIR
from data.story_world.marking import Instruction
from shared.maintenance import own_examples

OWN = DATA_DIR / "own_examples"


def test_the_search_finds_most_answers_in_the_notes_and_is_silent_mostly_where_there_is_none():
    right, silent = own_examples.search_scores()
    assert (right.n, silent.n) == (35, 15)
    assert right.value > 0.5 and silent.value > 0.5, "claim: more than half of each"


def test_the_nearest_question_gives_its_answer():
    def ask(question, answer):
        return Instruction("own", question, answer, (answer,))

    known = [ask("How do I list files?", "ls"), ask("How do I print the date?", "date")]
    new = [
        ask("Please list all my files", "ls"),
        ask("What is the date", "date"),
        ask("Which date has a file", "ls -l"),
    ]
    assert str(own_examples.share_of_nearest(RowSplit(known, [], new))).strip().startswith("66.7%")


def test_a_command_that_fails_is_named_with_what_it_said(tmp_path):
    with pytest.raises(ValueError, match="search .*nowhere.* ended with 1: .*there is no folder"):
        own_examples.run_command("search", str(tmp_path / "nowhere"), "Who?", runs=tmp_path)


def test_a_command_is_timed_in_a_process_of_its_own_and_the_table_has_its_row(capsys):
    assert own_examples.main(["--only", "notes"]) == 0
    head, row = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    assert head == own_examples.HEAD and row.count("|") == head.split("\n")[0].count("|")
    assert "40 files" in row and re.search(r"\| \d+ \| (\d+\.\d GB|not told) \|$", row)


@pytest.mark.filterwarnings("ignore:.*is read as the label")
def test_the_tables_of_what_came_of_the_examples_are_of_these_files():
    """Whoever changes an example measures anew: `python -m shared.maintenance.own_examples`."""
    readme = (DATA_DIR / "README.md").read_text(encoding="utf-8")
    section = readme.split("## What came of the examples")[1].split("\n## ")[0]
    told = {name: int(n) for name, n in re.findall(r"^\| `([\w./]+)`, (\d+) ", section, re.MULTILINE)}
    tables = {file: len(read_messages(OWN / file)) for file in own_examples.FILES if "tickets" in file}
    talks = {own_examples.TALKS: len(read_instructions(OWN / own_examples.TALKS))}
    assert told == tables | talks | {"notes/": len(list((OWN / "notes").glob("*.md")))}
    assert own_examples.HEAD in section and "-m shared.maintenance.own_examples" in section
