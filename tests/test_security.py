"""Claims about what the code of the course never does; each rule is tried on a line that breaks it.

The rules are read off the syntax of every module and of every notebook's cells, so they hold for what no test runs.
"""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("ch*/*.py", "data/**/*.py", "shared/**/*.py", "course.py")
MODULES = sorted(path for place in PLACES for path in ROOT.glob(place))
NOTEBOOKS = sorted(path for path in ROOT.glob("ch*/*.ipynb") if ".mine-" not in path.name)

ALLOWED = {
    "shared/maintenance/folded_answers.py": {"code"},  # the answers that stand in our own notebooks
    "shared/commands/grade_child.py": {"code"},  # what a class handed in, in a process that may do little
    "shared/commands/update.py": {"archive"},  # behind a look at every path: tests/test_update.py
    "shared/commands/serve.py": {"plain http"},  # this machine's own page, whose address it compares
    "ch02_text_data/text_data.ipynb": {"plain http"},  # a text to split, and no address
    "ch06_finetuning/finetuning.ipynb": {"encoding"},  # two records in ASCII
}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
TEXTS = {"read_text": 0, "write_text": 1}  # method -> place of the encoding
ADDRESS = re.compile(r"http://[^\s)\"'<>]*", re.IGNORECASE)
LOOPBACK = re.compile(r"http://((127\.0\.0\.1|localhost)(:|/|$)|www\.w3\.org/)")  # the last names a picture's format


def code_of(path: Path) -> list[str]:
    """Return the Python of a file: a module whole, a notebook cell by cell."""
    if path.suffix == ".py":
        return [path.read_text(encoding="utf-8")]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def name_of(call: ast.Call) -> str:
    """Return what is called, as it is written: torch.load."""
    return ast.unparse(call.func)


def argument(call: ast.Call, name: str, place: int | None = None) -> ast.expr | None:
    if given := [word.value for word in call.keywords if word.arg == name]:
        return given[0]
    return call.args[place] if place is not None and len(call.args) > place else None


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def opens_text_without_encoding(call: ast.Call) -> bool:
    name, last = name_of(call), name_of(call).rpartition(".")[2]
    if last in TEXTS:
        return argument(call, "encoding", TEXTS[last]) is None
    if name in ("open", "io.open", "os.fdopen"):
        return is_text(argument(call, "mode", 1)) and argument(call, "encoding", 3) is None
    if last in ("NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile"):
        mode = argument(call, "mode", int(last.startswith("Spooled")))
        return mode is not None and is_text(mode) and argument(call, "encoding") is None
    if last == "open" and call.args and re.fullmatch("[rwaxbt+]+", words_of(call.args[0])):
        return is_text(call.args[0]) and argument(call, "encoding", 2) is None
    return False


