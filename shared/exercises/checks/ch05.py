"""Checks of chapter 5's exercises: the loss, the schedule, clipping, unequal batches, AdamW, copying, GPT-2's names."""

import math

import torch
import torch.nn.functional as F
from torch.optim import adam

from ch05_pretraining.hugging_face import BLOCK_NAMES, MODEL_NAMES
from ch05_pretraining.optimizers import adamw_step
from ch05_pretraining.pretraining import TrainConfig, learning_rate_at
from shared.exercises import expect, expect_close, expect_equal, forbidden, may_change, without
from shared.exercises.class_numbers import dice, different_numbers, whole_numbers


def check_loss(answer) -> None:
    def fn(*given):
        message = "Write the loss itself: F.cross_entropy is what yours is compared with."
        with forbidden(message, "cross_entropy", "cross_entropy_loss", "nll_loss", "nll_loss_nd", "nll_loss2d"):
            return answer(*given)

    even = fn(torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.int64))
    expect(isinstance(even, torch.Tensor), f"Return a tensor, so that gradients can flow; yours is {even!r:.60}.")
    _unlike(even, 6 * math.log(8), "is the sum over the six targets: divide by their number.")
    _unlike(even, 3.0, "is in bits: take the natural logarithm.")
    hint = "Each of 8 tokens has probability 1/8, and -log(1/8) = log 8. Which axis do you normalize over?"
    expect_close("The loss of eight equal scores", even, math.log(8), hint)
    logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]])  # (1, 2, 3)
    targets = torch.tensor([[0, 2]])
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    hint = "Softmax turns the last axis into probabilities; take minus the logarithm of the target's, then the mean."
    expect_close("The loss of two tokens", fn(logits, targets), expected, hint)
    masked = fn(logits, torch.tensor([[0, -100]]))
    first = F.cross_entropy(logits[0, :1], targets[0, :1])
    expect_close("The loss with the second target masked", masked, first,
                 "A target of -100 is left out of the sum and of the count you divide by.")  # fmt: skip
    uneven = torch.tensor([[0, -100], [0, 2]])
    expected = F.cross_entropy(logits.repeat(2, 1, 1).flatten(0, 1), uneven.flatten())
    expect_close("The loss of rows with one and two graded targets", fn(logits.repeat(2, 1, 1), uneven), expected,
                 "Every target counts the same: one mean over all, and not a mean of the rows' means.")  # fmt: skip
    learns = fn(logits.clone().requires_grad_(), targets)
    expect(learns.requires_grad, "The loss is cut off from the scores (.item() or .detach()), so nothing could learn.")
    scores = logits.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(fn(scores, targets), scores)
    (expected,) = torch.autograd.grad(F.cross_entropy(scores.flatten(0, 1), targets.flatten()), scores)
    hint = "A part of the sum is cut off from the scores (.item() or .detach())."
    expect_close("The gradient of the loss", slopes, expected, hint)
    flat = fn(logits[0], targets[0])
    expect_close("The loss of logits (2, 3)", flat, F.cross_entropy(logits[0], targets[0]), "Any number of axes.")
    huge = fn(torch.tensor([[[1000.0, 0.0]]]), torch.tensor([[1]]))
    expect_close("The loss at scores of 1000 and 0", huge, 1000.0,
                 "exp(1000) overflows: subtract logsumexp, or the largest score first.")  # fmt: skip
    logits = torch.randn(2, 4, 9, generator=dice(1), dtype=torch.float64)
    targets = torch.tensor([whole_numbers(4, 0, 8), [3, -100, 5, 0]])
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    expect_close("The loss of eight tokens with random scores", fn(logits, targets), expected, "Any scores.")


