"""Small rules of English that every story obeys: pronouns, a or an, spaces and capital letters."""

import re

PRON = {"m": ("he", "him", "his", "himself"), "f": ("she", "her", "her", "herself")}
VOWEL = r"(?:(?!uni|use|one\b|once|eu)[aeiou]|hour|honest)"
ARTICLE = re.compile(rf"\b([Aa]) (?={VOWEL})")
SENTENCE_START = re.compile(r'((?:^|[.!?]"? |\n|\n")"?)([a-z])')


def article(noun_phrase: str) -> str:
    """The noun phrase with "a" or "an" before it."""
    return ARTICLE.sub(r"\1n ", "a " + noun_phrase)


def tidy(text: str) -> str:
    """One space between words, one sign at the end of a sentence."""
    return re.sub(r"([.!?]) ?\.$", r"\1", re.sub(r"  +", " ", text.strip()))


def finish(text: str) -> str:
    """The finished story: spaces, signs, a or an, capital letters."""
    text = re.sub(r"\s*\n\s*", "\n", text.strip())
    text = re.sub(r" ([.,!?:;])", r"\1", re.sub(r"  +", " ", text)).replace(",.", ".")
    text = ARTICLE.sub(r"\1n ", text)
    text = SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)
    return text.replace("~", " ")
