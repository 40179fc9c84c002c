"""The template language in which the story world is written, and the loader of its tables.

A world file holds tables and rules, one row or one variant a line:

    ## table: field field ...     rows; cells separated by //, alternatives inside a cell by ;;
    = rule                        variants; %3 = weight 3; ?food,!o = only if these flags hold

and inside a text:

    [a|b|c]      one of these            <rule>      a fresh variant of that rule      <?60 rule>  maybe, before word 60
    {h} {o} {p}  a slot: a character, object, place, table row, or a rule whose text is then kept
    {h.his}      a form of a slot        <rule h>    the rule, with {c} standing for the character h
    {say h d.thanks glad g}              direct speech: speaker, rule of the line, mood, listener
    {set end sad}                        remember a fact           <rule:{trouble}>  a rule named by the story
    ~            a space after which no capital follows            ¶           a new paragraph
"""

import re
from pathlib import Path
from typing import NamedTuple, cast

TABLES = Path(__file__).parent / "tables"


class WorldError(ValueError):
    """A mistake in a world file; the message begins with file:line."""


class Alt(NamedTuple):
    options: list["Nodes"]


class Slot(NamedTuple):
    name: str
    form: str


class Call(NamedTuple):
    name: str | list[str | Slot]  # parts of a list are joined
    argument: str
    maybe: int  # 0: always; 1: maybe, within the plot's budget of words; n: maybe, before word n


class Say(NamedTuple):
    speaker: str
    line: str
    mood: str
    listener: str


class Remember(NamedTuple):
    key: str
    value: str


class Paragraph(NamedTuple):
    pass


Node = str | Alt | Slot | Call | Say | Remember | Paragraph
Nodes = list[Node]  # a template, taken apart
Row = dict[str, list[Nodes]]  # of a table: field -> the alternatives of its cell


class Variant(NamedTuple):
    weight: int
    guards: list[tuple[bool, str]]  # (wanted, flag)
    nodes: Nodes
    where: str


class World(NamedTuple):
    tables: dict[str, list[Row]]
    rules: dict[str, list[Variant]]
    pieces: list[tuple[str, Nodes]]  # (where, template) of every template, for the checks


# ---------------------------------------------------------------------------------------------------------- parsing
CALL = re.compile(r"(?:\?(\d*) ?)?(\S+)(?: (\w+))?$")


def parse(text: str, where: str = "template") -> Nodes:
    """Turn a template into a list of nodes: strings, Alt, Slot, Call, Say, Remember, Paragraph."""
    nodes, end = _sequence(text, 0, "", where)
    if end != len(text):
        raise WorldError(f"{where}: unexpected {text[end]!r} in {text!r}; every ] needs its [")
    return nodes


def _sequence(text: str, at: int, stop: str, where: str) -> tuple[Nodes, int]:
    nodes: Nodes = []
    start = at
    while at < len(text) and text[at] not in stop:
        if text[at] in "[{<¶":
            if at > start:
                nodes.append(text[start:at])
            node, at = _node(text, at, where)
            nodes.append(node)
            start = at
        else:
            at += 1
    if at > start:
        nodes.append(text[start:at])
    return nodes, at


def _node(text: str, at: int, where: str) -> tuple[Node, int]:
    sign = text[at]
    if sign == "¶":
        return Paragraph(), at + 1
    if sign == "[":
        return _alternatives(text, at + 1, where)
    end = text.find("}" if sign == "{" else ">", at)
    if end < 0:
        raise WorldError(f"{where}: {text[at : at + 20]!r} is never closed")
    body = text[at + 1 : end]
    return (_slot(body, where) if sign == "{" else _call(body, where)), end + 1


def _alternatives(text: str, at: int, where: str) -> tuple[Alt, int]:
    options = []
    while True:
        nodes, at = _sequence(text, at, "|]", where)
        options.append(nodes)
        if at >= len(text):
            raise WorldError(f"{where}: a [ is never closed in {text!r}")
        if text[at] == "]":
            return Alt(options), at + 1
        at += 1


def _slot(body: str, where: str) -> Slot | Say | Remember:
    words = body.split()
    if words[:1] == ["say"] and len(words) in (4, 5):
        return Say(words[1], words[2], words[3], words[4] if len(words) == 5 else "")
    if words[:1] == ["set"] and len(words) > 2:
        return Remember(words[1], " ".join(words[2:]))
    if len(words) != 1:
        raise WorldError(f"{where}: {{{body}}} is no slot; write {{name}} or {{name.form}}")
    name, _, form = body.partition(".")
    return Slot(name, form)


def _call(body: str, where: str) -> Call:
    match = CALL.match(body)
    if not match:
        raise WorldError(f"{where}: <{body}> is no rule; write <rule>, <?rule>, <?60 rule> or <rule h>")
    words, name, argument = match.groups()
    maybe = 0 if words is None else int(words or 1)
    if "{" in name:
        parts = re.findall(r"\{[^}]*\}|[^{}]+", name)
        name = [_slot(part[1:-1], where) if part[0] == "{" else part for part in parts]
    return Call(name, argument or "", maybe)


