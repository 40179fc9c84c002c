"""The one door to the course: python course.py run

Makes the environment `.venv` beside this file, installs what the course needs, and hands over to the command inside
it. Only Python's standard library is used here, and only words that old Pythons can read too: whoever starts this
with one of them should get a clear sentence and no syntax error.
"""

from __future__ import print_function

import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "course-installed.json")  # which requirements are in place
MARKER = os.path.join(VENV, "course-installing")  # stays behind when an installation is killed
WHEELS = os.path.join(ROOT, "wheels")  # packages that came with the copy of a class
LOG = os.path.join(VENV, "course-install.log")
OLDEST, NEWEST = (3, 11), (3, 14)
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # PyTorch without the gigabytes of CUDA
NEEDED_GLIBC, NEEDED_MACOS = (2, 28), 14  # of the wheels of PyTorch that requirements.txt names
MEMORY = {  # on Linux, give freed memory back late: the next training step asks for the same pieces again
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
}
WAITING = {  # on Linux, let a waiting thread of PyTorch's sleep sooner than after 300,000 rounds of a loop, in which it
    "GOMP_SPINCOUNT": "2000",  # takes the turns of others; the OpenMP of macOS and Windows yields its turn by itself
}
SAY_HOW_TO_WAIT = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # who has set one of them has decided
LEAD_ELSEWHERE = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")  # other programs' packages
OWN_FOLDER = "move the course to a folder of your own on this machine's disk (no cloud, network or FAT folder)"

COMMANDS = [  # name, what it needs installed, what it does
    ("run", "course", "train your tokenizer, GPT, classifier and assistant, then talk to it"),
    ("finetune", "course", "teach a model your own rows: finetune --messages table.csv, or --instructions talks.jsonl"),
    ("evaluate", "course", "score a model on a file of yours, beside another one with --against"),
    ("test", "tests", "check everything: unit tests and every notebook (--fast: without the notebooks)"),
    ("lab", "course", "open the course in JupyterLab"),
    ("chat", "course", "talk in the terminal to the assistant, or to a published model: chat smollm2"),
    ("serve", "course", "the same in your browser, on this machine only"),
    ("sample", "course", 'let a GPT go on: sample "Once upon a time"'),
    ("search", "course", 'answer from documents of your own: search FOLDER "question"'),
    ("tokens", "course", "turn texts of any size into token shards: tokens FOLDER"),
    ("progress", None, "show which exercises are correct, yours or those of a class: progress FOLDER"),
    ("grade", "course", "mark what a class has handed in: grade FOLDER"),
    ("site", "site", "make a site of all pages, to read without a server (--open shows it, --pdf prints it)"),
    ("slides", "site", "for teachers: make slides of the chapters, or of one: slides ch03 (--pdf prints them)"),
    ("bench", "bench", "measure speed and memory on this machine"),
    ("fetch", None, "download an optional text or model by its name in data/catalogue.json"),
    ("classroom", "site", "for teachers: make the copy that a class gets, and what stays with you: classroom DIR"),
    ("update", None, "bring a new release in, from a folder or a ZIP file; your notebooks are kept"),
    ("restore", None, "bring a notebook back as it was released; your copy is kept beside it"),
    ("doctor", None, "look at this machine and this installation, and say what is missing"),
]
REQUIREMENTS = {
    None: [],
    "course": ["requirements.txt"],
    "tests": [
        "requirements.txt",
        os.path.join("tests", "requirements-test.txt"),
        os.path.join("tests", "requirements-site.txt"),
    ],
    "site": ["requirements.txt", os.path.join("tests", "requirements-site.txt")],
    "bench": ["requirements.txt", os.path.join("tests", "requirements-bench.txt")],
    "models": ["requirements.txt", os.path.join("shared", "requirements-models.txt")],  # the command fetch asks for it
}


class Trouble(Exception):
    """What stops the course from starting, in a sentence for the person who started it."""


def available():
    """Return the commands that this copy of the course has."""
    folder = os.path.join(ROOT, "shared", "commands")
    return [row for row in COMMANDS if os.path.isfile(os.path.join(folder, row[0] + ".py"))]


def usage():
    """Return the help text."""
    rows = ["  {0:<8} {1}".format(name, does) for name, _, does in available()]
    head = "python course.py COMMAND      (python course.py COMMAND --help tells its options)\n"
    return "\n".join([head] + rows)


