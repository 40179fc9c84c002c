"""The one door: what course.py does before a command starts, and what each command says and keeps."""

import ast
import importlib
import importlib.util
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from data.durable_folders import write_folder
from data.locks import alone_in
from shared.commands import chat, doctor, lab, run, sample
from shared.commands import test as test_command
from shared.maintenance import ship

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {path.stem for path in (ROOT / "shared" / "commands").glob("*.py") if "_" not in path.stem}


# ---------------------------------------------------------------- course.py: before a command starts


def test_old_pythons_can_read_course_py():
    source = (ROOT / "course.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 4))
    new = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, new)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [f.name for f in functions if f.returns or f.args.kwonlyargs or any(a.annotation for a in f.args.args)]


def test_course_py_uses_the_standard_library_only():
    tree = ast.parse((ROOT / "course.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 15)])
def test_another_python_is_refused_in_a_sentence(course, monkeypatch, version):
    monkeypatch.setattr(course.sys, "version_info", (*version, 0, "final", 0))
    with pytest.raises(course.Trouble, match=rf"This is Python {version[0]}\.{version[1]}.* needs Python 3.11 to 3.14"):
        course.require_python()


def test_an_intel_mac_is_refused_in_a_sentence(course, monkeypatch):
    monkeypatch.setattr(course.sys, "platform", "darwin")
    monkeypatch.setattr(course.platform, "machine", lambda: "x86_64")
    with pytest.raises(course.Trouble, match="built for Intel Macs"):
        course.require_python()


def test_the_help_names_every_command_there_is(course):
    listed = {row[0] for row in course.available()}
    assert listed == COMMANDS
    assert all(f"  {name}" in course.usage() for name in listed)


def test_an_unknown_command_is_answered_with_the_known_ones(course):
    with pytest.raises(course.Trouble, match="There is no command 'trian'; there are"):
        course.main(["trian"])


def test_the_first_start_installs_and_the_second_is_instant(course):
    course.prepare("course")
    assert course.made == [True] and len(course.pip_calls) == 2
    course.prepare("course")
    assert len(course.pip_calls) == 2 and course.made == [True]


def test_linux_without_a_driver_asks_for_the_cpu_wheel_first_and_falls_back(course, monkeypatch):
    monkeypatch.setattr(course.sys, "platform", "linux")
    course.pip_codes[:] = [1, 0]
    course.prepare("course")
    first, second = course.pip_calls
    assert course.CPU_WHEELS in first and first[-1].startswith("torch==")
    assert first[first.index("--retries") + 1] == "1" and int(first[first.index("--timeout") + 1]) <= 15
    assert second[0] == "-r" and second[1].endswith("requirements.txt")


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_elsewhere_the_ordinary_wheel_is_small_already(course, monkeypatch, platform):
    monkeypatch.setattr(course.sys, "platform", platform)
    course.prepare("course")
    assert len(course.pip_calls) == 1


def test_with_a_driver_the_ordinary_wheel_is_wanted(course, monkeypatch):
    monkeypatch.setattr(course, "has_nvidia", lambda: True)
    course.prepare("course")
    assert len(course.pip_calls) == 1


def test_changed_requirements_are_installed(course, monkeypatch):
    course.prepare("course")
    monkeypatch.setattr(course, "fingerprint", lambda files: "changed")
    course.prepare("course")
    assert len(course.pip_calls) == 4 and course.made == [True]


def test_the_tests_install_their_checkers_once(course):
    course.prepare("course")
    course.prepare("tests")
    assert any(word.endswith("requirements-test.txt") for word in course.pip_calls[-1])
    calls = len(course.pip_calls)
    course.prepare("tests")
    course.prepare("course")
    assert len(course.pip_calls) == calls


@pytest.mark.parametrize("needs", ["site", "tests"])
def test_what_makes_the_site_comes_with_it_and_with_the_tests(course, needs):
    course.prepare(needs)
    assert any(word.endswith("requirements-site.txt") for word in course.pip_calls[-1])


def test_a_killed_installation_is_made_anew(course):
    course.make_environment()
    Path(course.MARKER).touch()
    course.prepare("course")
    assert course.made == [True, True]
    assert not os.path.exists(course.MARKER)


def test_an_environment_that_does_not_start_is_made_anew(course, monkeypatch):
    course.prepare("course")
    Path(course.STAMP).unlink()
    monkeypatch.setattr(course, "environment_works", lambda: False)
    course.prepare("course")
    assert course.made == [True, True]


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "the disk is full"),
        ("Temporary failure in name resolution", "cannot be reached"),
        ("ERROR: No matching distribution found for torch==2.13.0", "has no torch==2.13.0 for .* and Python 3"),
        ("ERROR: something else", "ERROR: something else"),
    ],
)
def test_a_failed_installation_is_explained_and_tried_again(course, log, sentence):
    course.make_environment()
    Path(course.LOG).write_text("\n$ pip install\n" + log, encoding="utf-8")
    course.pip_codes[:] = [1, 1]
    with pytest.raises(course.Trouble, match=sentence.replace("[", r"\[")):
        course.prepare("course")
    assert course.installed() == {}
    course.prepare("course")
    assert course.made == [True]  # pip ended by itself, so nothing had to be thrown away


def test_a_damaged_stamp_means_installing_again(course):
    course.prepare("course")
    Path(course.STAMP).write_text("{", encoding="utf-8")
    course.prepare("course")
    assert len(course.pip_calls) == 4


def test_the_ci_script_calls_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "course.py test" in script
    assert "python course.py test" in (ROOT / "README.md").read_text(encoding="utf-8")