# ---------------------------------------------------------------------------------------------------------- loading
VARIANT = re.compile(r"(?:%(\d+) )?(?:\?([\w:!,]+)(?: |$))?(.*)$")


def load_world(folder: Path = TABLES) -> World:
    """Read every world file below a folder; a rule or table may stand in one place only."""
    tables: dict[str, list[Row]] = {}
    rules: dict[str, list[Variant]] = {}
    pieces: list[tuple[str, Nodes]] = []
    for path in sorted(Path(folder).rglob("*.txt"), key=lambda p: p.relative_to(folder).as_posix()):
        _load_file(path, path.relative_to(folder).as_posix(), tables, rules, pieces)
    _vary_rules(rules, tables)
    for variants in rules.values():
        pieces.extend((variant.where, variant.nodes) for variant in variants)
    return World(tables, rules, pieces)


def _load_file(
    path: Path,
    name: str,
    tables: dict[str, list[Row]],
    rules: dict[str, list[Variant]],
    pieces: list[tuple[str, Nodes]],
) -> None:
    fields: list[str] = []
    rows: list[Row] | None = None
    variants: list[Variant] | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        line, where = line.strip(), f"{name}:{number}"
        if line.startswith("## "):
            table, _, heads = line[3:].partition(":")
            fields, variants = heads.split(), None
            rows = tables.setdefault(table, [])
            if rows and table != "plot":
                raise WorldError(f"{where}: the table {table!r} exists already; keep its rows in one place")
        elif line.startswith("= "):
            if line[2:] in rules:
                raise WorldError(f"{where}: the rule {line[2:]!r} exists already; keep its variants in one place")
            variants, rows = rules.setdefault(line[2:], []), None
        elif line and not line.startswith("#"):
            if rows is not None:
                rows.append(_row(line, fields, where, pieces))
            elif variants is not None:
                variants.append(_variant(line, where))
            else:
                raise WorldError(f"{where}: {line!r} stands before the first table or rule")


def _row(line: str, fields: list[str], where: str, pieces: list[tuple[str, Nodes]]) -> Row:
    cells = [[cell.strip() for cell in cells.split(";;")] for cells in line.split(" // ")]
    if len(cells) != len(fields):
        raise WorldError(f"{where}: {len(cells)} cells, but the table has {len(fields)} fields: {', '.join(fields)}")
    row: Row = {}
    for field, texts in zip(fields, cells):
        row[field] = [[text] if field == "find" else parse(text, where) for text in texts]
        if field != "find":
            pieces.extend((where, nodes) for nodes in row[field])
    return row


def _variant(line: str, where: str) -> Variant:
    weight, flags, text = VARIANT.match(line).groups()  # type: ignore[union-attr]  # it matches any line
    guards = [(not flag.startswith("!"), flag.lstrip("!")) for flag in (flags or "").split(",") if flag]
    return Variant(int(weight or 1), guards, parse(text, where), where)


# --------------------------------------------------------------------------------------------------------- synonyms
Synonym = tuple[re.Pattern[str], Alt]


def _vary_rules(rules: dict[str, list[Variant]], tables: dict[str, list[Row]]) -> None:
    """Replace common words in the rules by a choice of synonyms: `syn` in narration, `syn2` in direct speech."""
    synonyms = {name: [_synonym(row) for row in tables.pop(name, [])] for name in ("syn", "syn2")}
    for name, variants in rules.items():
        if not name.startswith("mini."):
            words = synonyms["syn2" if name.startswith("d.") else "syn"]
            variants[:] = [variant._replace(nodes=_vary(variant.nodes, words)) for variant in variants]


def _synonym(row: Row) -> Synonym:
    find = plain(row["find"])
    ending = "" if "(?=" in find or "(?!" in find else r"(?![\w'])"
    return re.compile(r"\b" + find + ending), Alt(row["use"])


def _vary(nodes: Nodes, synonyms: list[Synonym], top: bool = True) -> Nodes:
    """Short alternatives are left alone: there a synonym could end up beside itself."""
    varied: Nodes = []
    for node in nodes:
        if isinstance(node, str) and (top or node.count(" ") >= 2):
            varied.extend(_vary_text(node, synonyms))
        elif isinstance(node, Alt):
            varied.append(Alt([_vary(option, synonyms, top=False) for option in node.options]))
        else:
            varied.append(node)
    return varied


def _vary_text(text: str, synonyms: list[Synonym]) -> Nodes:
    for pattern, choice in synonyms:
        match = pattern.search(text.lower() if pattern.pattern[2].islower() else text)
        if match and '"' not in text[match.start() : match.end() + 1]:
            before, after = text[: match.start()], text[match.end() :]
            if match.group()[-1] == " ":
                after = " " + after
            return _vary_text(before, synonyms) + [choice] + _vary_text(after, synonyms)
    return [text] if text else []


def plain(cell: list[Nodes]) -> str:
    """The plain text of a cell that has one alternative without choices, such as a noun."""
    return word(cell[0])


def word(nodes: Nodes) -> str:
    """The text of a template without choices, such as an adjective."""
    return cast(str, nodes[0])