def require_place():
    """Refuse a folder that other programs would not find by its name."""
    try:
        ROOT.encode("utf-8")
    except UnicodeEncodeError:
        told = "The course lies in {0!r}, and PyTorch reads no path but in UTF-8: rename that folder."
        raise Trouble(told.format(ROOT))
    if os.pathsep in ROOT:
        told = "The course lies in {0}, and {1!r} parts a path in two: rename that folder, or move the course."
        raise Trouble(told.format(ROOT, os.pathsep))


def require_python():
    """Refuse a Python or a machine for which there is no PyTorch of the course's version."""
    reason = unsuited()
    if reason:
        raise Trouble(reason)


def unsuited():
    """Say why this Python or this machine cannot run the course; None where it can."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        return (
            "This is Python {0}.{1}, and the course needs Python 3.11 to 3.14: install one from python.org "
            "and start it as, for instance, python3.12 course.py run".format(*version)
        )
    if platform.python_implementation() != "CPython":
        told = "This is {0}, and PyTorch needs the ordinary Python (CPython): install that from python.org."
        return told.format(platform.python_implementation())
    if sys.maxsize < 2**32:
        return "This is a 32-bit Python, and PyTorch needs a 64-bit one: install that from python.org."
    if sys.platform == "darwin":
        return unsuited_mac()
    if sys.platform.startswith("linux"):
        return unsuited_linux()
    if sysconfig.get_platform() == "win-arm64":
        return (
            "This is Python for Windows on ARM, for which there is no {0}: install the x86-64 Python from python.org, "
            "which Windows 11 on ARM runs too.".format(pinned("torch"))
        )
    if os.name != "nt":
        return "There is no PyTorch for {0}: use Linux, macOS or Windows, or a container.".format(platform.system())


def unsuited_mac():
    """Say why this Mac, or this Python on it, cannot run the course; None where it can."""
    if platform.machine() != "arm64":
        return (
            "This Python was built for Intel Macs or runs as on one (Rosetta), for which PyTorch is no longer made: on "
            "Apple silicon install the universal Python from python.org and start it in a terminal without Rosetta; an "
            "Intel Mac can run the course in Docker."
        )
    version = platform.mac_ver()[0]
    major = int(version.split(".")[0] or 0)
    if 10 < major < NEEDED_MACOS:  # some Pythons are told 10.16, whatever the system
        return (
            "This is macOS {0}, and {1} needs macOS {2} or newer: update macOS, or run the course in Docker or on "
            "another machine.".format(version, pinned("torch"), NEEDED_MACOS)
        )


def unsuited_linux():
    """Say why this Linux cannot run the course; None where it can."""
    if platform.machine() not in ("x86_64", "aarch64"):
        return "There is no {0} for Linux on {1}: use x86-64 or 64-bit ARM.".format(pinned("torch"), platform.machine())
    name, version = platform.libc_ver()
    if name != "glibc":
        return (
            "This Linux has no glibc (Alpine has musl), without which PyTorch does not run: use Debian, Ubuntu, Fedora "
            "or another with glibc 2.28 or newer, for instance the Docker image python:3.12."
        )
    if tuple(int(part) for part in version.split(".")[:2]) < NEEDED_GLIBC:
        return (
            "This Linux has glibc {0}, and {1} needs 2.28 or newer, as Debian 10, Ubuntu 20.04 and RHEL 8 have: update "
            "the system, or run the course in Docker.".format(version, pinned("torch"))
        )


def venv_python():
    """Return the path of the environment's Python, whether it is there or not."""
    return os.path.join(VENV, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))


