"""The process in which a grader runs what a learner wrote: definitions first, then the rest, then the course's checks.

Started by `shared/commands/grade_worker.py`, which also says what the two write to each other. This keeps honest
mistakes and simple mischief of one learner away from everybody else, and it is no prison: whoever grades strangers'
code needs a container or another machine.
"""

import ast
import builtins
import contextlib
import importlib
import importlib.util
import json
import linecache
import os
import random
import signal
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

# Loaded before an answer is, for all learners at once: an honest optimizer loads torch._dynamo, which replaces
# torch.manual_seed, and an honest figure loads Matplotlib, which wants to read and write outside the work folder.
import matplotlib.pyplot  # noqa: E402, F401
import torch._dynamo  # noqa: E402

from shared.commands import grade_answers  # noqa: E402
from shared.exercises import verdict  # noqa: E402
from shared.exercises.class_numbers import use_class_seed  # noqa: E402

torch.set_num_threads(1)

STEPS = ("definitions", "loose", "exercise")
LARGEST_FILE, MOST_FILES = 50 << 20, 100  # bytes of a file, and files, that an answer may write into its own folder
LONGEST_SENTENCE = 2_000  # characters of a verdict
CANARIES = 2  # wrong answers tried after each exercise
HIDDEN = tuple(str(ROOT / name) for name in ("shared/exercises/solutions", "shared/teaching", "tests", "runs", ".git"))
REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.fork",
    "os.kill", "ctypes.", "resource.", "signal.", "webbrowser.", "winreg.", "pty.", "gc.get_", "syslog.",
    "cpython.run_", "sys.settrace", "sys.setprofile", "sqlite3.", "ftplib.", "smtplib.", "urllib.",
)  # fmt: skip
CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
    "os.utime", "os.chflags", "os.setxattr", "os.removexattr", "os.chdir", "shutil.",
)  # fmt: skip
LOOKS = ("os.listdir", "os.scandir", "glob.")
STACK = ("sys._getframe", "sys._current_frames", "sys._getframemodulename")
FRAMES = ("tb_frame", "gi_frame", "f_back", "__closure__", "__globals__", "__code__")
CELL = "<code cell "
ASKING = ("inspect.py", "traceback.py", "warnings.py")  # these may ask for an answer's frame only for themselves


def main() -> None:
    """Read plans from the standard input, one a line, and mark each in a process of its own where that can be had."""
    plans, report = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(silence, stream)
    for line in iter(plans.readline, b""):
        plan = json.loads(line)
        if not hasattr(os, "fork"):
            os.dup2(silence, 0)
            mark(plan, report)
        pid = os.fork()
        if pid == 0:
            os.dup2(silence, 0)
            mark(plan, report)
        report.write(_line(plan["secret"], "pid", pid))
        _, status = os.waitpid(pid, 0)
        report.write(_line(plan["secret"], "ended", os.waitstatus_to_exitcode(status)))


def _line(secret: str, *content: object) -> bytes:
    """Give a line of the report; it begins anew, whatever an answer has written before it."""
    return f"\n{secret} {json.dumps(content)}\n".encode()


def mark(plan: dict, report) -> None:
    """Run one submission, report each step, and end the process.

    Args:
        plan: see `grade_worker.Plan`.
        report: where the lines go.
    """
    if hasattr(os, "setsid"):
        os.setsid()
        _limit(plan["memory"])
    secret, start_clock = plan.pop("secret"), getattr(signal, "setitimer", None)

    def tell(*content: object) -> None:
        if content[0] in STEPS and start_clock:
            start_clock(signal.ITIMER_PROF, plan["seconds"])  # the system ends the process after that
        report.write(_line(secret, *content))

    os.chdir(plan["work"])
    tempfile.tempdir = plan["work"]  # where an answer may write
    use_class_seed(plan["seed"])
    canaries = Canaries(plan["exercises"], plan["seed"])
    statements, troubles = grade_answers.parsed(plan["cells"])
    names = grade_answers.answer_names(statements, plan["exercises"])
    _tell_what_is_seen(tell, plan, statements, names, troubles)
    _close_doors_without_a_bell()
    before = snapshot()
    space = Space(plan["cells"], tell)
    sys.addaudithook(Guard(plan["work"], plan["hidden"]))
    space.run(statements, plan["loose"])
    for exercise, name in names.items():
        if exercise not in plan["skip"]:
            tell("exercise", exercise)
            _use_usual_settings()
            said = _verdict(exercise, name, space.names, grade_answers.definitions(statements))[:LONGEST_SENTENCE]
            tell("verdict", exercise, said, canaries.accepted(exercise) or changed(before, snapshot()))
    tell("finished")
    os._exit(0)


