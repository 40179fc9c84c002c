"""Chapter 1: the n-gram model is a probability model, and the arithmetic gives the published numbers."""

import math
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from ch01_understanding_llms.fast_counts import FastNgramModel
from ch01_understanding_llms.understanding_llms import (
    NgramModel,
    bits_per_byte,
    compute_optimal_size,
    count_followers,
    epochs_seen,
    gpt_parameter_count,
    split_words,
    training_cost,
    training_flops,
)
from tests.sizes import n

GPT2 = dict(vocab_size=50_257, context_length=1024)
each_kind = pytest.mark.parametrize("kind", [NgramModel, FastNgramModel])


def random_ids(seed, length=400, vocab_size=7):
    return np.random.default_rng(seed).integers(0, vocab_size, length)


# --- counting ---------------------------------------------------------------------------------


def test_followers_are_counted_after_every_context_up_to_the_order():
    counts = count_followers("the fox saw the hen and the fox ran".split(), 3)
    assert counts["the",] == {"fox": 2, "hen": 1}
    assert counts["the", "fox"] == {"saw": 1, "ran": 1}
    assert counts[()] == {"the": 3, "fox": 2, "saw": 1, "hen": 1, "and": 1, "ran": 1}
    assert ("ran",) not in counts and ("fox", "ran") not in counts  # nothing came after the end
    assert max(map(len, counts)) == 2
    with pytest.raises(KeyError):
        counts["hen", "ran"]  # to ask is not to count


def test_followers_agree_with_slices_of_the_text():
    ids = random_ids(8, 200, 4).tolist()
    for context, followers in count_followers(ids, 4).items():
        n = len(context)
        assert dict(followers) == {
            token: sum(ids[i : i + n + 1] == [*context, token] for i in range(len(ids) - n)) for token in followers
        }


@each_kind
def test_without_smoothing_a_bigram_is_the_share_of_what_followed(kind):
    model = kind(2, 3, smoothing=0).fit([0, 1, 0, 2, 0, 1])
    np.testing.assert_allclose(model.next_probabilities([0]), [0, 2 / 3, 1 / 3])


@each_kind
def test_smoothing_adds_imaginary_tokens_spread_by_the_shorter_model(kind):
    ids = [0, 1, 0, 2, 0, 1]
    unigram = (np.array([3, 2, 1]) + 1 / 3) / 7  # one imaginary token, spread evenly
    bigram = (np.array([0, 2, 1]) + unigram) / 4
    np.testing.assert_allclose(kind(2, 3, smoothing=1).fit(ids).next_probabilities([0]), bigram)


@each_kind
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("smoothing", [0, 0.5, 4])
def test_probabilities_sum_to_one_after_any_context(kind, order, smoothing):
    model = kind(order, 9, smoothing).fit(random_ids(0))  # ids 7 and 8 never occur
    for case in range(n(20, 500)):
        context = random_ids(case, length=case % 6, vocab_size=9)
        probabilities = model.next_probabilities(context)
        assert probabilities.min() >= 0
        assert math.isclose(probabilities.sum(), 1, rel_tol=1e-12)


@each_kind
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_loss_equals_one_prediction_at_a_time(kind, order):
    model, text = kind(order, 9).fit(random_ids(1)), random_ids(2, 60, 9)
    one_by_one = [model.next_probabilities(text[:t])[text[t]] for t in range(len(text))]
    np.testing.assert_allclose(model.token_probabilities(text), one_by_one, rtol=1e-12)
    assert math.isclose(model.loss(text), -np.log(one_by_one).mean(), rel_tol=1e-12)


@each_kind
def test_counts_agree_with_a_plain_dictionary(kind):
    ids = random_ids(3, 500, 5).tolist()
    model = kind(3, 5, smoothing=0).fit(ids)
    followers = Counter(ids[i + 2] for i in range(len(ids) - 2) if ids[i : i + 2] == [1, 3])
    expected = [followers[i] / followers.total() for i in range(5)]
    np.testing.assert_allclose(model.next_probabilities([4, 4, 1, 3]), expected)


@each_kind
def test_only_the_last_tokens_of_a_context_matter(kind):
    model = kind(3, 7).fit(random_ids(4))
    np.testing.assert_array_equal(model.next_probabilities([1, 2, 3]), model.next_probabilities([6, 2, 3]))
    assert not np.allclose(model.next_probabilities([1, 2, 3]), model.next_probabilities([1, 6, 3]))


@each_kind
@pytest.mark.parametrize("smoothing", [0, 0.3, 4])
def test_after_a_context_never_seen_the_shorter_one_decides(kind, smoothing):
    model = kind(3, 4, smoothing).fit([0, 1, 2, 0, 1, 2, 0])  # 1 never follows 2, and 3 never occurs
    np.testing.assert_array_equal(model.next_probabilities([2, 1]), model.next_probabilities([1]))
    np.testing.assert_array_equal(model.next_probabilities([1, 3]), model.next_probabilities([]))


