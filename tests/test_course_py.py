"""What course.py makes of the machine, the folder and the settings that it finds, before a command starts."""

import errno
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from shared.commands import doctor

ROOT = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------- the machine


@pytest.fixture
def machine(course, monkeypatch):
    """Pretend to be on another machine."""

    def pretend(system="linux", processor="x86_64", libc=("glibc", "2.36"), macos="", build="linux-x86_64", nt=False):
        monkeypatch.setattr(course.sys, "platform", system)
        monkeypatch.setattr(course.platform, "machine", lambda: processor)
        monkeypatch.setattr(course.platform, "libc_ver", lambda: libc)
        monkeypatch.setattr(course.platform, "mac_ver", lambda: (macos, ("", "", ""), processor))
        monkeypatch.setattr(course.sysconfig, "get_platform", lambda: build)
        return course.unsuited()

    return pretend


WINDOWS = {"system": "win32", "processor": "AMD64", "libc": ("", "")}
MAC = {"system": "darwin", "processor": "arm64", "libc": ("", "")}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"libc": ("glibc", "2.28")},
        {"libc": ("glibc", "2.28.9")},
        {"libc": ("glibc", "3.0")},
        {"processor": "aarch64"},
        {**MAC, "macos": "14.0"},
        {**MAC, "macos": "26.1"},
        {**MAC, "macos": "10.16"},  # what an old program is told on every newer system
        {**MAC, "macos": ""},
    ],
)
def test_a_machine_with_wheels_is_taken(machine, settings):
    assert machine(**settings) is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({**MAC, "macos": "13.6.1"}, "This is macOS 13.6.1, and torch==.* needs macOS 14 or newer: update macOS"),
        ({**MAC, "macos": "12.7"}, "needs macOS 14 or newer"),
        ({**MAC, "macos": "11.0"}, "needs macOS 14 or newer"),
        ({**MAC, "processor": "x86_64", "macos": "15.0"}, "Intel Macs or runs as on one .Rosetta.*without Rosetta"),
        ({"libc": ("glibc", "2.17")}, "This Linux has glibc 2.17, and torch==.* needs 2.28 or newer"),
        ({"libc": ("glibc", "2.27")}, "needs 2.28 or newer, as Debian 10, Ubuntu 20.04 and RHEL 8 have"),
        ({"libc": ("", "")}, "no glibc .Alpine has musl.*Docker image python:3.12"),
        ({"libc": ("musl", "1.2.5")}, "no glibc"),
        ({"processor": "riscv64"}, "There is no torch==.* for Linux on riscv64: use x86-64 or 64-bit ARM"),
        ({"processor": "i686"}, "for Linux on i686"),
    ],
)
def test_a_machine_without_wheels_is_refused_with_the_reason(machine, settings, sentence):
    told = machine(**settings)
    assert re.search(sentence, told) and "try Python" not in told and "\n" not in told


@pytest.mark.skipif(os.name != "nt", reason="asks Windows")
def test_windows_on_intel_is_taken(course):
    assert course.unsuited() is None


def test_python_for_windows_on_arm_is_refused(machine):
    told = machine(**WINDOWS, build="win-arm64")
    assert told.startswith("This is Python for Windows on ARM, for which there is no torch==")


def test_another_kind_of_python_is_refused(course, monkeypatch):
    monkeypatch.setattr(course.platform, "python_implementation", lambda: "PyPy")
    with pytest.raises(course.Trouble, match="This is PyPy, and PyTorch needs the ordinary Python"):
        course.require_python()


def test_the_limits_are_those_of_the_wheels_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "macOS 14" in readme and "glibc 2.28" in readme


def test_doctor_says_the_same(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "unsuited", lambda: "This is macOS 13.6, and torch needs macOS 14 or newer.")
    assert doctor.main([]) == 1
    assert "MEND  This is macOS 13.6, and torch needs macOS 14" in capsys.readouterr().out


# ---------------------------------------------------------------- GPUs


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([], False),
        (["/proc/driver/nvidia/version"], True),
        (["/dev/nvidiactl"], True),
        (["/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1"], True),
        (["/dev/dxg"], False),  # WSL2 on a machine with another GPU
        (["/usr/lib/wsl/lib/libcuda.so.1"], False),
        (["/dev/kfd", "/dev/dri/renderD128"], False),  # AMD
        (["/dev/nvhost-ctrl", "/dev/nvmap"], False),  # Jetson, for which PyPI's CUDA is not made
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="paths of Linux")
def test_a_driver_is_found_natively_and_under_wsl(course_itself, monkeypatch, there, found):
    monkeypatch.setattr(course_itself.os.path, "exists", lambda path: path in there)
    assert course_itself.has_nvidia() is found


