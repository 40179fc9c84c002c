"""From a crawl to a corpus: extraction, filters, copies, leaks, personal data and a mixture, each from scratch.

What is left out: other files than HTML, and every step that asks a large model.

References: Raffel et al. (2020), section 2.2, and Rae et al. (2021), appendix A, for rules of quality; Broder (1997)
for MinHash. Taught in ch02, sections C.2 to C.10.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from html.parser import HTMLParser

import numpy as np

PRIME, N_VALUES = 2**61 - 1, 2**32  # a Mersenne prime for the random functions, and how many values they have
COMMON_WORDS = frozenset("the and a to of in was he she it said that with had his her".split())
ENDS_A_SENTENCE = re.compile(r"[.!?][\"')\u201d\u2019]*$")
MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(r"\b\d{3}[-. ]\d{4}\b")


class PageBlocks(HTMLParser):
    """Cuts a page into its blocks of text, each with the number of its letters that stand in links.

    Source: this course. Taught in ch02, section C.2.
    """

    LEFT_OUT = frozenset(("script", "style", "title"))
    INLINE = frozenset("a b i em strong span br".split())

    def __init__(self, html: str) -> None:
        super().__init__()
        self.blocks: list[tuple[str, int]] = []
        self.text, self.linked, self.tag, self.in_link = "", 0, "", False
        self.feed(html)
        self.close()
        self.end_block("")

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.in_link = self.in_link or tag == "a"
        if tag not in self.INLINE:
            self.end_block(tag)

    def handle_endtag(self, tag: str) -> None:
        self.in_link = self.in_link and tag != "a"
        if tag not in self.INLINE:
            self.end_block("")

    def handle_data(self, data: str) -> None:
        if self.tag not in self.LEFT_OUT:
            self.text, self.linked = self.text + data, self.linked + len(data) * self.in_link

    def end_block(self, tag: str) -> None:
        if text := " ".join(self.text.split()):
            self.blocks.append((text, self.linked))
        self.text, self.linked, self.tag = "", 0, tag


def extract_text(html: str, *, min_words: int = 3, max_linked: float = 0.3) -> str:
    """Take the running text out of a page, one block a line: blocks that end as sentences do and are not mostly links.

    Args:
        html: the page.
        min_words: a shorter block is left out.
        max_linked: a block with a larger share of its letters in links is left out, 0 to 1.

    Source: Raffel et al. (2020), section 2.2, for ends of sentences. Taught in ch02, section C.2.
    """
    blocks = ((repair_encoding(text), linked / len(text)) for text, linked in PageBlocks(html).blocks)
    kept = (text for text, share in blocks if share <= max_linked and ENDS_A_SENTENCE.search(text))
    return "\n".join(text for text in kept if len(text.split()) >= min_words)


def repair_encoding(text: str) -> str:
    """Undo UTF-8 that was read as Latin-1, and write quotation marks and apostrophes as a keyboard does.

    Source: this course. Taught in ch02, section C.2.
    """
    try:
        text = text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        pass  # nothing was read wrongly, or it cannot be undone
    return text.translate({0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"})


def letter_triples(text: str) -> list[str]:
    """Cut a text into overlapping pieces of three characters, which tell languages apart.

    Source: Cavnar and Trenkle (1994), section 3. Taught in ch02, section C.3.
    """
    text = " ".join(text.lower().split())
    return [text[start : start + 3] for start in range(len(text) - 2)]


class NaiveBayes:
    """Tells two kinds of text apart by counting features, as if each came independently of the others.

    Args:
        features: cuts a text into what is counted.

    Source: Maron (1961). Taught in ch02, section C.3.
    """

    def __init__(self, features: Callable[[str], Iterable[Hashable]]):
        self.features, self.weights = features, dict[Hashable, float]()

    def fit(self, yes: Iterable[str], no: Iterable[str]) -> "NaiveBayes":
        """Count the features in texts of both kinds; every count begins at 1. A second call starts anew."""
        counts = [Counter(feature for text in texts for feature in self.features(text)) for texts in (yes, no)]
        known = counts[0].keys() | counts[1].keys()
        totals = [count.total() + len(known) for count in counts]
        shares = [{feature: (count[feature] + 1) / total for feature in known} for count, total in zip(counts, totals)]
        self.weights = {feature: math.log(shares[0][feature] / shares[1][feature]) for feature in known}
        return self

    def score(self, text: str) -> float:
        """Give the mean weight of a text's features: above 0 where "yes" is the better guess, 0 for no feature."""
        weights = [self.weights.get(feature, 0.0) for feature in self.features(text)]
        return sum(weights) / max(1, len(weights))


def quality_problems(text: str, *, min_words: int = 20, max_words: int = 1000) -> list[str]:
    """Name each rule of running English that a text breaks.

    Args:
        text: one document.
        min_words, max_words: how long it may be.

    Source: Rae et al. (2021), appendix A.1.1, with numbers of our own. Taught in ch02, section C.4.
    """
    words = text.split()
    with_letters = sum(any(letter.isalpha() for letter in word) for word in words)
    usual = sum(letter.isalnum() or letter in " \n.,;:!?'\"-" for letter in text)
    rules = {
        "length": min_words <= len(words) <= max_words,
        "length of words": 3 * len(words) <= sum(map(len, words)) <= 7 * len(words),
        "words without letters": with_letters >= 0.9 * len(words),
        "unusual signs": usual >= 0.98 * len(text),
        "common words": len(COMMON_WORDS & {word.lower() for word in words}) >= 3,
    }
    return [name for name, holds in rules.items() if not holds]


