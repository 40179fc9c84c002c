"""Refuse unknown rules, slots, forms, moods and flags in the tables before a story is told, with file and line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .template import Alt, Call, Nodes, Remember, Say, Slot, Variant, WorldError

if TYPE_CHECKING:
    from .engine import Tables

PEOPLE = {"h", "g", "k1", "c", "s", "x", "par"}
PEOPLE_FORMS = {
    "",
    "n",
    "o",
    "s",
    "he",
    "him",
    "his",
    "self",
    "v",
    "kind",
    "trait",
    "a",
    "k",
    "intro",
    "intro0",
    "nk",
    "part",
    "food",
    "went",
}
THINGS = {"o", "tr1", "tr2"}
THING_FORMS = {"a", "n", "x", "the", "adjn", "pl", "plx", "play"}
PLACE_FORMS = {"at", "to", "spot", "see", "see2", "air", "found", "noun"}
FLAGS = {"beast", "food", "cover", "o", "g", "end", "theme", "w", "t"}


def require_names(tables: Tables) -> None:
    """Raise WorldError at the first template that names something that does not exist."""
    for where, nodes in tables.pieces:
        _nodes(nodes, where, tables)
    for name, variants in tables.rules.items():
        if not variants:
            raise WorldError(f"the rule {name!r} has no variants; write at least one line below it")
        texts = [repr((variant.guards, variant.nodes)) for variant in variants]
        for variant, text in zip(variants, texts):
            if texts.count(text) > 1:
                raise WorldError(f"{variant.where}: the rule {name!r} has this variant twice; give it a weight instead")
            _guards(variant, tables)


def _guards(variant: Variant, tables: Tables) -> None:
    for _, flag in variant.guards:
        if flag not in FLAGS and flag not in tables.plots:
            raise WorldError(
                f"{variant.where}: the guard {flag!r} can never hold; use a plot or one of {sorted(FLAGS)}"
            )


def _nodes(nodes: Nodes, where: str, tables: Tables) -> None:
    for node in nodes:
        if isinstance(node, str):
            stray = set(node) & set("[]{}<>|")
            if stray:
                raise WorldError(f"{where}: a stray {stray.pop()!r} in {node!r}")
        elif isinstance(node, Alt):
            if len({repr(option) for option in node.options}) < len(node.options):
                raise WorldError(f"{where}: the same alternative twice in {node.options!r}")
            for option in node.options:
                _nodes(option, where, tables)
        elif isinstance(node, Call):
            _call(node, where, tables)
        elif isinstance(node, Say):
            _say(node, where, tables)
        elif isinstance(node, Slot):
            _slot(node, where, tables)
        elif isinstance(node, Remember) and node.key not in FLAGS:
            raise WorldError(f"{where}: {{set {node.key} ...}} is unknown; use one of {sorted(FLAGS)}")


def _call(node: Call, where: str, tables: Tables) -> None:
    if isinstance(node.name, str):
        found = node.name in tables.rules
    else:
        start = node.name[0] if isinstance(node.name[0], str) else ""
        found = any(rule.startswith(start) for rule in tables.rules)
    if not found:
        raise WorldError(f"{where}: there is no rule {node.name!r}")
    if node.argument and node.argument not in PEOPLE:
        raise WorldError(f"{where}: <{node.name} {node.argument}> needs a character; use one of {sorted(PEOPLE)}")


def _say(node: Say, where: str, tables: Tables) -> None:
    for who in (node.speaker, node.listener or "h"):
        if who not in PEOPLE:
            raise WorldError(f"{where}: {{say}} needs characters, found {who!r}; use one of {sorted(PEOPLE)}")
    if node.line not in tables.rules:
        raise WorldError(f"{where}: there is no rule {node.line!r} for this line of speech")
    if "act." + node.mood not in tables.rules or (node.mood, ".") not in tables.tags:
        raise WorldError(f"{where}: the mood {node.mood!r} has no tags or no act.{node.mood}")


def _slot(node: Slot, where: str, tables: Tables) -> None:
    name, form = node
    if name in PEOPLE:
        good = form in PEOPLE_FORMS
    elif name in THINGS:
        good = form in THING_FORMS
    elif name == "p":
        good = form in PLACE_FORMS
    elif name in tables.tables:
        field = form or "noun"
        good = (field[:-1] if field.endswith("2") else field) in tables.tables[name][0]
    else:
        good = name in tables.rules and not form
    if not good:
        raise WorldError(f"{where}: there is no slot {{{name}{'.' + form if form else ''}}}")
