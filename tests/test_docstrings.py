"""What docstrings promise: each section they name is in the chapter's notebooks and speaks of what is documented."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import nbformat
import pytest

from tests.test_notebooks import NOTEBOOKS, ROOT

MODULES = sorted([*ROOT.glob("ch*/*.py"), *ROOT.glob("data/**/*.py")])
NUMBER = r"[\dA-Z]+\.\d+"
CITED = re.compile(r"\b([Tt]aught in|For) (ch\d\d\b[^;]*?)\.(?=\s|$)")  # "For": it supports what the section teaches


@lru_cache
def sections(chapter: str) -> dict[str, str]:
    """Section number -> its words and code, in all of a chapter's notebooks but the exercises."""
    found: dict[str, str] = {}
    for path in NOTEBOOKS:
        if path.parent.name.startswith(f"ch{chapter}_") and path.name != "exercises.ipynb":
            number = ""
            for line in "\n".join(cell.source for cell in nbformat.read(path, 4).cells).splitlines():
                heading = re.match(rf"## (?:({NUMBER}) )?", line)
                number = heading[1] or "" if heading else number
                found[number] = f"{found.get(number, '')}\n{line}"
    return found


def words(name: str) -> list[str]:
    """Split a name of code into the beginnings of its words: `causal_mask` and `CausalMask` give causal and mask."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return [part.lower().removesuffix("s")[:5] for part in parts]


def speaks_of(text: str, name: str) -> bool:
    return name in text or all(word in text.lower() for word in words(name))


def cited(places: str) -> list[tuple[str, str]]:
    """Take `ch04, section 4.10, and in ch05, sections S.7 and S.8` apart into chapters with their sections."""
    found, chapter = [], ""
    for word, number in re.findall(rf"\bch(\d\d)\b|\b({NUMBER})\b", places):
        chapter = word or chapter
        found += [(chapter, number)] if number else []
    return found


def documented(path: Path) -> list[tuple[str, str]]:
    """The names of a module's functions and classes, methods too, each with its docstring in one line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    found = [("", tree), *((node.name, node) for node in nodes)]
    return [(name, " ".join((ast.get_docstring(node) or "").split())) for name, node in found]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_sections_that_docstrings_name_are_there_and_speak_of_it(path):
    wrong = []
    for name, text in documented(path):
        for how, places in CITED.findall(text):
            for chapter, number in cited(places):
                told = sections(chapter).get(number)
                if told is None or (name and how != "For" and not speaks_of(told, name)):
                    wrong.append(f"{name or 'the module'}: ch{chapter}, section {number}")
    assert not wrong, f"these sections are not there, or do not speak of it: {'; '.join(wrong)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_taught_names_its_section(path):
    vague = [name for name, text in documented(path) if name and re.search(r"[Tt]aught in ch\d\d\.", text)]
    assert not vague, f"say in which section: {', '.join(vague)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_source_is_more_than_a_place_in_the_course(path):
    bare = [name for name, text in documented(path) if re.search(r"Source: ([Tt]aught in|For) ", text)]
    assert not bare, f"name the paper, or this course: {', '.join(bare)}"


def test_places_are_taken_apart():
    places = "ch04, section 4.10, and in ch05, sections S.7 and S.8 of its scaling notebook"
    assert cited(places) == [("04", "4.10"), ("05", "S.7"), ("05", "S.8")]
    assert cited("ch02, `embeddings.ipynb`") == []


def test_a_name_is_spoken_of_in_its_words_or_as_it_stands():
    assert words("causal_mask") == ["causa", "mask"] and words("MultiHeadAttention") == ["multi", "head", "atten"]
    assert words("GPTModel") == ["gpt", "model"]
    assert speaks_of("The masks are causal.", "causal_mask") and not speaks_of("The mask.", "causal_mask")


def test_the_sections_of_a_chapter_are_found():
    assert {"3.1", "3.8"} <= sections("03").keys() and "softmax" in sections("03")["3.3"]