def start(*words: str, **settings: str) -> subprocess.CompletedProcess:
    """Start course.py itself, as a learner does."""
    command = [sys.executable, str(ROOT / "course.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, check=False)


def test_without_a_command_the_help_is_shown():
    assert start().returncode == 2 and "python course.py COMMAND" in start("--help").stdout


def test_packages_that_came_with_the_course_need_no_network(course, monkeypatch, tmp_path, capsys):
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(course, "WHEELS", str(tmp_path / "wheels"))
    course.prepare("course")
    (options,) = course.pip_calls
    assert options[:3] == ["--no-index", "--find-links", course.WHEELS] and options[3] == "-r"
    assert "from the folder wheels, without a network" in capsys.readouterr().out


def test_a_package_that_did_not_come_is_named(course, monkeypatch, tmp_path):
    (tmp_path / "wheels").mkdir()
    monkeypatch.setattr(course, "WHEELS", str(tmp_path / "wheels"))
    monkeypatch.setattr(course, "last_words", lambda: "ERROR: No matching distribution found for torch==2.13.0")
    assert course.trouble_of_pip().startswith("the folder wheels has no torch==2.13.0 for ")


def test_arguments_and_the_exit_code_pass_through():
    done = start("restore", "no such notebook")
    assert done.returncode == 1 and "no notebook is called 'no such notebook'" in done.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_its_options_without_loading_anything(name):
    code = f"import sys, shared.commands.{name} as c; sys.argv[1:] = ['--help']; c.main(['--help'])"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "usage: course.py " + name in done.stdout
    assert "| torch\n" not in done.stderr.replace("|   ", "| ")


# ---------------------------------------------------------------- run


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """`course.py run` with stages that do nothing but write what they were given."""
    calls = []

    def stage(name, folder_name):
        def train(folder, *base, on_step=None, **options):
            calls.append((name, options))
            if name in chain.stop:
                raise KeyboardInterrupt
            target = Path(folder) / folder_name if folder_name else Path(folder)
            write_folder(target, {"model": name.encode()})
            return name

        return train

    chain = SimpleNamespace(calls=calls, stop=set(), folder=tmp_path / "runs")
    monkeypatch.setattr("ch05_pretraining.story_recipe.train_story_gpt", stage("pretraining", "story_gpt"))
    monkeypatch.setattr("ch06_finetuning.recipes.finetune_classifier", stage("classifier", ""))
    monkeypatch.setattr("ch06_finetuning.recipes.finetune_assistant", stage("assistant", ""))
    for name in ("story_scores", "text_scores", "classifier_scores", "assistant_scores"):
        monkeypatch.setattr(f"shared.commands.run_report.{name}", lambda *_, **__: {"score": 1})
    monkeypatch.setattr("shared.commands.run_report.draw_losses", lambda *_: None)
    monkeypatch.setattr("shared.commands.run_report.write_report", lambda *_: "the summary")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return chain


def stages(chain) -> list[str]:
    return [name for name, _ in chain.calls]


def test_a_run_goes_through_all_stages_and_a_second_one_trains_nothing(chain, capsys):
    assert run.main([]) == 0
    assert stages(chain) == ["pretraining", "classifier", "assistant"]
    assert "the summary" in capsys.readouterr().out
    chain.calls.clear()
    assert run.main([]) == 0
    assert stages(chain) == ["pretraining"]  # which only loads what is done
    assert "classifier: done earlier" in capsys.readouterr().out


def test_ctrl_c_says_how_to_go_on_and_the_next_call_does(chain, capsys):
    chain.stop = {"classifier"}
    assert run.main(["--seed", "3", "--name", "mine"]) == 130
    assert "go on with: python course.py run --name mine" in capsys.readouterr().out
    chain.stop = set()
    chain.calls.clear()
    assert run.main(["--name", "mine"]) == 0
    assert stages(chain) == ["pretraining", "classifier", "assistant"]
    assert all(options["seed"] == 3 for _, options in chain.calls)


def test_a_model_that_was_made_again_is_graded_again(chain):
    run.main([])
    state = json.loads((chain.folder / "default" / "run.json").read_text(encoding="utf-8"))
    write_folder(chain.folder / "default" / "assistant", {"model": b"another"})
    chain.calls.clear()
    run.main([])
    assert "assistant" in stages(chain) and "assistant" in state["results"]


def test_a_warning_of_a_stage_is_one_sentence(chain, capsys, monkeypatch):
    def scores(*_, **__):
        warnings.warn("fell back", stacklevel=1)
        return {"score": 1}

    monkeypatch.setattr("shared.commands.run_report.story_scores", scores)
    assert run.main([]) == 0
    assert capsys.readouterr().err == "course.py run: fell back\n"


def test_a_damaged_assistant_is_said_and_made_again(chain, capsys):
    run.main([])
    (chain.folder / "default" / "assistant" / "model").write_bytes(b"assistanT")
    chain.calls.clear()
    run.main([])
    told = capsys.readouterr().out
    assert "assistant: " in told and "is damaged, so it is made again" in told and "classifier: done earlier" in told
    assert [(name, options.get("resume")) for name, options in chain.calls][1:] == [("assistant", False)]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"seed":'])
def test_damaged_settings_are_refused_and_cost_nothing(chain, capsys, content):
    run.main(["--seed", "1", "--minutes", "3"])
    folder = chain.folder / "default"
    before = (folder / "run.json").read_bytes()
    (folder / "settings.json").write_text(content, encoding="utf-8")
    chain.calls.clear()
    assert run.main([]) == 1 and stages(chain) == []
    assert "settings.json is damaged: bring it back" in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"results": {"stories": {}}, "seconds": 3}'])
def test_a_damaged_run_json_costs_no_setting(chain, content):
    run.main(["--seed", "3"])
    (chain.folder / "default" / "run.json").write_text(content, encoding="utf-8")
    chain.calls.clear()
    assert run.main([]) == 0
    assert all(options["seed"] == 3 for _, options in chain.calls)
    kept = json.loads((chain.folder / "default" / "run.json").read_text(encoding="utf-8"))
    assert set(kept) == {"seconds", "results"} and set(kept["results"]) == {"stories", "classifier", "assistant"}


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ([], ["--seed", "1"], "begun with --seed 0"),
        ([], ["--minutes", "2"], "begun without --minutes"),
        (["--minutes", "2"], ["--minutes", "3"], "begun with --minutes 2.0"),
        (["--width", "64"], ["--width", "128"], "begun with --width 64"),
        ([], ["--vocabulary", "1000"], "begun with --vocabulary 3072"),
        ([], ["--name", "default", "--quick"], "begun without --quick"),
    ],
)
def test_a_contradicting_second_call_is_answered_in_one_sentence(chain, capsys, first, second, sentence):
    run.main(first)
    assert run.main(second) == 1
    said = capsys.readouterr().err
    assert sentence in said and "--name NEWNAME" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--minutes=0"], "--minutes 0.0 is no time to train in: use a number above 0, at most 10,080 (a week)"),
        (["--minutes=-3"], "--minutes -3.0 is no time to train in"),
        (["--minutes=nan"], "--minutes nan is no time to train in"),
        (["--minutes=inf"], "--minutes inf is no time to train in"),
        (["--minutes=1e300"], "--minutes 1e+300 is no time to train in"),
        (["--seed=-1"], "--seed -1 is out of range: use a whole number from 0 to 4,294,967,295"),
        (["--seed=4294967296"], "--seed 4294967296 is out of range"),
        ([f"--seed={10**40}"], "is out of range"),
        (["--device=gpu"], "--device gpu is unknown: use one of auto, cpu, cuda, mps"),
        (["--device="], "--device  is unknown"),
        (["--layers=0"], "--layers 0 is out of range: use a whole number from 1 to 64"),
        (["--width=90"], "--width 90 is no multiple of the 4 heads: use 88"),
        (["--width=2"], "--width 2 is out of range"),
        (["--heads=3"], "--width 128 is no multiple of the 3 heads: use 126"),
        (["--heads=0"], "--heads 0 is out of range"),
        (["--vocabulary=259"], "--vocabulary 259 is out of range: use a whole number from 260 to 65,536"),
        (["--vocabulary=260"], "--vocabulary 260 is too small for the course's questions: use 512 or more"),
        (["--context=100"], "--context 100 is too small for the course's questions: use 256 or more"),
        (["--context=100000"], "--context 100000 is out of range"),
        (["--layers=64", "--width=2048"], "parameters, more than 200,000,000: use less"),
        (["--seed=x"], "argument --seed: invalid int value: 'x'; course.py run --help tells the options"),
        (["--text"], "argument --text: expected at least one argument"),
        (["--text", "x" * 300], "cannot be read"),
        (["--text", ""], "--text '' names no file"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_and_begins_nothing(chain, capsys, words, sentence):
    assert run.main(words) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not chain.folder.exists() and not chain.calls


def a_gpu_is_there(name: str):
    import torch

    return torch.device("cpu" if name == "cpu" else "cuda")


def test_a_run_stays_on_its_device(chain, capsys, monkeypatch):
    assert run.main(["--device", "auto"]) == 0 and chain.calls[0][1]["device"] == "cpu"
    monkeypatch.setattr("ch05_pretraining.story_recipe.choose_device", a_gpu_is_there)
    assert run.main([]) == run.main(["--device", "cpu"]) == 0
    for device in ("cuda", "auto"):
        assert run.main(["--device", device]) == 1
        assert "begun with --device cpu: leave the option out" in capsys.readouterr().err


def test_a_run_that_was_begun_without_the_command_is_taken_over(chain, capsys):
    from ch05_pretraining.story_recipe import begin_story_gpt

    begin_story_gpt(chain.folder / "default", seed=5, quick=True)
    assert run.main(["--seed", "4"]) == 1 and "begun with --seed 5" in capsys.readouterr().err
    assert run.main([]) == 0
    assert all(options["seed"] == 5 and options["quick"] for _, options in chain.calls)


def test_a_run_of_another_story_world_is_not_mixed_with_this_one(chain, capsys):
    assert run.main([]) == 0
    path = chain.folder / "default" / "settings.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {"world": "0123456789abcdef"}), encoding="utf-8")
    chain.calls.clear()
    assert run.main([]) == 1
    assert "the course's stories have changed since" in capsys.readouterr().err
    assert stages(chain) == []


def test_options_may_be_repeated_or_left_out(chain):
    assert run.main(["--seed", "2", "--minutes", "1"]) == 0
    assert run.main(["--seed", "2"]) == run.main([]) == 0
    assert all(options["minutes"] == 1 for name, options in chain.calls if name == "pretraining")


LONG = "".join(f"Dear diary, on day {i} it rained {i % 7} times.\n" for i in range(60))


def test_a_text_of_ones_own_is_copied_and_only_pretrained_on(chain, tmp_path):
    text = tmp_path / "My diary (2026).txt"
    text.write_text(LONG, encoding="utf-8")
    assert run.main(["--text", str(text)]) == 0
    folder = chain.folder / "My-diary-2026"
    assert stages(chain) == ["pretraining"] and chain.calls[0][1]["text"].documents == (LONG.strip(),)
    text.unlink()
    chain.calls.clear()
    assert run.main(["--name", "My-diary-2026"]) == 0
    assert chain.calls[0][1]["text"].documents == (LONG.strip(),)
    (folder / "text.txt").write_text(LONG.upper(), encoding="utf-8")
    assert run.main(["--name", "My-diary-2026"]) == 1


def test_several_texts_and_folders_are_one_text(chain, tmp_path, capsys):
    (tmp_path / "poems").mkdir()
    (tmp_path / "poems" / "a.md").write_text("A poem.", encoding="utf-8")
    (tmp_path / "poems" / "b.docx").write_text("passed over", encoding="utf-8")
    (tmp_path / "c.txt").write_text(LONG, encoding="utf-8")
    paths = [str(tmp_path / name) for name in ("poems", "c.txt", "c.txt")]
    assert run.main(["--text", *paths[:2], "--text", paths[2]]) == 0
    assert chain.calls[0][1]["text"].documents == ("A poem.", LONG.strip())
    assert (chain.folder / "poems-and-2-more").is_dir()
    told = capsys.readouterr().out
    assert "1 file in" in told and "1 document passed over" in told and " tokens. In 2,900 steps" in told


def test_a_changed_text_is_noticed_and_the_first_one_kept(chain, tmp_path, capsys):
    text = tmp_path / "diary.txt"
    text.write_text(LONG, encoding="utf-8")
    run.main(["--text", str(text)])
    before = snapshot(chain.folder)
    text.write_text(LONG.upper(), encoding="utf-8")
    assert run.main(["--text", str(text)]) == 1
    assert "begun with another text" in capsys.readouterr().err
    assert snapshot(chain.folder) == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe\x00", "diary.txt is UTF-16 text"),
        (b"short", "give at least 1,000 bytes"),
        (None, "diary.txt cannot be read"),
    ],
)
def test_a_text_that_cannot_be_read_is_named_and_begins_nothing(chain, tmp_path, capsys, content, sentence):
    text = tmp_path / "diary.txt"
    if content is not None:
        text.write_bytes(content)
    assert run.main(["--text", str(text)]) == 1
    assert sentence in capsys.readouterr().err
    assert not chain.folder.exists()
    text.write_text(LONG, encoding="utf-8")
    assert run.main(["--text", str(text)]) == 0


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../up", "cannot be a folder"),
        ("a b", "cannot be a folder"),
        ("a/b", "cannot be a folder"),
        ("a\nb", "cannot be a folder"),
        (".hidden", "cannot be a folder"),
        ("-x", "cannot be a folder"),
        ("mine.", "cannot be a folder"),
        ("shipped", "means the models that come with the course"),
        ("Shipped", "means the models that come with the course"),
        ("x" * 65, "is too long"),
        ("\U00020000" * 64, "is too long"),  # short, but not as a file system counts
        ("con", "means a device on Windows"),
        ("NUL.txt", "means a device on Windows"),
        ("Lpt1", "means a device on Windows"),
    ],
)
def test_a_name_must_be_a_folder_on_every_system(chain, capsys, name, sentence):
    assert run.main([f"--name={name}"]) == 1
    said = capsys.readouterr().err
    assert sentence in said and "use up to 64 letters, digits" in said and said.count("\n") == 1
    assert not chain.folder.exists()


