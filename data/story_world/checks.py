"""The coherence checker: what a story promises, judged from its text alone.

It reads a story as a careful child would: who is in it, who is a fox and who a girl, whose is the red ball; and it knows
the world's lists of names, kinds and things, but not how a story was made. It judges samples of a model like any others.
"""

import re
from collections import Counter
from functools import lru_cache

from .engine import load_tables
from .template import Alt, plain

FAMILY = {"mom": "f", "dad": "m", "grandma": "f", "grandpa": "m", "aunt": "f", "uncle": "m"}
ADDRESS = {"Mom": "mom", "Dad": "dad", "Grandma": "grandma", "Grandpa": "grandpa", "Auntie": "aunt", "Uncle": "uncle"}
SEX_WORDS = {"sister": "f", "brother": "m", "woman": "f", "man": "m", "girl": "f", "boy": "m", "mother": "f", "queen": "f",
             "king": "m", "sisters": "f"} | FAMILY
PRONOUN_SEX = {"he": "m", "him": "m", "his": "m", "himself": "m", "she": "f", "her": "f", "herself": "f"}
PRONOUN = re.compile(r"\b(he|him|his|himself|she|her|herself)\b", re.IGNORECASE)
OWN_BODY = re.compile(
    r"\b(?:shook|hung|scratched|wiped|blew|held|bit|stamped|folded|tilted|cleared|tapped|raised|rubbed|rolled up|rolled|"
    r"clenched|stuck out|puffed out|clapped|waved|flapped|slapped) (his|her) "
    r"(?:head|eyes|nose|lip|foot|arms|breath|throat|chin|teeth|cheeks|hands|paws|wings|knees|sleeves)\b"
    r"|\bneeded (his|her) [a-z-]+"
    r"|\b(?:went on|gave|turned out|took off|opened|turned|waited for|tapped|with all) (his|her) (?:way|word|pockets|coat|back|heart)\b")
SCENERY_CAT = re.compile(r"[Tt]he cat (?:looked|stared|gazed) at h|(?:told|to|only|asked) the (?:cat|dog)\b")
LOST_BABY = re.compile(r"its mother|This [a-z ]+ is lost")
MOTHER = re.compile(r"When she saw the|\bThe [a-z]+ (?:bowed|touched|looked at|gazed at|stared at) ")
MOST_NAMES, FEWEST_WORDS = 3, 50


@lru_cache(None)
def _lists():
    """Names, kinds, jobs and things of the world, and every word it uses."""
    world = load_tables()
    tables = world.tables
    sex = dict(world.sexes)
    sex.update({plain(row["name"]): PRONOUN_SEX[plain(row["he"])] for row in tables["sib"]})
    kinds = [plain(row["noun"]) for row in world.animals] + ["boy", "girl"]
    things = {plain(row["noun"]): {nodes[0] for nodes in row["adj"]} for row in tables["obj"]}
    jobs = [plain(row["noun"]) for row in tables["job"]]
    return sex, kinds, jobs, things, set(world.surnames), _vocabulary(world), _scenery(world, things)


def _vocabulary(world):
    words = set()

    def collect(nodes):
        for node in nodes:
            if isinstance(node, str):
                words.update(re.findall(r"[a-z]+", node.lower()))
            elif isinstance(node, Alt):
                for option in node.options:
                    collect(option)

    for _, nodes in world.pieces:
        collect(nodes)
    for variants in world.rules.values():  # with their synonyms
        for variant in variants:
            collect(variant.nodes)
    extra = ("she he her him his himself herself the a an and little young small boy girl mr mrs named called said replied "
             "answered s t m ll re next door school from friend this fresh bread warm soup apple pie plum jam everyone")
    return words | set(extra.split()) | {name.lower() for names in world.names.values() for name in names} \
        | {name.lower() for name in world.surnames}


def _scenery(world, things):
    """(word before, thing) wherever the world's own text has a thing that the story need not be about: "rang the bell"."""
    pairs, heads = set(), {noun.split()[0]: noun for noun in things}

    def collect(nodes, before):
        for node in nodes:
            if isinstance(node, str):
                words = re.findall(r"[a-z'-]+|[.!?;:,\"]", node.lower())
                for word in words:
                    if word in heads:
                        pairs.update((last, noun) for last in before for noun in things if noun.split()[0] == word)
                    before = {word}
            elif isinstance(node, Alt):
                before = set().union(*(collect(option, before) for option in node.options))
            else:
                before = {"*"}
        return before

    for _, nodes in world.pieces:
        collect(nodes, {"*"})
    return pairs


