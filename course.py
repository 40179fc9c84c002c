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
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "course-installed.json")  # which requirements are in place
MARKER = os.path.join(VENV, "course-installing")  # stays behind when an installation is killed
LOG = os.path.join(VENV, "course-install.log")
OLDEST, NEWEST = (3, 11), (3, 14)
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # PyTorch without the gigabytes of CUDA
KEEP_MEMORY = {  # on Linux, give freed memory back late: the next training step asks for the same pieces again
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
}

COMMANDS = [  # name, what it needs installed, what it does
    ("run", "course", "train your tokenizer, GPT, classifier and assistant, then talk to it"),
    ("test", "tests", "check everything: unit tests and every notebook (--fast: without the notebooks)"),
    ("lab", "course", "open the course in JupyterLab"),
    ("chat", "course", "talk to the assistant in the terminal"),
    ("serve", "course", "talk to the assistant in your browser, on this machine only"),
    ("sample", "course", 'let the story GPT go on: sample "Once upon a time"'),
    ("bench", "bench", "measure speed and memory on this machine"),
    ("fetch", None, "download an optional text or model by its name in data/catalogue.json"),
    ("restore", None, "bring a notebook back as it was released; your copy is kept beside it"),
    ("doctor", None, "look at this machine and this installation, and say what is missing"),
]
REQUIREMENTS = {
    None: [],
    "course": ["requirements.txt"],
    "tests": ["requirements.txt", os.path.join("tests", "requirements-test.txt")],
    "bench": ["requirements.txt", os.path.join("tests", "requirements-bench.txt")],
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


def check_python():
    """Refuse a Python or a machine for which there is no PyTorch of the course's version."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        raise Trouble(
            "This is Python {0}.{1}, and the course needs Python 3.11 to 3.14: install one from python.org "
            "and start it as, for instance, python3.12 course.py run".format(*version)
        )
    if sys.maxsize < 2**32:
        raise Trouble("This is a 32-bit Python, and PyTorch needs a 64-bit one: install that from python.org.")
    if sys.platform == "darwin" and platform.machine() != "arm64":
        raise Trouble(
            "This Python was built for Intel Macs, for which PyTorch is no longer made: on Apple silicon install "
            "the universal Python from python.org; an Intel Mac can run the course in Docker."
        )


def venv_python():
    """Return the path of the environment's Python, whether it is there or not."""
    return os.path.join(VENV, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))


def fingerprint(files):
    """Return a hash of the requirement files and of the Python that the environment starts."""
    digest = hashlib.sha256(os.path.realpath(venv_python()).encode("utf-8"))
    for name in files:
        with open(os.path.join(ROOT, name), "rb") as source:
            digest.update(source.read().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def installed():
    """Return what the stamp says: requirement set -> fingerprint; empty when nothing is known to be complete."""
    try:
        with open(STAMP) as source:
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
    print("Preparing the course's own environment in {0} (once; it needs the network).".format(VENV))
    make_environment()
    open(MARKER, "w").close()
    install(files)
    os.remove(MARKER)
    stamp = dict((name, fingerprint(REQUIREMENTS[name])) for name in ("course", needs))
    with open(STAMP + ".new", "w") as target:
        json.dump(stamp, target)
    os.replace(STAMP + ".new", STAMP)
    print("Ready.\n")


def make_environment():
    """Make `.venv`; one that does not start, or whose installation was killed half-way, is made anew."""
    if os.path.isdir(VENV) and not os.path.exists(MARKER) and environment_works():
        return
    import venv

    if os.path.isdir(VENV):
        print("The environment in .venv is incomplete; making it anew.")
    try:
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=os.name != "nt").create(VENV)
    except subprocess.CalledProcessError:
        raise Trouble(
            "Python could not put pip into .venv; on Debian or Ubuntu install the missing part with "
            "sudo apt install python3-venv, then start again."
        )
    except OSError as error:
        raise Trouble("The environment in {0} could not be made: {1}.".format(VENV, error))