@pytest.mark.parametrize(
    "name", ["", "mine", "Mine.2", "3", "\u043c\u0435\u043b\u044c\u043d\u0438\u0446\u0430", "console", "com"]
)
def test_other_names_are_taken_as_they_are(chain, name):
    assert run.main(["--name", name]) == 0
    assert (chain.folder / (name or "default")).is_dir()


def test_a_name_that_differs_in_capital_letters_only_is_refused(chain, capsys):
    assert run.main(["--name", "Mine"]) == 0
    assert run.main(["--name", "Mine"]) == 0
    if not (chain.folder / "mine").exists():  # on a system where the two are different folders
        assert run.main(["--name", "mine"]) == 1
        assert "--name 'mine' is the run 'Mine' on many systems" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("A Collection of Forty Short Pieces About the Harbor and the People Who Lived There.txt", None),
        ("shipped.txt", "shipped-text"),
        ("con.txt", "con-text"),
        ("\u043c\u0435\u043b\u044c\u043d\u0438\u0446\u0430.txt", "\u043c\u0435\u043b\u044c\u043d\u0438\u0446\u0430"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940.txt", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("caf\u0065\u0301.txt", "caf\u00e9"),
        ("\U0001f98a.txt", "own-text"),
        ("-x .txt", "x"),
        ("trailing dots... .txt", "trailing-dots"),
        ("\u6c34" * 60 + ".txt", None),
        ("\U00020000" * 60 + ".txt", None),
        (".hidden", "hidden"),
        ("novel.tar.txt", "novel.tar"),
    ],
)
def test_a_name_that_comes_from_a_file_is_made_valid(chain, tmp_path, file, name):
    try:
        (tmp_path / file).write_text(LONG, encoding="utf-8")
    except OSError:
        pytest.skip("this system has no such file names")
    assert run.main(["--text", str(tmp_path / file)]) == 0
    made = [path.name for path in chain.folder.iterdir()]
    assert made == [name] if name else len(made) == 1
    assert run._trouble_with(made[0]) is None
    assert run.main(["--name", made[0]]) == 0


