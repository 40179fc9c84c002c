"""A plugin of pytest for notebooks: the code in folded answers is run, and must print what the answer says."""

from itertools import takewhile

import pytest

from shared.maintenance.folded_answers import with_answers

OPTIONS = {"check": True, "skip": False, "check_exception": False}


def answers_behind(item):
    """Yield the test of a code cell, and behind it one for each answer that stands before the next code cell."""
    yield item
    cells = with_answers(item.parent.nb.cells)
    place = next(number for number, cell in enumerate(cells) if cell is item.cell)
    answers = takewhile(lambda cell: "folded_answer" in cell.metadata, cells[place + 1 :])
    for number, cell in enumerate(answers, start=1):
        name = f"{item.name}, folded answer {number}"
        yield type(item).from_parent(item.parent, name=name, cell_num=item.cell_num, cell=cell, options=OPTIONS)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items[:] = [one for item in items for one in answers_behind(item)]
