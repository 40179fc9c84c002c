"""A class of the worst kind: what learners hand in by mistake or in mischief, with what each should get.

`HANDED_IN` maps a learner to a function that writes the submission into the learner's folder and to what is expected:
points, and a part of what the table says about it.
"""

import copy
import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RELEASED = json.loads((ROOT / "ch03_attention" / "exercises.ipynb").read_text(encoding="utf-8"))
ALL = ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7", "3.8")
HARMLESS = "def {name}(*_):\n    return None\n"


def solved(*exercises: str) -> dict:
    """Return the notebook with answers to these exercises."""
    solutions = importlib.import_module("shared.exercises.solutions.ch03").SOLUTIONS
    notebook = copy.deepcopy(RELEASED)
    notebook["cells"].insert(2, cell("import math\nimport torch.nn.functional as F"))
    for exercise in exercises:
        replace_answer(notebook, solutions[exercise][0].__name__, inspect.getsource(solutions[exercise][0]))
    return notebook


def cell(source: str) -> dict:
    return {"cell_type": "code", "metadata": {}, "source": [source], "outputs": [], "execution_count": None}


def replace_answer(notebook: dict, name: str, source: str) -> dict:
    """Put another answer into a notebook; an empty one takes its cell away."""
    for place, one in enumerate(notebook["cells"]):
        if one["cell_type"] == "code" and f"def {name}(" in "".join(one["source"]):
            notebook["cells"][place : place + 1] = [cell(source)] if source else []
    return notebook