def check_schedule(fn) -> None:
    config = TrainConfig(100, learning_rate=0.01, warmup_steps=10, schedule="linear")
    expect_close("The rate of step 0", fn(0, 0.01, 10, 100), 0.001,
                 "A first step of size 0 is wasted: step 0 takes 1/10 of the peak, step 9 all of it.")  # fmt: skip
    expect_close("The rate of step 9", fn(9, 0.01, 10, 100), 0.01, "The rise ends with the last warm-up step.")
    expect_close("The rate of step 55", fn(55, 0.01, 10, 100), learning_rate_at(55, config),
                 "The fall begins after the warm-up: 45 of its 90 steps are done, so half is left.")  # fmt: skip
    expect_close("The rate of step 10", fn(10, 0.01, 10, 100), 0.01, "The fall has not begun: all 90 steps are left.")
    for step in (33, 80):
        expect_close(f"The rate of step {step}", fn(step, 0.01, 10, 100), learning_rate_at(step, config),
                     "A straight line loses the same amount at every step.")  # fmt: skip
    expect_close("The rate of step 100", fn(100, 0.01, 10, 100), 0.0, "At max_steps nothing is left.")
    for step, expected in ((1, 1.0), (5, 1.875), (15, 0.625)):
        expect_close(f"The rate of step {step} with peak 2, warm-up 4, end 20", fn(step, 2.0, 4, 20), expected,
                     "Peak, warm-up and end are arguments.")  # fmt: skip
    expect_close("The rate of step 0 without a warm-up", fn(0, 2.0, 0, 20), 2.0, "Then the fall begins at once.")
    expect_close("The rate of step 10 without a warm-up", fn(10, 2.0, 0, 20), 1.0, "Half of its 20 steps are left.")
    step, warmup_steps = whole_numbers(1, 30, 70)[0], whole_numbers(1, 5, 25, number=1)[0]
    rate = learning_rate_at(step, TrainConfig(90, learning_rate=0.3, warmup_steps=warmup_steps, schedule="linear"))
    what = f"The rate of step {step} with peak 0.3, warm-up {warmup_steps}, end 90"
    expect_close(what, fn(step, 0.3, warmup_steps, 90), rate, "Peak, warm-up and end are arguments.")


@may_change(0)
def check_clip(fn) -> None:
    small = [torch.tensor([0.3]), torch.tensor([0.4])]
    returned = fn([g.clone() for g in small], 1.0)
    expect(isinstance(returned, (list, tuple)), "Return the list of gradients, also if you have scaled them in place.")
    for got, expected in zip(returned, small, strict=True):
        expect_close("A gradient of joint norm 0.5 under a limit of 1", got, expected,
                     "Short gradients stay as they are: clipping only shrinks.")  # fmt: skip
    expect_close("A gradient of zeros", fn([torch.zeros(2)], 1.0)[0], [0.0, 0.0],
                 "A norm of 0 is below every limit, and nothing may be divided by it.")  # fmt: skip
    large = [torch.tensor([3.0, 4.0]), torch.tensor([12.0])]
    hint = "The joint norm is the root of the sum of all squares, here 13; every gradient is divided by the same 10."
    for got, wanted in zip(fn([g.clone() for g in large], 1.3), [[0.3, 0.4], [1.2]], strict=True):
        expect_close("A gradient of joint norm 13 under a limit of 1.3", got, wanted, hint)
    matrix = fn([torch.tensor([[3.0, 0.0], [0.0, 4.0]])], 2.5)[0]
    hint = "A matrix counts as one long row of numbers: here the root of 3 x 3 + 4 x 4, which is 5."
    expect_close("A matrix of norm 5 under a limit of 2.5", matrix, [[1.5, 0.0], [0.0, 2.0]], hint)
    given = [torch.randn(*shape, generator=dice(n)) for n, shape in enumerate(((3,), (2, 2), (4,), (1, 3)))]
    holders = [torch.nn.Parameter(g.clone()) for g in given]
    for holder, gradient in zip(holders, given):
        holder.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(holders, 0.25)
    for got, holder in zip(fn([g.clone() for g in given], 0.25), holders, strict=True):
        hint = "There may be any number of gradients, of any shape; one norm and one factor serve all."
        expect_close("A gradient of random numbers under a limit of 0.25", got, holder.grad, hint)


