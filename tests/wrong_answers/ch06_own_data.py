"""Classic mistakes in the exercises of `own_data`, each with a fragment of the sentence it must get."""

import math
import re


def form(text):
    return " ".join(text.lower().split())


def letter_for_letter(train, test):
    return [text for text in test if text in train]


def in_one_form(train, test):
    return [form(text) for text in test if form(text) in map(form, train)]


def capitals_only(train, test):
    return [text for text in test if text.lower() in [other.lower() for other in train]]


def without_any_spaces(train, test):
    known = {"".join(text.lower().split()) for text in train}
    return [text for text in test if "".join(text.lower().split()) in known]


def parts_too(train, test):
    return [text for text in test if any(form(text) in form(other) for other in train)]


def in_order_of_training(train, test):
    return [text for other in train for text in test if form(text) == form(other)]


def what_does_not_leak(train, test):
    return [text for text in test if form(text) not in map(form, train)]


def by_key(key):
    def leaks(train, test):
        known = {key(text) for text in train}
        return [text for text in test if key(text) in known]

    return leaks


def and_clears(train, test):
    found = [text for text in test if form(text) in set(map(form, train))]
    train.clear()
    return found


def rarity(n_holders, n):
    return math.log(1 + (n - n_holders + 0.5) / (n_holders + 0.5))


def damping(length, mean):
    return 1.2 * (0.25 + 0.75 * length / mean)


def without_the_one(f, length, mean, n_holders, n):
    return math.log((n - n_holders + 0.5) / (n_holders + 0.5)) * f / (f + damping(length, mean))


def plain_idf(f, length, mean, n_holders, n):
    return (math.log(n / n_holders) + rarity(1, 1)) * f / (f + damping(length, mean))


def counts_in_proportion(f, length, mean, n_holders, n):
    return rarity(n_holders, n) * f / (1 + damping(length, mean))


def length_upside_down(f, length, mean, n_holders, n):
    return rarity(n_holders, n) * f / (f + damping(mean, length))


def without_length(f, length, mean, n_holders, n):
    return rarity(n_holders, n) * f / (f + (1.2 if length >= mean and length < 20 else damping(20, 10)))


def never_zero(f, length, mean, n_holders, n):
    return rarity(n_holders, n) * max(f, 1) / (max(f, 1) + damping(length, mean))


def share_of_the_passage(answer, passage):
    said, known = set(answer.lower().split()), set(passage.lower().split())
    return len(said & known) / max(1, len(known))


def share_of_both(answer, passage):
    said, known = set(words(answer)), set(words(passage))
    return 1.0 if said <= known and said else len(said & known) / max(1, len(said | known))


def words(text):
    return [word.rstrip(".,!?") for word in text.lower().split() if word.rstrip(".,!?")]


def with_capitals(answer, passage):
    said = set(answer.split())
    return len(said & set(passage.split())) / max(1, len(said))


def with_repetitions(answer, passage):
    said = words(answer)
    return sum(word in words(passage) for word in said) / max(1, len(said))


def parts_of_words(answer, passage):
    said = set(words(answer))
    return sum(word in passage.lower() for word in said) / max(1, len(said))


def silence_is_support(answer, passage):
    said = set(words(answer))
    return len(said & set(words(passage))) / len(said) if said else 1.0


def signs_as_words(answer, passage):
    said, known = ({word.rstrip(".,!?") for word in text.lower().split()} for text in (answer, passage))
    return len(said & known) / len(said) if said else 0.0


def share_by(words_of, is_known=lambda word, known: word in known):
    def supported(answer, passage):
        said, known = set(words_of(answer)), set(words_of(passage))
        return sum(is_known(word, known) for word in said) / len(said) if said else 0.0

    return supported


def without_a_question_mark(text):
    return {word.rstrip(".,!") for word in text.lower().split()} - {""}


def divides_by_zero(answer, passage):
    said = set(words(answer))
    return len(said & set(words(passage))) / len(said) if answer else 0.0


def each_leak_once(train_texts, test_texts):
    known = {" ".join(text.lower().split()) for text in train_texts}
    return list(dict.fromkeys(text for text in test_texts if " ".join(text.lower().split()) in known))


def for_a_single_walk(train_texts, test_texts):
    known = {" ".join(text.lower().split()) for text in train_texts}
    return (text for text in test_texts if " ".join(text.lower().split()) in known)


def twenty_times_at_most(f, length, mean_length, n_holders, n):
    rarity = math.log(1 + (n - n_holders + 0.5) / (n_holders + 0.5))
    return rarity * min(f, 20) / (min(f, 20) + 1.2 * (0.25 + 0.75 * length / mean_length))


def signs_at_both_ends(answer, passage):
    said, known = ({word.strip(".,!?") for word in text.lower().split()} - {""} for text in (answer, passage))
    return len(said & known) / len(said) if said else 0.0


def five_words_at_most(answer, passage):
    said, known = ({word.rstrip(".,!?") for word in text.lower().split()[:5]} - {""} for text in (answer, passage))
    return len(said & known) / len(said) if said else 0.0


WRONG = {
    "6d.1": [
        (letter_for_letter, "should be ['THE lamp'], yours is []"),
        (in_one_form, "yours is ['the lamp']"),
        (capitals_only, "Spaces between words"),
        (without_any_spaces, "yours is ['ab']"),
        (parts_too, "a part of a training text is no copy"),
        (in_order_of_training, "in the order of the test set"),
        (what_does_not_leak, "yours is ['d']"),
        (by_key(lambda text: tuple(text.lower().split()[:2])), "All words count"),
        (by_key(lambda text: tuple(text.lower().split()[-2:])), "All words count"),
        (by_key(lambda text: tuple(sorted(text.lower().split()))), "All words count"),
        (by_key(lambda text: form(re.sub(r"[^a-z ]", "", text.lower()))), "All words count"),
        (by_key(lambda text: form(text.strip("?"))), "All words count"),
        (and_clears, "has changed `train`"),
        (each_leak_once, "A text that stands twice in the test set leaks"),
        (for_a_single_walk, "Return a list of texts; yours is a generator"),
    ],
    "6d.2": [
        (without_the_one, "ln(1 + 0.5 / 1.5)"),
        (plain_idf, "Count the passages"),
        (counts_in_proportion, "less than three times as much"),
        (length_upside_down, "twice as long as the mean"),
        (without_length, "A short passage counts more"),
        (never_zero, "adds nothing"),
        (twenty_times_at_most, "All numbers may be large, and a mean need not"),
    ],
    "6d.3": [
        (share_of_the_passage, "Both words of the answer"),
        (share_of_both, "One word of the answer's four"),
        (with_capitals, "signs at the end of a word"),
        (with_repetitions, "is one word"),
        (parts_of_words, "not in a bowl"),
        (silence_is_support, "without words has the share 0"),
        (signs_as_words, "Signs alone"),
        (share_by(lambda text: re.findall(r"[a-z]+", text.lower())), "A number is a word"),
        (share_by(words, lambda word, known: any(other.startswith(word) for other in known)), "not in a bowl"),
        (share_by(words, lambda word, known: any(word.startswith(other) for other in known)), "not in a bowl"),
        (share_by(without_a_question_mark), "All four signs"),
        (share_by(lambda text: words(re.sub(r"[.,!?]", "", text))), "All four signs"),
        (divides_by_zero, "ZeroDivisionError"),
        (signs_at_both_ends, "Only `.,!?` do not count, and only at a word's"),
        (five_words_at_most, "Answer and passage may have any number of"),
    ],
}