def test_two_texts_whose_names_come_out_alike_do_not_become_one_run(chain, tmp_path, capsys):
    for number, name in enumerate(("\U0001f98a", "\U0001f989")):
        (tmp_path / f"{name}.txt").write_text(LONG + str(number), encoding="utf-8")
        assert run.main(["--text", str(tmp_path / f"{name}.txt")]) == number
    assert "own-text was begun with another text" in capsys.readouterr().err


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED = [
    ["--seed", "1"], ["--minutes", "2"], ["--quick"], ["--device", "tpu"], ["--width", "64"], ["--text", "other.txt"],
    ["--text", "nowhere.txt"], ["--seed", "-1"],
]  # fmt: skip


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
@pytest.mark.parametrize("busy", [False, True])
def test_a_refused_command_changes_no_byte_of_a_run(chain, tmp_path, monkeypatch, capsys, words, busy):
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text(LONG, encoding="utf-8")
    chain.stop = {"pretraining"}
    assert run.main(["--name", "mine"]) == 130
    before = snapshot(tmp_path)
    with alone_in_another_thread(chain.folder / "mine") if busy else nullcontext():
        assert run.main(["--name", "mine", *words]) == 1
        assert snapshot(tmp_path) == before
        if busy:
            assert run.main(["--name", "mine"]) == 1
            assert "another process is at work" in capsys.readouterr().err
            assert snapshot(tmp_path) == before