def fingerprint(files):
    """Return a hash of the requirement files and of the Python that the environment starts."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(venv_python())))
    for name in files:
        with open(os.path.join(ROOT, name), "rb") as source:
            digest.update(source.read().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def installed():
    """Return what the stamp says: requirement set -> fingerprint; empty when nothing is known to be complete."""
    try:
        with open(STAMP, encoding="utf-8") as source:
            stamp = json.load(source)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and os.path.isfile(venv_python()) else {}


def prepare(needs):
    """Make the environment hold what a command needs; return at once when it already does."""
    files = REQUIREMENTS[needs]
    stamp = installed()
    if not os.path.exists(MARKER) and stamp.get(needs) == fingerprint(files):
        return
    source = "from the folder wheels, without a network" if os.path.isdir(WHEELS) else "it needs the network"
    print("Preparing the course's own environment in {0} (once; {1}).".format(VENV, source))
    try:
        known = stamp if make_environment() else {}
        open(MARKER, "wb").close()  # still there at the next start: the installation was killed, so all is made anew
        install(files)
        os.remove(MARKER)
        stamp = dict((name, fingerprint(REQUIREMENTS[name])) for name in ("course", needs))
        stamp.update((name, known[name]) for name in known if name not in stamp)  # compared when it is needed
        with open(STAMP + ".new", "w", encoding="utf-8") as target:
            json.dump(stamp, target)
        os.replace(STAMP + ".new", STAMP)
    except OSError as error:
        raise Trouble("{0} ({1}): {2}.".format(error.filename or VENV, error.strerror or error, OWN_FOLDER))
    print("Ready.\n")


def make_environment():
    """Make `.venv` and say whether one was kept; what does not start, or was killed half-way, is made anew."""
    if os.path.isdir(VENV) and not os.path.exists(MARKER) and environment_works():
        return True
    if os.path.isdir(VENV):
        print("The environment in .venv is incomplete or made for another Python; making it anew.")
    elif os.path.lexists(VENV):
        raise Trouble("{0} is no folder, and the environment belongs there: move it away.".format(VENV))
    try:
        import venv

        venv.EnvBuilder(with_pip=True, clear=True, symlinks=os.name != "nt").create(VENV)
        return False
    except ImportError:
        raise Trouble("This Python lacks its module venv: install the ordinary Python, on Debian with python3-venv.")
    except subprocess.CalledProcessError as error:
        if b"No space left" in (error.output or b""):
            raise Trouble("The disk is full: free about 3 GB, then start again.")
        raise Trouble(
            "Python could not put pip into .venv; on Debian or Ubuntu install the missing part with "
            "sudo apt install python3-venv, then start again."
        )


def environment_works():
    """Say whether the environment's Python starts and suits the course; if only pip is missing, that is added."""
    code = "import sys; sys.exit(not {0} <= sys.version_info[:2] <= {1})".format(OLDEST, NEWEST)
    return succeeds("-c", code) and (succeeds("-m", "pip", "--version") or succeeds("-m", "ensurepip"))


def succeeds(*words):
    """Start the environment's Python in silence and say whether it ends well."""
    try:
        with open(os.devnull, "wb") as nowhere:
            command = [venv_python()] + list(words)
            return subprocess.call(command, stdout=nowhere, stderr=nowhere, env=own_environment()) == 0
    except OSError:
        return False


def own_environment():
    """Return the environment variables without those that lead Python and pip to other folders."""
    kept = dict((name, value) for name, value in os.environ.items() if name.upper() not in LEAD_ELSEWHERE)
    return dict(kept, PIP_USER="0", PYTHONUTF8="1")


def install(files):
    """Install the requirement files, from `wheels` where that came with the course, and else from the network.

    On Linux without an NVIDIA driver, PyTorch's small CPU wheel comes first then.
    """
    torch, given = pinned("torch"), os.path.isdir(WHEELS)
    if not given and sys.platform.startswith("linux") and not has_nvidia() and not has_package(torch):
        print("No NVIDIA driver here: asking for PyTorch's CPU wheel, which is much smaller.")
        wheel = ["--no-deps", "--index-url", CPU_WHEELS, "--retries", "1", "--timeout", "10", torch]
        if pip(wheel) != 0:
            print("PyTorch's CPU wheels cannot be reached; taking the ordinary one.")
    options = ["--no-index", "--find-links", WHEELS] if given else []
    for name in files:
        options += ["-r", os.path.join(ROOT, name)]
    if pip(options) != 0:
        os.remove(MARKER)  # pip ended by itself, so nothing is half-written
        raise Trouble(explain_failure())


def pinned(package):
    """Return a package's line of requirements.txt, for instance torch==2.13.0."""
    with open(os.path.join(ROOT, "requirements.txt"), encoding="utf-8") as source:
        return re.search(r"^{0}==[^\s;#]+".format(package), source.read(), re.MULTILINE).group(0)


def has_nvidia():
    """Say whether an NVIDIA driver is here: Linux's own, that of Windows, or that of Windows as seen from WSL2."""
    if os.name == "nt":
        system = os.environ.get("SystemRoot", "C:\\Windows")
        return os.path.exists(os.path.join(system, "System32", "nvcuda.dll"))
    under_wsl = os.path.exists("/dev/dxg") and os.path.exists("/usr/lib/wsl/lib/libcuda.so.1")
    return under_wsl or os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidiactl")