def _limit(memory: int) -> None:
    """Bound what the process may take; Windows has no such limits."""
    import resource

    most = {resource.RLIMIT_DATA: memory, resource.RLIMIT_FSIZE: LARGEST_FILE, resource.RLIMIT_CORE: 0}
    for kind, limit in most.items():
        with contextlib.suppress(ValueError, OSError):  # macOS does not take all of them
            resource.setrlimit(kind, (limit, limit))


def _close_doors_without_a_bell() -> None:
    """Take away what starts programs, writes files or stops the clock without an audit event."""
    clock = ("setitimer", "signal", "pthread_sigmask")
    for owner, name in (
        *((sys.modules.get(module), name) for module in ("signal", "_signal") for name in clock),
        (sys.modules.get("_posixsubprocess"), "fork_exec"),
        (sys.modules.get("subprocess"), "_fork_exec"),
        (torch._C, "PyTorchFileWriter"),
    ):
        if hasattr(owner, name):
            setattr(owner, name, _refuse)


def _use_usual_settings() -> None:
    """Let no answer's settings for the whole of PyTorch decide what a check computes."""
    with contextlib.suppress(Exception):
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError("the grader does not allow that")


def _tell_what_is_seen(
    tell: Callable, plan: dict, statements: list, names: dict[str, str], troubles: list[str]
) -> None:
    defined = grade_answers.definitions(statements)
    for trouble in troubles:
        tell("note", trouble)
    for flag in grade_answers.flags(statements, names, set(plan["allowed"])):
        tell("flag", flag)
    for exercise, name in names.items():
        if name in defined:
            tell("form", exercise, grade_answers.form(name, defined)[:LONGEST_SENTENCE])


def _verdict(exercise: str, name: str, names: dict, defined: dict[str, ast.stmt]) -> str:
    if name not in names:
        return f"missing. There is no {name} in the file."
    if method := grade_answers.deceives(name, defined):
        return f"held back. The answer uses {method}, by which it could decide itself what a check sees."
    try:
        return str(verdict(exercise, names[name]))
    except BaseException as error:  # not even Ctrl-C and the end of the program are the answer's to give
        return f"not yet. Your code raised {type(error).__name__}."


class Space:
    """The names of a notebook while it is run, statement by statement; what fails is noted and stops nothing else."""

    def __init__(self, cells: list[str], tell: Callable):
        self.program, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        self.names: dict = vars(sys.modules["__main__"])
        self.names |= {"__builtins__": builtins, "display": lambda *_, **__: None}
        self.tell = tell
        for number, source in enumerate(cells, 1):
            name = f"{CELL}{number}>"
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)

    def run(self, statements: list[tuple[int, ast.stmt]], loose: bool) -> None:
        """Run the definitions, then the rest, then the definitions that failed because they needed the rest."""
        definitions = [(n, s) for n, s in statements if grade_answers.is_definition(s)]
        self.tell("definitions")
        failed = [(n, s, error) for n, s in definitions if (error := self._error(n, s))]
        if loose:
            self.tell("loose")
            for number, statement in statements:
                if not grade_answers.is_definition(statement) and not _asks_the_course(statement):
                    self._note(number, statement, self._error(number, statement))
        for number, statement, error in failed:
            self._note(number, statement, self._error(number, statement) if loose else error)

    def _error(self, number: int, statement: ast.stmt) -> BaseException | None:
        try:
            code = compile(ast.Module([statement], []), f"{CELL}{number}>", "exec")
            exec(code, self.names)
        except BaseException as error:  # sys.exit in a cell ends no grading
            return error
        return None

    def _note(self, number: int, statement: ast.stmt, error: BaseException | None) -> None:
        if error is not None:
            with contextlib.suppress(Exception):  # an exception may refuse to say what it is
                said = f"{type(error).__name__}: {str(error)[:120]}"
                self.tell("note", f"code cell {number}, line {statement.lineno}: {said}")