@each_kind
def test_longer_contexts_pay_where_the_text_has_structure(kind):
    ids = np.tile([0, 1, 0, 2], 300)  # what follows 0 depends on what came before it
    losses = [kind(order, 3).fit(ids).loss(ids) for order in (1, 2, 3)]
    assert losses[0] > losses[1] + 0.3 > losses[2] + 0.6
    assert losses[2] < 0.05


@each_kind
def test_an_unsmoothed_model_is_infinitely_surprised_by_a_new_pair(kind):
    assert kind(2, 3, smoothing=0).fit([0, 1, 0, 1]).loss([0, 2]) == math.inf
    assert kind(2, 3).fit([0, 1, 0, 1]).loss([0, 2]) < math.inf


@each_kind
def test_a_text_of_one_token_has_no_surprise_left(kind):
    assert kind(1, 1).fit([0, 0, 0]).loss([0, 0]) == 0


@each_kind
def test_fitting_again_starts_anew(kind):
    model = kind(2, 7).fit(random_ids(5))
    once = model.loss(random_ids(6))
    assert model.fit(random_ids(9)).loss(random_ids(6)) != once
    assert model.fit(random_ids(5)).loss(random_ids(6)) == once


@each_kind
def test_a_text_that_is_refused_leaves_the_counts_as_they_were(kind):
    model = kind(2, 7).fit(random_ids(5))
    once = model.loss(random_ids(6))
    with pytest.raises(ValueError, match="found id 7"):
        model.fit([1, 2, 7])
    assert model.loss(random_ids(6)) == once


@each_kind
@pytest.mark.parametrize("given", [list, tuple, iter, np.array, lambda ids: np.array(ids, dtype=np.uint8)])
def test_ids_come_in_any_flat_form(kind, given):
    ids = random_ids(10, 50).tolist()
    assert kind(2, 7).fit(given(ids)).loss(given(ids)) == kind(2, 7).fit(ids).loss(ids)


