"""Claims about the look at the wordings: what cannot be filled, or stands in the exam, is refused by its line."""

import pytest

from shared.commands import run
from shared.commands.wordings_check import TABLES, require_wordings


def with_line(tmp_path, line, section="ask.who"):
    """The table of wordings with one more line, below a heading."""
    text = (TABLES / "wordings.txt").read_text(encoding="utf-8")
    heading = f"= {section}\n"
    changed = text.replace(heading, f"{heading}{line}\n", 1) if heading in text else f"{text}\n{heading}{line}\n"
    path = tmp_path / "wordings.txt"
    path.write_text(changed, encoding="utf-8")
    return path


def held_out(section):
    lines = (TABLES / "held_out_wordings.txt").read_text(encoding="utf-8").split(f"= {section}\n")[1].split("\n")
    return lines[0]


def test_the_table_of_the_course_passes():
    require_wordings()


@pytest.mark.parametrize("line", ["How do people call [this|that] {x}?", "And the {x}?", "Name [it|[the|a] {x}]."])
def test_a_good_line_passes(tmp_path, line):
    require_wordings(with_line(tmp_path, line))


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("What is {z} called?", r"line 15: nothing fills \{z\} there; under '= ask.who' stand \{x\}"),
        ("Who is {X}?", r"line 15: nothing fills \{X\} there"),
        ("What is the {x called?", "line 15: found .* in which '}' is missing"),
        ("Tell me [the name|name of the {x}.", "line 15: found .* in which ']' is missing"),
        ("Tell me name] of the {x}.", "in which ']' closes nothing"),
        ("Tell me {[x}].", "in which '}' closes nothing"),
    ],
)
def test_a_line_that_cannot_be_filled_is_refused_by_its_number(tmp_path, line, complaint):
    with pytest.raises(ValueError, match=complaint):
        require_wordings(with_line(tmp_path, line))


def test_a_line_under_a_heading_that_nobody_reads_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stands under '= ask.whoo', which nobody asks"):
        require_wordings(with_line(tmp_path, "Who is the {x}, please?", section="ask.whoo"))


@pytest.mark.parametrize("change", [str, str.upper, lambda line: line.replace(" ", "  ")])
def test_a_wording_of_the_exam_is_refused(tmp_path, change):
    with pytest.raises(ValueError, match="stands in the exam word for word; leave it out"):
        require_wordings(with_line(tmp_path, change(held_out("ask.where")), section="ask.where"))


def test_a_run_refuses_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))
    path = with_line(tmp_path, "Tell me [the name of the {x}.")
    monkeypatch.setattr(run, "require_wordings", lambda: require_wordings(path))
    assert run.main(["--quick", "--no-chat"]) == 1
    assert "']' is missing" in capsys.readouterr().err and not (tmp_path / "runs").exists()