class _Story:
    """A story taken apart: paragraphs, narration with the speech blanked out, and who is who."""

    def __init__(self, text):
        self.sex, self.kinds, self.jobs, self.things, self.surnames, self.vocabulary, self.scenery = _lists()
        self.text = text.strip()
        self.paragraphs = [part.strip() for part in re.split(r"\n+", self.text) if part.strip()]
        self.flat = "\n".join(self.paragraphs)
        self.narration = re.sub(r'"[^"\n]*"?', lambda m: '"' + " " * (len(m.group()) - 2) + '"', self.flat)
        self.narration = re.sub(r"\b(Mrs?)\.", r"\1 ", self.narration)
        self.kind_pattern = "|".join(sorted(self.kinds + self.jobs, key=len, reverse=True))
        self.mentions = self._find_names()
        self.people = list(dict.fromkeys(name for name, _ in self.mentions))
        self.kind = {name: self._kind_of(name) for name in self.people}

    def _find_names(self):
        found = []
        for match in re.finditer(r"\b(?:(Mrs?)\. )?([A-Z][a-z]+)\b", self.flat):
            title, word = match.groups()
            if title and word in self.surnames:
                found.append((match.group(), match.start()))
            elif not title and word in self.sex:
                found.append((word, match.start()))
        return found

    def sex_of(self, name):
        if name.startswith("Mr"):
            return "f" if name.startswith("Mrs") else "m"
        return self.sex[name]

    def _kind_of(self, name):
        """The kind that the story gives to a name at its first mention, or None."""
        start = self.first(name)
        before, after = self.flat[max(0, start - 70) : start], self.flat[start + len(name) :]
        adj = r"(?:[a-z-]+ ){0,4}?"
        if name not in load_tables().sexes and not name.startswith("Mr"):
            return "baby" if re.search(r"\b(?:brother|sister|baby|named|called|name was|little)\b[^.]{0,30}$", before) else None
        child = "girl" if self.sex_of(name) == "f" else "boy"
        kind = rf"({self.kind_pattern})\b"
        for pattern, where in (
            (rf"^ the {kind}", after),
            (rf"\b{kind} (?:named|called|whose name was) $", before),
            (rf"^(?: was| is|,) (?:a|an|the) {adj}{kind}", after),
            (rf"^ (?:was|is) the name of an? {adj}{kind}", after),
            (rf"^ lived [^.]*\. (?:He|She|{name}) was an? {adj}{kind}", after),
            (rf"^\? {name} was an? {adj}{kind}", after),
        ):
            match = re.search(pattern, where)
            if match:
                return match.group(1)
        if re.match(r" from (?:next door|school)", after) or re.search(r"(?:\b[Ll]ittle|\b[Yy]oung|friend) $", before):
            return child
        return None

    def first(self, name):
        return next(at for other, at in self.mentions if other == name)


# ------------------------------------------------------------------------------------------------------------- checks
def check_story(text):
    """List what is wrong with a story; an empty list means that it is coherent.

    Args:
        text: any text; a story of the world has paragraphs separated by line breaks.

    Returns:
        One sentence for each thing found: its form (beginning, end, quotes, a/an, repeated words and sentences, words
        that the world does not have, agreement), its people (names, kinds, pronouns) and its things.
    """
    if not text.strip():
        return ["the text is empty"]
    story = _Story(text)
    found = []
    for check in (_form, _words, _agreement, _sentences, _names, _kinds, _pronouns, _family, _speakers, _things):
        found.extend(check(story))
    return found


def _form(story):
    words = len(story.text.split())
    if words < FEWEST_WORDS:
        yield f"only {words} words; a story has at least {FEWEST_WORDS}"
    if not re.match(r'"?[A-Z]', story.text):
        yield "does not begin with a sentence"
    for paragraph in story.paragraphs:
        if not re.search(r'[.!?]"?$', paragraph):
            yield f"does not end with a whole sentence: ...{paragraph[-30:]!r}"
        if paragraph.count('"') % 2:
            yield f"a quotation is not closed: {paragraph[:40]!r}..."