def check_mean_of_batches(fn) -> None:
    even = fn([2.0, 4.0], [5, 5])
    expect_close("The mean of losses 2 and 4 over 5 and 5 tokens", even, 3.0, "Equal counts: the middle.")
    hint = "A batch with more graded tokens weighs more: (2 x 30 + 4 x 10) / 40."
    expect_close("The mean of losses 2 and 4 over 30 and 10 tokens", fn([2.0, 4.0], [30, 10]), 2.5, hint)
    expect_close("The mean when a batch has no graded token", fn([2.0, math.nan], [30, 0]), 2.0,
                 "A batch of padding has no loss (0/0 is NaN): leave it out.")  # fmt: skip
    losses, counts = [math.nan, 0.0, 4.0], [0, 3, 1]
    expect_close("The mean of losses NaN, 0 and 4 over 0, 3 and 1 tokens", fn(losses, counts), 1.0,
                 "A loss of 0 is a loss: leave out by the count, not by the loss.")  # fmt: skip
    expect(losses[1:] == [0.0, 4.0] and counts == [0, 3, 1], "Do not change the lists that you were given.")
    expect_close("The mean of losses 4, 2 and 3 over 30, 10 and 60 tokens", fn([4.0, 2.0, 3.0], [30, 10, 60]), 3.2,
                 "Each loss goes with the count in its place, and there may be any number of batches.")  # fmt: skip
    expect_close("The mean of losses 0.0012 and 0.0034 over 1 and 2 tokens", fn([0.0012, 0.0034], [1, 2]), 0.008 / 3,
                 "A loss may be small: do not round.")  # fmt: skip
    n, m = whole_numbers(2, 3, 60)
    got = fn([2.0, math.nan, 4.0], [n, 0, m])
    what = f"The mean of losses 2, NaN and 4 over {n}, 0 and {m} tokens"
    expect_close(what, got, (2 * n + 4 * m) / (n + m), hint)


def check_adamw(answer) -> None:
    def fn(*given):
        message = "Write the rule itself: torch.optim is what it is compared with."
        with (
            without(torch.optim.Optimizer, "__init__", message),
            without(adam, "_single_tensor_adam", message),
            without(adam, "_multi_tensor_adam", message),
            forbidden(message, "_fused_adamw_", "_fused_adam_"),
        ):
            return answer(*given)

    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    gradients = [torch.tensor(g, dtype=torch.float64) for g in ([1.0, 0.1, -3.0], [0.5, -0.1, 2.0], [0.0, 0.3, 1.0])]
    first = fn(weights.clone(), gradients[:1], 0.1, 0.0)
    expect_close("The weights after one step without decay", first, weights - 0.1 * gradients[0].sign(),
                 "In step 1 both corrected means are exact, so every weight moves by the learning rate, whatever the "
                 "size of its gradient. Did you divide by 1 - beta**step?", tolerance=1e-7)  # fmt: skip
    tiny = fn(weights.clone(), [torch.full((3,), 1e-6).double()], 0.1, 0.0)
    expect_close("The weights after a step with a gradient of 0.000001", tiny, weights - 0.1 / 1.01,
                 "1e-8 is added to the root, not under it.", tolerance=1e-7)  # fmt: skip
    expected, mean, square = weights.clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for step, gradient in enumerate(gradients, 1):
        adamw_step(expected, gradient, mean, square, step, learning_rate=0.1, weight_decay=0.0)
    expect_close("The weights after three steps without decay", fn(weights.clone(), gradients, 0.1, 0.0), expected,
                 "Keep both means from step to step; the step number in the correction starts at 1.")  # fmt: skip
    decayed = fn(weights.clone(), [torch.zeros(3).double()], 0.1, 0.5)
    expect_close("The weights after a step of zero gradient with weight decay 0.5", decayed, weights * 0.95,
                 "The W in AdamW: decay shrinks the weights directly by learning_rate x weight_decay; it does not pass "
                 "through the means.")  # fmt: skip
    expected, mean, square = weights.clone(), torch.zeros(3).double(), torch.zeros(3).double()
    for step, gradient in enumerate(gradients, 1):
        adamw_step(expected, gradient, mean, square, step, learning_rate=0.1, weight_decay=0.5)
    expect_close("The weights after three steps with weight decay 0.5", fn(weights.clone(), gradients, 0.1, 0.5),
                 expected, "Each step first decays the weights, then moves them.")  # fmt: skip
    slow = fn(weights.clone(), gradients[:1], 0.02, 0.5)
    what, moved = "The weights after one step with learning rate 0.02 and weight decay 0.5", gradients[0].sign()
    expect_close(what, slow, weights * 0.99 - 0.02 * moved, "The learning rate is an argument.", tolerance=1e-7)
    weights, *gradients = torch.randn(8, 4, generator=dice(1), dtype=torch.float64)
    expected, mean, square = weights.clone(), torch.zeros(4).double(), torch.zeros(4).double()
    for step, gradient in enumerate(gradients, 1):
        adamw_step(expected, gradient, mean, square, step, learning_rate=0.05, weight_decay=0.3)
    what, hint = "Four random weights after seven steps with random gradients", "Any weights, and any number of steps."
    expect_close(what, fn(weights.clone(), gradients, 0.05, 0.3), expected, hint)


