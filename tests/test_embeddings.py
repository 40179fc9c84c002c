"""Chapter 2's word vectors: the pairs, the loss and the questions asked of trained vectors."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ch02_text_data.embeddings import WordVectors, negative_sampling_loss, plain_words, skip_gram_pairs
from tests.sizes import n


def toy_corpus(n_texts: int) -> list[str]:
    """Two topics whose words never meet: within a topic every word is a neighbor of every other."""
    chance = random.Random(0)
    topics = (["fox", "owl", "bear", "mole"], ["soup", "bread", "cake", "pie"])
    return [" ".join(chance.choices(topics[k % 2], k=12)) for k in range(n_texts)]


@pytest.fixture(scope="module")
def vectors():
    return WordVectors.train(toy_corpus(80), d_model=8, n_steps=60, batch_size=256)


def test_plain_words_are_small_and_without_marks():
    assert plain_words('"Über 3 Füchse," said Mia -- isn\'t it?') == ["über", "füchse", "said", "mia", "isn", "t", "it"]


def test_pairs_are_all_words_within_the_window():
    chance = random.Random(1)
    for _ in range(n(50, 500)):
        ids = [chance.randrange(5) for _ in range(chance.randrange(12))]
        window = chance.randrange(1, 6)
        expected = sorted(
            (ids[i], ids[j]) for i in range(len(ids)) for j in range(len(ids)) if i != j and abs(i - j) <= window
        )
        centers, contexts = skip_gram_pairs(torch.tensor(ids, dtype=torch.int64), window)
        assert sorted(zip(centers.tolist(), contexts.tolist())) == expected


def test_a_window_below_one_is_refused():
    with pytest.raises(ValueError, match="window=0"):
        skip_gram_pairs(torch.arange(4), 0)


def test_the_loss_is_that_of_its_formula():
    center, context, negatives = torch.randn(6, 5), torch.randn(6, 5), torch.randn(6, 3, 5)
    by_hand = 0.0
    for u, v, others in zip(center, context, negatives):
        by_hand -= math.log(1 / (1 + math.exp(-float(u @ v))))
        by_hand -= sum(math.log(1 / (1 + math.exp(float(u @ other)))) for other in others)
    assert_close(negative_sampling_loss(center, context, negatives), torch.tensor(by_hand / 6))


def test_the_loss_is_binary_cross_entropy():
    center, context, negatives = torch.randn(4, 5), torch.randn(4, 5), torch.randn(4, 3, 5)
    scores = torch.cat([context.unsqueeze(1), negatives], dim=1) @ center.unsqueeze(-1)  # (B, 1 + K, 1)
    labels = torch.zeros(4, 4)
    labels[:, 0] = 1
    expected = F.binary_cross_entropy_with_logits(scores.squeeze(-1), labels, reduction="sum") / 4
    assert_close(negative_sampling_loss(center, context, negatives), expected)


def test_words_of_one_topic_come_together(vectors):
    food = {"soup", "bread", "cake", "pie"}
    for word in vectors.words:
        assert (vectors.nearest(word, 1)[0][0] in food) == (word in food), word


def test_training_is_deterministic(vectors):
    again = WordVectors.train(toy_corpus(80), d_model=8, n_steps=60, batch_size=256)
    assert_close(again.vectors, vectors.vectors)
    other = WordVectors.train(toy_corpus(80), d_model=8, n_steps=60, batch_size=256, seed=1)
    assert not torch.allclose(other.vectors, vectors.vectors)


def test_vectors_have_length_one(vectors):
    assert_close(vectors.vectors.norm(dim=1), torch.ones(len(vectors.words)))


def test_neighbors_come_in_order_and_without_the_word_itself(vectors):
    names, cosines = zip(*vectors.nearest("fox", 7))
    assert "fox" not in names and len(names) == 7
    assert list(cosines) == sorted(cosines, reverse=True)


def test_an_analogy_is_found_where_it_holds_exactly():
    words = ["man", "woman", "king", "queen", "tree", "knave"]  # the last is on the other side of the king
    points = torch.tensor([[0.0, 1, 1], [1, 0, 1], [0, 2, -1], [2, 0.0, -1], [0, 0, 5], [-1, 2, -0.6]])
    assert WordVectors(words, points).analogy("man", "woman", "king") == "queen"


def test_a_paragraph_is_the_mean_of_its_words(vectors):
    expected = F.normalize(vectors["fox"] * 2 + vectors["pie"], dim=0)
    assert_close(vectors.average("Fox, fox! Pie? unknownword"), expected)
    assert not vectors.average("nothing known").any()


def test_bad_input_is_refused(vectors):
    with pytest.raises(ValueError, match="found the word 'zebra'"):
        vectors["zebra"]
    with pytest.raises(ValueError, match="2 words and 3 vectors"):
        WordVectors(["a", "b"], torch.ones(3, 4))
    with pytest.raises(ValueError, match="found 0 words that occur 10 times"):
        WordVectors.train(["a few rare words"])
    with pytest.raises(ValueError, match="no two neighbors"):
        WordVectors.train(["a", "b"] * 20)


def test_no_more_words_are_named_than_are_left(vectors):
    assert {word for word, _ in vectors.nearest("fox", 99)} == set(vectors.words) - {"fox"}
    assert len(vectors.nearest("fox", 99, exclude=["owl", "owl", "fox"])) == len(vectors.words) - 2


def test_a_question_never_answers_itself():
    three = WordVectors(["a", "b", "c"], torch.eye(3))
    with pytest.raises(ValueError, match="0 words left"):
        three.analogy("a", "b", "c")
    assert WordVectors(["a", "b", "c", "d"], torch.eye(4)).analogy("a", "b", "c") == "d"


def test_a_question_about_no_word_is_refused(vectors):
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"k={k} "):
            vectors.nearest("fox", k)
    with pytest.raises(ValueError, match="found the word 'unicorn'"):
        vectors.nearest("fox", exclude=["unicorn"])


def test_vectors_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="of the words 2 differ"):
        WordVectors(["a", "b", "a"], torch.eye(3))