LITTLE_MISTAKES = (
    (r"\b[Aa] (?=(?!uni|use|one\b|once|eu)[aeiou]|hour|honest)", "a before a vowel"),
    (r"\b[Aa]n (?![aeiou]|hour|honest)", "an before a consonant"),
    (r"\b(?!(?:had|that) )([A-Za-z]+) \1\b", "a doubled word"),
    (r"[.!?,;:][,;:!?]|[!?]\.|[.!?][a-zA-Z]| [.,!?;:]", "a wrong sign"),
    (r"(?<!Mr)(?<!Mrs)\. [a-z]|(?:^|\n)[a-z]", "a sentence without a capital"),
    (r"[^\x00-\x7f]|[\[\]{}<>|~\\_#*]", "a strange sign"),
)
CAPITALS = set("I Mr Mrs Mom Dad Grandma Grandpa Auntie Uncle Monday Tuesday Wednesday Thursday Friday Saturday Sunday Sundays "
               "April May June July August India".split())


def _words(story):
    for pattern, what in LITTLE_MISTAKES:
        match = re.search(pattern, story.flat)
        if match:
            yield f"{what}: ...{story.flat[max(0, match.start() - 15) : match.end() + 15]!r}"
    strange = [word for word in re.findall(r"[A-Za-z]+", story.flat) if word.lower() not in story.vocabulary]
    if strange:
        yield f"not a word of this world: {strange[0]!r}"
    for word in re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", story.flat):
        if word not in CAPITALS and word not in story.sex and word not in story.surnames:
            yield f"a capital in the middle of a sentence: {word!r}"


BASE_VERBS = "go say see take come run give make find get feel think look want walk ask tell hear know sit hold begin".split()
AGREEMENT = (
    r"(?<!if )(?<!wished )\b(?:he|she|it) (?:were|have|are)\b",
    r"\b(?:they|we|you) (?:was|is|has)\b",
    r"\bI (?:is|are|has|were)\b",
    r"\bThere was (?:two|three|four|five|six|seven|eight|nine|ten)\b",
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve) (?:a|an|the)\b",
    r"(?<!did )(?<!could )(?<!would )(?<!should )(?<!must )(?<!can )(?<!will )\b(?:he|she) (?:" + "|".join(BASE_VERBS) + r")\b",
    r"\b(?:told|to|with|of|from|behind|beside|gave|showed|hugged|thanked|asked|for|by) (?:he|she|I)\b(?! had)",
    r"(?<!of )(?<!knew )\b(?:him|me|them) (?:was|is|were|said|went|had|could|did)\b",
)


def _agreement(story):
    for pattern in AGREEMENT:
        match = re.search(pattern, story.flat, re.IGNORECASE if "he|she" in pattern else 0)
        if match:
            yield f"agreement: ...{story.flat[max(0, match.start() - 15) : match.end() + 15]!r}"


def _sentences(story):
    """No sentence of five words or more comes twice, except a cry for help."""
    text = re.sub(r'"Help! [^"]*"', "", story.flat)
    sentences = [s.strip(' "') for s in re.split(r'(?<!Mr)(?<!Mrs)(?<=[.!?])"?\s+', text)]
    for sentence, times in Counter(s for s in sentences if s[:1].isupper() and len(s.split()) >= 5).items():
        if times > 1:
            yield f"a sentence comes twice: {sentence!r}"


def _names(story):
    if not story.people:
        yield "nobody has a name"
        return
    if len(story.people) > MOST_NAMES:
        yield f"{len(story.people)} names: {', '.join(story.people)}; a story has at most {MOST_NAMES}"
    hero = story.people[0]
    if story.first(hero) > len(story.paragraphs[0]):
        yield f"{hero} comes in after the first paragraph"
    for name in story.people:
        if story.kind[name] is None:
            yield f"{name} comes in without an introduction"
    for name in story.people:
        said = rf"(?:\b[Aa]n? (?:[a-z-]+ ){{0,3}}?(?:{story.kind_pattern}) (?:named|called|whose name was) )?\b{re.escape(name)}\b"
        said += rf"(?: the (?:{story.kind_pattern})\b| from next door| from school)?"
        named = sum(match.group() != name for match in re.finditer(said, story.flat))
        if named > 1:
            yield f"{name} is introduced twice"