def normal_words(text: str) -> list[str]:
    """Cut a text into words, lower case and without signs: what counts as equal when copies are looked for.

    Source: this course. Taught in ch02, section C.5.
    """
    return re.findall(r"\w+", text.lower())


def exact_copies(texts: Iterable[str]) -> set[int]:
    """Give the places of texts that are, word for word, an earlier one.

    Source: this course. Taught in ch02, section C.5.
    """
    seen, copies = set(), set()
    for place, text in enumerate(texts):
        key = hashlib.sha256(" ".join(normal_words(text)).encode("utf-8")).digest()
        if key in seen:
            copies.add(place)
        seen.add(key)
    return copies


def shingles(text: str, n: int = 5) -> set[str]:
    """Give all runs of n words in a text; of a shorter text, all its words as one.

    Source: Broder (1997), section 2. Taught in ch02, section C.5.
    """
    words = normal_words(text)
    return {" ".join(words[start : start + n]) for start in range(max(1, len(words) - n + 1))}


def jaccard(a: set, b: set) -> float:
    """Give the share of all members of two sets that both hold: 0 for nothing in common, 1 for equal sets.

    Source: Broder (1997), section 2. Taught in ch02, section C.5.
    """
    return len(a & b) / max(1, len(a | b))


def minhash(members: Iterable[str], n_hashes: int = 64, seed: int = 0) -> np.ndarray:
    """Sign a set: for each of n random functions, the smallest value that it gives to a member.

    Args:
        members: at least one.
        n_hashes: length of the signature.
        seed: draws the functions; only signatures of one seed can be compared.

    Shape:
        -> (n_hashes,), int64, below 2 ** 32.

    Source: Broder (1997), section 3. Taught in ch02, section C.5.
    """
    a, b = np.random.default_rng(seed).integers(1, 2**31, (2, n_hashes, 1))
    digests = [hashlib.sha1(member.encode("utf-8")).digest()[:4] for member in members]
    values = np.frombuffer(b"".join(digests), dtype="<u4").astype(np.int64)  # (M,)
    return ((a * values + b) % PRIME % N_VALUES).min(axis=1)  # (n_hashes,) from (n_hashes, M)


def candidate_pairs(signatures: Sequence[np.ndarray], n_bands: int) -> Iterator[tuple[int, int]]:
    """Give pairs of places whose signatures agree in one whole band: the first that has it, and each later one.

    Args:
        signatures: all of one length, which n_bands divides.
        n_bands: pieces into which each is cut.

    Source: Leskovec, Rajaraman and Ullman (2014), section 3.4. Taught in ch02, section C.5.
    """
    for bands in zip(*(np.split(signature, n_bands) for signature in signatures)):
        first: dict[bytes, int] = {}
        for place, band in enumerate(bands):
            if (earlier := first.setdefault(band.tobytes(), place)) != place:
                yield earlier, place


def similar_copies(texts: Sequence[str], *, threshold: float = 0.4, n_bands: int = 16, seed: int = 0) -> set[int]:
    """Give the places of texts that are near copies of an earlier one, itself a copy or not.

    Args:
        texts: documents.
        threshold: the least Jaccard similarity of near copies, 0 to 1.
        n_bands: pieces of a signature of 64; more of them find less similar pairs.
        seed: draws the functions of `minhash`.

    Source: Broder (1997). Taught in ch02, section C.5.
    """
    sets = [shingles(text) for text in texts]
    pairs = candidate_pairs([minhash(members, seed=seed) for members in sets], n_bands)
    return {later for first, later in pairs if jaccard(sets[first], sets[later]) >= threshold}


def leaked(texts: Iterable[str], held_out: Iterable[str], n: int = 20) -> set[int]:
    """Give the places of texts that share a run of n words with a text that must not be learned from.

    Args:
        texts: documents to learn from.
        held_out: validation and test texts.
        n: words in a run; fewer find more leaks and throw away more good text.

    Source: Brown et al. (2020), appendix C. Taught in ch02, section C.7.
    """
    forbidden = set().union(*(shingles(text, n) for text in held_out))
    return {place for place, text in enumerate(texts) if not forbidden.isdisjoint(shingles(text, n))}


def mask_personal_data(text: str) -> str:
    """Put `<mail>` and `<phone>` in the place of mail addresses and telephone numbers of seven digits.

    Source: this course. Taught in ch02, section C.8.
    """
    return PHONE.sub("<phone>", MAIL.sub("<mail>", text))


def mixture(sizes: Mapping[str, float], temperature: float = 1.0) -> dict[str, float]:
    """Give the share with which each source is drawn, in proportion to its size to the power 1 / temperature.

    Args:
        sizes: source -> its tokens, above 0.
        temperature: 1 draws as the sizes are, a higher one draws small sources more often.

    Raises:
        ValueError: a size or the temperature is not above 0.

    Source: Lample and Conneau (2019), section 3.1. Taught in ch02, section C.10.
    """
    if temperature <= 0 or min(sizes.values(), default=0) <= 0:
        raise ValueError(f"found sizes {dict(sizes)} and temperature {temperature}; expected numbers above 0")
    weights = {name: size ** (1 / temperature) for name, size in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}
