"""`python course.py classroom DIR`: make what a class gets, and what stays with its teacher.

`DIR/course` is a copy for learners: without git history, solutions, planted wrong answers, quizzes and the grader, with
all notebooks as they were released, so that `restore` and `update` need no git. With `--wheels` it also holds the
packages for other systems, and then installs without a network. `DIR/site` is the same copy as pages to read, and
`DIR/teacher` has the answers, the quizzes to print, and the teacher's pages with their links into the copy.
"""

import argparse
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import course
from data.files import write_atomically
from shared.commands.command_line import CommandParser, command, seed_number
from shared.commands.quiz_pages import write_sheets
from shared.commands.restore import ROOT, content_hash, released, released_content
from shared.commands.site import NEEDED, build, require_packages

HIDDEN = (  # what a learner should not have; a folder ends in a stroke
    ".git/", "runs/", "data/cache/", ".venv/", "wheels/", "shared/exercises/solutions/",
    "shared/teaching/", "tests/wrong_answers/", "shared/commands/classroom.py", "shared/commands/quiz_pages.py",
    "shared/commands/slides.py", "tests/test_slides.py",
    "shared/commands/grade", "tests/test_grade.py", "tests/hostile_submissions.py", "tests/test_quiz.py",
    "tests/test_classroom.py", "tests/test_teaching.py",
)  # fmt: skip
TOP = (  # what of the course's folder is the course; whatever else a teacher keeps in it goes to nobody
    ".ci", ".devcontainer", ".github", "data", "shared", "tests", ".editorconfig", ".gitattributes", ".gitignore",
    ".pre-commit-config.yaml", "AGENTS.md", "BENCHMARKS.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md",
    "LICENSE", "README.md", "SECURITY.md", "course.py", "pyproject.toml", "requirements.txt",
)  # fmt: skip
CHAPTER = re.compile(r"ch\d\d_\w+")
LEFT = ("__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".mine-")
# lines of the README that speak of what learners do not have
TEACHERS = ("course.py grade", "course.py classroom", "course.py slides")
TEACHERS_PARAGRAPH = re.compile(r"^\*\*For teachers\.\*\* (?:.+\n)+\n", re.MULTILINE)
UV = {  # system -> what uv calls it
    "windows": "x86_64-pc-windows-msvc",
    "macos": "aarch64-apple-darwin",
    "linux": "x86_64-manylinux_2_28",
}
PIP = {  # system -> what wheels for it are called, the best first
    "windows": ["win_amd64"],
    "macos": ["macosx_14_0_arm64", "macosx_11_0_arm64", "macosx_10_9_universal2"],
    "linux": ["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"],
}
GPU = ("nvidia", "triton", "cuda")  # packages that PyTorch's build for the CPU does without


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("classroom", "Make what a class gets, and what stays with its teacher.")
    options.add_argument(
        "folder", type=Path, metavar="DIR", help="a new folder; course/, site/ and teacher/ are made in it"
    )
    told = "of the class: its checks have other random numbers, its quizzes another order (default 0: as in the course)"
    options.add_argument("--seed", type=seed_number, default=0, help=told)
    told = f"packages for an installation without network, for {', '.join(UV)}; getting them needs uv and a network"
    options.add_argument("--wheels", type=_systems, default=[], metavar="SYSTEM,…", help=told)
    options.add_argument("--python", default="3.12", metavar="3.x", help="for this Python (default 3.12)")
    return options


def _systems(text: str) -> list[str]:
    systems = text.split(",")
    if wrong := [name for name in systems if name not in UV]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r:.40} is none of {', '.join(UV)}")
    return systems


@command("classroom")
def main(arguments: list[str] | None = None) -> int:
    """Make the folders and return the exit status."""
    options = parser().parse_args(arguments)
    if options.folder.exists() and any(options.folder.iterdir()):
        raise ValueError(f"{options.folder} is not empty: name a new folder")
    require_packages(NEEDED, "classroom")
    if options.wheels:
        _require_uv()
    copy = options.folder / "course"
    hand_out(copy, options.seed)
    for_teachers(options.folder / "teacher", options.seed)
    print("Making the site …", flush=True)
    build(copy, options.folder / "site")
    for system in options.wheels:
        print(f"Getting the packages for {system} …", flush=True)
        download(system, options.python, copy / "wheels")
    print(f"For learners: {copy}\nFor them to read: {options.folder / 'site'}")
    print(f"For you alone: {options.folder / 'teacher'}")
    print(f"Grade with: python course.py grade FOLDER{f' --seed {options.seed}' if options.seed else ''}")
    return 0


def hand_out(target: Path, seed: int = 0, root: Path = ROOT) -> None:
    """Make the copy for learners.

    Args:
        target: where it goes.
        seed: of the class, 0 for the numbers that the course comes with.
        root: the whole course.

    Raises:
        ValueError: a notebook was edited, and its released content cannot be had.
    """
    notebooks = {name: as_released(name, expected, root) for name, expected in released(root).items()}
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        if path.suffix != ".ipynb":  # a notebook that is not of the release may hold a teacher's answers
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
    for name, content in notebooks.items():
        write_atomically(target / name, content)
        write_atomically(target / "shared" / "released" / name, content)
    readme = TEACHERS_PARAGRAPH.sub("", (target / "README.md").read_text(encoding="utf-8")).splitlines(keepends=True)
    write_atomically(target / "README.md", "".join(line for line in readme if not any(t in line for t in TEACHERS)))
    if seed:
        write_atomically(target / "shared" / "exercises" / "class_seed.txt", str(seed))


