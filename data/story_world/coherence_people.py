"""The checker's rules about people: names, kinds, pronouns, family and who speaks to whom."""

import re
from collections.abc import Iterator

from .reading import FAMILY, PRONOUN_SEX, Entity, Reading, entities_of

MOST_NAMES = 3
ADDRESS = {"Mom": "mom", "Dad": "dad", "Grandma": "grandma", "Grandpa": "grandpa", "Auntie": "aunt", "Uncle": "uncle"}
PRONOUN = re.compile(r"\b(he|him|his|himself|she|her|herself)\b", re.IGNORECASE)
OWN_BODY = re.compile(
    r"\b(?:shook|hung|scratched|wiped|blew|held|bit|stamped|folded|tilted|cleared|tapped|raised|rubbed|"
    r"rolled up|rolled|clenched|stuck out|puffed out|clapped|waved|flapped|slapped) (his|her) "
    r"(?:head|eyes|nose|lip|foot|arms|breath|throat|chin|teeth|cheeks|hands|paws|wings|knees|sleeves)\b"
    r"|\bneeded (his|her) [a-z-]+"
    r"|\b(?:went on|gave|turned out|took off|opened|turned|waited for|tapped|with all) (his|her) "
    r"(?:way|word|pockets|coat|back|heart)\b"
)
SCENERY_CAT = re.compile(r"[Tt]he cat (?:looked|stared|gazed) at h|(?:told|to|only|asked) the (?:cat|dog)\b")


def names(story: Reading) -> Iterator[str]:
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
        said = rf"(?:\b[Aa]n? (?:[a-z-]+ ){{0,3}}?(?:{story.kind_pattern}) (?:named|called|whose name was) )?"
        said += rf"\b{re.escape(name)}\b(?: the (?:{story.kind_pattern})\b| from next door| from school)?"
        named = sum(match.group() != name for match in re.finditer(said, story.flat))
        if named > 1:
            yield f"{name} is introduced twice"


def kinds(story: Reading) -> Iterator[str]:
    kinds = {kind for kind in story.kind.values() if kind}
    for name, kind in story.kind.items():
        if kind in ("boy", "girl") and (kind == "girl") != (story.sex_of(name) == "f"):
            yield f"{name} is a {kind}"
    animals = "|".join(sorted(story.kinds, key=len, reverse=True))
    for match in re.finditer(
        rf"\b([Tt]he )?(little|young|right|luckiest|fastest|smartest|best) ({animals})\b", story.flat
    ):
        the, adj, kind = match.groups()
        said = story.narration[match.start() : match.end()].strip() == ""
        if kind not in kinds and (the or said) and not re.match(r" named| called", story.flat[match.end() :]):
            yield f"{match.group()!r}, but there is no {kind} in this story"
    for match in re.finditer(rf"\b[Tt]he ({animals})\b(?! of the| and the|'s)", story.narration):
        kind = match.group(1)
        seen = rf"\b(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|another)\b[^.!?]{{0,40}}\b{kind}"
        if (
            kind not in kinds
            and not re.search(seen, story.flat[: match.start()])
            and not SCENERY_CAT.search(story.flat[max(0, match.start() - 9) : match.end() + 14])
        ):
            yield f"{match.group()!r}, but there is no {kind} in this story"


def pronouns(story: Reading) -> Iterator[str]:
    """Each he and she of the narration has somebody to mean: see the three small rules below."""
    if not story.people:
        return
    hero_sex, entities, start = story.sex_of(story.people[0]), entities_of(story), 0
    yield from _first_paragraph(story, hero_sex)
    told = [
        (at, sex, who)
        for at, sex, who in entities  # in the narration, or brought in by a line of speech
        if story.narration[at] != " " or who in story.people and at == story.first(who)
    ]
    for paragraph in story.paragraphs:
        end = start + len(paragraph)
        here = [(at, sex) for at, sex, _ in told if start <= at < end]
        for match in PRONOUN.finditer(story.narration, start, end):
            sex, (begin, stop) = PRONOUN_SEX[match.group().lower()], _sentence(story, match, start, end)
            lost = _means_nobody(sex, hero_sex, here, stop)
            if lost or _changes_subject(story, match, sex, hero_sex, here, begin, stop, start):
                near = story.flat[max(start, match.start() - 25) : match.end() + 15]
                yield f"{match.group()!r} means nobody: ...{near!r}"
                break
        yield from _answers(story, start, end)
        yield from _to_oneself(story, told, start, end)
        yield from _own_body(story, entities, start, end)
        start = end + 1