@pytest.fixture
def seen_gpus(monkeypatch):
    """Let doctor see GPUs, or a driver, that are not here."""
    import torch

    from ch05_pretraining import machine

    def pretend(driver, cuda, complaint=None):
        def choose(name):
            if complaint:
                raise ValueError(complaint)

        monkeypatch.setattr(doctor, "has_nvidia", lambda: driver)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA T4")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(machine, "choose_device", choose)
        return [row for row in doctor.torch_rows() if "PyTorch calculates" not in row[1]]

    return pretend


def test_doctor_is_silent_about_gpus_where_there_is_none(seen_gpus):
    assert seen_gpus(driver=False, cuda=False) == []


def test_doctor_names_a_gpu_that_passes_its_check(seen_gpus):
    (row,) = seen_gpus(driver=True, cuda=True)
    assert row == ("ok", "NVIDIA T4 computes what the CPU computes: python course.py run --device cuda")


def test_doctor_notes_why_a_gpu_cannot_be_used_and_that_none_is_needed(seen_gpus):
    ((verdict, told),) = seen_gpus(driver=True, cuda=False, complaint="this PyTorch is a build for the CPU")
    assert verdict == "note" and told == (
        "the course needs no GPU, but one is here, and this PyTorch is a build for the CPU"
    )


# ---------------------------------------------------------------- the folder


def start(course_py: Path, *words: str, **settings: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(course_py), *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, check=False)


def copy_of_course(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("course.py", "requirements.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "shared" / "commands").mkdir(parents=True)
    said = "import os, sys; print(ascii(os.environ['PYTHONPATH']), sys.argv[1:])"
    (folder / "shared" / "commands" / "restore.py").write_text(said, encoding="utf-8")
    return folder / "course.py"


@pytest.mark.parametrize("command", ["restore", "doctor", "run"])
def test_a_path_that_would_be_taken_for_two_is_refused_in_a_sentence(tmp_path, command):
    name = f"a{os.pathsep}b"
    done = start(copy_of_course(tmp_path / name), command)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"course.py: The course lies in {tmp_path / name}, and {os.pathsep!r} parts a path")
    assert done.stderr.count("\n") == 1


ODD = ["with space", "quo'te", "per%cent %s {0}", "желтый 日本", "🦊", "$HOME `id`", "-dash", "#&amp", "[x]", "a,b="]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_every_other_name_of_a_folder_will_do(tmp_path, name, encoding):
    done = start(copy_of_course(tmp_path / name), "restore", "it", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{str(tmp_path / name)!a} ['it']\n"


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names there are always text")
def test_a_path_that_is_no_text_is_refused_in_a_sentence(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    done = start(copy_of_course(folder), "restore")
    assert done.returncode == 1 and "PyTorch reads no path but in UTF-8: rename that folder" in done.stderr


@pytest.fixture
def real(course_itself, monkeypatch, tmp_path):
    """course.py with its environment in a folder of this test, which is really made; nothing is installed."""
    venv = tmp_path / "env"
    names = {"VENV": venv, "STAMP": venv / "course-installed.json", "MARKER": venv / "course-installing"}
    for name, path in {**names, "LOG": venv / "course-install.log"}.items():
        monkeypatch.setattr(course_itself, name, str(path))
    monkeypatch.setattr(course_itself, "install", lambda files: None)
    return course_itself


def spoil_with_file(venv):
    venv.write_text("mine", encoding="utf-8")


def spoil_with_link(venv):
    venv.symlink_to(venv.with_name("nowhere"))


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("spoil", [spoil_with_file, spoil_with_link])
def test_something_else_called_venv_is_named_and_left_alone(real, spoil):
    venv = Path(real.VENV)
    spoil(venv)
    with pytest.raises(real.Trouble, match="is no folder, and the environment belongs there: move it away"):
        real.prepare("course")
    assert os.path.lexists(venv) and not venv.is_dir()


def fail_with(error):
    class Builder:
        def __init__(self, **_):
            pass

        def create(self, folder):
            raise error

    return Builder


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), r"/x \(Permission denied\): move the course"),
        (PermissionError(errno.EPERM, "Operation not permitted", "lib"), "no cloud, network or FAT folder"),  # no links
        (OSError(errno.EROFS, "Read-only file system", "/x"), r"/x \(Read-only file system\)"),
        (subprocess.CalledProcessError(1, "pip", b"... No space left on device"), "The disk is full: free about 3 GB"),
        (subprocess.CalledProcessError(1, "pip", b"No module named ensurepip"), "sudo apt install python3-venv"),
        (ImportError("No module named venv"), "This Python lacks its module venv"),
    ],
)
def test_an_environment_that_cannot_be_made_is_explained(real, monkeypatch, error, sentence):
    monkeypatch.setattr("venv.EnvBuilder", fail_with(error))
    with pytest.raises(real.Trouble, match=sentence):
        real.prepare("course")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be written by this user")