@contextmanager
def alone_in_another_thread(folder: Path):
    """Hold a run's lock as another process would."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with alone_in(folder):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    try:
        yield
    finally:
        done.set()
        holder.join()


def test_two_processes_do_not_train_in_one_folder(chain, capsys):
    with alone_in_another_thread(chain.folder / "default"):
        assert run.main([]) == 1
        assert "another process is at work" in capsys.readouterr().err
        assert set(snapshot(chain.folder)) == {str(Path("default", ".lock"))}
    assert run.main([]) == 0


def test_a_lock_may_be_asked_for_twice_and_is_let_go_at_the_end(tmp_path):
    code = "import sys; from data.locks import alone_in\nwith alone_in(sys.argv[1]): pass"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with alone_in(tmp_path / "run"):
        with alone_in(tmp_path / "run"):
            pass
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert "another process is at work in" in refused.stderr
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_stages_error_is_one_sentence(chain, monkeypatch, capsys):
    def refuse(*_, **__):
        raise ValueError("the text is too short: give several thousand characters")

    monkeypatch.setattr("ch05_pretraining.story_recipe.train_story_gpt", refuse)
    assert run.main([]) == 1
    assert capsys.readouterr().err == "course.py run: the text is too short: give several thousand characters\n"


@pytest.mark.parametrize("number", [28, 30])
def test_a_full_or_closed_disk_is_named_with_the_remedy(chain, monkeypatch, capsys, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "runs/default/vocabulary")

    monkeypatch.setattr("ch05_pretraining.story_recipe.train_story_gpt", refuse)
    assert run.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"course.py run: runs/default/vocabulary: {os.strerror(number)}: free some space, or move")


def test_runs_that_cannot_be_written_are_named(chain, monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "file"))
    assert run.main([]) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said and "folder that you may write to" in said and said.count("\n") == 1


def test_runs_of_the_course_before_one_settings_file_go_on_or_are_refused_by_name(chain, monkeypatch, capsys):
    from ch04_gpt_model.gpt_config import GPTConfig
    from data.story_cache import world_hash

    monkeypatch.setattr(GPTConfig, "story", classmethod(lambda cls: cls(272, 64, 8, 2, 1)))
    shutil.copytree(ROOT / "tests" / "fixtures" / "earlier_runs", chain.folder)
    path = chain.folder / "stopped-stories" / "settings.json"
    kept = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(kept | {"world": world_hash()[:16]}), encoding="utf-8")
    assert run.main(["--name", "stopped-stories"]) == run.main(["--name", "begun-text"]) == 0
    stories, _, _, text = (options for _, options in chain.calls)
    assert stories["seed"] == 4 and stories["quick"] and stories["device"] == "cpu" and stories["text"] is None
    assert text["seed"] == 5 and text["quick"] and text["text"].documents[0].startswith("On day 0 the fox")
    before = snapshot(chain.folder)
    for name in ("finished-text", "stopped-text"):
        assert run.main(["--name", name]) == 1
        assert f"{name} was begun by an earlier version of the course" in capsys.readouterr().err
    assert snapshot(chain.folder) == before
    assert run.main(["--text", str(chain.folder / "finished-text" / "text.txt"), "--name", "anew"]) == 0


def progress(step: int, val_loss=None):
    return SimpleNamespace(
        step=step, max_steps=100, loss=2.5, learning_rate=1e-3, tokens_per_second=12345.6, seconds_left=75.2,
        val_loss=val_loss,
    )  # fmt: skip


def test_a_file_gets_a_line_now_and_then_and_the_last(capsys):
    stream = io.StringIO()
    line = run.ProgressLine("pretraining", stream, pause=1000)
    for step in range(1, 101):
        line(progress(step, 3.25 if step == 50 else None))
    line.end()
    first, last = stream.getvalue().splitlines()
    assert first == "pretraining  step 1/100  loss 2.500  12,346 tokens/s  1:15 left"
    assert last == "pretraining  step 100/100  loss 2.500  validation 3.250  12,346 tokens/s  1:15 left"


def test_a_terminal_gets_one_line_that_is_written_over():
    stream = io.StringIO()
    stream.isatty = lambda: True
    line = run.ProgressLine("assistant", stream, pause=0)
    for step in (99, 100):
        line(progress(step))
    line.end()
    assert stream.getvalue().count("\r") == 2 and stream.getvalue().count("\n") == 1


@pytest.fixture
def small_recipes(monkeypatch):
    """Nothing is faked but the sizes: tokenizer, GPT, classifier, assistant, report and curve."""
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch05_pretraining import story_recipe
    from ch06_finetuning import recipes

    small = {"n_stories": 64, "n_tokenizer_stories": 64, "n_minis": 64, "mini_steps": 2, "story_steps": 2,
             "warmup_steps": 1, "eval_every": 2, "n_watched": 4, "n_validation": 4, "n_heldout": 2}  # fmt: skip
    monkeypatch.setattr(story_recipe, "QUICK", story_recipe.QUICK | small)
    monkeypatch.setattr(GPTConfig, "story", classmethod(lambda cls: cls(3072, 320, 16, 2, 1)))
    monkeypatch.setattr(recipes, "QUICK_STEPS", 2)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


def test_the_whole_chain_works_on_a_few_steps(small_recipes, tmp_path, capsys):
    assert run.main(["--quick", "--name", "small"]) == 0
    folder = tmp_path / "runs" / "small"
    report = (folder / "report.md").read_text(encoding="utf-8")
    for words in (
        "times the floor",
        "bigram",
        "coherent stories",
        "messages sorted",
        "questions by hand",
        "questions in new wordings",
        "share of the test questions | in new wordings",
        "the lesson *who is who*: ",
        "new names",
        "Ten samples",
    ):
        assert words in report, words
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "assistant" / "manifest.json").is_file() and (folder / "classifier" / "manifest.json").is_file()
    before = (folder / "report.md").read_bytes()
    capsys.readouterr()
    assert run.main(["--name", "small"]) == 0
    assert "pretraining: done earlier" in capsys.readouterr().out
    assert (folder / "report.md").read_bytes() == before


def press_once(monkeypatch, place: str, after: bool, call: int = 1) -> None:
    """Press Ctrl-C before or after a certain call of a function, and never again."""
    module, name = place.rsplit(".", 1)
    module = importlib.import_module(module)
    original, calls = getattr(module, name), []

    def pressing(*args, **options):
        calls.append(1)
        result = original(*args, **options) if after else None
        if len(calls) == call:
            raise KeyboardInterrupt
        return result if after else original(*args, **options)

    monkeypatch.setattr(module, name, pressing)


def outcome(folder: Path) -> tuple:
    """What a run has come to: the bytes of its models and its results."""
    results = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]
    return {path: path.read_bytes() for path in folder.glob("*/*.safetensors")}, results


OWN_TEXT_MOMENTS = [
    ("data.document_stream.read_utf8", False, 1),  # before anything is begun
    ("ch05_pretraining.run_settings.write_atomically", False, 1),  # before the text is kept
    ("ch05_pretraining.run_settings.write_atomically", True, 1),  # before the settings are
    ("ch05_pretraining.run_settings.write_atomically", True, 2),  # just after
    ("ch05_pretraining.story_recipe._train_tokenizer", False, 1),
    ("ch05_pretraining.story_recipe._train_tokenizer", True, 1),
    ("ch05_pretraining.run_state.save_checkpoint", True, 1),
    ("data.durable_folders._replace_folder", False, 2),
    ("ch05_pretraining.story_recipe.evaluate_stories", True, 1),
    ("ch05_pretraining.story_recipe.save_model", False, 1),
    ("shared.commands.run_report.text_scores", False, 1),
    ("shared.commands.run_report.text_scores", True, 1),
    ("shared.commands.run_report.draw_losses", True, 1),
    ("shared.commands.run_report.write_report", True, 1),
]


@pytest.fixture
def own_text_run(small_recipes, tmp_path, capsys):
    """A whole run on an own text, and the folder in which another one is going to be interrupted."""
    (tmp_path / "diary.txt").write_text(LONG, encoding="utf-8")
    words = ["--quick", "--seed", "3", "--text", str(tmp_path / "diary.txt"), "--vocabulary", "300"]
    assert run.main([*words, "--name", "whole"]) == 0
    capsys.readouterr()
    return [*words, "--name", "parts"], tmp_path / "runs"


def test_the_report_of_an_own_text_has_baselines_samples_and_a_verdict(own_text_run):
    _, runs = own_text_run
    report = (runs / "whole" / "report.md").read_text(encoding="utf-8")
    graded = json.loads((runs / "whole" / "run.json").read_text(encoding="utf-8"))["results"]["text"]
    for words in ("bits per byte", "bytes ", "bigram ", "trigram ", "lzma ", "these weights are kept", "Ten samples"):
        assert words in report, words
    assert f"| verdict | {graded['verdict']['word']}: " in report and graded["verdict"]["remedy"] in report
    assert f"{graded['lowest_loss']:.3f} nats per token after step {graded['kept_step']} of 2" in report
    assert graded["n_bytes"] == len(LONG.strip()) and graded["n_held"] == 0
    assert "The end of its longest document was kept aside" in report
    assert len(graded["samples"]) == 10 and len(graded["continued"]) == 5
    for opening, _ in graded["continued"]:
        assert opening in LONG and f"**{' '.join(opening.split())}**" in report
    told = (runs / "whole" / "stories.txt").read_bytes().decode("utf-8")
    assert all(f"{opening} -> {rest}" in told for opening, rest in graded["continued"])
    assert (runs / "whole" / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("documents", "openings"),
    [
        ([f"Note {i} of the owl" for i in range(10)], [f"Note {i}" for i in (0, 2, 4, 6, 8)]),
        (["one two three four five six seven eight nine ten " * 9], ["one two three four five six seven eight"]),
        (["x" * 1_000], ["x" * 60] * 5),
        (["\u5728\u96e8\u4e2d" * 100], ["\u5728\u96e8\u4e2d" * 20]),
        (["short"], ["short", "hort", "rt"]),
    ],
)
def test_openings_are_words_of_the_documents(documents, openings):
    from shared.commands.run_report import openings as openings_of

    found = openings_of(documents, 5)
    assert len(found) == 5 and all(any(text in document for document in documents) for text in found)
    assert all(any(text.startswith(opening) for text in found) for opening in openings)
    assert all(len(text) <= 60 and len(text.split()) <= 8 for text in found)


@pytest.mark.parametrize(("place", "after", "call"), OWN_TEXT_MOMENTS)
def test_a_run_that_is_stopped_at_any_moment_goes_on_with_the_printed_command(
    own_text_run, monkeypatch, capsys, place, after, call
):
    words, runs = own_text_run
    with monkeypatch.context() as patch:
        press_once(patch, place, after, call)
        assert run.main(words) == 130
    command = capsys.readouterr().out.strip().splitlines()[-1].split("python course.py run ")[1]
    assert run.main(shlex.split(command)) == 0
    (whole, expected), (parts, results) = outcome(runs / "whole"), outcome(runs / "parts")
    assert list(whole.values()) == list(parts.values()) and len(whole) == 1
    assert results["text"] | {"of": None} == expected["text"] | {"of": None}
    assert (command == "--name parts") == (runs / "parts" / "settings.json").exists() or "--seed 3" in command


CHAIN_MOMENTS = [
    ("ch05_pretraining.story_recipe.load_stories", False),
    ("shared.commands.run_report.story_scores", True),
    ("ch06_finetuning.recipes.train_classifier", False),
    ("ch06_finetuning.recipes.save_classifier", True),
    ("ch06_finetuning.recipes.mark_assistant", False),
    ("shared.commands.run_report.write_report", False),
]


def test_the_chain_goes_on_after_ctrl_c_in_each_of_its_stages(small_recipes, tmp_path, monkeypatch):
    assert run.main(["--quick", "--seed", "2", "--name", "whole"]) == 0
    words = ["--quick", "--seed", "2", "--name", "parts"]
    for place, after in CHAIN_MOMENTS:
        with monkeypatch.context() as patch:
            press_once(patch, place, after)
            assert run.main(words) == 130
        words = ["--name", "parts"]
    assert run.main(words) == 0
    (whole, expected), (parts, results) = (outcome(tmp_path / "runs" / name) for name in ("whole", "parts"))
    assert len(whole) == 3 and list(whole.values()) == list(parts.values())
    for stage in ("stories", "classifier", "assistant"):
        assert results[stage] | {"of": None} == expected[stage] | {"of": None}


# ---------------------------------------------------------------- the other commands


def test_a_sample_joins_to_what_generate_returns():
    import torch

    from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
    from ch02_text_data.text_data import BPETokenizer
    from ch04_gpt_model.generation import generate
    from tests.small_models import tiny_model

    tokenizer = BPETokenizer.train("the fox and the owl and the fox " * 20, 280, SPECIAL_TOKENS)
    model = tiny_model(vocab_size=tokenizer.vocab_size).eval()
    end = tokenizer.special_tokens["<|endoftext|>"]
    ids = torch.tensor([[end, *tokenizer.encode("the owl")]])
    row = generate(model, ids, 20, temperature=1.0, seed=1, stop_id=end)[0, ids.shape[1] :].tolist()
    row = row[: row.index(end)] if end in row else row
    told = "".join(sample.pieces(model, tokenizer, "the owl", 20, temperature=1.0, seed=1))
    assert told.rstrip("\ufffd") == tokenizer.decode(row).rstrip("\ufffd")


def test_a_missing_run_is_named(capsys):
    assert sample.main(["--run", "never-made"]) == 1
    assert "never-made" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--temperature", "nan"], ["--top-p", "0"], ["--top-k", "0"], ["--tokens", "-3"]])
def test_sample_refuses_before_it_shows_anything(capsys, words):
    assert sample.main(["Once", *words]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("course.py sample: ") and told.out == ""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["never-made"], "there is no assistant under 'never-made'"),
        (["--temperature", "-1"], "temperature=-1.0 is not a number >= 0"),
        (["--top-p", "2"], r"top_p=2.0 is not in (0, 1]"),
    ],
)
def test_chat_refuses_before_it_asks_anything(capsys, words, sentence):
    assert chat.main(words) == 1
    told = capsys.readouterr()
    assert told.err.startswith("course.py chat: " + sentence) and told.out == ""


@pytest.mark.parametrize("name", ["ch03", "3", "ch03_attention", "ch03_attention/"])
def test_lab_opens_the_chapter_that_is_meant(name):
    folder = ROOT / "ch03_attention"
    if not (folder / "attention.ipynb").is_file():
        pytest.skip("the notebook is not written yet")
    assert lab.notebook_of(name) == folder / "attention.ipynb"


def test_lab_names_the_chapters_there_are():
    with pytest.raises(ValueError, match="name one of ch01_understanding_llms"):
        lab.notebook_of("ch12")


def test_lab_turns_the_news_off_and_keeps_other_settings(tmp_path):
    path = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"mine": 1}', encoding="utf-8")
    lab.write_settings(tmp_path)
    settings = json.loads(path.read_text(encoding="utf-8"))
    assert settings["mine"] == 1
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_doctor_says_one_sentence_where_nothing_is_installed_yet(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "pinned", lambda name: {"no-such-package": "1.0", "nor-this-one": "1.0"})
    monkeypatch.setattr(doctor, "memory_in_gb", lambda: 64.0)
    doctor.main([])
    printed = capsys.readouterr().out
    assert printed.count("is installed yet") == 3 and "no-such-package" not in printed
    assert "nothing of requirements.txt is installed yet; python course.py run installs it" in printed


def test_doctor_names_runs_and_no_other_folders(tmp_path, monkeypatch):
    for name in ("site", "tokens", "default", "mine"):
        (tmp_path / name).mkdir()
    (tmp_path / "default" / "settings.json").write_text("{}", encoding="utf-8")
    (tmp_path / "mine" / "finetune.json").write_text("{}", encoding="utf-8")
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path))
    assert ("note", f"your runs in {tmp_path}: default, mine") in doctor.course_rows()


def test_doctor_says_what_is_missing_and_how_to_mend_it(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "pinned", lambda name: {"torch": "2.13.0", "no-such-package": "1.0"})
    monkeypatch.setattr(doctor, "memory_in_gb", lambda: 1.0)
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert "MEND  no-such-package is not installed" in printed
    assert "MEND  1.0 GB of memory: close other programs" in printed
    assert "things to mend." in printed


@pytest.fixture
def finished_run(tmp_path):
    """A run's folder with two tiny models and what `run` keeps about them."""
    from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
    from ch02_text_data.text_data import BPETokenizer
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch05_pretraining.saved_models import save_model
    from tests.small_models import tiny_model

    tokenizer = BPETokenizer.train("the fox and the owl " * 20, 280, SPECIAL_TOKENS)
    folder = tmp_path / "runs" / "done"
    for name in ("story_gpt", "assistant"):
        save_model(folder / name, tiny_model(vocab_size=tokenizer.vocab_size), tokenizer, {"steps": 2})
    results = {
        "stories": {"of": "x", "samples": ["long"], "splits": {}},
        "classifier": {"accuracy": 1},
        "assistant": {},
    }
    settings = {"seed": 0, "minutes": None, "text": None, "device": "cpu", "quick": False}
    settings["shape"] = GPTConfig.story().to_dict()
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps({"results": results}), encoding="utf-8")
    return folder