def _kinds(story):
    kinds = {kind for kind in story.kind.values() if kind}
    for name, kind in story.kind.items():
        if kind in ("boy", "girl") and (kind == "girl") != (story.sex_of(name) == "f"):
            yield f"{name} is a {kind}"
    animals = "|".join(sorted(story.kinds, key=len, reverse=True))
    for match in re.finditer(rf"\b([Tt]he )?(little|young|right|luckiest|fastest|smartest|best) ({animals})\b", story.flat):
        the, adj, kind = match.groups()
        said = story.narration[match.start() : match.end()].strip() == ""
        if kind not in kinds and (the or said) and not re.match(r" named| called", story.flat[match.end() :]):
            yield f"{match.group()!r}, but there is no {kind} in this story"
    for match in re.finditer(rf"\b[Tt]he ({animals})\b(?! of the| and the|'s)", story.narration):
        kind = match.group(1)
        seen = rf"\b(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|another)\b[^.!?]{{0,40}}\b{kind}"
        if kind not in kinds and not re.search(seen, story.flat[: match.start()]) and not SCENERY_CAT.search(
                story.flat[max(0, match.start() - 9) : match.end() + 14]):
            yield f"{match.group()!r}, but there is no {kind} in this story"


def _entities(story):
    """(position, sex, name or noun) of everyone whom a pronoun may mean."""
    people = [(at, story.sex_of(name), name) for name, at in story.mentions]
    nouns = [(m.start(), SEX_WORDS[m.group().lower()], m.group().lower())
             for m in re.finditer(r"\b(?:" + "|".join(SEX_WORDS) + r")\b", story.flat, re.IGNORECASE)]
    kinds = {kind: name for name, kind in story.kind.items()}
    called = [(m.start(), story.sex_of(kinds[m.group(1)]), kinds[m.group(1)])
              for m in re.finditer(rf"\b[Tt]he (?:little |young )?({story.kind_pattern})\b", story.flat) if m.group(1) in kinds]
    return sorted(people + nouns + called)


def _pronouns(story):
    """Each he and she of the narration has somebody to mean: see the three small rules below."""
    if not story.people:
        return
    hero_sex, entities, start = story.sex_of(story.people[0]), _entities(story), 0
    yield from _first_paragraph(story, hero_sex)
    told = [(at, sex, who) for at, sex, who in entities  # in the narration, or brought in by a line of speech
            if story.narration[at] != " " or who in story.people and at == story.first(who)]
    for paragraph in story.paragraphs:
        end = start + len(paragraph)
        here = [(at, sex) for at, sex, _ in told if start <= at < end]
        for match in PRONOUN.finditer(story.narration, start, end):
            sex, (begin, stop) = PRONOUN_SEX[match.group().lower()], _sentence(story, match, start, end)
            if _means_nobody(story, sex, hero_sex, here, stop, paragraph) or _changes_subject(story, match, sex, hero_sex, here,
                                                                                           begin, stop, start):
                yield f"{match.group()!r} means nobody: ...{story.flat[max(start, match.start() - 25) : match.end() + 15]!r}"
                break
        yield from _answers(story, start, end)
        yield from _to_oneself(story, told, start, end)
        yield from _own_body(story, entities, start, end)
        start = end + 1


def _first_paragraph(story, hero_sex):
    """While the hero is alone in the story, he and she mean the hero."""
    end = len(story.paragraphs[0])
    if len({name for name, at in story.mentions if at < end}) == 1:
        for match in PRONOUN.finditer(story.narration, 0, end):
            if PRONOUN_SEX[match.group().lower()] != hero_sex:
                yield f"{match.group()!r}, but {story.people[0]} is {'she' if hero_sex == 'f' else 'he'}"
                return


