"""The rules of the house: what CONTRIBUTING.md, the workflow and the other pages of the repository promise."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import course

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def yaml_of(name: str):
    return pytest.importorskip("yaml").safe_load(text_of(name))


def project() -> dict:
    return tomllib.loads(text_of("pyproject.toml"))["project"]


def jobs() -> dict:
    return yaml_of(".github/workflows/ci.yml")["jobs"]


def assert_command_exists(command: str) -> None:
    """A command of course.py exists, and so do the options that stand behind it."""
    name, *words = re.search(r"course\.py (.+)", command).group(1).split()
    assert name in {row[0] for row in course.available()}, command
    source = text_of(f"shared/commands/{name}.py")
    assert not [word for word in words if word.startswith("--") and f'"{word}"' not in source], command


def test_the_workflow_runs_the_readmes_test_command_on_three_systems_and_both_ends_of_the_pythons():
    job = jobs()["course"]
    matrix = job["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["system"]} == {"ubuntu", "macos", "windows"}
    assert matrix["python"] == [".".join(map(str, version)) for version in (course.OLDEST, course.NEWEST)]
    command = job["steps"][-1]["run"]
    assert command in text_of("README.md") and command == "python course.py test"


def test_every_step_of_the_workflow_names_what_there_is():
    for job in jobs().values():
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) if "uses" in step else "run" in step
            if "run" in step:
                assert_command_exists(step["run"])
            for variable in step.get("env", {}):
                assert variable in text_of("tests/sizes.py")


def test_the_long_run_comes_every_week_and_only_then():
    triggers = yaml_of(".github/workflows/ci.yml")[True]  # YAML reads the word "on" as true
    assert [len(entry["cron"].split()) for entry in triggers["schedule"]] == [5]
    assert "schedule" in jobs()["long"]["if"] and "!= 'schedule'" in jobs()["course"]["if"]


def test_the_commands_and_paths_of_contributing_exist():
    text = text_of("CONTRIBUTING.md")
    for command in re.findall(r"`([^`\n]*python course\.py [^`]+)`", text):
        assert_command_exists(command)
    for path in re.findall(r"`([\w./]+\.(?:py|md|json|txt|ipynb))`", text):
        assert (ROOT / path).is_file() or path in ("report.md", "exercises.ipynb"), path
    for module in re.findall(r"python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module) or f"\n{module}==" in text_of("tests/requirements-test.txt"), module


def test_the_table_of_long_runs_names_tests_that_there_are():
    rows = re.findall(
        r"`(?:COURSE_LONG=1 )?python -m pytest (tests/\w+\.py)(?: -k (\w+))?`", text_of("tests/README.md")
    )
    assert len(rows) >= 7
    for path, word in rows:
        assert [name for name in re.findall(r"^def (test_\w+)", text_of(path), re.MULTILINE) if word in name], (
            path,
            word,
        )


def test_contributing_and_the_tests_name_the_same_budgets():
    from tests import test_notebooks as budgets

    text = text_of("CONTRIBUTING.md")
    assert f"half of them {budgets.MEDIAN_LINES}, nine in ten {budgets.USUAL_LINES}" in text
    assert f"all {budgets.MOST_LINES} ({budgets.MOST_FINAL_LINES} in a cell" in text
    assert f"1 in {1 / budgets.MOST_IGNORED:.0f}, each followed by an assert" in text
    assert f"{budgets.MOST_BYTES / 1e6:.0f} MB" in text


def test_a_container_for_the_course_is_made_with_a_python_and_a_command_that_there_are():
    container = json.loads(text_of(".devcontainer/devcontainer.json"))
    major, minor = re.match(r"python:(\d+)\.(\d+)-", container["image"]).groups()
    assert course.OLDEST <= (int(major), int(minor)) <= course.NEWEST
    assert_command_exists(container["postCreateCommand"])


def test_an_assistant_is_told_to_leave_the_answers_to_the_learner():
    text = text_of("AGENTS.md")
    assert "**Never write an exercise's answer.**" in text and "[CONTRIBUTING.md](CONTRIBUTING.md)" in text
    for path in re.findall(r"`([\w./]+/(?:[\w.]+\.ipynb)?)`", text):
        assert (ROOT / path).exists(), path
    for command in re.findall(r"`(python course\.py [^`]+)`", text):
        assert_command_exists(command)


def test_there_is_one_version():
    version = project()["version"]
    assert f"version: {version}" in text_of("CITATION.cff").splitlines()
    assert re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.MULTILINE).group(1) == version


def test_the_project_and_course_py_ask_for_the_same_pythons():
    major, minor = course.NEWEST
    assert project()["requires-python"] == f">={course.OLDEST[0]}.{course.OLDEST[1]},<{major}.{minor + 1}"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_an_issue_template_can_be_filled_in(path):
    form = yaml_of(path.relative_to(ROOT).as_posix())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert form["name"] and form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) and all(field["attributes"]["label"] for field in form["body"])
    for command in re.findall(r"`(python course\.py [^`]+)`", json.dumps(form)):
        assert_command_exists(command)


def test_one_version_of_ruff_serves_the_tests_and_the_commit_hook():
    pinned = re.search(r"^ruff==(\S+)", text_of("tests/requirements-test.txt"), re.MULTILINE).group(1)
    assert [repo["rev"] for repo in yaml_of(".pre-commit-config.yaml")["repos"]] == [f"v{pinned}"]


@pytest.mark.parametrize("words", [("check",), ("format", "--check", "--diff")], ids=lambda words: words[0])
def test_ruff_has_nothing_to_say(words):
    if not importlib.util.find_spec("ruff"):
        pytest.skip("ruff is not installed")
    command = [sys.executable, "-m", "ruff", *words, "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_mypy_has_nothing_to_say():
    if not importlib.util.find_spec("mypy"):
        pytest.skip("mypy is not installed")
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_mypy_passes_over_no_module():
    rules = tomllib.loads(text_of("pyproject.toml"))["tool"]["mypy"]
    assert not [rule for rule in [rules, *rules["overrides"]] if rule.get("ignore_errors")]


def test_a_line_that_mypy_passes_over_says_why():
    sources = [*ROOT.glob("ch*/*.py"), *ROOT.glob("data/**/*.py"), *ROOT.glob("shared/**/*.py")]
    lines = [line for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    passed_over = [line for line in lines if re.search(r"# (type: ignore|mypy: )", line)]
    assert not [line for line in passed_over if not re.search(r"# type: ignore\[[\w-]+(, [\w-]+)*\]  # \w", line)]
