"""What a grader can see in an answer without running it: which names it leans on, and its form without its names.

A flag is a reason to look, and no verdict: a name of the course may be there for a comparison.
"""

import ast
import re
from collections.abc import Iterator

COURSE = re.compile(r"^(shared|data|tests|ch\d\d_\w+)(\.|$)")
UNUSUAL_MODULES = {
    "asyncio", "builtins", "ctypes", "gc", "importlib", "inspect", "io", "marshal", "multiprocessing", "os", "pathlib",
    "pickle", "pty", "requests", "runpy", "shutil", "signal", "socket", "subprocess", "tempfile", "threading",
    "traceback", "types", "unittest", "urllib",
}  # fmt: skip
UNUSUAL_CALLS = {"__import__", "breakpoint", "compile", "eval", "exec", "globals", "input", "open", "setattr", "vars"}
DECEIVING = {"__eq__", "__ne__", "__bool__", "__class__", "__torch_function__", "__getattribute__", "__instancecheck__"}
MAGIC = re.compile(r"^\s*(?:[%!?].*|[\w.]+\?{1,2}\s*)$")
LINES_OF_PYTHON = re.compile(r"^\s*%%(?:time|timeit|capture|prun)\b")


def without_magics(source: str) -> str:
    """Return a cell's Python; lines that only Jupyter understands become empty ones, so that line numbers stay.

    Args:
        source: the cell.
    """
    lines = source.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("%%") and not LINES_OF_PYTHON.match(first):
        return ""  # a cell of another language
    return "\n".join("" if MAGIC.match(line) or "get_ipython()" in line else line for line in lines)


def parsed(cells: list[str]) -> tuple[list[tuple[int, ast.stmt]], list[str]]:
    """Return all statements with the number of their cell, from 1, and a sentence for each cell that has none.

    Args:
        cells: sources of the code cells.
    """
    statements: list[tuple[int, ast.stmt]] = []
    troubles = []
    for number, source in enumerate(cells, 1):
        body = _body(source)
        body = _body(without_magics(source)) if isinstance(body, str) else body  # a line may well begin with % or !
        if isinstance(body, str):
            troubles.append(f"code cell {number} is no Python{body}")
        else:
            statements += [(number, statement) for statement in body]
    return statements, troubles


def _body(source: str) -> list[ast.stmt] | str:
    """Return the statements of a cell, or where it stops to be Python."""
    try:
        return ast.parse(source).body
    except SyntaxError as error:
        return f", line {error.lineno}"
    except (ValueError, RecursionError, MemoryError):
        return ""


def is_definition(statement: ast.stmt) -> bool:
    """Say whether a statement only defines: an import, a function, a class, or a value for which nothing is called.

    Args:
        statement: at the top level of a cell.
    """
    if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return True
    return isinstance(statement, (ast.Assign, ast.AnnAssign)) and not any(_calls(statement))


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    """Give the calls that happen when a statement is run; the body of a lambda is not run then."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child
        if not isinstance(child, ast.Lambda):
            yield from _calls(child)


def answer_names(statements: list[tuple[int, ast.stmt]], asked: dict[str, str]) -> dict[str, str]:
    """Return exercise id -> the name of the answer: the released one, or what the learner gives to `check` instead.

    Args:
        statements: see `parsed`.
        asked: exercise id -> the released name.
    """
    defined = definitions(statements)
    checked: dict[object, str] = {}
    for _, statement in statements:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "check" and len(call.args) == 2:
            name = getattr(call.args[1], "id", "")
            checked |= {getattr(call.args[0], "value", None): name} if name in defined else {}
    return {id: name if name in defined else checked.get(id) or name for id, name in asked.items()}


def definitions(statements: list[tuple[int, ast.stmt]]) -> dict[str, ast.stmt]:
    """Return name -> the last statement that defines it.

    Args:
        statements: see `parsed`.
    """
    found: dict[str, ast.stmt] = {}
    for statement in _with_inner([statement for _, statement in statements]):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            found |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
    return found


def _with_inner(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give statements, and those inside of `if`, `try`, `with` and loops."""
    for statement in statements:
        yield statement
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for part in ("body", "handlers", "orelse", "finalbody", "cases"):
                yield from _with_inner(getattr(statement, part, []))


def belonging(name: str, defined: dict[str, ast.stmt]) -> list[ast.stmt]:
    """Return an answer's statement and those of the helpers that it uses, however far.

    Args:
        name: of the answer.
        defined: see `definitions`.
    """
    found, open_names = {}, [name]
    while open_names:
        current = open_names.pop()
        if current in defined and current not in found:
            found[current] = defined[current]
            open_names += [node.id for node in ast.walk(defined[current]) if isinstance(node, ast.Name)]
    return list(found.values())


def flags(statements: list[tuple[int, ast.stmt]], names: dict[str, str], allowed: set[str]) -> list[str]:
    """Return what a teacher should look at, in short phrases.

    Args:
        statements: see `parsed`.
        names: exercise id -> name of the answer.
        allowed: names of the course that the released notebook imports itself.
    """
    defined, course = definitions(statements), _names_of_the_course(statements) - allowed
    told = []
    for id, name in names.items():
        used = {node.id for part in belonging(name, defined) for node in ast.walk(part) if isinstance(node, ast.Name)}
        used |= {name} - defined.keys()  # imported under the name of the answer
        told += [f"{id} uses the course's {one}" for one in sorted(used & course)]
    tree = ast.Module([statement for _, statement in statements], [])
    modules = _modules(tree)
    told += [f"imports {one}" for one in sorted(modules) if one.split(".")[0] in UNUSUAL_MODULES or ".solutions" in one]
    called = {getattr(node.func, "id", "") for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return told + [f"calls {one}" for one in sorted(called & UNUSUAL_CALLS)]


def _modules(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
    return found


def _names_of_the_course(statements: list[tuple[int, ast.stmt]]) -> set[str]:
    """Return the names under which a notebook has what it imported from the course."""
    found = set()
    for node in (node for _, statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.ImportFrom) and COURSE.match(node.module or ""):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names if COURSE.match(alias.name)}
    return found


def deceives(name: str, defined: dict[str, ast.stmt]) -> str:
    """Return the method by which an answer could decide itself what a comparison says, empty where it has none.

    Args:
        name: of the answer.
        defined: see `definitions`.
    """
    for node in (node for part in belonging(name, defined) for node in ast.walk(part)):
        given = {getattr(node, "name", None), getattr(node, "attr", None), getattr(node, "value", None), _id(node)}
        if found := next((one for one in given if isinstance(one, str) and one in DECEIVING), ""):
            return found
    return ""


def _id(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def form(name: str, defined: dict[str, ast.stmt]) -> list[str]:
    """Return an answer's form as a list of words: own names are numbered, docstrings and types are left out.

    Args:
        name: of the answer.
        defined: see `definitions`.
    """
    numbers: dict[str, int] = {}
    words = []
    for part in belonging(name, defined):
        own = {node.arg for node in ast.walk(part) if isinstance(node, ast.arg)}
        own |= {node.id for node in ast.walk(part) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        for node in _meant(part):
            said = _id(node) or getattr(node, "arg", None) or getattr(node, "attr", None)
            said = f"name {numbers.setdefault(said, len(numbers))}" if said in own else said
            said = repr(node.value) if isinstance(node, ast.Constant) else said or ""
            words.append(f"{type(node).__name__} {said}"[:60])
    return words


def _meant(node: ast.AST) -> Iterator[ast.AST]:
    """Walk in the order of the text over what an answer does."""
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "ctx"):
                continue
            if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)):
                yield child
                yield from _meant(child)