def test_shipping_halves_the_models_and_keeps_recipe_and_scores(finished_run, tmp_path):
    from ch05_pretraining.saved_models import load_model

    ship.ship(finished_run, tmp_path / "data")
    for name in ("story_gpt", "story_assistant"):
        shipped = tmp_path / "data" / name
        original = finished_run / name.replace("story_assistant", "assistant")
        sizes = [(folder / "model.safetensors").stat().st_size for folder in (shipped, original)]
        assert sizes[0] < 0.6 * sizes[1]
        assert load_model(shipped)[0].n_parameters == load_model(original)[0].n_parameters
        assert json.loads((shipped / "recipe.json").read_text(encoding="utf-8"))["steps"] == 2
    told = json.loads((tmp_path / "data" / "story_gpt" / "recipe.json").read_text(encoding="utf-8"))["results"]
    assert told == {"splits": {}, "classifier": {"accuracy": 1}}


@pytest.mark.parametrize("other", [{"quick": True}, {"minutes": 3.0}, {"text": "0123"}, {"shape": {"n_layers": 2}}])
def test_only_the_default_recipe_is_shipped(finished_run, tmp_path, other):
    settings = json.loads((finished_run / "settings.json").read_text(encoding="utf-8"))
    (finished_run / "settings.json").write_text(json.dumps(settings | other), encoding="utf-8")
    with pytest.raises(ValueError, match="ship a run of the default recipe"):
        ship.ship(finished_run, tmp_path / "data")


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """A folder with one test file, for the test command."""
    (tmp_path / "tests").mkdir()
    monkeypatch.setattr(test_command, "ROOT", tmp_path)
    monkeypatch.setattr(test_command, "differing", list)
    return tmp_path / "tests" / "test_small.py"


