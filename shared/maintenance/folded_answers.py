"""The code in folded answers: run when all cells above it have been run, and held to what the answer says it prints.

An answer to a *Try it* may hold a block of Python and, behind it, a block of text, which is what the Python prints.
`execute_notebooks` writes the text, the notebook tests compare it (`tests/folded_answers.py`).
"""

import re
from itertools import takewhile

import nbformat
import torch

from shared.needed_files import TAG

ANSWER = re.compile(r"<details><summary>Answer</summary>.*?</details>", re.DOTALL)
BLOCKS = re.compile(r"\n```python\n(?P<code>.*?)```\n\n```text\n(?P<shown>.*?)```\n", re.DOTALL)


def folded_answers(markdown: str) -> list[tuple[str, str]]:
    """Return the code of each folded answer in a text, and what it says that it prints."""
    blocks = [block for answer in ANSWER.findall(markdown) for block in BLOCKS.finditer(answer)]
    return [(block["code"], block["shown"]) for block in blocks]


def run_aside(code: str, names: dict) -> None:
    """Run an answer with the names of its notebook, and leave these names and the random numbers as they are."""
    with torch.random.fork_rng():
        exec(compile(code, "<folded answer>", "exec"), dict(names))


def answer_cell(code: str, shown: str, tags: list[str]) -> nbformat.NotebookNode:
    """Make a cell that runs an answer and shows what the answer says; it needs what the cell above it needs."""
    source = f"from shared.maintenance.folded_answers import run_aside; run_aside({code!r}, globals())"
    output = nbformat.v4.new_output("stream", name="stdout", text=shown)
    metadata = {"folded_answer": code, "tags": [tag for tag in tags if tag.startswith(TAG)]}
    return nbformat.v4.new_code_cell(source, outputs=[output], execution_count=1, metadata=metadata)


def with_answers(cells: list) -> list:
    """Return the cells of a notebook with a cell for each folded answer, behind the code cell above it."""
    together = []
    for place, cell in enumerate(cells):
        together.append(cell)
        if cell.cell_type == "code":
            below = takewhile(lambda other: other.cell_type != "code", cells[place + 1 :])
            tags = cell.metadata.get("tags", [])
            together += [answer_cell(*answer, tags) for other in below for answer in folded_answers(other.source)]
    return together


def settled(cells: list) -> list:
    """Take the cells of `with_answers` out again, after a run, and let each answer say what its cell has printed."""
    printed, kept = {}, []
    for cell in cells:
        if "folded_answer" in cell.metadata:
            printed[cell.metadata["folded_answer"]] = "".join(output.get("text", "") for output in cell.outputs)
        else:
            kept.append(cell)
            if cell.cell_type == "markdown":
                cell.source = ANSWER.sub(lambda match: _say(match[0], printed), cell.source)
    return kept


def _say(answer: str, printed: dict[str, str]) -> str:
    def said(block: re.Match) -> str:
        return f"\n```python\n{block['code']}```\n\n```text\n{printed[block['code']]}```\n"

    return BLOCKS.sub(said, answer)
