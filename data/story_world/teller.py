"""The teller: one story's memory of who is who, and the writing of the text.

Nothing is chosen before the text shows it: an object without a mention costs nothing.
"""

import re
from collections import defaultdict

from .template import Alt, Call, Paragraph, Remember, Say, Slot, plain

PRON = {"m": ("he", "him", "his", "himself"), "f": ("she", "her", "her", "herself")}
PRON_FORMS = ("he", "him", "his", "self")
COVERS = ("umbrella", "blanket", "cape", "scarf", "map", "book", "box")


class Character:
    def __init__(self, name, sex, kind, row=None, role="friend", address=None):
        self.name, self.sex, self.kind, self.row, self.role = name, sex, kind, row, role
        self.address = address or name  # what others call them: "Mom"
        self.body = plain(row["body"]) if row and "body" in row else "hand"

    @property
    def is_child(self):
        return self.kind in ("boy", "girl")


class Thing:
    def __init__(self, row, chooser):
        self.row, self.chooser, self._adj = row, chooser, None
        self.noun, self.plural, self.cls = plain(row["noun"]), plain(row["plural"]), plain(row["cls"])

    @property
    def adj(self):
        """The adjective, chosen when the text first needs it."""
        if self._adj is None:
            self._adj = self.chooser.pick(self.row["adj"])[0]
        return self._adj

    @property
    def label(self):
        return f"{self.adj} {self.noun}"


# --------------------------------------------------------------------------------------------------------- clean text
VOWEL = r"(?:(?!uni|use|one\b|once|eu)[aeiou]|hour|honest)"
ARTICLE = re.compile(rf"\b([Aa]) (?={VOWEL})")
SENTENCE_START = re.compile(r'((?:^|[.!?]"? |\n|\n")"?)([a-z])')


def article(noun_phrase):
    """The noun phrase with "a" or "an" before it."""
    return ARTICLE.sub(r"\1n ", "a " + noun_phrase)


def tidy(text):
    """One space between words, one sign at the end of a sentence."""
    return re.sub(r"([.!?]) ?\.$", r"\1", re.sub(r"  +", " ", text.strip()))


def finish(text):
    """The finished story: spaces, signs, a or an, capital letters."""
    text = re.sub(r"\s*\n\s*", "\n", text.strip())
    text = re.sub(r" ([.,!?:;])", r"\1", re.sub(r"  +", " ", text)).replace(",.", ".")
    text = ARTICLE.sub(r"\1n ", text)
    text = SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)
    return text.replace("~", " ")