def _first_paragraph(story: Reading, hero_sex: str) -> Iterator[str]:
    """While the hero is alone in the story, he and she mean the hero."""
    end = len(story.paragraphs[0])
    if len({name for name, at in story.mentions if at < end}) == 1:
        for match in PRONOUN.finditer(story.narration, 0, end):
            if PRONOUN_SEX[match.group().lower()] != hero_sex:
                yield f"{match.group()!r}, but {story.people[0]} is {'she' if hero_sex == 'f' else 'he'}"
                return


DOES_TO = "told|gave|showed|asked|took|led|hugged|helped|thanked|saved|pulled|got|tripped|pushed"
ONESELF = re.compile(
    rf"\b([A-Z][a-z]+) (?:{DOES_TO}) (him|her)(?: (?:what|the|a|an|up|all|about|back|everything|out)\b|[.,])"
    rf"|\b([Hh]e|[Ss]he) (?:{DOES_TO}) ([A-Z][a-z]+)\b(?!')"
    r"|\b([A-Z][a-z]+) took a turn, and then (he|she)\b"
)


def _to_oneself(story: Reading, told: list[Entity], start: int, end: int) -> Iterator[str]:
    """ "Mia told her everything": there must be another she."""
    for match in ONESELF.finditer(story.narration, start, end):
        name = next((word for word in match.groups() if word and word.lower() not in PRONOUN_SEX), None)
        pronoun = next(word for word in match.groups() if word and word.lower() in PRONOUN_SEX)
        if name in story.sex:
            sex = PRONOUN_SEX[pronoun.lower()]
            if not any(s == sex and who != name for _, s, who in told):
                yield f"{match.group()!r}, but {name} is the only {'she' if sex == 'f' else 'he'}"


def _sentence(story: Reading, match: re.Match[str], start: int, end: int) -> tuple[int, int]:
    """Where the sentence around a match begins and stops."""
    begin = max(story.narration.rfind(sign, start, match.start()) for sign in '.!?"\n') + 1
    stop = re.compile(r"[.!?]").search(story.narration, match.end())
    return max(begin, start), stop.start() if stop else end


def _means_nobody(sex: str, hero_sex: str, here: list[tuple[int, str]], stop: int) -> bool:
    """A pronoun that is not the hero's needs somebody of that sex in its paragraph, up to the end of its sentence."""
    return sex != hero_sex and not any(s == sex and at < stop for at, s in here)


def _changes_subject(
    story: Reading,
    match: re.Match[str],
    sex: str,
    hero_sex: str,
    here: list[tuple[int, str]],
    begin: int,
    stop: int,
    start: int,
) -> bool:
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
    said |= {
        PRONOUN_SEX[p.lower()]
        for p in re.findall(r"\b(?:he|she)\b", story.narration[max(last, start) : begin], re.IGNORECASE)
    }
    after_speech = story.flat[max(start, last - 1)] == '"'
    return len(said) == 1 and sex not in said and (sex != hero_sex or "But" in before and not after_speech)


def _answers(story: Reading, start: int, end: int) -> Iterator[str]:
    """Mia asked Tom, "...?" He said: it is Tom who answers."""
    for match in re.finditer(r'asked [^",.]*?([A-Z][a-z]+)[^",.]*, "[^"]*" (He|She)\b', story.flat[start:end]):
        name, pronoun = match.groups()
        if name in story.sex and story.sex_of(name) != PRONOUN_SEX[pronoun.lower()]:
            yield f"{name} is asked, but {pronoun.lower()!r} answers"