def has_package(pin):
    """Say whether the environment holds this package in this version, with or without a suffix such as +cpu."""
    name, version = pin.split("==")
    code = "import sys; from importlib.metadata import version; sys.exit(version({0!r}).split('+')[0] != {1!r})"
    return succeeds("-c", code.format(name, version))


def pip(options):
    """Run pip with one moving line of what it is doing; everything it says goes into the log."""
    command = [venv_python(), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"] + options
    began, shown = time.time(), sys.stdout.isatty()
    with io.open(LOG, "a", encoding="utf-8", errors="backslashreplace") as log:
        log.write("\n$ {0}\n".format(" ".join(command)))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=own_environment())
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace")
            log.write(line)
            doing = re.match(r"\s*(Collecting|Downloading|Installing|Building)\s+(.*)", line)
            if doing and shown:
                said = "{0} {1}".format(doing.group(1).lower(), os.path.basename(doing.group(2).strip()))
                sys.stdout.write("\r  {0:4.0f} s  {1:<68}".format(time.time() - began, said[:68]))
                sys.stdout.flush()
        code = process.wait()
    if shown:
        sys.stdout.write("\r{0:<80}\r".format(""))
    return code


def explain_failure():
    """Say why the packages could not be installed and what to do."""
    told = "The packages could not be installed: {0}, then start again. The whole story: {1}"
    return told.format(trouble_of_pip(), LOG)


def last_words():
    """Return what the last command in pip's log said, or the end of that."""
    with io.open(LOG, encoding="utf-8") as log:
        tail = log.read()[-20000:]
    return tail[tail.rfind("\n$ ") :]  # the log keeps the commands before it too


def trouble_of_pip():
    """Say why pip's last command failed and what to do about it."""
    tail = last_words()
    missing = re.search(r"No matching distribution found for (\S+)", tail)
    if re.search(r"No space left on device|Errno 28|Disk quota exceeded", tail):
        reason = "the disk is full: free about 3 GB"
    elif re.search(r"SSLError|CERTIFICATE_VERIFY_FAILED", tail):
        reason = "the package index's certificate cannot be checked: ask whoever runs this network for its certificate"
    elif re.search(
        r"name resolution|getaddrinfo failed|Connection(Reset)?Error|Connection broken|ProxyError|timed out", tail
    ):
        reason = "the package index cannot be reached: check the network (or pip's proxy settings)"
    elif missing and os.path.isdir(WHEELS):
        reason = "the folder wheels has no {0} for {1} and Python {2}.{3}: ask who gave you the course".format(
            missing.group(1), sysconfig.get_platform(), *sys.version_info[:2]
        )
    elif missing:
        reason = "the package index that pip asks has no {0} for {1} and Python {2}.{3}: see pip config list".format(
            missing.group(1), sysconfig.get_platform(), *sys.version_info[:2]
        )
    else:
        errors = [line for line in tail.splitlines() if "ERROR" in line or "error:" in line]
        reason = errors[-1].strip() if errors else "pip was stopped, perhaps for want of memory: close other programs"
    return reason


def hand_over(name, arguments):
    """Go on as the command inside the environment; one that needs no packages runs without it as well."""
    python = venv_python() if installed() else sys.executable
    environment = dict(speed_settings(), **own_environment())
    environment["PYTHONPATH"] = ROOT
    command = [python, "-P", "-m", "shared.commands." + name] + arguments
    if os.name == "posix":
        sys.stdout.flush()
        os.execve(python, command, environment)
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command has got it too, and says what it means
            continue


def speed_settings():
    """Return the settings under which the course calculates fastest; what the user has set is kept beside them."""
    decided = any(name in os.environ for name in SAY_HOW_TO_WAIT)
    return dict(MEMORY) if decided else dict(MEMORY, **WAITING)


def main(arguments):
    """Start a command and return its exit code."""
    require_python()
    require_place()
    sys.stdout.reconfigure(errors="replace")  # a path may hold letters that the terminal has not
    rows = dict((name, needs) for name, needs, _ in available())
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    name = arguments[0]
    if name not in rows:
        raise Trouble("There is no command {0!r}; there are {1}.".format(name, ", ".join(sorted(rows))))
    if rows[name] and not {"-h", "--help"} & set(arguments):
        prepare(rows[name])
    return hand_over(name, arguments[1:])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        sys.exit("course.py: {0}".format(trouble))
    except KeyboardInterrupt:
        sys.exit("\ncourse.py: stopped. Start again, and it goes on from here.")
