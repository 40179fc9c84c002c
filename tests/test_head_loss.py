"""The loss of the head in slices is cross-entropy, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from ch02_text_data.batches import IGNORE_INDEX
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.evaluation import evaluate
from ch05_pretraining.head_loss import ROWS_AT_ONCE, head_loss
from tests.sizes import n

D, V = 6, 11
SLICE = ROWS_AT_ONCE["cpu"]


def inputs(n_rows, dtype=torch.float64):
    hidden = torch.randn(n_rows, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    return hidden, weight, torch.randint(V, (n_rows,))


def ordinary(hidden, weight, targets):
    return F.cross_entropy(hidden @ weight.T, targets, reduction="sum")


@pytest.mark.parametrize("seed", range(n(5, 100)))
@pytest.mark.parametrize("n_rows", [1, SLICE - 1, SLICE, SLICE + 1, 4 * SLICE - 2])
def test_loss_and_gradients_are_those_of_cross_entropy_wherever_the_slices_end(n_rows, seed):
    torch.manual_seed(seed)
    hidden, weight, targets = inputs(n_rows)
    ours, theirs = head_loss(hidden, weight, targets), ordinary(hidden, weight, targets)
    assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(ours * 0.3, (hidden, weight))
    expected = torch.autograd.grad(theirs * 0.3, (hidden, weight))
    assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_finite_differences_agree():
    hidden, weight, targets = inputs(5)
    assert torch.autograd.gradcheck(lambda h, w: head_loss(h, w, targets), (hidden, weight))


def test_no_rows_cost_nothing():
    hidden, weight, targets = inputs(0)
    loss = head_loss(hidden, weight, targets)
    loss.backward()
    assert loss.item() == 0 and weight.grad.abs().max() == 0


def test_under_autocast_the_sums_stay_in_float32():
    hidden, weight, targets = inputs(300, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head_loss(hidden, weight, targets)
    loss.backward()
    assert loss.dtype == weight.grad.dtype == hidden.grad.dtype == torch.float32
    assert_close(loss, ordinary(hidden, weight, targets), rtol=1e-2, atol=0.0)


def test_a_loss_that_needs_no_gradient_keeps_none():
    hidden, weight, targets = inputs(9)
    with torch.no_grad():
        assert not head_loss(hidden, weight, targets).requires_grad


def cost(hidden, weight, targets):
    with FlopCounterMode(display=False) as counter:
        head_loss(hidden, weight, targets)
    return counter.get_total_flops()


def test_evaluation_does_not_pay_for_gradients():
    hidden, weight, targets = inputs(9)
    with torch.no_grad():
        assert cost(hidden, weight, targets) == 2 * 9 * D * V  # one product, for the logits
    assert cost(hidden.detach(), weight.detach(), targets) == 2 * 9 * D * V
    assert cost(hidden, weight, targets) == 3 * 2 * 9 * D * V  # and one for each of the two gradients


def test_a_frozen_head_still_teaches_what_lies_below_it():
    hidden, weight, targets = inputs(9)
    frozen = weight.detach()
    ours, theirs = head_loss(hidden, frozen, targets), ordinary(hidden, frozen, targets)
    assert_close(torch.autograd.grad(ours, hidden), torch.autograd.grad(theirs, hidden))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_learns_the_same_from_slices_and_from_all_logits(tied):
    model = GPTModel(GPTConfig(V, 8, 12, 2, 1, tie_weights=tied)).double()
    ids, targets = torch.randint(V, (2, 3, 8))
    targets[0, :5] = IGNORE_INDEX
    graded = targets != IGNORE_INDEX
    ours = head_loss(model.hidden(ids)[graded], model.head.weight, targets[graded])
    theirs = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORE_INDEX)
    parameters = list(model.parameters())
    assert_close(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters))
    assert evaluate(model, [(ids, targets)]) == pytest.approx(theirs.item() / int(graded.sum()))


@pytest.mark.parametrize("bad", [IGNORE_INDEX, -1, 300])
def test_a_target_that_is_no_id_is_refused_before_it_counts_for_another(bad):
    hidden, weight = torch.randn(3, 8, requires_grad=True), torch.randn(300, 8)
    with pytest.raises(ValueError, match="a target lies outside 0 to 299"):
        head_loss(hidden, weight, torch.tensor([5, bad, 0]))
    assert head_loss(hidden[:0], weight, torch.tensor([], dtype=torch.int64)) == 0


@pytest.mark.parametrize("n_hidden, n_targets", [(1024, 512), (512, 1024), (3, 0), (0, 3)])
def test_rows_and_targets_that_do_not_match_are_refused(n_hidden, n_targets):
    weight, targets = torch.randn(V, D), torch.zeros(n_targets, dtype=torch.int64)
    with pytest.raises(ValueError, match="a target a row"):
        head_loss(torch.randn(n_hidden, D), weight, targets)


def test_batches_that_were_not_flattened_are_refused():
    with pytest.raises(ValueError, match=r"hidden \(2, 3, 6\) and targets \(2, 3\): give \(n, D\) and \(n,\)"):
        head_loss(torch.randn(2, 3, D), torch.randn(V, D), torch.zeros(2, 3, dtype=torch.int64))