def as_released(name: str, expected: str, root: Path) -> bytes:
    """Return a notebook as it was released: the file itself where nobody has edited it.

    Args:
        name: its path in the course.
        expected: its hash.
        root: the course's folder.
    """
    content = (root / name).read_bytes() if (root / name).is_file() else b""
    return content if content_hash(content) == expected else released_content(name, expected, root)


def _files(root: Path) -> list[Path]:
    """Return the files of the course that learners get, whatever else lies in its folder."""
    found = []
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root).as_posix()
        inside = "" if here == "." else f"{here}/"
        if not inside:
            folders[:] = [name for name in folders if name in TOP or CHAPTER.fullmatch(name)]
            names = [name for name in names if name in TOP]
        folders[:] = [name for name in folders if name not in LEFT and not f"{inside}{name}/".startswith(HIDDEN)]
        found += [
            Path(folder) / name
            for name in names
            if not f"{inside}{name}".startswith(HIDDEN) and not any(part in name for part in LEFT)
        ]
    return [path for path in found if not path.is_symlink()]


def for_teachers(target: Path, seed: int = 0) -> None:
    """Write the answers to the exercises, the quizzes to print, and the teacher's pages.

    Args:
        target: the folder; the copy for learners lies beside it as `course`.
        seed: of the class.
    """
    parts = []
    for path in sorted((ROOT / "shared" / "exercises" / "solutions").glob("ch*.py")):
        table = importlib.import_module(f"shared.exercises.solutions.{path.stem}").SOLUTIONS
        for exercise, (answer, why) in table.items():
            code = f"```python\n{inspect.getsource(answer).rstrip()}\n```"
            parts.append(f"## {exercise}\n\n{code}\n\n{inspect.cleandoc(why)}\n")
    write_atomically(target / "answers.md", "# Answers to the exercises\n\n" + "\n".join(parts))
    for page in sorted((ROOT / "shared" / "teaching").glob("*.md")):
        text = page.read_text(encoding="utf-8").replace("](../../", "](../../course/")
        text = re.sub(r"\]\(quiz/(ch\d\d)\.toml\)", r"](../quiz_key/\1.html)", text)
        write_atomically(target / "pages" / page.name, text)
    write_sheets(target, seed)


def _require_uv() -> None:
    done = subprocess.run([sys.executable, "-m", "uv", "--version"], capture_output=True, check=False)
    if done.returncode:
        told = f"{sys.executable} -m pip install uv"
        raise ValueError(f"packages for other systems are chosen by uv, which is not here: install it with {told}")


def download(system: str, python: str, target: Path) -> None:
    """Download the wheels of all of the course's commands for one system.

    On Linux PyTorch's small build for the CPU is taken where its index can be reached.

    Args:
        system: one of `UV`.
        python: version of Python, for instance "3.12".
        target: the folder.

    Raises:
        ValueError: uv or pip cannot do it; the message is theirs.
    """
    target.mkdir(parents=True, exist_ok=True)
    wanted = ["--no-deps", "--only-binary=:all:", "--python-version", python, "-d", str(target)]
    wanted += [word for name in PIP[system] for word in ("--platform", name)]
    small = system == "linux" and _small_torch(wanted)
    listed = target.parent / f"wheels-{system}.txt"
    try:
        _choose(system, python, listed, small=small)
        _run("-m", "pip", "download", "--quiet", *wanted, "-r", str(listed))
    finally:
        listed.unlink(missing_ok=True)


def _small_torch(wanted: list[str]) -> bool:
    """Download PyTorch's build for the CPU and say whether that went well."""
    from_there = ["--index-url", course.CPU_WHEELS, "--retries", "1", "--timeout", "10"]
    try:
        _run("-m", "pip", "download", "--quiet", *wanted, *from_there, course.pinned("torch"))
    except ValueError:
        print("PyTorch's CPU wheels cannot be reached; taking the ordinary one, which is gigabytes larger.", flush=True)
        return False
    return True


def _choose(system: str, python: str, listed: Path, *, small: bool) -> None:
    """Write the pins of all packages for a system, without PyTorch and its GPU packages if `small`."""
    asked = ["--python-platform", UV[system], "--python-version", python, "--no-header", "--no-annotate"]
    files = sorted({str(ROOT / name) for names in course.REQUIREMENTS.values() for name in names})
    _run("-m", "uv", "pip", "compile", "--quiet", *asked, *files, "-o", str(listed))
    pins = listed.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [pin for pin in pins if not (small and pin.startswith((*GPU, "torch==")))]
    listed.write_text("".join(kept), encoding="utf-8")


def _run(*words: str) -> None:
    settings = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # uv would choose for macOS 13 else
    done = subprocess.run([sys.executable, *words], env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise ValueError(f"{words[1]} could not get all packages, it says: {said[-500:]}")


if __name__ == "__main__":
    sys.exit(main())