def _own_body(story: Reading, entities: list[Entity], start: int, end: int) -> Iterator[str]:
    """Who shakes a head shakes his or her own: it must agree with the subject of the sentence."""
    for match in OWN_BODY.finditer(story.narration, start, end):
        begin, _ = _sentence(story, match, start, end)
        sexes = {sex for at, sex, _ in entities if begin <= at < match.start()}
        sexes |= {
            PRONOUN_SEX[p.lower()]
            for p in re.findall(r"\b(?:he|she)\b", story.narration[begin : match.start()], re.IGNORECASE)
        }
        if len(sexes) == 1 and PRONOUN_SEX[next(filter(None, match.groups()))] not in sexes:
            yield f"{match.group()!r} does not agree: {story.flat[begin : match.end()].strip()!r}"


def family(story: Reading) -> Iterator[str]:
    """His mom stays his mom, and whoever is called Mom is one."""
    if not story.people:
        return
    hero = story.people[0]
    owned = re.findall(
        r"\b(his|her) (" + "|".join(FAMILY) + r")\b(?! had (?:gone|died))", story.narration, re.IGNORECASE
    )
    owners: dict[str, set[str]] = {}
    for owner, noun in owned:
        owners.setdefault(noun.lower(), set()).add(owner.lower())
    for noun, words in owners.items():
        if len(words) > 1:
            yield f"both his {noun} and her {noun}"
        elif PRONOUN_SEX[next(iter(words))] != story.sex_of(hero) and len({story.sex_of(n) for n in story.people}) == 1:
            yield f"{next(iter(words))} {noun}, but {hero} is {'she' if story.sex_of(hero) == 'f' else 'he'}"
    later = {
        noun.lower()
        for _, noun in re.findall(
            r"\b(his|her) (" + "|".join(FAMILY) + r")\b(?! had (?:gone|died))",
            "\n".join(story.paragraphs[1:]),
            re.IGNORECASE,
        )
    }
    if len(later) > 1:
        yield f"the grown-up changes: {', '.join(sorted(later))}"
    for word, noun in ADDRESS.items():
        if re.search(rf"\b{word}\b", story.flat) and noun not in {n.lower() for _, n in owned}:
            if not re.search(rf"(?:^|[.!?] ){word}\b", story.flat):
                yield f"somebody is called {word}, but there is no {noun}"


def speakers(story: Reading) -> Iterator[str]:
    """Nobody talks to himself by name, and "he said" needs a he who is not the one spoken to."""
    entities = entities_of(story)
    after = [
        (m, m.group(1), m.group(2), m.group(3))
        for m in re.finditer(r'"([^"\n]+)" (?:(he|she)|[a-z]+ ([A-Z][a-z]+))\b', story.flat)
    ]
    ahead = [
        (m, m.group(3), m.group(1), m.group(2))
        for m in re.finditer(r'\b(?:([Hh]e|[Ss]he)|([A-Z][a-z]+)) [a-z]+(?: [a-z ]+)?, "([^"\n]+)"', story.flat)
    ]
    for match, line, pronoun, speaker in after + ahead:
        called = [
            name for name in story.people if re.search(rf"[,.!?] {re.escape(name)}[,.!?]|^{re.escape(name)}[,!?]", line)
        ]
        if speaker in called and "hink" not in line:
            yield f"{speaker} talks to {speaker}: {match.group()[:50]!r}"
        if pronoun and called and not line.startswith("Go, "):
            sex = PRONOUN_SEX[pronoun.lower()]
            if not any(s == sex and who not in called for _, s, who in entities):
                yield f"{pronoun!r} talks to {called[0]}, but nobody else is {pronoun!r}"