def test_an_environment_of_somebody_else_is_named(real):
    venv = Path(real.VENV)
    venv.mkdir()
    real.succeeds = lambda *words: True
    venv.chmod(0o500)
    with pytest.raises(real.Trouble, match="Permission denied.*move the course to a folder of your own"):
        real.prepare("course")


def test_an_environment_made_by_another_tool_without_pip_gets_it(real, tmp_path):
    """As `uv venv` makes them; what has been installed in it stays."""
    import venv

    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(real.VENV)
    mine = Path(real.VENV) / "mine.txt"
    mine.write_text("kept", encoding="utf-8")
    assert not real.succeeds("-m", "pip", "--version")
    real.prepare("course")
    assert real.succeeds("-m", "pip", "--version") and mine.read_text(encoding="utf-8") == "kept"


# ---------------------------------------------------------------- a class without a network


def write_wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """Make a package of one module that says its version."""
    folder.mkdir(exist_ok=True)
    told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    told += f"Requires-Dist: {needs}\n" if needs else ""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"said = '{name} {version}'\n",
        f"{info}/METADATA": told,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)


def handed_out(folder: Path) -> Path:
    """Make a small copy of a class: course.py as it is, two pins, their wheels, and a command that uses them."""
    course_py = copy_of_course(folder)
    (folder / "requirements.txt").write_text("torch==2.13.0\nwordlist==1.2\n", encoding="utf-8")
    write_wheel(folder / "wheels", "torch", "2.13.0", needs="smallpart>=3")
    write_wheel(folder / "wheels", "smallpart", "3.1")
    write_wheel(folder / "wheels", "wordlist", "1.2")
    write_wheel(folder / "wheels", "wordlist", "1.3")  # for another command: the pin decides
    said = "import smallpart, torch, wordlist, sys; print(torch.said, smallpart.said, wordlist.said, sys.prefix)"
    (folder / "shared" / "commands" / "sample.py").write_text(said, encoding="utf-8")
    return course_py