DOES_TO = "told|gave|showed|asked|took|led|hugged|helped|thanked|saved|pulled|got|tripped|pushed"
ONESELF = re.compile(rf"\b([A-Z][a-z]+) (?:{DOES_TO}) (him|her)(?: (?:what|the|a|an|up|all|about|back|everything|out)\b|[.,])"
                     rf"|\b([Hh]e|[Ss]he) (?:{DOES_TO}) ([A-Z][a-z]+)\b(?!')"
                     r"|\b([A-Z][a-z]+) took a turn, and then (he|she)\b")


def _to_oneself(story, told, start, end):
    """ "Mia told her everything": there must be another she."""
    for match in ONESELF.finditer(story.narration, start, end):
        name = next((word for word in match.groups() if word and word.lower() not in PRONOUN_SEX), None)
        pronoun = next(word for word in match.groups() if word and word.lower() in PRONOUN_SEX)
        if name in story.sex:
            sex = PRONOUN_SEX[pronoun.lower()]
            if not any(s == sex and who != name for _, s, who in told):
                yield f"{match.group()!r}, but {name} is the only {'she' if sex == 'f' else 'he'}"


def _sentence(story, match, start, end):
    """Where the sentence around a match begins and stops."""
    begin = max(story.narration.rfind(sign, start, match.start()) for sign in '.!?"\n') + 1
    stop = re.compile(r"[.!?]").search(story.narration, match.end())
    return max(begin, start), stop.start() if stop else end


def _means_nobody(story, sex, hero_sex, here, stop, paragraph):
    """A pronoun that is not the hero's needs somebody of that sex in its paragraph, up to the end of its sentence."""
    babies = {story.sex_of(name) for name, kind in story.kind.items() if kind == "baby"}
    if sex == hero_sex or sex in babies or any(s == sex and at < stop for at, s in here):
        return False
    return not (sex == "f" and MOTHER.search(paragraph) and LOST_BABY.search(story.flat))


def _changes_subject(story, match, sex, hero_sex, here, begin, stop, start):
    """ "Mia turned. But he ..." and "Mia climbed until he ...": the subject cannot change without a name."""
    if match.group().lower() not in ("he", "she"):
        return False
    before, now = story.narration[begin : match.start()], {s for at, s in here if begin <= at < stop}
    if re.search(r"(?:until|before|so much that|(?:twice|waited), and then) $", before):
        now |= {PRONOUN_SEX[p.lower()] for p in re.findall(r"\b(?:he|she)\b", before, re.IGNORECASE)}
        return bool(now) and sex not in now
    if not re.fullmatch(r"\s*(?:(?:But|Then|So|And) )?", before) or '"' in story.flat[begin - 1 : stop + 3]:
        return False
    last = max(story.narration.rfind(sign, start, max(start, begin - 1)) for sign in '.!?"\n') + 1
    said = {s for at, s in here if max(last, start) <= at < begin}
    said |= {PRONOUN_SEX[p.lower()] for p in re.findall(r"\b(?:he|she)\b", story.narration[max(last, start) : begin], re.IGNORECASE)}
    after_speech = story.flat[max(start, last - 1)] == '"'
    return len(said) == 1 and sex not in said and (sex != hero_sex or "But" in before and not after_speech)


def _answers(story, start, end):
    """Mia asked Tom, "...?" He said: it is Tom who answers."""
    for match in re.finditer(r'asked [^",.]*?([A-Z][a-z]+)[^",.]*, "[^"]*" (He|She)\b', story.flat[start:end]):
        name, pronoun = match.groups()
        if name in story.sex and story.sex_of(name) != PRONOUN_SEX[pronoun.lower()]:
            yield f"{name} is asked, but {pronoun.lower()!r} answers"


def _own_body(story, entities, start, end):
    """Who shakes a head shakes his or her own: it must agree with the subject of the sentence."""
    for match in OWN_BODY.finditer(story.narration, start, end):
        begin, _ = _sentence(story, match, start, end)
        sexes = {sex for at, sex, _ in entities if begin <= at < match.start()}
        sexes |= {PRONOUN_SEX[p.lower()] for p in re.findall(r"\b(?:he|she)\b", story.narration[begin : match.start()], re.IGNORECASE)}
        if len(sexes) == 1 and PRONOUN_SEX[next(filter(None, match.groups()))] not in sexes:
            yield f"{match.group()!r} does not agree: {story.flat[begin : match.end()].strip()!r}"