def words_of(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ""


def is_text(mode: ast.expr | None) -> bool:
    """Whether a mode is one of text, or one that nobody can tell."""
    found = [] if mode is None else [words_of(node) for node in ast.walk(mode) if words_of(node)]
    return not found or not all("b" in word for word in found)


def broken_rules(code: str) -> set[str]:
    """Return the rules that a piece of code breaks."""
    found, tree = set(), ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found |= {"pickle"} & {"pickle" for name in names if name.split(".")[0] in PICKLES}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {"plain http" for address in ADDRESS.findall(node.value) if not LOOPBACK.match(address)}
        elif isinstance(node, ast.Call):
            found |= broken_by(node)
    return found


def broken_by(call: ast.Call) -> set[str]:
    name = name_of(call)
    last = name.rpartition(".")[2]
    shell = argument(call, "shell")
    rules = {
        "pickle": name == "torch.load"
        and not is_constant(argument(call, "weights_only"), True)
        or last in ("read_pickle", "to_pickle")
        or name in ("np.load", "numpy.load")
        and not is_constant(argument(call, "allow_pickle"), False)
        or name in ("torch.save", "yaml.load", "yaml.unsafe_load"),
        "code": name in ("eval", "exec", "builtins.eval", "builtins.exec", "compile", "runpy.run_path"),
        "shell": name in SHELLS or shell is not None and not is_constant(shell, False),
        "encoding": opens_text_without_encoding(call),
        "archive": last in ("extractall", "extract", "unpack_archive"),
        "certificate": last == "_create_unverified_context" or is_constant(argument(call, "verify"), False),
    }
    return {rule for rule, broken in rules.items() if broken}


BREAKING = {
    "pickle": ["import pickle", "from dill import loads", "torch.load('a')", "torch.load('a', weights_only=False)",
               "torch.save(x, 'a')", "np.load('a')", "np.load('a', allow_pickle=True)", "frame.to_pickle('a')"],
    "code": ["eval(text)", "exec(text)", "compile(text, 'a', 'exec')", "runpy.run_path('a')"],
    "shell": ["os.system('ls')", "subprocess.run('ls', shell=True)", "subprocess.run(x, shell=y)", "os.popen('ls')"],
    "encoding": ["open('a')", "open('a', 'w')", "open('a', mode)", "path.open('r')", "path.read_text()",
                 "path.write_text('b')", "os.fdopen(3, 'w')", "NamedTemporaryFile('w')", "TemporaryFile(mode='w+')"],
    "archive": ["archive.extractall(place)", "archive.extract(name, place)", "shutil.unpack_archive('a')"],
    "certificate": ["requests.get(a, verify=False)", "ssl._create_unverified_context()"],
    "plain http": ["get('http://example.org/a')", "get('HTTP://example.org')", "get(f'http://{address}/a')",
                   "get('http://localhost.example.org')"],
}  # fmt: skip
HARMLESS = """
torch.load("a", weights_only=True); np.load("a", allow_pickle=False); model.eval(); re.compile("a")
open("a", "rb"); open("a", encoding="utf-8"); open("a", "a+b"); path.read_text("utf-8"); path.write_text(x, "utf-8")
path.open("rb"); Image.open(path); webbrowser.open(page); os.open(path, flags); os.fdopen(3, "wb"); NamedTemporaryFile()
subprocess.run(["ls"], shell=False); get("https://example.org"); get("http://127.0.0.1:8765/")
get("http://localhost:80/"); opened("http://www.w3.org/2000/svg")
"""


@pytest.mark.parametrize(("rule", "line"), [(rule, line) for rule, lines in BREAKING.items() for line in lines])
def test_a_line_that_breaks_a_rule_is_seen(rule, line):
    assert broken_rules(line) == {rule}


def test_what_breaks_no_rule_passes():
    assert broken_rules(HARMLESS) == set()


@pytest.mark.parametrize("path", [*MODULES, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_and_no_cell_breaks_a_rule(path):
    name = path.relative_to(ROOT).as_posix()
    allowed = ALLOWED.get(name, set())
    found = set()
    for code in code_of(path):
        lines = code.splitlines()
        assert not [line for line in lines if line.lstrip().startswith(("!", "%%"))], f"{name} gives words to a shell"
        found |= broken_rules("\n".join(line for line in lines if not line.startswith("%")))
    assert found <= allowed, f"{name} breaks {found - allowed}"


def test_no_page_and_no_list_of_downloads_names_an_address_without_a_certificate():
    kinds = ("*.md", "*.toml", "*.cff", "*.yml", "*.txt", "*.html", "*.js", "*.css", "*.json", ".ci/*")
    paths = {path for kind in kinds for folder in (".", "ch*", "shared/**", ".ci", ".github/**", "data")
             for path in ROOT.glob(f"{folder}/{kind}") if path.is_file()}  # fmt: skip
    assert ROOT / "README.md" in paths and ROOT / "data" / "catalogue.json" in paths and len(paths) > 40
    for path in paths:
        for address in ADDRESS.findall(path.read_text(encoding="utf-8")):
            assert LOOPBACK.match(address), f"{path}: {address}"


def test_what_security_md_names_is_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    commands = re.findall(r"`course\.py (\w+)", text)
    assert set(commands) == {"serve", "fetch"}
    assert all((ROOT / "shared" / "commands" / f"{name}.py").is_file() for name in commands)
    from ch05_pretraining import template_child, template_room

    assert "after five seconds or half a gigabyte" in re.sub(r"\s+", " ", text)
    assert (template_room.SECONDS, template_child.MOST_BYTES) == (5, 2**30 // 2)
