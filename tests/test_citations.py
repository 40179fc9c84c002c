"""`Taught in ch06, section 6.3`: that section exists in the notebooks of the chapter and speaks of the name."""

import ast
import re

import pytest

from tests.test_notebooks import ROOT, read

CHAPTERS = ("ch06_finetuning",)
HEADING = re.compile(r"## ([\dA-Z]+\.\d+) ")
CITATION = re.compile(r"Taught in ch\d\d, sections? ([\dA-Z., and]+)\.(?:\s|$)")
SECTION = re.compile(r"[\dA-Z]+\.\d+")


def sections(chapter: str) -> dict[str, str]:
    """Number -> everything that stands in that section, text and code."""
    found, number = {}, None
    for path in sorted((ROOT / chapter).glob("*.ipynb")):
        for cell in read(path).cells:
            for line in cell.source.splitlines():
                if cell.cell_type == "markdown" and line.startswith("## "):
                    heading = HEADING.match(line)
                    number = heading and heading[1]
                if number:
                    found[number] = f"{found.get(number, '')}{line}\n"
    return found


def citations(chapter: str) -> list[tuple[str, str, str]]:
    """Module, name and section of every citation of this chapter in its modules."""
    found = []
    for path in sorted((ROOT / chapter).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                for cited in CITATION.findall(ast.get_docstring(node) or ""):
                    found += [(path.name, node.name, number) for number in SECTION.findall(cited)]
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_section_that_is_cited_exists_and_speaks_of_the_name(chapter):
    taught, cited = sections(chapter), citations(chapter)
    assert len(cited) > 30
    silent = [item for item in cited if not re.search(rf"\b{item[1]}\b", taught.get(item[2], ""))]
    assert not silent, silent


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_public_definition_names_its_source(chapter):
    for path in sorted((ROOT / chapter).glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                source = re.search(r"Source: (.*)", ast.get_docstring(node) or "")
                assert source and not source[1].startswith("Taught"), f"{path.name}: {node.name}"