def environment_works():
    """Say whether the environment's Python starts, is one that the course runs on, and has pip."""
    code = "import sys, pip; sys.exit(not {0} <= sys.version_info[:2] <= {1})".format(OLDEST, NEWEST)
    try:
        with open(os.devnull, "w") as nowhere:
            return subprocess.call([venv_python(), "-c", code], stdout=nowhere, stderr=nowhere) == 0
    except OSError:
        return False


def install(files):
    """Install the requirement files; on Linux without an NVIDIA driver, PyTorch's small CPU wheel comes first."""
    torch = pinned("torch")
    if sys.platform.startswith("linux") and not has_nvidia() and not has_package(torch):
        print("No NVIDIA driver here: asking for PyTorch's CPU wheel, which is much smaller.")
        wheel = ["--no-deps", "--index-url", CPU_WHEELS, "--retries", "1", "--timeout", "10", torch]
        if pip(wheel) != 0:
            print("PyTorch's CPU wheels cannot be reached; taking the ordinary one.")
    options = []
    for name in files:
        options += ["-r", os.path.join(ROOT, name)]
    if pip(options) != 0:
        os.remove(MARKER)  # pip ended by itself, so nothing is half-written
        raise Trouble(explain_failure())


def pinned(package):
    """Return a package's line of requirements.txt, for instance torch==2.13.0."""
    with open(os.path.join(ROOT, "requirements.txt")) as source:
        return re.search(r"^{0}==[^\s;#]+".format(package), source.read(), re.MULTILINE).group(0)


def has_nvidia():
    """Say whether an NVIDIA driver is loaded."""
    return os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidiactl")


def has_package(pin):
    """Say whether the environment holds this package in this version, with or without a suffix such as +cpu."""
    name, version = pin.split("==")
    code = "import sys; from importlib.metadata import version; sys.exit(version({0!r}).split('+')[0] != {1!r})"
    with open(os.devnull, "w") as nowhere:
        return subprocess.call([venv_python(), "-c", code.format(name, version)], stderr=nowhere) == 0


def pip(options):
    """Run pip with one moving line of what it is doing; everything it says goes into the log."""
    command = [venv_python(), "-m", "pip", "--disable-pip-version-check", "install", "--no-input"] + options
    began, shown = time.time(), sys.stdout.isatty()
    environment = dict(os.environ, PIP_USER="0", PYTHONUTF8="1")
    with io.open(LOG, "a", encoding="utf-8") as log:
        log.write("\n$ {0}\n".format(" ".join(command)))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
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
    """Read the end of pip's log and say what went wrong and what to do."""
    with io.open(LOG, encoding="utf-8") as log:
        tail = log.read()[-20000:]
    tail = tail[tail.rfind("\n$ ") :]
    if "No space left on device" in tail or "Errno 28" in tail:
        reason = "the disk is full: free about 3 GB"
    elif re.search(r"Temporary failure in name resolution|getaddrinfo failed|NewConnectionError|timed out", tail):
        reason = "the package index cannot be reached: check the network (or pip's proxy settings)"
    elif "No matching distribution" in tail:
        reason = "there is no build of a package for this Python and system: try Python 3.12"
    else:
        errors = [line for line in tail.splitlines() if "ERROR" in line or "error:" in line]
        reason = errors[-1].strip() if errors else "pip stopped"
    return "The packages could not be installed: {0}, then start again. The whole story: {1}".format(reason, LOG)


def hand_over(name, arguments):
    """Go on as the command inside the environment; one that needs no packages runs without it as well."""
    python = venv_python() if installed() else sys.executable
    environment = dict(KEEP_MEMORY, **os.environ)
    environment.update(PYTHONUTF8="1", PYTHONPATH=ROOT)
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


def main(arguments):
    """Start a command and return its exit code."""
    check_python()
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
