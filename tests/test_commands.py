"""What all commands share: options that are checked before any work, one sentence for what stops them, no traceback."""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.commands import bench, chat, fetch, lab, sample, serve
from shared.commands.command_line import CommandParser, command, seed_number, whole_number

ROOT = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("text", ["0", "7", "18446744073709551615", " 8 ", "1_000"])
def test_a_seed_is_whatever_a_generator_holds(text):
    import torch

    torch.Generator().manual_seed(seed_number(text))


@pytest.mark.parametrize(
    "text", ["-1", "18446744073709551616", "1.0", "1e3", "seven", "", "nan", "0x10", "9" * 5_000, "\udce9", "½"]
)
def test_what_is_no_seed_is_refused_in_short(text):
    options = CommandParser("it", "Do it.")
    options.add_argument("--seed", type=seed_number)
    with pytest.raises(ValueError, match="argument --seed: .* is no whole number from 0 to 184467440737") as told:
        options.parse_args(["--seed", text])
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(("text", "fits"), [("2", True), ("1", False), ("3", True), ("4", False)])
def test_a_whole_number_keeps_to_its_range(text, fits):
    read = whole_number(2, 3)
    if fits:
        assert read(text) == int(text)
    else:
        with pytest.raises(argparse.ArgumentTypeError, match="is no whole number from 2 to 3"):
            read(text)


COMMANDS = {"sample": sample, "chat": chat, "serve": serve, "lab": lab, "bench": bench, "fetch": fetch}
REFUSED = [
    ("sample", ["Once", "--tokens", "-3"], "argument --tokens: '-3' is no whole number of 0 or more"),
    ("sample", ["Once", "--tokens", "1e3"], "argument --tokens: '1e3' is no whole number"),
    ("sample", ["Once", "--temperature", "nan"], "temperature=nan is not a number >= 0"),
    ("sample", ["Once", "--temperature", "inf"], "temperature=inf"),
    ("sample", ["Once", "--temperature=-0.1"], "temperature=-0.1"),
    ("sample", ["Once", "--temperature=-inf"], "temperature=-inf"),
    ("sample", ["Once", "--temperature", "hot"], "argument --temperature: invalid float value: 'hot'"),
    ("sample", ["Once", "--top-k", "0"], "top_k=0 keeps no token"),
    ("sample", ["Once", "--top-k", "-1"], "top_k=-1 keeps no token"),
    ("sample", ["Once", "--top-p", "0"], "top_p=0.0 is not in (0, 1]"),
    ("sample", ["Once", "--top-p", "1.01"], "top_p=1.01"),
    ("sample", ["Once", "--top-p", "nan"], "top_p=nan"),
    ("sample", ["Once", "--seed", "-1"], "argument --seed: '-1' is no whole number"),
    ("sample", ["Once", "--temperature", "0", "--seed", str(2**64)], "argument --seed: "),
    ("sample", ["Once", "upon"], "unrecognized arguments: upon"),
    ("sample", ["--run"], "argument --run: expected one argument"),
    ("chat", ["--seed", "-1"], "argument --seed: '-1' is no whole number"),
    ("chat", ["--seed", "1.5"], "argument --seed: "),
    ("chat", ["--temperature", "nan"], "temperature=nan"),
    ("chat", ["--top-p", "0"], "top_p=0.0"),
    ("serve", ["--port", "-1"], "argument --port: '-1' is no whole number from 0 to 65535"),
    ("serve", ["--port", "65536"], "argument --port: '65536'"),
    ("lab", ["--port", "-1"], "argument --port: '-1'"),
    ("lab", ["--port", "99999"], "argument --port: '99999'"),
    ("lab", ["ch99"], "there is no chapter 'ch99': name one of ch01_understanding_llms"),
    ("lab", ["²"], "there is no chapter '²'"),
    ("bench", ["--only", "speed"], "there is no part 'speed'"),
    ("bench", ["--only", ""], "there is no part ''"),
    ("fetch", ["nothing"], "there is no download 'nothing': name one of"),
    ("fetch", [""], "there is no download ''"),
]


@pytest.mark.parametrize(("name", "words", "sentence"), REFUSED)
def test_an_option_that_means_nothing_is_one_sentence_before_any_work(monkeypatch, capsys, name, words, sentence):
    for loader in ("ch05_pretraining.saved_models.load_story_gpt", "ch06_finetuning.named_models.load_answering"):
        monkeypatch.setattr(loader, lambda *_, **__: pytest.fail("the model was loaded first"))
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: pytest.fail("JupyterLab was started"))
    assert COMMANDS[name].main(words) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"course.py {name}: {sentence}") and told.err.count("\n") == 1 and told.out == ""


@pytest.mark.parametrize("words", [["--tokens=0"], ["--top-k", "1" + "0" * 30], ["--seed=0"], ["--temperature=1e300"]])
def test_the_edges_of_a_range_work(capsys, words):
    assert sample.main(["Once upon a time", "--tokens=2", *words]) == 0
    assert capsys.readouterr().out.startswith("Once upon a time")


