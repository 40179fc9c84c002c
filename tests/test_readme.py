"""The README's promises that a program can check: links, commands, chapters and quoted errors."""

import json
import re
from pathlib import Path

import pytest

from tests.readme_pictures import made_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [path for path in (ROOT / "README.md", ROOT / "BENCHMARKS.md", ROOT / "data" / "README.md") if path.is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_every_command_that_is_named_exists():
    for name in set(re.findall(r"course\.py ([a-z]+)", README)):
        assert (ROOT / "shared" / "commands" / f"{name}.py").is_file(), name


def test_every_option_of_run_that_is_named_exists():
    from shared.commands import run

    known = run.parser().format_help()
    for line in re.findall(r"course\.py run ([^`\n]+)", README):
        for option in re.findall(r"--[a-z-]+", line):
            assert option in known, option


def test_every_notebook_is_in_the_table():
    for path in ROOT.glob("ch*/*.ipynb"):
        if path.name != "exercises.ipynb" and ".mine-" not in path.name:
            assert path.relative_to(ROOT).as_posix() in README, path.name


def test_chapter_1_names_every_notebook_on_its_map():
    first = ROOT / "ch01_understanding_llms" / "understanding_llms.ipynb"
    cells = json.loads(first.read_text(encoding="utf-8"))["cells"]
    (page,) = ["".join(cell["source"]) for cell in cells if cell["id"] == "side-rooms"]
    for path in ROOT.glob("ch*/*.ipynb"):
        if path != first and path.name != "exercises.ipynb" and ".mine-" not in path.name:
            link = path.name if path.parent == first.parent else f"../{path.parent.name}/{path.name}"
            assert f"]({link})" in page, link


def test_the_scores_are_those_of_the_shipped_models():
    from shared.commands.run_report import percent

    folders = [ROOT / "data" / name for name in ("story_gpt", "story_assistant")]
    if not all((folder / "recipe.json").is_file() for folder in folders):
        pytest.skip("the models have not been shipped yet")
    stories, assistant = (json.loads((f / "recipe.json").read_text(encoding="utf-8"))["results"] for f in folders)
    validation = stories["splits"]["validation"]
    told = [f"{validation[key]:.2f}" for key in ("bits_per_word", "floor_bits_per_word")]
    told += [f"{stories['ngrams'][name]:.2f}" for name in ("bigram", "trigram")]
    rates = (stories["coherent"], stories["classifier"]["accuracy"], stories["classifier"]["baseline"])
    told += [percent(rate) for rate in (*rates, *(assistant[exam] for exam in ("overall", "new_wordings", "by_hand")))]
    assert not [text for text in told if text not in README]


def test_every_picture_has_a_text_is_small_and_shows_the_shipped_models():
    pictures = re.findall(r'<img src="(shared/pictures/\w+\.png)" width="\d+" alt="([^"]+)">', README)
    assert len(pictures) == README.count("<img") == 4
    assert {ROOT / path for path, _ in pictures} == set((ROOT / "shared" / "pictures").glob("*.png"))
    for path, text in pictures:
        assert len(text.split()) >= 20 and (ROOT / path).stat().st_size < 150_000, path
    stale = "the README's pictures show older models: python -m tests.readme_pictures --run NAME makes them anew"
    assert json.loads((ROOT / "shared" / "pictures" / "made_of.json").read_text()) == made_of(), stale


def test_quoted_errors_are_the_words_of_the_code():
    """A learner searches the page for what stands on the screen; a … stands for what changes."""
    quoted = re.findall(r"^\| `([^`]+)` \|", README, re.MULTILINE)
    others = ("ModuleNotFoundError", "error:", "OSError", "certificate", "Permission")  # words of other programs
    paths = [ROOT / "course.py", *(path for folder in ("shared", "ch*") for path in ROOT.glob(f"{folder}/**/*.py"))]
    paths += (ROOT / "data").glob("*.py")
    source = "".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in paths)
    ours = [text for text in quoted if not text.startswith((*others, "python course"))]
    assert len(ours) >= 6
    for text in ours:
        for words in re.sub(r"^course\.py( \w+)?: ", "", text).split("…"):
            assert words.strip() in source, text
