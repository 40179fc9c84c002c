"""`python course.py doctor`: look at this machine and this installation, and say what is missing and how to mend it.

Only the standard library is needed, so that it also works where nothing is installed.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import sysconfig
import warnings
from pathlib import Path

from course import OWN_FOLDER, has_nvidia, unsuited
from shared.commands.command_line import CommandParser, command

ROOT = Path(__file__).resolve().parents[2]
NEEDED_DISK = 3  # GB for the packages, a run and the caches
NEEDED_MEMORY = 4  # GB
KEPT_BY_RUNS = ("settings.json", "run.json", "finetune.json")  # one of them stands in the folder of a run
CLOUDS = ("OneDrive", "Dropbox", "Google Drive", "GoogleDrive", "Mobile Documents", "iCloudDrive", "Nextcloud")


def memory_in_gb() -> float | None:
    """Return the machine's memory, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, ValueError, OSError):
        return _windows_memory_in_gb()


def _windows_memory_in_gb() -> float | None:
    if os.name != "nt":
        return None
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong), ("total", ctypes.c_ulonglong)]
        _fields_ += [(f"rest{i}", ctypes.c_ulonglong) for i in range(6)]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]  # Windows has it
    return status.total / 1e9


def pinned(name: str) -> dict[str, str]:
    """Return package -> exact version as a requirements file asks for it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;#]+)", text, re.MULTILINE))


def package_rows(name: str, optional: bool) -> list[tuple[str, str]]:
    """Compare what is installed with a requirements file: rows of (verdict, sentence); one where nothing is there."""
    asked = pinned(name)
    if asked and not any(map(_installed_version, asked)):
        installer = "test" if optional else "run"
        return [("note", f"nothing of {name} is installed yet; python course.py {installer} installs it")]
    return [_package_row(package, version, optional) for package, version in asked.items()]


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package_row(package: str, version: str, optional: bool) -> tuple[str, str]:
    found = _installed_version(package)
    if found is None:
        if optional:
            return "note", f"{package} is not installed; python course.py test installs it"
        return "MEND", f"{package} is not installed: python course.py run installs it"
    if found.split("+")[0] != version:
        return "MEND", f"{package} is {found}, the course needs {version}: pip install -r requirements.txt"
    return "ok", f"{package} {found}"


def machine_rows() -> list[tuple[str, str]]:
    """Look at Python, cores, memory and disk."""
    rows = [("ok", f"{_system()} on {platform.machine()}")]
    reason = unsuited()
    rows.append(("MEND", reason) if reason else ("ok", f"Python {platform.python_version()} at {sys.executable}"))
    rows.append(("ok", f"{os.cpu_count()} cores (the times in the course are for two)"))
    memory = memory_in_gb()
    if memory is not None:
        enough = memory >= NEEDED_MEMORY * 0.9
        advice = "" if enough else f": close other programs, the course wants {NEEDED_MEMORY} GB"
        rows.append(("ok" if enough else "MEND", f"{memory:.1f} GB of memory{advice}"))
    free = shutil.disk_usage(ROOT).free / 1e9
    advice = "" if free >= NEEDED_DISK else f": free some, the course wants {NEEDED_DISK} GB"
    rows.append(("ok" if free >= NEEDED_DISK else "MEND", f"{free:.1f} GB of free disk{advice}"))
    return rows


def _system() -> str:
    """Name the system as its wheels do: by macOS' version, by the C library of Linux."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    libc = " ".join(part for part in platform.libc_ver() if part)
    return f"{platform.system()} {platform.release()}" + (f" with {libc}" if libc else "")


def course_rows() -> list[tuple[str, str]]:
    """Look at the course's own folder."""
    rows = []
    if not os.access(ROOT, os.W_OK):
        rows.append(("MEND", f"{ROOT} cannot be written: {OWN_FOLDER}"))
    for name in ("story_gpt", "story_assistant"):
        there = (ROOT / "data" / name / "manifest.json").is_file()
        missing = f"data/{name} is missing: download the course again, or train your own with python course.py run"
        rows.append(("ok", f"the shipped model data/{name}") if there else ("MEND", missing))
    rows += [("note", sentence) for sentence in _notes()]
    return rows


def _notes() -> list[str]:
    notes = []
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        notes.append("this is a free-threaded Python; the ordinary one is better tested")
    if any(cloud in str(ROOT) for cloud in CLOUDS):
        notes.append(f"{ROOT} seems to be copied to a cloud, all 3 GB of it: {OWN_FOLDER}")
    if shutil.which("git") is None:
        notes.append("git is not installed; only python course.py restore needs it")
    if len(str(ROOT)) > 120 and os.name == "nt":
        notes.append("the course's path is long for Windows; move it near the drive's root if files cannot be opened")
    runs = Path(os.environ.get("COURSE_RUNS", ROOT / "runs"))
    names = sorted({path.parent.name for kept in KEPT_BY_RUNS for path in runs.glob(f"*/{kept}")})
    notes.append(f"your runs in {runs}: {', '.join(names) if names else 'none yet'}")
    return notes


def torch_rows() -> list[tuple[str, str]]:
    """Ask PyTorch which devices it sees and whether it calculates."""
    try:
        import torch
    except ImportError:
        return []
    except OSError as error:
        fix = "on Windows install the Microsoft Visual C++ Redistributable, then start again"
        return [("MEND", f"PyTorch does not load ({error}): {fix}")]
    right = torch.ones(3) @ torch.ones(3) == 3
    rows = [("ok" if right else "MEND", f"PyTorch calculates with {torch.get_num_threads()} threads")]
    return rows + [_gpu_row(name, torch) for name in _gpus(torch)]


def _gpus(torch) -> list[str]:
    """Name the devices whose hardware or driver is here, whether they can be used or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver is told of in the row
        there = {"cuda": torch.cuda.is_available() or has_nvidia(), "mps": torch.backends.mps.is_available()}
    return [name for name in there if there[name]]


def _gpu_row(name: str, torch) -> tuple[str, str]:
    from ch05_pretraining.machine import choose_device

    try:
        choose_device(name)
    except ValueError as error:
        return "note", f"the course needs no GPU, but one is here, and {error}"
    gpu = torch.cuda.get_device_name() if name == "cuda" else "the GPU of this Mac"
    return "ok", f"{gpu} computes what the CPU computes: python course.py run --device {name}"


@command("doctor")
def main(arguments: list[str] | None = None) -> int:
    """Print what was found; return 1 when something must be mended."""
    CommandParser("doctor", __doc__.split("\n")[0]).parse_args(arguments)
    rows = machine_rows()
    rows += package_rows("requirements.txt", optional=False)
    rows += package_rows("tests/requirements-test.txt", optional=True)
    rows += package_rows("tests/requirements-site.txt", optional=True)
    rows += torch_rows() + course_rows()
    for verdict, sentence in rows:
        print(f"{verdict:>4}  {sentence}")
    broken = sum(verdict == "MEND" for verdict, _ in rows)
    print(f"\n{broken} thing{'s' if broken != 1 else ''} to mend." if broken else "\nNothing to mend.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
