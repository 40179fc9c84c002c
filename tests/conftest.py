"""Settings of every test: one thread unless asked for more, no downloads, runs in a folder of their own."""

import importlib.util
import os
import signal
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest  # noqa: E402
import torch  # noqa: E402

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so a shell starts what it runs in the background, and every
    signal.signal(signal.SIGINT, signal.default_int_handler)  # child would inherit it and be deaf to Ctrl-C

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Start every test from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _runs_in_a_folder_of_their_own(tmp_path, monkeypatch):
    """Keep the learner's runs out of the tests and the tests out of the learner's runs."""
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def course_itself():
    """course.py, loaded anew, so that a test may change it."""
    path = Path(__file__).resolve().parent.parent / "course.py"
    spec = importlib.util.spec_from_file_location("course", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def course(course_itself, tmp_path, monkeypatch):
    """course.py with its environment in a folder of this test, a fake pip and a fake way to make environments."""
    module = course_itself
    venv = tmp_path / "env"
    names = {"VENV": venv, "STAMP": venv / "course-installed.json", "MARKER": venv / "course-installing"}
    for name, path in {**names, "LOG": venv / "course-install.log"}.items():
        monkeypatch.setattr(module, name, str(path))
    module.pip_calls, module.pip_codes, module.made = [], [], []

    def pip(options):
        module.pip_calls.append(options)
        return module.pip_codes.pop(0) if module.pip_codes else 0

    class Builder:
        def __init__(self, clear, **_):
            self.clear = clear

        def create(self, folder):
            module.made.append(self.clear)
            python = Path(module.venv_python())
            python.parent.mkdir(parents=True, exist_ok=True)
            python.write_text("", encoding="utf-8")
            Path(module.MARKER).unlink(missing_ok=True)

    monkeypatch.setattr(module, "pip", pip)
    monkeypatch.setattr(module, "has_package", lambda pin: False)
    monkeypatch.setattr(module, "has_nvidia", lambda: False)
    monkeypatch.setattr(module, "environment_works", lambda: True)
    monkeypatch.setattr("venv.EnvBuilder", Builder)
    return module
