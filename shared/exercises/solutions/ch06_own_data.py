"""Answers to the exercises of chapter 6's side room `own_data`."""

import math


def leaks(train_texts, test_texts):
    known = {" ".join(text.lower().split()) for text in train_texts}
    return [text for text in test_texts if " ".join(text.lower().split()) in known]


def word_score(f, length, mean_length, n_holders, n):
    rarity = math.log(1 + (n - n_holders + 0.5) / (n_holders + 0.5))
    return rarity * f / (f + 1.2 * (1 - 0.75 + 0.75 * length / mean_length))


def supported(answer, passage):
    said, known = ({word.rstrip(".,!?") for word in text.lower().split()} - {""} for text in (answer, passage))
    return len(said & known) / len(said) if said else 0.0


SOLUTIONS = {
    "6d.1": (
        leaks,
        """Both sides are brought to one form before they are compared, and a set makes the question fast. Near copies
        need more: near_copies compares pairs of neighboring words, for which equal texts are the easiest case.""",
    ),
    "6d.2": (
        word_score,
        """Rarity does not depend on the passage, and the second factor does not depend on the other passages but for
        their mean length. With k1 = 0 the second factor is 1, and only rarity counts.""",
    ),
    "6d.3": (
        supported,
        """The share says that words are in the passage, not that they stand in the right relation: an answer may take
        all its words from the passage and still be wrong. A low share is a sign; a high one is no proof.""",
    ),
}
