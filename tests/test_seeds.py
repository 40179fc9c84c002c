"""Every draw of a notebook comes from the one `seed` of its set-up, so that `course.py test --seeds` can change it."""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import lru_cache

import pytest

import shared
from tests.test_anatomy import NARRATIVES
from tests.test_notebooks import code_cells, tags, texts, top_level_names

SENTENCE = "All random numbers come from `seed`; with another one you see which results stay."
SOURCES = {"manual_seed", "Random", "default_rng"}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "randn_like", "rand_like", "multinomial", "bernoulli"}
FIXED = {"TrainConfig": "its seed is that of dropout, and no notebook trains with dropout",
         "load_stories": "the shipped models have read these stories"}  # fmt: skip
REFUSED = "create_dataloader(stories[0], tokenizer, batch_size=64, max_length=32, stride=32)"  # before it draws
each_notebook = pytest.mark.parametrize("path", NARRATIVES, ids=lambda path: path.stem)


def sources_of(path) -> list[str]:
    return [cell.source for cell in code_cells(path) if "final" not in tags(cell)]


def is_seed(name: str | None) -> bool:
    return bool(name) and (name == "seed" or name.endswith("_seed"))


def is_fixed(*values: ast.expr) -> bool:
    """No variable is read here: the value stands in the cell."""
    names = {node.id for value in values for node in ast.walk(value) if isinstance(node, ast.Name)}
    return not names - {"range"}


def last_name(node: ast.expr) -> str:
    """`f` of f, a.f and a.b.f."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def seed_parameters(function: ast.FunctionDef) -> dict[int, ast.expr | None]:
    """Place and default of each parameter that is a seed."""
    names = [*function.args.args, *function.args.kwonlyargs]
    positional = [None] * (len(function.args.args) - len(function.args.defaults)) + function.args.defaults
    defaults = [*positional, *function.args.kw_defaults]
    return {place: defaults[place] for place, name in enumerate(names) if is_seed(name.arg)}


@lru_cache
def drawing_by_themselves() -> set[str]:
    """Public functions, classes, class methods and methods (".name") with a seed of their own where none is given."""
    things = {name: getattr(shared, name) for name in shared.__all__ if name not in FIXED}
    classes = {name: thing for name, thing in things.items() if inspect.isclass(thing)}
    things |= {f"{owner if isinstance(method, classmethod) else ''}.{name}": getattr(thing, name)
               for owner, thing in classes.items() for name, method in vars(thing).items()}  # fmt: skip
    called = {name: thing.__init__ if inspect.isclass(thing) else thing for name, thing in things.items()}
    plain = {name: thing for name, thing in called.items() if inspect.isfunction(thing) or inspect.ismethod(thing)}
    seeds = {name: inspect.signature(thing).parameters.get("seed") for name, thing in plain.items()}
    return {name for name, seed in seeds.items() if seed and isinstance(seed.default, int)}


def fixed_values(node: ast.AST) -> Iterator[ast.expr]:
    """Seeds in a definition, a loop, a dictionary or a call."""
    if isinstance(node, ast.FunctionDef):
        yield from filter(None, seed_parameters(node).values())
    elif isinstance(node, (ast.For, ast.comprehension)) and is_seed(last_name(node.target)):
        yield node.iter
    elif isinstance(node, ast.Dict):
        yield from (value for key, value in zip(node.keys, node.values) if getattr(key, "value", None) == "seed")
    elif isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if is_seed(keyword.arg))


def own_places(nodes: list[ast.AST]) -> dict[str, int]:
    """The functions of these cells that take a seed, and the place where they take it."""
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    return {function.name: place for function in functions for place in seed_parameters(function)}


def draws_by_itself(call: ast.Call) -> bool:
    """A seed that is not given is the function's own."""
    name = ast.unparse(call.func).removeprefix("shared.")
    names = {name, "." + last_name(call.func)} if "." in name else {name}
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    draws_nothing = given.get("temperature") == "0" or given.get("shuffle") == "False"
    return bool(names & drawing_by_themselves()) and not draws_nothing and not {"seed", None} & given.keys()


def fixed_draws(sources: list[str]) -> list[str]:
    """What in these cells draws from a number that stands there, or from no seed at all."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    places = own_places(nodes)
    found = [value for node in nodes for value in fixed_values(node) if is_fixed(value)]
    found += [call for call in calls if last_name(call.func) in SOURCES and is_fixed(*call.args)]
    found += [call for call in calls if (place := places.get(last_name(call.func))) is not None
              and call.args[place:] and is_fixed(call.args[place])]  # fmt: skip
    found += filter(draws_by_itself, calls)
    texts_within = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [ast.unparse(node) for node in found] + re.findall(r"manual_seed\(\d+\)", "\n".join(texts_within))


def draws_before_a_seed(sources: list[str]) -> list[str]:
    """Cells that ask PyTorch for numbers before any of them has set its seed."""
    first = next((k for k, source in enumerate(sources) if "manual_seed(" in source), len(sources))
    calls = [node for source in sources[:first] for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call) for call in calls if last_name(call.func) in TORCH_DRAWS]


@each_notebook
def test_a_notebook_has_one_seed_and_says_what_it_is_for(path):
    setup, *others = sources_of(path)
    assert re.findall(r"^seed = .*", setup, re.MULTILINE) == ["seed = 0"]
    assert not [source for source in others if "seed" in top_level_names(ast.parse(source))]
    assert sum(SENTENCE in text for text in texts(path)[:3]) == 1


@each_notebook
def test_every_draw_comes_from_it(path):
    assert [draw for draw in fixed_draws(sources_of(path)) if draw != REFUSED] == []
    assert draws_before_a_seed(sources_of(path)) == []


BAD = ["torch.manual_seed(0)", "torch.Generator().manual_seed(1)", "random.Random(3)", "np.random.default_rng()",
       "generate(model, ids, 5, temperature=1.0, seed=2)", "options = {'seed': 3}", "def fresh(seed=0): ...",
       "def fresh(seed): ...\nfresh(99)", "for run_seed in range(3): ...", "[f(run_seed) for run_seed in (0, 1)]",
       "WORKER = 'torch.manual_seed(0)'", "WordVectors.train(texts, d_model=4)", "model.generate(20, [0])",
       "create_dataloader(text, tokenizer, batch_size=2)", "shared.EpochBatches([32] * 10, 3)"]  # fmt: skip
GOOD = ["torch.manual_seed(seed)", "random.Random(seed + 3)", "generate(model, ids, 5, seed=seed + 2)",
        "options = {'seed': seed + 3}", "def fresh(seed=seed): ...", "def fresh(seed): ...\nfresh(seed + 99)",
        "for run_seed in range(3 * seed, 3 * seed + 3): ...", "load_stories('train')", "generate(model, ids, 5)",
        "model.generate(20, [0], temperature=0)", "create_dataloader(text, tokenizer, shuffle=False)",
        "create_dataloader(text, tokenizer, **options)"]  # fmt: skip


@pytest.mark.parametrize("source", BAD)
def test_a_fixed_draw_is_found(source):
    assert len(fixed_draws([source])) == 1


@pytest.mark.parametrize("source", GOOD)
def test_a_draw_from_the_seed_is_left_alone(source):
    assert fixed_draws([source]) == []


def test_a_draw_before_any_seed_is_found():
    cells = ["x = torch.randn(3)", "torch.manual_seed(seed)", "y = torch.randn(3)"]
    assert draws_before_a_seed(cells) == ["torch.randn(3)"] and draws_before_a_seed(cells[1:]) == []