@pytest.mark.parametrize(("kind", "tokens"), [(NgramModel, 50_000), (FastNgramModel, n(1_000_000, 4_000_000))])
def test_counting_and_scoring_are_near_linear_in_tokens(kind, tokens):
    ids = (np.random.default_rng(0).random(tokens) ** 3 * 2048).astype(np.int64)
    seconds = []
    for share in (10, 1):
        start = time.process_time()
        kind(3, 2048).fit(ids[: tokens // share]).loss(ids[: tokens // 10])
        seconds.append(time.process_time() - start)
    assert seconds[1] < 10 * seconds[0] * 5


# --- the dictionary and the sorted arrays -----------------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("smoothing", [0, 0.1, 4, 100])
@pytest.mark.parametrize(("vocab_size", "length"), [(1, 5), (2, 4), (2, 300), (9, 400), (3000, 600)])
def test_the_fast_model_equals_the_plain_one(order, smoothing, vocab_size, length):
    for case in range(n(1, 20)):
        ids = (np.random.default_rng(case).random(length) ** 3 * vocab_size).astype(np.int64)  # small ids are common
        plain, fast = (kind(order, vocab_size, smoothing).fit(ids) for kind in (NgramModel, FastNgramModel))
        new = random_ids(100 + case, 60, vocab_size)  # most contexts were never seen
        for text in (ids, new, ids[:1], []):
            np.testing.assert_array_equal(plain.token_probabilities(text), fast.token_probabilities(text))
        for context in ([], [0], ids[:2], ids[-order:], new[:3], new):
            np.testing.assert_array_equal(plain.next_probabilities(context), fast.next_probabilities(context))
        for temperature in (0, 0.7, 1):
            written = [m.generate(8, ids[:1], temperature=temperature, seed=case) for m in (plain, fast)]
            assert written[0] == written[1]


def test_the_largest_vocabulary_that_the_fast_model_takes_is_counted_right():
    vocab_size = 2**21 - 1  # three ids of it just fit 63 bits
    ids = vocab_size - 1 - random_ids(13, 300, 5)
    plain, fast = (kind(3, vocab_size).fit(ids) for kind in (NgramModel, FastNgramModel))
    np.testing.assert_array_equal(plain.token_probabilities(ids), fast.token_probabilities(ids))


def n_entries(model) -> int:
    """How many numbers of counts a model holds."""
    if isinstance(model, FastNgramModel):
        return sum(len(table.counts) for table in model.counts.values())
    return sum(len(followers) for followers in model.counts.values())


@each_kind
def test_memory_grows_with_the_different_n_grams_and_with_nothing_else(kind):
    order, ids = 3, random_ids(11, 3000, 50_000)
    different = {tuple(ids[i : i + k]) for k in range(1, order + 1) for i in range(len(ids) - k + 1)}
    model = kind(order, 50_000).fit(ids)
    assert n_entries(model) == len(different) <= order * len(ids)  # not 50,000 numbers a context
    assert n_entries(kind(order, 50_000).fit(np.concatenate([ids] * 10))) <= len(different) + order  # seams


@each_kind
def test_questions_leave_no_trace_in_the_counts(kind):
    model = kind(3, 9).fit(random_ids(0))
    before = n_entries(model), len(model.counts)
    model.loss(random_ids(1, 500, 9)), model.generate(50, [8, 8])
    assert (n_entries(model), len(model.counts)) == before


# --- generating -------------------------------------------------------------------------------


@each_kind
def test_the_same_seed_writes_the_same_text_and_another_seed_another(kind):
    model = kind(2, 7).fit(random_ids(7))
    assert model.generate(50, [1], seed=3) == model.generate(50, [1], seed=3)
    assert model.generate(50, [1], seed=3) != model.generate(50, [1], seed=4)
    assert len(model.generate(50, [1, 2])) == 52


@each_kind
def test_temperature_zero_takes_the_likeliest_token(kind):
    model = kind(2, 3).fit(np.tile([0, 1, 2], 50))
    assert model.generate(5, [0], temperature=0) == [0, 1, 2, 0, 1, 2]


@each_kind
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_generation_reads_as_much_of_the_prompt_as_the_model_can(kind, order):
    model = kind(order, 5).fit(random_ids(12, 500, 5))
    for case in range(10):
        prompt = random_ids(case, 5, 5).tolist()
        written = model.generate(3, prompt, temperature=0)
        assert written[:5] == prompt
        assert written[5:] == [model.next_probabilities(written[:t]).argmax() for t in (5, 6, 7)]


@each_kind
def test_generation_ends_after_the_stop_id(kind):
    model = kind(2, 3).fit(np.tile([0, 1, 2], 50))
    assert model.generate(20, [0], temperature=0, stop_id=2) == [0, 1, 2]


@each_kind
@pytest.mark.parametrize("uniform", [0.0, math.nextafter(1, 0)])
def test_an_id_of_probability_zero_is_never_drawn(kind, uniform, monkeypatch):
    model = kind(1, 4, smoothing=0).fit([1, 1, 2])  # ids 0 and 3 lie at the two ends of the line
    monkeypatch.setattr(np.random, "default_rng", lambda seed: SimpleNamespace(random=lambda: uniform))
    assert model.generate(1) in ([1], [2])


@each_kind
def test_tokens_are_drawn_as_often_as_counted(kind):
    model = kind(1, 3, smoothing=0).fit([0] * 7 + [2] * 3)
    drawn = np.bincount(model.generate(4000, seed=1), minlength=3) / 4000
    np.testing.assert_allclose(drawn, [0.7, 0, 0.3], atol=0.03)


@pytest.mark.parametrize(("temperature", "shares"), [(0.5, [49 / 58, 9 / 58]), (2.0, [0.604, 0.396])])
def test_a_temperature_raises_the_shares_to_a_power(temperature, shares):
    model = NgramModel(1, 2, smoothing=0).fit([0] * 7 + [1] * 3)
    drawn = np.bincount(model.generate(4000, temperature=temperature, seed=1), minlength=2) / 4000
    np.testing.assert_allclose(drawn, shares, atol=0.03)


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NgramModel(0, 5), "order=0"),
        (lambda: NgramModel(1, 0), "vocab_size=0"),
        (lambda: NgramModel(2, 5, smoothing=-1), "smoothing=-1"),
        (lambda: NgramModel(2, 5, smoothing=math.nan), "smoothing=nan"),
        (lambda: FastNgramModel(0, 5), "order=0"),
        (lambda: FastNgramModel(6, 50_257), "63 bits"),
        (lambda: FastNgramModel(3, 2**21), "63 bits"),
        (lambda: NgramModel(3, 5).fit([1, 2]), "needs at least 3"),
        (lambda: NgramModel(2, 5).fit([]), "found 0 ids"),
        (lambda: NgramModel(2, 5).fit([0, 5]), "found id 5"),
        (lambda: NgramModel(2, 5).fit([0, -1]), "found id -1"),
        (lambda: NgramModel(2, 5).fit([0.5, 1.0]), "flat list of integers"),
        (lambda: NgramModel(2, 5).fit([[0, 1], [1, 0]]), "flat list of integers"),
        (lambda: NgramModel(2, 5).fit(np.zeros((4, 0), dtype=int)), "flat list of integers"),
        (lambda: NgramModel(2, 5).fit("fox"), "flat list of integers"),
        (lambda: NgramModel(2, 5).loss([0]), "call fit"),
        (lambda: FastNgramModel(2, 5).loss([0]), "call fit"),
        (lambda: NgramModel(2, 5).next_probabilities([]), "call fit"),
        (lambda: FastNgramModel(2, 5).next_probabilities([]), "call fit"),
        (lambda: FastNgramModel(2, 5).fit([0, 5]), "found id 5"),
        (lambda: FastNgramModel(3, 5).fit([1, 2]), "needs at least 3"),
        (lambda: NgramModel(2, 5).fit([0, 1]).loss([]), "found 0 ids"),
        (lambda: FastNgramModel(2, 5).fit([0, 1]).loss([]), "found 0 ids"),
        (lambda: NgramModel(2, 5).fit([0, 1]).generate(3, temperature=-1), "temperature=-1"),
        (lambda: NgramModel(2, 5).fit([0, 1]).generate(3, temperature=math.nan), "temperature=nan"),
        (lambda: gpt_parameter_count(vocab_size=0, context_length=1, d_model=1, n_layers=1), "vocab_size=0"),
        (lambda: training_flops(0, 1), "n_parameters=0"),
        (lambda: epochs_seen(22, 300e9, 19e9), "share between 0 and 1"),
        (lambda: epochs_seen(0.22, 300e9, 0), "n_tokens_in_set=0"),
        (lambda: training_cost(1e20, flops_per_second=math.inf, dollars_per_hour=1), "flops_per_second=inf"),
        (lambda: compute_optimal_size(-1), "flops=-1"),
        (lambda: bits_per_byte(1.0, 10, 0), "n_bytes=0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- text and units ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "Hi there", 'A  "B"!\n\n C’s day-off... ', "\n", "Grüße, 你好 🦊"])
def test_splitting_loses_nothing(text):
    assert "".join(split_words(text)) == text


def test_words_carry_the_space_before_them():
    assert split_words("Mia didn't cry, she ran.") == ["Mia", " didn't", " cry", ",", " she", " ran", "."]


def test_guessing_bytes_evenly_costs_eight_bits_a_byte():
    assert bits_per_byte(math.log(256), 10, 10) == pytest.approx(8)
    assert bits_per_byte(math.log(256), 5, 10) == pytest.approx(4)


# --- arithmetic of large models ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_layers", "d_model", "parameters"),
    [(12, 768, 124_439_808), (24, 1024, 354_823_168), (36, 1280, 774_030_080), (48, 1600, 1_557_611_200)],
)
def test_gpt2_sizes_are_exact(n_layers, d_model, parameters):
    assert gpt_parameter_count(**GPT2, d_model=d_model, n_layers=n_layers) == parameters


def test_an_untied_head_adds_one_more_embedding():
    tied = gpt_parameter_count(**GPT2, d_model=768, n_layers=12)
    untied = gpt_parameter_count(**GPT2, d_model=768, n_layers=12, tie_weights=False)
    assert untied - tied == 50_257 * 768
    assert untied == 163_037_184


def test_gpt1_has_no_final_norm():
    shape = dict(vocab_size=40_478, context_length=512, d_model=768, n_layers=12)
    assert gpt_parameter_count(**shape, final_norm=False) == 116_534_784
    assert gpt_parameter_count(**shape) == 116_536_320


def test_gpt3_has_174_6_billion_parameters():
    count = gpt_parameter_count(vocab_size=50_257, context_length=2048, d_model=12_288, n_layers=96)
    assert round(count / 1e9, 1) == 174.6


def test_leaving_out_the_qkv_bias_saves_three_vectors_a_block():
    shape = dict(vocab_size=10, context_length=4, d_model=8, n_layers=3)
    assert gpt_parameter_count(**shape) - gpt_parameter_count(**shape, qkv_bias=False) == 3 * 3 * 8


def test_gpt3_compute_matches_the_paper():
    flops = training_flops(175e9, 300e9)
    assert flops == pytest.approx(3.15e23)
    assert flops / (1e15 * 86_400) == pytest.approx(3640, rel=0.01)


def test_the_cloud_vendors_estimate_is_355_years_and_4_6_million_dollars():
    cost = training_cost(3.14e23, flops_per_second=28e12, dollars_per_hour=1.5)
    assert cost.device_years == pytest.approx(355, abs=1)
    assert cost.dollars == pytest.approx(4.67e6, rel=0.01)


def test_epochs_of_gpt3s_data():
    assert epochs_seen(0.22, 300e9, 19e9) == pytest.approx(3.47, abs=0.01)
    assert epochs_seen(0.03, 300e9, 3e9) == pytest.approx(3.0)


def test_chinchilla_is_compute_optimal_by_the_rule_of_thumb():
    n_parameters, n_tokens = compute_optimal_size(training_flops(70e9, 1.4e12))
    assert n_parameters == pytest.approx(70e9)
    assert n_tokens == pytest.approx(1.4e12)
