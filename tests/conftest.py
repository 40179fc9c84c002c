"""Settings of every test: one thread unless asked for more, no downloads, runs in a folder of their own."""

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Start every test from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _runs_in_a_folder_of_their_own(tmp_path, monkeypatch):
    """Keep the learner's runs out of the tests and the tests out of the learner's runs."""
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))
