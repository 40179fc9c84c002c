"""The invented crawl holds what it says, and each step from it to a corpus does what section by section is claimed."""

import math
import random
import re
from collections import Counter

import numpy as np
import pytest

from ch02_text_data.corpus import (
    NaiveBayes,
    PageBlocks,
    candidate_pairs,
    exact_copies,
    extract_text,
    jaccard,
    leaked,
    letter_triples,
    mask_personal_data,
    minhash,
    mixture,
    normal_words,
    quality_problems,
    repair_encoding,
    shingles,
    similar_copies,
)
from data.loaders import load_crawl, load_stories
from data.story_world.crawl import LANGUAGES, PAGES, PAGES_OF_A_LEAK, write_crawl

N = 120


@pytest.fixture(scope="module")
def pages():
    return load_crawl(n=N)


@pytest.fixture(scope="module")
def texts(pages):
    return [extract_text(page.html) for page in pages]


@pytest.fixture(scope="module")
def stories():
    return [story.text for story in load_stories("train", N)]


def of(pages, texts, *kinds):
    return [(page, text) for page, text in zip(pages, texts) if page.kind in kinds]


# ---------------------------------------------------------------- the crawl


def test_a_crawl_is_the_same_for_the_same_seed_and_another_for_another(pages):
    assert load_crawl(n=N) == pages
    assert load_crawl(1, n=N) != pages


