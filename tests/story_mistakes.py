"""Mistakes to plant in a coherent story: each takes a story and a random generator and returns the text, or None."""

import re

from data.story_world.engine import load_tables
from data.story_world.template import plain

FLIP = {"he": "she", "she": "he", "his": "her", "him": "her", "her": "his", "himself": "herself", "herself": "himself"}
PRONOUN = re.compile(r"\b(he|she|his|him|her|himself|herself)\b", re.IGNORECASE)
SPEECH = re.compile(r'"[^"\n]*"')


def _flip(text):
    def other(match):
        word = FLIP[match.group().lower()]
        return word.capitalize() if match.group()[0].isupper() else word

    parts = re.split(r'("[^"\n]*")', text)
    return "".join(part if part.startswith('"') else PRONOUN.sub(other, part) for part in parts)


def _later(text, old, new, share=0.4):
    """Replace a word in the later part of a text."""
    cut = text.find(" ", int(len(text) * share))
    changed = re.sub(rf"\b{re.escape(old)}\b", new, text[cut:])
    return text[:cut] + changed if changed != text[cut:] else None


def new_name(story, rng):
    """The hero gets another name midway."""
    name = story.facts["hero"]["name"]
    other = rng.choice([x for x in load_tables().names[load_tables().sexes[name]] if x not in story.text])
    return _later(story.text, name, other)


def other_kind(story, rng):
    """ "the little fox" becomes "the little bear"."""
    kind = story.facts["hero"]["kind"]
    kinds = [plain(row["noun"]) for row in load_tables().animals if plain(row["noun"]) not in story.text]
    found = list(re.finditer(rf"\b[Tt]he (?:little |young )?{kind}\b", story.text))
    if not found:
        return None
    match = rng.choice(found)
    return story.text[: match.end() - len(kind)] + rng.choice(kinds) + story.text[match.end() :]


def flipped_story(story, rng):
    """Every he becomes she and every she he."""
    text = _flip(story.text)
    return text if text != story.text else None


def flipped_paragraph(story, rng):
    """The same in one paragraph with at least two pronouns."""
    paragraphs = story.text.split("\n")
    able = [i for i, p in enumerate(paragraphs) if len(PRONOUN.findall(SPEECH.sub("", p))) >= 2]
    if not able:
        return None
    i = rng.choice(able)
    return "\n".join(paragraphs[:i] + [_flip(paragraphs[i])] + paragraphs[i + 1 :])


def other_thing(story, rng):
    """The thing of the story becomes another one midway."""
    noun = story.facts.get("noun")
    if noun is None or story.text.count(noun) < 3:
        return None
    nouns = [plain(row["noun"]) for row in load_tables().tables["obj"]]
    other = rng.choice([x for x in nouns if x not in story.text and noun not in x and x not in noun])
    plural = next(plain(row["plural"]) for row in load_tables().tables["obj"] if plain(row["noun"]) == noun)
    return None if plural in story.text else _later(story.text, noun, other)


def repeated_sentence(story, rng):
    """A sentence of the narration comes again in the next paragraph."""
    sentences = [s for s in re.findall(r"(?<=[.!?] )[A-Z][^.!?\"\n]+[.](?= |\n)", story.text) if len(s.split()) >= 5]
    if not sentences:
        return None
    sentence, at = rng.choice(sentences), story.text.rfind("\n")
    return story.text[:at] + " " + sentence + story.text[at:]


def cut_short(story, rng):
    """The text ends in the middle of a sentence."""
    words = story.text.split(" ")
    for at in rng.sample(range(len(words) * 2 // 3, len(words) - 2), 5):
        if words[at][-1].isalpha():
            return " ".join(words[: at + 1])
    return None


def wrong_article(story, rng):
    """ "an owl" becomes "a owl", or "a fox" "an fox"."""
    found = list(re.finditer(r"\b(an?) (?=[a-z])", story.text))
    match = rng.choice(found)
    return story.text[: match.start()] + ("a " if match.group(1) == "an" else "an ") + story.text[match.end() :]


def doubled_word(story, rng):
    """One word is written twice."""
    match = rng.choice(list(re.finditer(r"\b[a-z]+\b", story.text)))
    return story.text[: match.end()] + " " + story.text[match.start() :]


def open_quotation(story, rng):
    """One quotation mark is missing."""
    found = [match.start() for match in re.finditer('"', story.text)]
    if not found:
        return None
    at = rng.choice(found)
    return story.text[:at] + story.text[at + 1 :]


def wrong_verb(story, rng):
    """ "she was" becomes "she were"."""
    found = list(re.finditer(r"\b(?:[Hh]e|[Ss]he) was\b", SPEECH.sub(lambda m: " " * len(m.group()), story.text)))
    if not found:
        return None
    match = rng.choice(found)
    return story.text[: match.end() - 3] + "were" + story.text[match.end() :]


def other_parent(story, rng):
    """Her mom becomes her uncle midway."""
    family = [
        kind for kind in story.facts["family"] if len(re.findall(rf"\b(?:his|her) {kind}\b", story.text, re.I)) > 1
    ]
    if not family:
        return None
    other = rng.choice([kind for kind in ("mom", "dad", "grandma", "grandpa", "aunt", "uncle") if kind != family[0]])
    paragraphs = story.text.rsplit("\n", 1)
    changed = re.sub(rf"\b([Hh]is|[Hh]er) {family[0]}\b", rf"\1 {other}", paragraphs[1])
    seen = re.search(rf"\b(?:his|her) {family[0]}\b", "\n".join(paragraphs[0].split("\n")[1:]), re.I)
    return paragraphs[0] + "\n" + changed if changed != paragraphs[1] and seen else None


def broken_word(story, rng):
    """A word gets a piece of another one."""
    match = rng.choice(list(re.finditer(r"\b[a-z]{4,}\b", story.text)))
    return story.text[: match.end()] + rng.choice(["fle", "ipos", "quam", "ble"]) + story.text[match.end() :]


def stranger(story, rng):
    """A third and a fourth character speak who never came in."""
    other = rng.choice([name for name in load_tables().sexes if name not in story.text])
    at = story.text.rfind("\n")
    return story.text[:at] + f' "That is right," said {other}.' + story.text[at:]


MISTAKES = {  # the share that the checker must see
    new_name: 0.8,
    other_kind: 0.8,
    flipped_story: 0.7,
    flipped_paragraph: 0.8,
    other_thing: 0.8,
    repeated_sentence: 0.95,
    cut_short: 0.95,
    wrong_article: 0.95,
    doubled_word: 0.95,
    open_quotation: 0.95,
    wrong_verb: 0.8,
    other_parent: 0.8,
    broken_word: 0.9,
    stranger: 0.95,
}