@pytest.mark.parametrize(
    ("source", "code", "closing"),
    [
        ("def test_good(): pass", 0, "1 passed, 0 failed, 0 skipped"),
        ("def test_good(): pass\ndef test_bad(): assert False", 1, "1 passed, 1 failed, 0 skipped"),
        ("import no_such_module", 1, "0 passed, 1 failed, 0 skipped"),
        ("", 1, "0 passed, 0 failed, 0 skipped"),
    ],
)
def test_the_test_command_counts_and_fails_when_anything_fails(small_course, capfd, source, code, closing):
    small_course.write_text(source, encoding="utf-8")
    assert test_command.main(["--fast", "-n0"]) == code
    assert capfd.readouterr().out.splitlines()[-1] == closing


def under(processor: str, threads: int = 1) -> dict[str, str]:
    """The environment for a kind of processor; a test that needs it is skipped where the machine cannot play it."""
    try:
        return test_command.environment(processor, threads)
    except test_command.NotThisProcessor as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("processor", "capability"), [("avx2", "AVX2"), ("sse", "DEFAULT")])
def test_pytorch_obeys_the_processor_that_was_asked_for(processor, capability):
    assert test_command.capability(under(processor)) == capability


def test_a_kernel_runs_under_the_processor_and_threads_that_were_asked_for(tmp_path):
    settings = under("sse", threads=2)
    code = "import torch\nprint(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads())"
    cell = nbformat.v4.new_code_cell(code, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text="DEFAULT 2\n")]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "kernel.ipynb")
    counts = test_command.notebook_tests([str(tmp_path / "kernel.ipynb")], settings, ["-n0"], tmp_path)
    assert counts == {"passed": 1, "failed": 0, "skipped": 0}