def _family(story):
    """His mom stays his mom, and whoever is called Mom is one."""
    if not story.people:
        return
    hero = story.people[0]
    owned = re.findall(r"\b(his|her) (" + "|".join(FAMILY) + r")\b(?! had (?:gone|died))", story.narration, re.IGNORECASE)
    owners = {}
    for owner, noun in owned:
        owners.setdefault(noun.lower(), set()).add(owner.lower())
    for noun, words in owners.items():
        if len(words) > 1:
            yield f"both his {noun} and her {noun}"
        elif PRONOUN_SEX[next(iter(words))] != story.sex_of(hero) and len({story.sex_of(n) for n in story.people}) == 1:
            yield f"{next(iter(words))} {noun}, but {hero} is {'she' if story.sex_of(hero) == 'f' else 'he'}"
    later = {noun.lower() for _, noun in re.findall(
        r"\b(his|her) (" + "|".join(FAMILY) + r")\b(?! had (?:gone|died))", "\n".join(story.paragraphs[1:]), re.IGNORECASE)}
    if len(later) > 1:
        yield f"the grown-up changes: {', '.join(sorted(later))}"
    for word, noun in ADDRESS.items():
        if re.search(rf"\b{word}\b", story.flat) and noun not in {n.lower() for _, n in owned}:
            if not re.search(rf"(?:^|[.!?] ){word}\b", story.flat):
                yield f"somebody is called {word}, but there is no {noun}"


def _speakers(story):
    """Nobody talks to himself by name, and "he said" needs a he who is not the one spoken to."""
    entities = _entities(story)
    after = [(m, m.group(1), m.group(2), m.group(3))
             for m in re.finditer(r'"([^"\n]+)" (?:(he|she)|[a-z]+ ([A-Z][a-z]+))\b', story.flat)]
    ahead = [(m, m.group(3), m.group(1), m.group(2))
             for m in re.finditer(r'\b(?:([Hh]e|[Ss]he)|([A-Z][a-z]+)) [a-z]+(?: [a-z ]+)?, "([^"\n]+)"', story.flat)]
    for match, line, pronoun, speaker in after + ahead:
        called = [name for name in story.people if re.search(rf"[,.!?] {re.escape(name)}[,.!?]|^{re.escape(name)}[,!?]", line)]
        if speaker in called and "hink" not in line:
            yield f"{speaker} talks to {speaker}: {match.group()[:50]!r}"
        if pronoun and called and not line.startswith("Go, "):
            sex = PRONOUN_SEX[pronoun.lower()]
            if not any(s == sex and who not in called for _, s, who in entities):
                yield f"{pronoun!r} talks to {called[0]}, but nobody else is {pronoun!r}"


def _things(story):
    """A thing is first one of many, then the one of this story; and it keeps its color."""
    nouns = "|".join(sorted(map(re.escape, story.things), key=len, reverse=True))
    pattern = re.compile(rf"(?:\b([a-z]+|[A-Z][a-z]+'s|[A-Z][a-z]*) )?(?:\b([a-z-]+) )?\b({nouns})\b(?!-)")
    looks = set().union(*story.things.values())
    colors, known, main = {}, set(), None
    for match in pattern.finditer(story.flat):
        one, two, noun = match.groups()
        before = (two or one or "").lower()
        adj = two if two in story.things[noun] else None
        determiner = (one or "").lower() if two in looks else before
        if adj and not (noun in known and determiner in ("a", "an")):  # "an old book" may be one more book
            colors.setdefault(noun, set()).add(adj)
        if len(colors.get(noun, ())) > 1:
            yield f"the {noun} is {' and '.join(sorted(colors[noun]))}"
        scenery = ("*" if before in ("his", "her") else before, noun) in story.scenery or one == "back"
        scenery = scenery or re.match(r" in (?:the window|a box|one corner)", story.flat[match.end() :])
        owned = determiner in ("his", "her", "my", "your")
        if determiner in ("a", "an"):
            main = main or (noun if adj and not scenery else None)
        elif noun in known or scenery and not (adj and owned):
            continue
        elif determiner in ("the", "no") or main and owned:
            yield f"{match.group()!r} was never mentioned before"
        else:
            main = main or (noun if adj else None)
        known.add(noun)