def saved(notebook: dict, name: str = "exercises.ipynb", encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(json.dumps(notebook, ensure_ascii=False).encode(encoding))


def with_cell(source: str, notebook: dict | None = None) -> Callable[[Path], None]:
    """Add a cell above the answers."""
    notebook = copy.deepcopy(notebook or RELEASED)
    notebook["cells"].insert(3, cell(source))
    return saved(notebook)


def with_answer(name: str, source: str) -> Callable[[Path], None]:
    return saved(replace_answer(solved(*ALL), name, source))


def text(content: str, name: str = "exercises.ipynb") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


def script() -> str:
    """Return the solved notebook as a program in cells, one of them a line that only Jupyter knows."""
    sources = ["".join(one["source"]) for one in solved(*ALL)["cells"] if one["cell_type"] == "code"]
    return (
        "\n\n".join(f"# In[{number}]:\n\n{source}" for number, source in enumerate(sources)) + "\n\n# In[ ]:\n\n!ls\n"
    )


def link(folder: Path) -> None:
    (folder / "exercises.ipynb").symlink_to(folder.parent / "all" / "exercises.ipynb")


def twice(folder: Path) -> None:
    """Hand in an empty notebook, then the answers under another name; a copy that Jupyter keeps is older than both."""
    import os

    (folder / ".ipynb_checkpoints").mkdir()
    for name, notebook, age in (("1.ipynb", RELEASED, 200), ("0.ipynb", solved(*ALL), 100)):
        saved(notebook, name)(folder)
        os.utime(folder / name, (2_000_000_000 - age,) * 2)
    saved(RELEASED, ".ipynb_checkpoints/0.ipynb")(folder)


PATCHES = "torch.equal = torch.allclose = lambda *_, **__: True\n"
NAMES = re.findall(r"def (\w+)\(", json.dumps(RELEASED["cells"]))
RIGHT = "def window_mask(n, w):\n    d = torch.arange(n)[:, None] - torch.arange(n)\n    return (d >= 0) & (d < w)\n"
STACK = "def look_up(*_):\n    import {0}\n    return {0}.{1}['expected']\n"

MODE = """
import torch
class Mode(torch.overrides.TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function in (torch.equal, torch.allclose) or function(*args, **(kwargs or {}))
Mode().__enter__()
"""

HONEST = """
import torch
import matplotlib.pyplot as plt
from shared import new_axes, use_style
use_style()
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.AdamW([weight], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    weight.square().sum().backward()
    optimizer.step()
new_axes("A small step", "steps", "loss").plot([1, 2])
plt.show()
import tempfile
with tempfile.TemporaryDirectory() as folder:
    plt.savefig(f"{folder}/figure.png")
"""

COLAB = """
!pip install -q torch
from google.colab import drive
drive.mount('/content/drive')
sum, list = 0, [1]
import torch
torch.set_default_dtype(torch.float64)
torch.set_default_device('meta')
torch.set_grad_enabled(False)
"""

THREADS = """
import atexit, multiprocessing, threading
def forever():
    while True:
        pass
for _ in range(3):
    threading.Thread(target=forever).start()
atexit.register(lambda: open('../../stolen.pt', 'w'))
multiprocessing.Process(target=forever).start()
"""

READS = """
import glob, os, pathlib
for look in (lambda: open('../../handed in/all/exercises.ipynb'), lambda: list(pathlib.Path('/tmp').rglob('*.ipynb')),
             lambda: os.listdir(os.path.expanduser('~'))):
    try:
        print(look())
    except PermissionError as error:
        reason = error
raise reason
"""

MANY = "for n in range(100_000):\n    open(f'{n}', 'w').close()"
NO_CLOCK = """
import contextlib, signal
def look_up(*_):
    with contextlib.suppress(PermissionError):
        signal.setitimer(signal.ITIMER_PROF, 0)
    with contextlib.suppress(PermissionError):
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
    while True:
        pass
"""
YES = """
if True:
    class Yes:
        def __eq__(self, _):
            return True

    def may_attend(n):
        return Yes()
"""
DEEP = "import sys\ndef look_up(*_):\n    sys.setrecursionlimit(10**9)\n    return look_up()\n"


def old_format(folder: Path) -> None:
    """Hand in the notebook as Jupyter wrote it before 2014, in Windows' spelling of its name."""
    cells = [
        {"cell_type": "code", "language": "python", "input": one["source"], "outputs": []}
        for one in solved(*ALL)["cells"]
        if one["cell_type"] == "code"
    ]
    notebook = {"metadata": {}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": cells}]}
    saved(notebook, "EXERCISES.IPYNB")(folder)


def packed(folder: Path) -> None:
    """Hand in an archive with nothing in it, and a text."""
    import zipfile

    zipfile.ZipFile(folder / "exercises.zip", "w").close()
    (folder / "essay.docx").write_bytes(b"PK")


def halves(folder: Path) -> None:
    """Answer half of the exercises in one file and half in another, in folders of two lessons."""
    import os

    for name, exercises, age in (("lesson 5", ALL[:3], 200), ("lesson 6", ALL[3:], 100)):
        (folder / name).mkdir()
        saved(solved(*exercises))(folder / name)
        os.utime(folder / name / "exercises.ipynb", (2_000_000_000 - age,) * 2)


HANDED_IN: dict[str, tuple[Callable[[Path], object], int, str]] = {
    # the twenty-two of the first trial
    "all": (saved(solved(*ALL)), 8, ""),
    "none": (saved(RELEASED), 0, "not tried yet"),
    "trains_and_draws": (with_cell(HONEST, solved(*ALL)), 8, ""),
    "fails_in_a_row": (with_cell("\n".join(f"a{n + 1} = a{n}" for n in range(20)), solved(*ALL)), 8, "and 15 more"),
    "half": (saved(solved("3.1", "3.2", "3.3", "3.4")), 4, "not tried yet"),
    "loop": (with_answer("look_up", "def look_up(*_):\n    while True:\n        pass\n"), 7, "stopped"),
    "loop_in_a_cell": (with_cell("import time\nwhile True:\n    time.sleep(1)", solved(*ALL)), 8, "were left out"),
    "deleted": (with_answer("may_attend", ""), 7, "missing"),
    "renamed": (saved(solved(*ALL), "Übung 3 – final (2).ipynb"), 8, "Übung 3"),
    "utf16": (saved(solved(*ALL), encoding="utf-16"), 8, ""),
    "bom": (saved(solved(*ALL), encoding="utf-8-sig"), 8, ""),
    "removes": (with_cell("import shutil\nshutil.rmtree('/nothing_here/at_all')", solved(*ALL)), 8, "does not allow"),
    "network": (with_cell("import urllib.request as u\nu.urlopen('http://127.0.0.1:9/')"), 0, "does not allow"),
    "patches_checks": (
        with_cell("import shared.exercises.checks.ch03 as c\nfor k in c.CHECKS: c.CHECKS[k] = lambda _: None"),
        0,
        "not counted",
    ),
    "patches_torch": (
        with_cell("import torch\n" + PATCHES, solved(*ALL)),
        0,
        "not counted: ",
    ),
    "exit": (with_cell("import sys; sys.exit(0)", solved(*ALL)), 8, "SystemExit"),
    "exit_at_once": (with_cell("import os; os._exit(0)", solved(*ALL)), 8, "ended the program"),
    "memory": (with_cell("x = bytearray(60 << 30)", solved(*ALL)), 8, "MemoryError"),
    "flood": (with_cell("for _ in range(100000): print('x' * 200)", solved(*ALL)), 8, ""),
    "reads_solutions": (
        with_cell("from shared.exercises.solutions.ch03 import SOLUTIONS as s\nlook_up = s['3.1'][0]"),
        0,
        "No module named",
    ),
    "fake_report": (
        with_cell('import os\nfor d in range(3, 9): os.write(d, b\'\\n00 ["verdict", "3.1", "correct.", ""]\\n\')'),
        0,
        "not tried yet",
    ),
    "magics": (with_cell("%matplotlib inline\n!ls\nlook_up?\n%%time\nx = 1", solved(*ALL)), 8, ""),
    "web_page": (text("<html>"), 0, "this is not a notebook"),
    "syntax": (with_cell("def broken(:\n  pass", solved(*ALL)), 8, "code cell 3 is no Python, line 1"),
    # and more
    "=1+1": (saved(solved("3.1")), 1, "not tried yet"),
    "program": (text(script(), "answers.py"), 8, ""),
    "saves_natively": (
        with_cell("import torch\ntorch.save(torch.ones(1), '../../stolen.pt')", solved(*ALL)),
        8,
        "does not allow",
    ),
    "looks_up_the_stack": (with_answer("look_up", STACK.format("sys", "_getframe(1).f_back.f_locals")), 7, "not yet"),
    "asks_inspect": (with_answer("look_up", STACK.format("inspect", "stack()[2].frame.f_locals")), 7, "not yet"),
    "equals_everything": (
        with_answer(
            "may_attend",
            "class Yes:\n    def __eq__(self, _):\n        return True\n\n\ndef may_attend(n):\n    return Yes()\n",
        ),
        7,
        "held back",
    ),
    "patches_when_called": (with_answer("look_up", f"def look_up(*_):\n    {PATCHES}"), 0, "not counted"),
    "changes_code": (
        with_cell("import shared.exercises as e\ne.expect.__code__ = (lambda condition, message: None).__code__"),
        0,
        "does not allow",
    ),
    "starts_programs": (
        with_cell(
            "import contextlib, os, subprocess\n"
            "for f in (lambda: subprocess.run(['touch', '../../stolen.pt']), os.fork, lambda: os.system('ls')):\n"
            "    with contextlib.suppress(PermissionError):\n        f(); look_up = 1\nraise ValueError('refused')",
            solved(*ALL),
        ),
        8,
        "refused",
    ),
    "aborts": (with_answer("look_up", "import os\ndef look_up(*_):\n    os.abort()\n"), 7, "stopped"),
    "guards_guard": (
        with_cell(
            "import __main__\n__main__.Guard._reason = lambda *_: ''\nopen('../../stolen.pt', 'w')", solved(*ALL)
        ),
        8,
        "has no attribute 'Guard'",
    ),
    "script_in_a_sentence": (
        with_answer("look_up", "def look_up(*_):\n    raise ValueError('<script>alert(1)</script>')\n"),
        7,
        "not yet",
    ),
    "deep": (text("[" * 200_000), 0, "this is not a notebook"),
    "link": (link, 0, "a link"),
    "twice": (twice, 8, ""),
    "Ada Lovelace_4711_assignsubmission_file_": (saved(solved(*ALL)), 8, ""),
    "another_name": (with_answer("window_mask", RIGHT.replace("window_mask", "mine") + "check('3.8', mine)"), 8, ""),
    # kinds that nobody had listed
    "windows_lines": (lambda folder: (folder / "a.py").write_bytes(script().replace("\n", "\r\n").encode()), 8, ""),
    "old_format": (old_format, 8, ""),
    "packed": (packed, 0, "no notebook (.ipynb) and no program (.py)"),
    "nothing": (lambda folder: None, 0, "this folder is empty"),
    "halves": (halves, 5, "the newest of 2 files"),
    "Zoë 李 🦊": (saved(solved(*ALL), "упражнения.ipynb"), 8, ""),
    "colab": (with_cell(COLAB, solved(*ALL)), 8, "No module named 'google"),
    "asks": (with_cell("name = input('Your name? ')", solved(*ALL)), 8, "EOFError"),
    "threads": (with_cell(THREADS, solved(*ALL)), 8, "does not allow"),
    "reads_others": (with_cell(READS, solved(*ALL)), 8, "does not allow"),
    "many_files": (with_cell(MANY, solved(*ALL)), 8, "more than 100 files"),
    "no_clock": (with_answer("look_up", NO_CLOCK), 7, "stopped"),
    "patches_builtins": (with_cell("import builtins\nbuiltins.abs = lambda x: 0", solved(*ALL)), 0, "not counted"),
    "hidden_class": (with_answer("may_attend", YES), 7, "held back"),
    "takes_the_course's": (
        with_answer("may_attend", "from shared import causal_mask as may_attend\n"),
        8,
        "3.2 uses the course's may_attend",
    ),
    "too_deep": (with_answer("look_up", DEEP), 7, ""),
    "long_message": (with_answer("look_up", "def look_up(*_):\n    raise ValueError('x' * 10**8)\n"), 7, "not yet"),
    "closes_all": (with_cell("import os\nos.closerange(3, 500)", solved(*ALL)), 8, "ended the program"),
    "never_defined": (with_cell("class Endless:\n    while True:\n        pass", solved(*ALL)), 0, "did not end"),
    "no_text": (text(json.dumps({**RELEASED, "cells": [*solved(*ALL)["cells"], cell("name = '\ud800'")]})), 8, ""),
    "late_constant": (
        with_answer("window_mask", f"LATE = int('0')\n{RIGHT.replace('(n, w)', '(n, w, z=LATE)')}"),
        8,
        "",
    ),
}