@pytest.mark.parametrize("name", [*test_command.THREADS, "ATEN_CPU_CAPABILITY"])
def test_without_a_wish_only_the_threads_are_set(name):
    assert test_command.environment(threads=4).get(name) == ("4" if name in test_command.THREADS else None)


@pytest.mark.parametrize(
    ("machine", "capabilities", "processor", "sentence"),
    [
        ("arm64", [], "avx2", "avx2 is a kind of x86 processor, and this is arm64"),
        ("aarch64", [], "sse", "sse is a kind of x86 processor, and this is aarch64"),
        ("x86_64", ["DEFAULT"], "avx2", "this processor has no AVX2"),
        ("AMD64", ["AVX512"], "sse", "PyTorch was asked for DEFAULT and uses AVX512"),
        ("x86_64", ["AVX512", "AVX512"], "avx2", "PyTorch was asked for AVX2 and uses AVX512"),
    ],
)
def test_a_processor_that_cannot_be_played_is_refused(monkeypatch, capsys, machine, capabilities, processor, sentence):
    monkeypatch.setattr(test_command.platform, "machine", lambda: machine)
    monkeypatch.setattr(test_command, "capability", lambda settings: capabilities.pop(0))
    monkeypatch.setattr(test_command, "differing", list)
    assert test_command.main(["--processor", processor]) == 1
    assert capsys.readouterr().err == f"course.py test: {sentence}\n"


@pytest.fixture
def asked_for(monkeypatch):
    """What the test command would run, as (part, notebooks, processor, threads), on a machine with AVX-512."""
    calls, good = [], {"passed": 1, "failed": 0, "skipped": 0}

    def note(part, paths, settings):
        processor = {"avx2": "avx2", "default": "sse"}.get(settings.get("ATEN_CPU_CAPABILITY"))
        calls.append((part, paths, processor, int(settings["OMP_NUM_THREADS"])))
        return good

    monkeypatch.setattr(test_command.platform, "machine", lambda: "x86_64")
    found = {None: "AVX512", "avx2": "AVX2", "default": "DEFAULT"}
    monkeypatch.setattr(test_command, "capability", lambda settings: found[settings.get("ATEN_CPU_CAPABILITY")])
    monkeypatch.setattr(test_command, "differing", list)
    monkeypatch.setattr(test_command, "unit_tests", lambda settings, *_: note("unit", None, settings))
    monkeypatch.setattr(test_command, "notebook_tests", lambda paths, settings, *_: note("notebooks", paths, settings))
    return calls


MAIN_NOTEBOOKS = [f"{path.name}/{path.name.split('_', 1)[1]}.ipynb" for path in sorted(ROOT.glob("ch[0-9][0-9]_*"))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [("unit", None, None, 1), ("notebooks", "all", None, 1), ("notebooks", MAIN_NOTEBOOKS, "avx2", 1)]),
        (["--threads", "2", "-k", "x"], [("unit", None, None, 2), ("notebooks", "all", None, 2),
                                         ("notebooks", MAIN_NOTEBOOKS, "avx2", 2)]),
        (["--processor", "avx2"], [("unit", None, "avx2", 1), ("notebooks", "all", "avx2", 1)]),
        (["--fast", "--processor", "sse", "--threads", "4"], [("unit", None, "sse", 4)]),
        (["--notebooks"], [("notebooks", "all", None, 1)]),
        (["--processor", "sse", "--notebooks", MAIN_NOTEBOOKS[0], "-x"],
         [("notebooks", [str(ROOT / MAIN_NOTEBOOKS[0])], "sse", 1)]),
    ],
)  # fmt: skip
def test_what_each_option_of_the_test_command_runs(asked_for, words, expected):
    assert test_command.main(words) == 0
    everything = test_command.notebooks()
    assert asked_for == [(part, everything if paths == "all" else paths, *rest) for part, paths, *rest in expected]


@pytest.mark.parametrize(
    ("machine", "capability", "why"),
    [
        ("x86_64", "AVX2", "this processor has nothing newer, so all ran with it already"),
        ("x86_64", "DEFAULT", "this processor has no AVX2"),
        ("arm64", "DEFAULT", "avx2 is a kind of x86 processor, and this is arm64"),
    ],
)
def test_nothing_is_repeated_where_avx2_would_be_no_news(asked_for, monkeypatch, capsys, machine, capability, why):
    monkeypatch.setattr(test_command.platform, "machine", lambda: machine)
    monkeypatch.setattr(test_command, "capability", lambda settings: capability)
    assert test_command.main([]) == 0
    assert [part for part, *_ in asked_for] == ["unit", "notebooks"]
    assert f"Nothing was repeated with AVX2: {why}.\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ch01_understanding_llms/nothing.ipynb", "README.md", "ch03_attention"])
def test_a_notebook_that_is_not_there_is_named(asked_for, capsys, name):
    assert test_command.main(["--notebooks", name]) == 1 and not asked_for
    assert f"course.py test: there is no notebook {name}: name one such as ch01" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--fast", "--notebooks"], ["--threads", "3"], ["--processor", "neon"]])
def test_options_of_the_test_command_that_make_no_sense_are_refused(asked_for, capsys, words):
    with pytest.raises(SystemExit) as stopped:
        test_command.main(words)
    assert stopped.value.code == 2 and not asked_for and words[0] in capsys.readouterr().err