def test_a_crawl_holds_as_many_pages_of_each_kind_as_it_says(pages):
    n = Counter(page.kind for page in pages)
    assert n["story"] + n["broken story"] == N and n["broken story"] and n["short story"] == N // 10
    assert n["leaked"] == PAGES_OF_A_LEAK * (N // 24)
    assert all(n[kind] == round(share * N / 100) for kind, share in PAGES.items())


def test_a_number_leads_to_the_story_that_a_page_tells(pages, texts, stories):
    for page, text in of(pages, texts, "story", "broken story", "copy"):
        assert text.startswith(stories[page.number])
    short = [story.text for story in load_stories("train", N // 10, mini=True)]
    assert all(text.startswith(short[page.number - N]) for page, text in of(pages, texts, "short story"))
    validation = [story.text for story in load_stories("validation", N // 24)]
    likeness = [jaccard(shingles(text), shingles(validation[page.number])) for page, text in of(pages, texts, "leaked")]
    assert min(likeness) > 0.3 and max(likeness) == 1
    assert {page.number for page in pages if page.kind not in ("copy", "near copy", "leaked", "story", "broken story",
                                                               "short story")} == {-1}  # fmt: skip


def test_half_of_the_copies_are_of_a_few_popular_stories(pages):
    copies = Counter(page.number for page in pages if page.kind in ("copy", "near copy"))
    assert 0.4 < sum(n for number, n in copies.items() if number < N // 100) / copies.total() < 0.6


def test_everything_personal_is_kept_free_for_invention(pages):
    for page in pages:
        assert re.fullmatch(r"[a-z-]+\.example/\d{6}", page.address)
        assert all(mail.endswith("@mail.example") for mail in re.findall(r"\S+@[\w.]+\w", page.html))
        assert all(re.match(r"555-01\d\d", phone) for phone in re.findall(r"\b555-\d+", page.html))


def test_a_machine_writes_pairs_of_words_that_the_stories_hold_and_longer_runs_that_they_do_not(pages, texts, stories):
    told = {n: set().union(*(shingles(text, n) for text in stories)) for n in (2, 6)}
    for _, text in of(pages, texts, "machine"):
        pairs, runs = shingles(text, 2), shingles(text, 6)
        assert len(pairs & told[2]) > 0.9 * len(pairs)
        assert len(runs & told[6]) < 0.6 * len(runs)


def test_a_crawl_needs_stories(stories):
    with pytest.raises(ValueError, match="found 1 stories; expected two or more"):
        write_crawl(stories[:1], [], [])


# ---------------------------------------------------------------- from pages to text


def test_a_page_is_cut_at_blocks_and_not_at_words_in_bold():
    html = "<title>T</title><ul><li>One <b>two</b><li><a href=x>three <i>3</i></a> 4</ul><style>s</style>five &amp; six"
    assert PageBlocks(html).blocks == [("One two", 0), ("three 3 4", 7), ("five & six", 0)]


@pytest.mark.parametrize(
    "html", ["", "<", "<p", "</a></p>", "<a><a>x. y z.</a>", "<p>\x00\ud800.</p>", "<script>a. b c."]
)
def test_no_page_is_too_broken_to_be_cut(html):
    assert isinstance(extract_text(html), str)


def test_what_is_mostly_links_or_no_sentence_or_short_is_left_out():
    html = (
        '<p>It ran far away.</p><p><a href="">Read all of it.</a> Now go.</p><p>no full stop here</p><p>Two words.</p>'
    )
    assert extract_text(html) == "It ran far away."
    assert extract_text(html, max_linked=1, min_words=2).count("\n") == 2


def test_quotation_marks_may_stand_behind_the_end_of_a_sentence():
    assert extract_text("<p>\u201cCome with me!\u201d</p>") == '"Come with me!"'


@pytest.mark.parametrize(
    "text", ["It\u2019s \u201chere\u201d", "caf\u00e9 na\u00efve", "plain", "\U0001f600 \u4e2d", ""]
)
def test_a_wrong_encoding_is_undone_and_a_right_one_left_alone(text):
    plain = text.replace("\u2019", "'").replace("\u201c", '"').replace("\u201d", '"')
    assert repair_encoding(text) == plain
    assert repair_encoding(text.encode("utf-8").decode("latin-1")) == plain


# ---------------------------------------------------------------- classifiers and rules


def test_the_weights_are_logarithms_of_shares():
    model = NaiveBayes(str.split).fit(["a a b"], ["b c"])
    shares = {"a": (3 / 6, 1 / 5), "b": (2 / 6, 2 / 5), "c": (1 / 6, 2 / 5)}  # of each word among yes and no
    assert model.weights == {word: math.log(yes / no) for word, (yes, no) in shares.items()}
    assert model.score("") == model.score("d") == 0
    assert math.isclose(model.score("a c"), (math.log(2.5) + math.log(1 / 6 / 0.4)) / 2)


def test_the_weights_are_those_of_scikit_learn():
    naive_bayes = pytest.importorskip("sklearn.naive_bayes")
    text = pytest.importorskip("sklearn.feature_extraction.text")
    rng = random.Random(0)
    kinds = [[" ".join(rng.choices("abcdef", range(1, 7), k=9)) for _ in range(20)],
             [" ".join(rng.choices("cdefgh", k=9)) for _ in range(30)]]  # fmt: skip
    ours = NaiveBayes(str.split).fit(*kinds)
    counter = text.CountVectorizer(tokenizer=str.split, token_pattern=None)
    theirs = naive_bayes.MultinomialNB().fit(counter.fit_transform(kinds[0] + kinds[1]), [1] * 20 + [0] * 30)
    weights = theirs.feature_log_prob_[1] - theirs.feature_log_prob_[0]
    assert np.allclose([ours.weights[word] for word in counter.get_feature_names_out()], weights)


def test_letters_tell_languages_apart_that_pages_do_not_declare(pages, texts):
    declared = [re.search(r'<html lang="(\w+)"', page.html) for page in pages]
    english = [text for text, found in zip(texts, declared) if found and found[1] == "en"]
    other = [text for text, found in zip(texts, declared) if found and found[1] != "en"]
    model = NaiveBayes(letter_triples).fit(english, other)
    silent = [(page, text) for page, text, found in zip(pages, texts, declared) if not found]
    assert len(silent) > 100
    assert all((model.score(text) < 0) == (page.kind in LANGUAGES) for page, text in silent if page.kind != "spam")


@pytest.mark.parametrize(
    ("text", "rules"),
    [("The fox and the hen went to a pond, and there it rained all day. " * 2, []),
     ("The foxes wandered to a garden.", ["length"]),
     ("the and a " * 400, ["length", "length of words"]),
     ("The extraordinarily incomprehensible and characteristically antiauthoritarian to " * 4, ["length of words"]),
     ("The fox 12 and 31 to 48 a 19 " * 5, ["length of words", "words without letters"]),
     ("The foxes | wandered | to the garden | and another meadow " * 3, ["words without letters", "unusual signs"]),
     ("Der Fuchs ging an einen See, und dort regnete es den ganzen langen Tag. " * 2, ["common words"])],
)  # fmt: skip
def test_each_rule_is_broken_by_its_own_text(text, rules):
    assert quality_problems(text) == rules


def test_a_text_without_words_breaks_rules_and_nothing_else():
    assert quality_problems("") == ["length", "common words"]


def test_the_rules_leave_stories_and_find_lists(pages, texts):
    assert not [
        text for _, text in of(pages, texts, "story", "broken story", "copy", "machine") if quality_problems(text)
    ]
    assert all(quality_problems(text) for _, text in of(pages, texts, "spam", "list", "ruined"))


# ---------------------------------------------------------------- copies


def test_exact_copies_differ_in_nothing_but_signs_and_capitals():
    assert exact_copies(["One, two!", "one two", "two one", "ONE TWO", "two  one"]) == {1, 3, 4}


def test_shingles_and_jaccard_by_hand():
    a, b = shingles("a b c d e f"), shingles("b c d e f g")
    assert a == {"a b c d e", "b c d e f"} and jaccard(a, b) == 1 / 3
    assert shingles("One two.") == {"one two"} and shingles("") == {""}
    assert jaccard(set(), set()) == 0 and jaccard(a, a) == 1


def test_signatures_agree_as_often_as_the_sets_are_alike():
    for n_common in (0, 50, 90, 100):
        a = {f"x{i}" for i in range(100)}
        b = {f"x{i}" for i in range(n_common)} | {f"y{i}" for i in range(100 - n_common)}
        share = float((minhash(a, 4096, seed=3) == minhash(b, 4096, seed=3)).mean())
        assert abs(share - jaccard(a, b)) < 0.03


def test_signatures_are_those_of_datasketch():
    datasketch = pytest.importorskip("datasketch")
    a, b = np.random.default_rng(5).integers(1, 2**31, (2, 64, 1))
    functions = (a[:, 0].astype(np.uint64), b[:, 0].astype(np.uint64))
    for text in ("one two three four five six seven", "\u00e9 \u4e2d", "a"):
        theirs = datasketch.MinHash(num_perm=64, permutations=functions, scheme="legacy")
        theirs.update_batch([run.encode("utf-8") for run in shingles(text, 2)])
        assert minhash(shingles(text, 2), 64, seed=5).tolist() == theirs.hashvalues.tolist()


def test_pairs_are_found_as_often_as_the_bands_promise():
    rng, n_bands, n_rows, likeness = np.random.default_rng(1), 16, 4, 0.5
    found = 0
    for _ in range(1000):
        first = rng.integers(0, 2**32, n_bands * n_rows)
        second = np.where(rng.random(len(first)) < likeness, first, first + 1)
        found += bool(list(candidate_pairs([first, second], n_bands)))
    assert abs(found / 1000 - (1 - (1 - likeness**n_rows) ** n_bands)) < 0.06


def test_the_first_with_a_band_is_paired_with_each_later_one():
    signatures = [np.array(row) for row in ([1, 2], [3, 2], [1, 4], [1, 2])]
    assert set(candidate_pairs(signatures, 2)) == {(0, 1), (0, 2), (0, 3)}


def test_near_copies_are_found_and_different_stories_are_not(pages, texts):
    chosen = of(pages, texts, "story", "broken story", "copy", "near copy")
    copies = similar_copies([text for _, text in chosen])
    left = [page.number for place, (page, _) in enumerate(chosen) if place not in copies]
    assert set(left) == set(range(N))  # none is lost
    assert len(left) < 1.3 * N < len(chosen) / 2


# ---------------------------------------------------------------- leaks, personal data, a mixture


def test_a_leak_is_a_run_of_words_however_it_is_written():
    held_out = "One day the small fox, who was hungry, went home."
    texts = ["He said: one day THE SMALL FOX who was hungry went away.", "The small fox was hungry one day.", ""]
    assert leaked(texts, [held_out], n=6) == {0}
    assert leaked(texts, [held_out], n=9) == {0} and leaked(texts, [held_out], n=10) == set()
    assert leaked(texts, [], n=3) == set()


def test_mail_addresses_and_telephone_numbers_are_masked():
    text = "Ask Jo at jo.b+x@mail-1.example, or call 555-0147 or 555 0148. In 1990 it cost 12.50."
    assert mask_personal_data(text) == "Ask Jo at <mail>, or call <phone> or <phone>. In 1990 it cost 12.50."


def test_a_mixture_is_proportional_at_one_and_even_far_above():
    sizes = {"long": 900, "short": 100}
    assert mixture(sizes) == {"long": 0.9, "short": 0.1}
    assert mixture(sizes, 2) == {"long": 0.75, "short": 0.25}
    assert math.isclose(mixture(sizes, 1e9)["short"], 0.5, rel_tol=1e-6)


@pytest.mark.parametrize(("sizes", "temperature"), [({"a": 0}, 1), ({"a": 1}, 0), ({}, 1), ({"a": 1}, -2)])
def test_a_mixture_of_nothing_is_refused(sizes, temperature):
    with pytest.raises(ValueError, match="expected numbers above 0"):
        mixture(sizes, temperature)


def test_normal_words_are_without_signs_and_capitals():
    assert normal_words("Don't stop, \u00c9mile!") == ["don", "t", "stop", "\u00e9mile"]
