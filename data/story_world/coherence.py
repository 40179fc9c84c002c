"""The coherence checker: what a story promises, judged from its text alone.

It reads a story as a careful child would: who is in it, who is a fox and who a girl, whose is the red ball. It knows
the world's lists of names, kinds and things, but not how a story was made, and it judges samples of a model in the
same way.
"""

import re
from collections import Counter
from collections.abc import Iterator

from . import coherence_people as people
from .reading import Reading

FEWEST_WORDS = 50


def check_story(text: str) -> list[str]:
    """List what is wrong with a story; an empty list means that it is coherent.

    Args:
        text: any text; a story of the world has paragraphs separated by line breaks.

    Returns:
        One sentence for each thing found: its form (beginning, end, quotes, a/an, repeated words and sentences, words
        that the world does not have, agreement), its people (names, kinds, pronouns) and its things.

    Source: this course. Taught in ch05, section 5.11.
    """
    if not text.strip():
        return ["the text is empty"]
    story = Reading(text)
    about_people = (people.names, people.kinds, people.pronouns, people.family, people.speakers)
    checks = (_form, _words, _agreement, _sentences, *about_people, _things)
    return [found for check in checks for found in check(story)]


def _form(story: Reading) -> Iterator[str]:
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
CAPITALS = set(
    "I Mr Mrs Mom Dad Grandma Grandpa Auntie Uncle Monday Tuesday Wednesday Thursday Friday Saturday Sunday Sundays "
    "April May June July August India".split()
)


def _words(story: Reading) -> Iterator[str]:
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


BASE_VERBS = (
    "go say see take come run give make find get feel think look want walk ask tell hear know sit hold begin".split()
)
AGREEMENT = (
    r"(?<!if )(?<!wished )\b(?:he|she|it) (?:were|have|are)\b",
    r"\b(?:they|we|you) (?:was|is|has)\b",
    r"\bI (?:is|are|has|were)\b",
    r"\bThere was (?:two|three|four|five|six|seven|eight|nine|ten)\b",
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|twelve) (?:a|an|the)\b",
    r"(?<!did )(?<!could )(?<!would )(?<!should )(?<!must )(?<!can )(?<!will )\b(?:he|she) (?:"
    + "|".join(BASE_VERBS)
    + r")\b",
    r"\b(?:told|to|with|of|from|behind|beside|gave|showed|hugged|thanked|asked|for|by) (?:he|she|I)\b(?! had)",
    r"(?<!of )(?<!knew )\b(?:him|me|them) (?:was|is|were|said|went|had|could|did)\b",
)


def _agreement(story: Reading) -> Iterator[str]:
    for pattern in AGREEMENT:
        match = re.search(pattern, story.flat, re.IGNORECASE if "he|she" in pattern else 0)
        if match:
            yield f"agreement: ...{story.flat[max(0, match.start() - 15) : match.end() + 15]!r}"


def _sentences(story: Reading) -> Iterator[str]:
    """No sentence of five words or more comes twice, except a cry for help."""
    text = re.sub(r'"Help! [^"]*"', "", story.flat)
    sentences = [s.strip(' "') for s in re.split(r'(?<!Mr)(?<!Mrs)(?<=[.!?])"?\s+', text)]
    for sentence, times in Counter(s for s in sentences if s[:1].isupper() and len(s.split()) >= 5).items():
        if times > 1:
            yield f"a sentence comes twice: {sentence!r}"


def _things(story: Reading) -> Iterator[str]:
    """A thing is first one of many, then the one of this story; and it keeps its color."""
    nouns = "|".join(sorted(map(re.escape, story.things), key=len, reverse=True))
    pattern = re.compile(rf"(?:\b([a-z]+|[A-Z][a-z]+'s|[A-Z][a-z]*) )?(?:\b([a-z-]+) )?\b({nouns})\b(?!-)")
    looks = {adj for adjectives in story.things.values() for adj in adjectives}
    colors: dict[str, set[str]] = {}
    known: set[str] = set()
    main = None
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