def _asks_the_course(statement: ast.stmt) -> bool:
    """Say whether a statement is `check(…)` or `solution(…)`, which the grader does itself."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("check", "solution")


class Guard:
    """Refuses what no answer needs: network, other programs, changes outside the work folder, looks at answers.

    Args:
        work: folder in which an answer may write.
        hidden: folders that it may not read, beside those of the course with answers in them.
    """

    def __init__(self, work: str, hidden: list[str]):
        self.work, self.hidden = os.path.realpath(work), (*HIDDEN, *map(os.path.realpath, hidden))
        python = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
        self.readable = (self.work, str(ROOT), *python, os.path.realpath(os.devnull), "/usr/share/zoneinfo")
        self.busy, self.n_written = False, 0

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.busy:
            return
        self.busy = True
        try:
            if reason := self._reason(event, arguments):
                raise PermissionError(f"the grader does not allow {reason}")
        finally:
            self.busy = False

    def _reason(self, event: str, arguments: tuple) -> str:
        if event == "open":
            return self._opening(*arguments)
        if event.startswith(LOOKS):
            return (
                "" if self._may_read(arguments[0] if arguments[0] is not None else ".") else "a look into that folder"
            )
        if event.startswith(REFUSED):
            return event
        if event.startswith(CHANGES) and not all(map(self._is_inside, arguments[:2])):
            return f"{event} outside the work folder"
        snooping = event in STACK or (event == "object.__getattr__" and arguments[1] in FRAMES)
        return "a look at the check that calls you" if snooping and _from_a_cell() else ""

    def _opening(self, path: object, mode: object, flags: int) -> str:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return ""  # a file that is open already
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes and not self._is_inside(path) and os.fspath(path) not in (os.devnull, os.fsencode(os.devnull)):
            return "writing outside the work folder"
        self.n_written += bool(writes)
        if self.n_written > MOST_FILES:
            return f"more than {MOST_FILES} files"
        return "" if self._may_read(path) else "reading that file"

    def _is_inside(self, path: object) -> bool:
        return not isinstance(path, (str, bytes, os.PathLike)) or _within(path, (self.work,))

    def _may_read(self, path: object) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return True
        return _within(path, self.readable) and (_within(path, (self.work,)) or not _within(path, self.hidden))


def _within(path: str | bytes | os.PathLike, folders: tuple[str, ...]) -> bool:
    real = os.path.realpath(os.fsdecode(path))
    return any(real == folder or real.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def _from_a_cell() -> bool:
    """Say whether an answer itself asks, or the standard library's readers of frames ask for it."""
    frame: types.FrameType | None = sys._getframe(3)
    while frame is not None and os.path.basename(frame.f_code.co_filename) in ASKING:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(CELL)


class Canaries:
    """Wrong answers that the checks must refuse, whatever an answer has done to this process.

    Args:
        exercises: exercise id -> name.
        seed: of the class; it decides which ones are tried.
    """

    def __init__(self, exercises: dict[str, str], seed: int):
        self.verdict = verdict
        self.wrong: dict[str, list] = {}
        dice = random.Random(seed)
        for path in sorted((ROOT / "tests" / "wrong_answers").glob("ch*.py")):
            if path.stem[2:4].lstrip("0") in {exercise[0] for exercise in exercises}:
                for exercise, rows in _load(path).WRONG.items():
                    self.wrong[exercise] = [answer for answer, _ in dice.sample(rows, min(CANARIES, len(rows)))]
        for exercise in exercises:
            self.accepted(exercise)  # every module that a check needs is there before an answer is

    def accepted(self, exercise: str) -> str:
        """Say in a sentence which exercise takes a wrong answer; nothing where all are refused."""
        for answer in self.wrong[exercise]:
            with contextlib.suppress(BaseException):
                if not self.verdict(exercise, answer).startswith("not yet. "):
                    return f"the check of {exercise} no longer refuses a wrong answer"
        return ""


def _load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"canaries_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WATCHED = ("builtins", "math", "operator", "random", "statistics", "torch", "torch.nn.functional", "torch.autograd")
OURS = ("shared", "data", "ch0")


def snapshot() -> dict[str, tuple]:
    """Return what stands behind each name on which a verdict depends; values are held, so that none is made anew."""
    found: dict[str, tuple] = {}
    for module_name, module in list(sys.modules.items()):
        if module_name in WATCHED or module_name.split(".")[0].startswith(OURS):
            for name, value in list(vars(module).items()):
                found[f"{module_name}.{name}"] = _behind(value)
                if isinstance(value, type) and (value.__module__ == module_name or value is torch.Tensor):
                    found |= {f"{module_name}.{name}.{key}": _behind(one) for key, one in list(vars(value).items())}
                if isinstance(value, dict) and name.isupper():
                    found |= {f"{module_name}.{name}[{key!r}]": _behind(one) for key, one in list(value.items())}
    return found


def _behind(value: object) -> tuple:
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if isinstance(function, types.FunctionType):
        return value, function.__code__, function.__defaults__, function.__kwdefaults__
    return (value,)


def changed(before: dict[str, tuple], after: dict[str, tuple]) -> str:
    """Say in a sentence which name means something else than before; new names may come, as modules load late.

    Args:
        before: a snapshot.
        after: a later one.
    """
    for name, values in before.items():
        now = after.get(name, ())
        if len(now) != len(values) or any(one is not other for one, other in zip(values, now)):
            return f"{name} was changed"
    return ""


if __name__ == "__main__":
    main()