def check_copy_targets(fn) -> None:
    row = torch.tensor([7, 8, 9, 7, 8, 9, 7])
    given = row.clone()
    returned = fn(given, 3)
    expect(isinstance(returned, tuple) and len(returned) == 2, "Return two tensors, first the ids, then the targets.")
    ids, targets = returned
    expect_equal("ids", ids, row[:-1], "The model reads everything but the last token.")
    hint = "The targets are the row one step later; 7 8 9 cannot be guessed, the second 7 (a target of position 2) can."
    graded = int((targets != -100).sum())
    expect_equal("The number of graded targets", graded, 4, hint)
    expect_equal("targets", targets, torch.tensor([-100, -100, 7, 8, 9, 7]), hint)
    expect_equal("targets of a row with period 1", fn(torch.tensor([5, 5, 5]), 1)[1], torch.tensor([5, 5]),
                 "With period 1 even the second token is a copy.")  # fmt: skip
    expect_equal("targets of 5 5 8 5 5 8 with period 3", fn(torch.tensor([5, 5, 8, 5, 5, 8]), 3)[1],
                 torch.tensor([-100, -100, 5, 5, 8]), "The period decides what repeats, not the value.")  # fmt: skip
    expect_equal("targets of 4 6 with period 3", fn(torch.tensor([4, 6]), 3)[1], torch.tensor([-100]),
                 "A row shorter than its period has no repeat.")  # fmt: skip
    row = torch.tensor([40_000, 50_000, 3] * 9)
    expected = row[1:].where(torch.arange(1, 27) >= 3, -100)
    hint = "A row may be of any length, and an id any number."
    expect_equal("targets of [40000, 50000, 3] * 9 with period 3", fn(row, 3)[1], expected, hint)
    (period,) = whole_numbers(1, 2, 5)
    for number in (0, 1):
        row = torch.tensor(different_numbers(period, 900, number) * 3)
        expected = row[1:].where(torch.arange(1, 3 * period) >= period, -100)
        expect_equal(f"targets of {row.tolist()} with period {period}", fn(row, period)[1], expected, hint)


def check_from_gpt2(fn) -> None:
    table = {f"h.0.{theirs}": transposed for theirs, (_, transposed) in BLOCK_NAMES.items()}
    table |= {theirs: transposed for theirs, (_, transposed) in MODEL_NAMES.items()}
    generator = dice(0)
    for name, transposed in table.items():
        if not name.endswith("weight") or "ln_" in name:
            continue
        stored = torch.randn(4, 4 if "attn.c_proj" in name else 12, generator=generator)
        expected = stored.T if transposed else stored
        got = fn(name, stored.clone())
        expect(isinstance(got, torch.Tensor), "Return the weight as a tensor.")
        hint = ("GPT-2 stores (in, out) where nn.Linear wants (out, in)." if transposed else
                "An embedding is a table of rows, one a token: it is not transposed.")  # fmt: skip
        if tuple(got.shape) == tuple(expected.shape):
            hint = "This one is square: a forgotten transpose passes every check of shapes. Decide by the name."
        expect_equal(name, got, expected, hint)
    stored = torch.randn(4, 12, generator=generator)
    expect_equal("h.11.mlp.c_fc.weight", fn("h.11.mlp.c_fc.weight", stored), stored.T, "A block may have any number.")
    square = torch.randn(4, 4, generator=generator)
    expect_equal("A square wpe.weight", fn("wpe.weight", square), square, "An embedding is not transposed.")
    bias = torch.randn(12, generator=generator)
    expect_equal("h.3.attn.c_attn.bias", fn("h.3.attn.c_attn.bias", bias.clone()), bias, "A vector stays as it is.")


def _unlike(got: torch.Tensor, wrong: float, message: str) -> None:
    """Name a slip by the number that it gives."""
    same = got.numel() == 1 and math.isclose(float(got.detach()), wrong, rel_tol=1e-5)
    expect(not same, f"The loss of eight equal scores should be {math.log(8):.6g}; yours, {wrong:.6g}, {message}")


CHECKS = {
    "5.1": check_loss,
    "5.2": check_schedule,
    "5.3": check_clip,
    "5.4": check_mean_of_batches,
    "5.5": check_adamw,
    "5.6": check_copy_targets,
    "5.7": check_from_gpt2,
}