# --------------------------------------------------------------------------------------------------------- the teller
class Teller:
    """Tells one story: keeps who is who, who was mentioned last, and writes the text."""

    def __init__(self, world, chooser):
        self.world, self.chooser = world, chooser
        self.out, self.words, self.budget = [], 0, 70
        self.bound, self.flags, self.facts = {}, set(), {}
        self.used = defaultdict(set)
        self.last, self.focus = {}, None  # the last character of each sex; the one the text is about
        self.introduced, self.arguments, self.speech, self.spoke = [], [], [], None
        self.object_pool = None

    # ---- casting: what a plot needs before its first sentence
    @property
    def is_lesson(self):
        return self.plot.startswith("mini.")

    def cast(self, plot):
        world = self.world
        row = world.casts[plot]
        self.plot, self.budget, self.traits = plot, int(plain(row["budget"])), plain(row["traits"]).split()
        extras, helper, places = plain(row["extras"]).split(), plain(row["helper"]), plain(row["places"])
        self.flags.add(plot)
        hero = self.new_hero(plot)
        if not hero.is_child:
            self.flags.add("beast")
        self._cast_object(plot, extras)
        self.adults = helper == "any"
        self.places = world.places(places)
        self._cast_extras(extras)

    def _cast_object(self, plot, extras):
        pool = self.world.objects(plot)
        if not pool:
            return
        self.flags.add("o")
        self.object_pool = pool, plot
        if "o" in extras:
            thing = self.new_object("o", pool, plot)
            self.flags.update({"food"} if thing.cls == "food" else ())
            self.flags.update({"cover"} if thing.noun in COVERS else ())

    def _cast_extras(self, extras):
        for key in extras:
            if key == "k1":
                self.new_friend("k1", self.bound["h"])
            elif key.startswith("tr"):
                taken = {thing.noun for thing in self.bound.values() if isinstance(thing, Thing)} | {
                    self.lazy("o").noun
                }
                rows = [r for r in self.world.tables["obj"] if plain(r["cls"]) in ("find", "food", "wear")]
                self.new_object(key, [r for r in rows if plain(r["noun"]) not in taken])

    def new_hero(self, plot):
        """The hero's kind, then a name: the pair decides together with the plot which split the story is in."""
        world, chooser = self.world, self.chooser
        sex = "fm"[chooser.draw([1, 1])]
        row = self._kind_row()
        names = (world.names if self.is_lesson else world.heroes)[sex]
        name = chooser.masked(names, lambda name: world.allows_hero(name, row, plot))
        return self._enter("h", Character(name, sex, world.kind_name(row, sex), row))

    def new_friend(self, key, other, adults=False):
        """A second character; `adults` lets neighbors with a job come too."""
        world, chooser = self.world, self.chooser
        same, opposite = (2, 1) if self.is_lesson else (1, 2)  # in a lesson "she" must not give it away
        sex = "fm"[chooser.draw([same, opposite] if other.sex == "f" else [opposite, same])]
        if adults and chooser.draw([3, 1]):
            row = chooser.pick(world.tables["job"])
            name = ("Mr. " if sex == "m" else "Mrs. ") + chooser.pick(world.surnames)
            friend = Character(name, sex, plain(row["noun"]), row, "adult")
        else:
            row = self._kind_row()
            taken = {c.name for c in self.bound.values() if isinstance(c, Character)}
            names = (world.names if self.is_lesson else world.friends)[sex]
            name = chooser.pick([n for n in names if n not in taken])
            friend = Character(name, sex, world.kind_name(row, sex), row)
        return self._enter(key, friend)

    def _kind_row(self):
        return self.world.child if self.chooser.draw([5, 4]) else self.chooser.pick(self.world.animals)

    def _enter(self, key, character):
        self.bound[key] = character
        return character

    def new_object(self, key, pool, plot=None):
        world = self.world
        row = self.chooser.masked(pool, lambda r: world.allows_object(r, plot)) if plot else self.chooser.pick(pool)
        self.flags.add(key)
        self.bound[key] = Thing(row, self.chooser)
        return self.bound[key]

    def lazy(self, name):
        """The value of a slot, bound the first time the text uses it."""
        bound, tables = self.bound, self.world.tables
        if name in bound:
            return bound[name]
        if name == "o":
            self.new_object("o", *self.object_pool)
        elif name == "g":
            self.new_friend("g", bound["h"], self.adults)
        elif name == "par":
            row = self.chooser.pick(tables["par"])
            noun = f"{PRON[bound['h'].sex][2]} {plain(row['noun'])}"
            bound["par"] = Character(noun, plain(row["sex"]), plain(row["noun"]), None, "family", plain(row["voc"]))
        elif name == "p":
            bound["p"] = self.chooser.pick(self.places)
            self.facts["place"], self.facts["place_at"] = plain(bound["p"]["noun"]), plain(bound["p"]["at"])
        elif name in tables:
            bound[name] = self.chooser.pick(tables[name])
        else:
            bound[name] = tidy(self.capture(self.expand, name))
            self.flags.add(name)
            if name in ("w", "t"):
                self.facts[name] = bound[name]
        return bound[name]

    def trait(self):
        if "trait" not in self.facts:
            self.facts["trait"] = self.chooser.pick(self.traits)
        return self.facts["trait"]

    # ---- writing
    def emit(self, text):
        self.out.append(text)
        self.words += text.count(" ")

    def capture(self, write, *args):
        """What a call would write, without writing it."""
        kept, self.out = self.out, []
        write(*args)
        text, self.out = "".join(self.out), kept
        return text

    def tell(self, nodes):
        for node in nodes:
            self.HANDLERS[type(node)](self, node)

    def _alt(self, node):
        self.tell(self.chooser.pick(node.options))

    def _paragraph(self, node):
        self.emit("\n")
        self.last, self.focus, self.spoke = {}, None, None

    def _remember(self, node):
        self.bound[node.key] = self.facts[node.key] = node.value
        self.flags.add(node.key)

    def _call(self, node):
        if node.maybe:
            late = self.words > (node.maybe if node.maybe > 1 else self.budget)
            if late or self.chooser.draw([1, 1]):
                return
        name = node.name
        if not isinstance(name, str):
            name = "".join(part if isinstance(part, str) else self.key(part) for part in name)
        if node.argument:
            self.arguments.append(self.value(node.argument))
        self.expand(name)
        if node.argument:
            self.arguments.pop()

    def key(self, slot):
        """The part of a rule's name that comes from the story, as in <clap:{c.body}>."""
        value = self.value(slot.name)
        if slot.form == "trait":
            return self.trait()
        if isinstance(value, str):
            return value
        return plain(value.row["home"]) if slot.form == "home" else getattr(value, slot.form)

    def expand(self, name):
        """Write one variant of a rule; a variant comes back only when all others have been used."""
        variants, used = self.world.rules[name], self.used[name]
        possible = [i for i, v in enumerate(variants) if all((flag in self.flags) == want for want, flag in v.guards)]
        fresh = [i for i in possible if i not in used] or possible
        choice = fresh[self.chooser.draw([variants[i].weight for i in fresh])] if len(fresh) > 1 else fresh[0]
        used.add(choice)
        self.tell(variants[choice].nodes)

    # ---- slots
    def value(self, name):
        if name == "c":
            return self.arguments[-1]
        if name in ("s", "x"):  # inside a line of speech: who speaks, who is spoken to
            return self.speech[-1][name == "x"]
        return self.bound[name] if name in self.bound else self.lazy(name)

    def _slot(self, node):
        value = self.value(node.name)
        if isinstance(value, str):
            self.emit(value)
        elif isinstance(value, Character):
            self.character(value, node.form)
        elif isinstance(value, Thing):
            self.thing(value, node.form)
        elif node.name == "p" and node.form == "found":
            self.found(value)
        elif node.name == "p" and node.form == "see2":
            self.cell("p", value, "see")
            self.emit(" and ")
            self.cell("p", value, "see")
        else:
            self.cell(node.name, value, node.form or "noun")

    def found(self, place):
        """Where the lost thing lay: chosen once, then always the same spot."""
        if "found" not in self.facts:
            self.facts["found"] = self.capture(self.cell, "p", place, "spot")
        self.emit(self.facts["found"])

    def cell(self, name, row, field):
        if field.endswith("2"):  # the second mention: "a blue butterfly" becomes "the blue butterfly"
            self.emit(re.sub(r"^an? ", "the ", plain(row[field[:-1]])))
            return
        cells, used = row[field], self.used[f"{name}.{field}"]
        fresh = [i for i in range(len(cells)) if i not in used] or list(range(len(cells)))
        choice = self.chooser.pick(fresh)
        used.add(choice)
        self.tell(cells[choice])

    def thing(self, thing, form):
        draw = self.chooser.draw
        if form == "play":
            self.cell("o", thing.row, "play")
        elif form == "x":
            self.emit(thing.label if draw([4, 1]) else thing.noun)
        elif form == "the":
            self.emit("the " + (thing.label if draw([5, 1]) else thing.noun))
        else:
            self.emit(
                {
                    "a": lambda: f"a {thing.label}",
                    "n": lambda: thing.noun,
                    "adjn": lambda: thing.label,
                    "pl": lambda: thing.plural,
                    "plx": lambda: f"{thing.adj} {thing.plural}",
                }[form]()
            )

    # ---- characters: name, pronoun or "the little fox", whichever is clear
    def clear(self, character):
        return self.last.get(character.sex) is character

    def mention(self, character, focus=True):
        self.last[character.sex] = character
        if character not in self.introduced:
            self.introduced.append(character)
        if character is self.bound.get("g"):
            self.flags.add("g")
        if focus:
            self.focus = character

    def only_one(self, character):
        return sum(isinstance(c, Character) and c.kind == character.kind for c in self.bound.values()) == 1

    def character(self, character, form):
        if form in PRON_FORMS:
            return self.pronoun(character, form)
        if form in ("part", "food", "went"):
            return self.body(character, form)
        if form == "v":
            return self.emit(character.address)
        if form == "kind":
            return self.emit(character.kind)
        if form == "trait":
            return self.emit(self.trait())
        if form == "a":
            return self.emit("a " + self.a_kind(character))
        if form == "k":
            return self.emit(self.little(character))
        {
            "": self.subject,
            "n": self.by_name,
            "o": self.object_case,
            "s": self.possessive,
            "nk": self.name_kind,
            "intro": self.introduce,
            "intro0": self.introduce,
        }[form](character, form)
        self.mention(character, focus=form != "o")

    def subject(self, character, form):
        draw = self.chooser.draw
        if not self.clear(character):
            kind = character.role == "friend" and character in self.introduced and self.only_one(character)
            choice = 1 + (draw([11, 1]) if kind else 0)
        elif character.role != "friend":
            choice = draw([5, 4])
        else:
            hero = character is self.bound["h"] and self.focus is not None and self.focus.sex != character.sex
            sure, kind = self.focus is character or hero, self.only_one(character)
            choice = draw([6, 3, 1] if kind else [6, 3]) if sure else 1 + (draw([11, 1]) if kind else 0)
        self.emit((PRON[character.sex][0], character.name, "the ")[choice])
        if choice == 2:
            self.emit(self.little(character))

    def by_name(self, character, form):
        self.emit(character.name)

    def object_case(self, character, form):
        self.emit(PRON[character.sex][1] if self.clear(character) else character.name)

    def possessive(self, character, form):
        self.emit(PRON[character.sex][2] if self.clear(character) else character.name + "'s")

    def pronoun(self, character, form):
        free = self.last.get(character.sex) is None and self.out and self.out[-1] != "\n"
        if self.clear(character) or form == "self" or free and character in self.introduced:
            self.emit(PRON[character.sex][PRON_FORMS.index(form)])
        else:
            self.emit(character.name + ("'s" if form == "his" else ""))
        self.mention(character, focus=form == "he")

    def name_kind(self, character, form):
        if character.is_child:
            here = ("little %s", "young %s", "%s from next door", "%s from school", f"a {character.kind} named %s")
            self.emit(self.chooser.pick(here) % character.name)
        else:
            self.emit(f"{character.name} the {character.kind}")

    def introduce(self, character, form):
        if character.role == "adult":
            here = (f"{character.name} the {character.kind}", f"a {character.kind} named {character.name}")
            return self.emit(self.chooser.pick(here))
        choice = self.chooser.draw([3, 1, 1]) if form == "intro" else 0
        if choice == 0:
            named = self.chooser.pick(("named", "called"))
            return self.emit(f"a {self.a_kind(character)} {named} {character.name}")
        if choice == 2:
            hero = self.bound["h"]
            self.emit(f"{hero.name}'s friend ")
            self.mention(hero, focus=False)
            if character.is_child:
                return self.emit(character.name)
        self.name_kind(character, form)

    def little(self, character):
        return self.chooser.pick(("", "little ") if character.is_child else ("", "little ", "young ")) + character.kind

    def a_kind(self, character):
        pick = self.chooser.pick
        choice = self.chooser.draw([3, 2, 2] if character.is_child else [3, 2, 2, 1])
        size = pick(("little", "young", "small")) + " " if choice in (0, 2) else ""
        adj = pick(character.row["adj"])[0] + " " if choice in (1, 2) else ""
        return size + adj + character.kind

    def body(self, character, form):
        if form == "food" and "food" not in character.row:
            return self.emit(self.chooser.pick(("fresh bread", "warm soup", "apple pie", "plum jam")))
        self.arguments.append(character)
        self.cell(character.name, character.row, "moves" if form == "went" else form)
        self.arguments.pop()

    # ---- direct speech: a line, a mood, four layouts
    def _say(self, node):
        speaker = self.value(node.speaker)
        listener = self.value(node.listener) if node.listener else Character("everyone", "m", "child", role="all")
        kept = dict(self.last), self.focus
        self.speech.append((speaker, listener))
        line = tidy(self.capture(self.expand, node.line))
        self.speech.pop()
        self.last, self.focus = kept
        layout = self.chooser.draw([5, 3, 2])
        if layout == 2:
            self._act_and_say(speaker, node.mood, line)
            return
        tags = self.world.tags[node.mood, line[-1]]
        if self.spoke not in (None, speaker) and line[-1] == ".":
            tags = tags + ["replied", "answered"]
        self.spoke = speaker
        if layout == 1:
            tag = self.chooser.pick(tags)
            self.character(speaker, "")
            self.emit(f' {tag}, "{line}"')
        else:
            self._tag_after(speaker, node.mood, line, tags)

    def _act_and_say(self, speaker, mood, line):
        self.arguments.append(speaker)
        self.expand("act." + mood)
        self.arguments.pop()
        self.emit(f' "{line}"')
        self.spoke = speaker

    def _tag_after(self, speaker, mood, line, tags):
        """ "Come in," said Mia. -- or, when the line has two sentences, with the tag between them."""
        rest, parts = "", re.match(r"(.*?(?<!Mr)(?<!Mrs)[.!?]) (.+)$", line)
        if parts and self.chooser.draw([1, 2]) == 0:
            line, rest = parts.groups()
            tags = self.world.tags[mood, line[-1]]
        verb, _, adverb = self.chooser.pick(tags).partition(" ")
        self.emit('"' + (line[:-1] + "," if line[-1] == "." else line) + '"~')
        if self.clear(speaker) and self.chooser.draw([1, 1]):
            self.emit(f"{PRON[speaker.sex][0]} {verb}")
            self.focus = speaker
        else:
            self.emit(f"{verb} {speaker.name}")
            self.mention(speaker)
        self.emit((" " + adverb if adverb else "") + "." + (f' "{rest}"' if rest else ""))

    HANDLERS = {str: emit, Alt: _alt, Slot: _slot, Call: _call, Say: _say, Remember: _remember, Paragraph: _paragraph}
