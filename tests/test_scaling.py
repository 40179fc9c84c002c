"""What chapter 5 says about size: the count of the work, the ceiling, and the law that is fitted."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining.scaling import PowerLaw, fit_power_law, flops_per_token, matrix_product_ceiling
from tests.small_models import TINY, random_ids, tiny_model

SIZES = [1e4, 3e4, 1e5, 3e5, 1e6]


@pytest.mark.parametrize("law", [PowerLaw(1.2, 30.0, 0.35), PowerLaw(0.0, 8.0, 0.1)])
def test_a_law_is_found_again_from_its_own_points(law):
    found = fit_power_law(SIZES, [law(size) for size in SIZES])
    assert found(1e7) == pytest.approx(law(1e7), abs=0.02)
    assert found.exponent == pytest.approx(law.exponent, rel=0.1)


def test_the_order_of_the_runs_does_not_matter():
    law = PowerLaw(1.0, 20.0, 0.3)
    forwards = fit_power_law(SIZES, [law(size) for size in SIZES])
    backwards = fit_power_law(SIZES[::-1], [law(size) for size in SIZES[::-1]])
    assert backwards(1e7) == pytest.approx(forwards(1e7), abs=1e-6)


def test_too_few_runs_and_losses_that_do_not_fall_get_a_sentence():
    with pytest.raises(ValueError, match="at least three runs"):
        fit_power_law([1, 2], [3.0, 2.0])
    with pytest.raises(ValueError, match="no better than the smallest"):
        fit_power_law([1, 2, 3], [2.0, 2.5, 2.1])


def test_the_count_of_work_is_that_of_pytorch_without_attention():
    config, length = TINY, 16
    model, ids = tiny_model(), random_ids(TINY, 2, length)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    products = sum(count for name, count in counter.get_flop_counts()["Global"].items() if "attention" not in str(name))
    ours = flops_per_token(config, length) - flops_per_token(config, 0)
    assert products == pytest.approx(ids.numel() * (flops_per_token(config, length) - ours))


def test_attention_costs_more_in_longer_rows():
    config = GPTConfig.story()
    grown = flops_per_token(config, 200) - flops_per_token(config, 100)
    assert grown == 6 * config.n_layers * config.d_model * 100


def test_the_ceiling_is_a_plausible_speed():
    assert 1e8 < matrix_product_ceiling(size=64, seconds=0.01) < 1e14


NO_MEASUREMENTS = {
    "a loss that is no number": ([1, 2, 3], [3.0, float("nan"), 1.0]),
    "an infinite loss": ([1, 2, 3], [float("inf"), 2.0, 1.0]),
    "a loss below 0": ([1, 2, 3], [3.0, 2.0, -1.0]),
    "a size of 0": ([1, 2, 0], [3.0, 2.0, 1.0]),
}


@pytest.mark.parametrize("what", NO_MEASUREMENTS)
def test_a_law_is_not_fitted_through_what_is_no_measurement(what):
    with pytest.raises(ValueError, match="give finite numbers above 0, or leave a run out"):
        fit_power_law(*NO_MEASUREMENTS[what])


def test_a_law_that_does_not_fall_is_refused():
    with pytest.raises(ValueError, match="the nearest law does not fall with size"):
        fit_power_law([1, 2, 3, 4, 5], [3, 1, 9, 9, 2.99])
    with pytest.raises(ValueError, match=r"4 sizes \(2 different\) and 4 losses: give at least three runs"):
        fit_power_law([1, 1, 2, 2], [3.0, 3.1, 2.0, 2.1])
    law = fit_power_law([1, 1, 4, 16], [3.0, 3.0, 2.0, 1.5])  # two seeds of one size among three sizes
    assert law(64) == pytest.approx(1.25, abs=0.02)


@pytest.mark.parametrize("bad", [0, -1, 2.5])
def test_a_number_of_floors_that_is_none_gets_a_sentence(bad):
    with pytest.raises(ValueError, match="n_floors=.* is not a whole number >= 1"):
        fit_power_law([1, 2, 3], [3.0, 2.0, 1.5], n_floors=bad)


@pytest.mark.parametrize("changes", [{}, {"head_width": 8}, {"n_kv_heads": 4}, {"d_ff": 40}])
def test_the_work_of_a_modern_model_counts_the_matrices_that_it_has(changes):
    config = ModernConfig(23, 16, 24, 4, 2, **{"n_kv_heads": 2} | changes)
    with torch.device("meta"):
        model = ModernGPT(config)
    matrices = sum(matrix.numel() for matrix in model.block_matrices()) + 23 * 24
    assert flops_per_token(config, 0) == 6 * matrices
    attending = config.n_layers * config.n_heads * config.d_head  # a score and an average over half of the row each
    assert flops_per_token(config, 16) == 6 * (matrices + 16 * attending)
