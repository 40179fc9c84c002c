"""Claims about the browser that the tests steer: it starts whatever files the program around it holds open."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import chromium

# Matplotlib keeps its fonts open, and closes them in every child, so that the numbers 3 and 4 are free there again.
AFTER_A_FIGURE = """
import io
import matplotlib.pyplot as plt
plt.figure().text(0, 0, "words").figure.savefig(io.BytesIO(), format="png")
from tests.chromium import Chromium
with Chromium() as browser:
    browser.open("data:text/html,<p>here", ready="document.body?.innerText == 'here'")
    print(browser.run("document.body.innerText"))
"""


@pytest.mark.skipif(chromium.program() is None, reason="there is no Chromium here")
def test_a_browser_starts_after_a_figure_was_saved():
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", AFTER_A_FIGURE], cwd=root, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("here", 0), done.stderr