# ---------------------------------------------------------------- what stops a command


ROOM = ": free some space, then start the command again"
FULL = "the memory is full: close other programs, or take a smaller model"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ValueError("the text is short: give more"), 1, "course.py it: the text is short: give more\n"),
        (OSError(28, "No space left on device", "/x"), 1, f"course.py it: /x: No space left on device{ROOM}\n"),
        (OSError(12, "Cannot allocate memory"), 1, f"course.py it: {FULL}\n"),
        (MemoryError(), 1, f"course.py it: {FULL}\n"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: …"), 1, f"course.py it: {FULL}\n"),
        (ValueError("DefaultCPUAllocator: …; the file is x.gguf"), 1, f"course.py it: {FULL}\n"),
        (PermissionError(13, "Permission denied"), 1, "course.py it: a file: Permission denied\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_stops_a_command_is_one_sentence(capsys, error, status, told):
    @command("it")
    def main(arguments):
        raise error

    assert main([]) == status
    assert capsys.readouterr().err == told


def test_a_fault_of_the_program_itself_is_shown_as_it_is():
    @command("it")
    def main(arguments):
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        main([])


def begin(*words: str, **settings: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    code = f"import sys, shared.commands.{words[0]} as c; print('begun', flush=True); sys.exit(c.main(sys.argv[1:]))"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", code, *words[1:]], env=environment, text=True, **pipes)
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise there")
def test_a_reader_that_goes_away_ends_a_command_in_silence():
    process = begin("sample", "Once", "--tokens", "400", "--temperature", "0")
    process.stdout.read(4)
    process.stdout.close()
    assert process.wait(timeout=60) == 1 and process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another signal there")
@pytest.mark.parametrize("words", [["sample", "Once", "--tokens", "100000"], ["bench", "--tiny"], ["chat"]])
@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.5, 3.0])
def test_ctrl_c_at_any_moment_is_no_traceback(words, seconds):
    process = begin(*words)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert "Traceback" not in complaints, complaints


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is another signal there")
def test_ctrl_c_ends_a_command_whose_library_would_catch_it(tmp_path):
    library = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except BaseException:
    raise ImportError("cannot load module more than once per process")
"""
    (tmp_path / "library.py").write_text(library, encoding="utf-8")
    code = """
import sys
from shared.commands.command_line import command

@command("it")
def main(arguments):
    import library

sys.exit(main([]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "\n", "")


def test_a_command_leaves_ctrl_c_as_it_found_it():
    before = signal.getsignal(signal.SIGINT)
    assert command("it")(lambda arguments: 0)([]) == 0
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name == "nt", reason="arguments there are always text")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_prompt_that_is_no_text_is_shown_as_far_as_it_is(encoding):
    process = begin("sample", os.fsdecode(b"caf\xe9 \xd0\xb6"), "--tokens", "2", PYTHONIOENCODING=encoding)
    told, complaints = process.communicate(timeout=60)
    assert process.returncode == 0 and complaints == "" and told.startswith("caf? ")


# ---------------------------------------------------------------- lab


def test_the_settings_reach_the_kernels_of_lab(tmp_path):
    """course.py, the command, JupyterLab's process and a kernel: all but the page in the browser is real."""
    (tmp_path / "jupyterlab").mkdir()
    (tmp_path / "jupyterlab" / "__init__.py").touch()
    (tmp_path / "jupyterlab" / "__main__.py").write_text(
        "from jupyter_client.manager import start_new_kernel\n"
        "manager, client = start_new_kernel(kernel_name='python3')\n"
        "names = 'GOMP_SPINCOUNT', 'MALLOC_MMAP_MAX_'\n"
        "client.execute_interactive(f'import os; print(*map(os.environ.get, {names}))')\n"
        "manager.shutdown_kernel(now=True)\n",
        encoding="utf-8",
    )
    code = (
        "import os, sys, course\n"
        f"course.ROOT = os.pathsep.join([{str(tmp_path)!r}, course.ROOT])\n"  # our JupyterLab is found first
        "course.installed = lambda: {}\n"
        "course.hand_over('lab', ['--no-browser'])\n"
    )
    settings = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_WAIT"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1] == "2000 0", done.stderr


@pytest.mark.parametrize("content", ["{", "[1]", "\ufeff{}"])
def test_settings_of_jupyterlab_that_cannot_be_read_are_left_alone(tmp_path, content):
    path = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="utf-8")
    lab.write_settings(tmp_path)
    assert path.read_text(encoding="utf-8") == content


def test_an_environment_that_cannot_be_written_keeps_its_news(tmp_path):
    (tmp_path / "share").write_text("in the way", encoding="utf-8")
    lab.write_settings(tmp_path)
    assert (tmp_path / "share").read_text(encoding="utf-8") == "in the way"