NOWHERE = "http://127.0.0.1:9"  # where nothing listens
CUT_OFF = {name: NOWHERE for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
CUT_OFF |= {"PIP_INDEX_URL": NOWHERE, "PIP_EXTRA_INDEX_URL": NOWHERE, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}


def test_a_class_begins_without_a_network_in_a_folder_with_a_space(tmp_path):
    """The first hour from a hand-out, with an environment and a pip that are real and packages of a few bytes."""
    folder = tmp_path / "my course"
    course_py = handed_out(folder)
    done = start(course_py, "sample", **CUT_OFF)
    assert done.returncode == 0, done.stdout + done.stderr
    first, ready, said = done.stdout.split("\n", 1)[0], "Ready.\n", done.stdout.splitlines()[-1]
    assert first.endswith("(once; from the folder wheels, without a network).") and ready in done.stdout
    assert said == f"torch 2.13.0 smallpart 3.1 wordlist 1.2 {folder / '.venv'}"
    (folder / "wheels").rename(folder / "gone")
    assert start(course_py, "sample", **CUT_OFF).stdout == f"{said}\n"  # once is enough


def test_without_a_network_a_missing_wheel_is_named_and_the_next_start_goes_on(tmp_path):
    course_py = handed_out(tmp_path / "my course")
    wheel = course_py.parent / "wheels" / "wordlist-1.2-py3-none-any.whl"
    kept = wheel.rename(tmp_path / wheel.name)
    done = start(course_py, "sample", **CUT_OFF)
    assert done.returncode == 1 and "the folder wheels has no wordlist==1.2 for" in done.stderr
    assert "ask who gave you the course, then start again" in done.stderr and "Traceback" not in done.stderr
    kept.rename(wheel)
    done = start(course_py, "sample", **CUT_OFF)
    assert done.returncode == 0 and "wordlist 1.2" in done.stdout


# ---------------------------------------------------------------- settings


def test_what_leads_python_and_pip_elsewhere_is_left_out(course, monkeypatch):
    for name in course.LEAD_ELSEWHERE:
        monkeypatch.setenv(name, "/opt/other")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    own = course.own_environment()
    assert not set(course.LEAD_ELSEWHERE) & set(own) and own["PIP_INDEX_URL"] == "https://mirror.example/simple"


@pytest.fixture
def handed(course, monkeypatch):
    """The environment that a command gets."""

    def hand(**given):
        for name in (*course.MEMORY, *course.SAY_HOW_TO_WAIT):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        told = []

        def begin(command, *rest, env=None):
            told.append(env or rest[0])
            raise SystemExit  # nothing comes back from execve

        monkeypatch.setattr(course.os, "execve", lambda python, command, environment: begin(command, environment))
        monkeypatch.setattr(course.subprocess, "Popen", begin)
        with pytest.raises(SystemExit):
            course.hand_over("run", [])
        return told[0]

    return hand


def test_a_command_gets_the_settings_for_memory_and_waiting(course, handed):
    given = handed()
    assert {name: given[name] for name in (*course.MEMORY, *course.WAITING)} == {**course.MEMORY, **course.WAITING}
    assert given["GOMP_SPINCOUNT"] == "2000" and given["PYTHONPATH"] == str(ROOT)


@pytest.mark.parametrize(
    ("name", "value"),
    [("GOMP_SPINCOUNT", "9"), ("GOMP_SPINCOUNT", "infinity"), ("OMP_WAIT_POLICY", "ACTIVE")],
)
def test_who_has_said_how_threads_wait_is_not_contradicted(course, handed, name, value):
    given = handed(**{name: value})
    assert {key: given[key] for key in course.SAY_HOW_TO_WAIT if key in given} == {name: value}
    assert given["MALLOC_MMAP_MAX_"] == "0"


def test_memory_settings_of_the_user_stay(handed):
    assert handed(MALLOC_MMAP_MAX_="65536")["MALLOC_MMAP_MAX_"] == "65536"


LOGS = [
    ("No matching distribution found for torch==2.13.0", "has no torch==2.13.0 for .* and Python 3.*pip config list"),
    (
        "WARNING: Retrying (...) NewConnectionError('...')\nERROR: No matching distribution found for torch==2.13.0",
        "the package index cannot be reached",
    ),
    ("ProxyError('Cannot connect to proxy.')\nERROR: No matching distribution found for torch", "cannot be reached"),
    (
        "SSLError(SSLCertVerificationError('...'))\nERROR: No matching distribution found for torch==2.13.0",
        "certificate cannot be checked",
    ),
    ("OSError: [Errno 122] Disk quota exceeded", "the disk is full"),
    ("Collecting torch==2.13.0", "pip was stopped, perhaps for want of memory"),
]


@pytest.mark.parametrize(("log", "sentence"), LOGS)
def test_a_failed_installation_is_explained_without_a_guess(course, log, sentence):
    course.make_environment()
    Path(course.LOG).write_text(f"\n$ pip install earlier\nTemporary failure in name resolution\n$ pip\n{log}", "utf-8")
    told = course.explain_failure()
    assert re.search(sentence, told) and "try Python" not in told


def test_the_stamp_of_an_unchanged_environment_stays_good(course):
    """A change of course.py must not make everybody install anew."""
    course.prepare("course")
    stamp = json.loads(Path(course.STAMP).read_text(encoding="utf-8"))
    assert stamp["course"] == course.fingerprint(course.REQUIREMENTS["course"])


def test_what_one_command_needed_stays_known_when_another_needs_more(course, monkeypatch, capsys):
    installed = []
    monkeypatch.setattr(course, "install", installed.append)
    first, second = "tests", "site"
    for needs in ("course", first, second, first, "course"):
        course.prepare(needs)
    assert len(installed) == 3 and capsys.readouterr().out.count("Preparing") == 3
    Path(course.MARKER).touch()  # an installation was killed, so the environment is made anew and holds nothing
    course.prepare("course")
    assert len(installed) == 4
    course.prepare(first)
    assert len(installed) == 5
