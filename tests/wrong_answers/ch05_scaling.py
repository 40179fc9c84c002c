"""Classic mistakes in the exercises of `scaling`, each with a fragment of the sentence it must get."""

import math

import torch
import torch.nn.functional as F


def _exponent(sizes, losses, floor=0.0):
    return math.log((losses[0] - floor) / (losses[1] - floor)) / math.log(sizes[1] / sizes[0])


def without_the_floor(sizes, losses, floor, size):
    return losses[0] * (size / sizes[0]) ** -_exponent(sizes, losses)


def floor_not_put_back(sizes, losses, floor, size):
    return (losses[0] - floor) * (size / sizes[0]) ** -_exponent(sizes, losses, floor)


def floor_only_put_back(sizes, losses, floor, size):
    return floor + losses[0] * (size / sizes[0]) ** -_exponent(sizes, losses, floor)


def exponent_with_the_wrong_sign(sizes, losses, floor, size):
    return floor + (losses[0] - floor) * (size / sizes[0]) ** _exponent(sizes, losses, floor)


def a_straight_line(sizes, losses, floor, size):
    return losses[0] + (losses[1] - losses[0]) * (size - sizes[0]) / (sizes[1] - sizes[0])


def a_line_in_the_logarithm_of_the_size(sizes, losses, floor, size):
    done = math.log(size / sizes[0]) / math.log(sizes[1] / sizes[0])
    return losses[0] + (losses[1] - losses[0]) * done


def never_below_the_second(sizes, losses, floor, size):
    return max(losses[1], without_the_floor(sizes, losses, floor, size))


def always_a_square_root(sizes, losses, floor, size):
    return floor + (losses[0] - floor) * (size / sizes[0]) ** -0.5


def sizes_sorted_alone(sizes, losses, floor, size):
    sizes = sorted(sizes)
    return floor + (losses[0] - floor) * (size / sizes[0]) ** -_exponent(sizes, losses, floor)


def never_above_the_first(sizes, losses, floor, size):
    return min(losses[0], floor + (losses[0] - floor) * (size / sizes[0]) ** -_exponent(sizes, losses, floor))


def only_beyond_both(sizes, losses, floor, size):
    size = max(size, *sizes)
    return floor + (losses[0] - floor) * (size / sizes[0]) ** -_exponent(sizes, losses, floor)


def exponent_of_at_most_one_and_a_half(sizes, losses, floor, size):
    exponent = min(_exponent(sizes, losses, floor), 1.5)
    return floor + (losses[0] - floor) * (size / sizes[0]) ** -exponent


def never_quite_at_the_floor(sizes, losses, floor, size):
    return max(floor + 0.01, floor + (losses[0] - floor) * (size / sizes[0]) ** -_exponent(sizes, losses, floor))


def rounded(sizes, losses, floor, size):
    return round(floor + (losses[0] - floor) * (size / sizes[0]) ** -_exponent(sizes, losses, floor), 3)


def _head(hidden, weight, targets, n_rows, off=1.0, scale=1.0, probabilities=None):
    to_hidden, to_weight = [], torch.zeros_like(weight)
    for rows, wanted in zip(hidden.split(n_rows), targets.split(n_rows)):
        p = (probabilities or (lambda scores: scores.softmax(-1)))(rows @ weight.T)
        p[torch.arange(len(wanted)), wanted] -= off
        to_hidden.append(scale * p @ weight)
        to_weight += scale * p.T @ rows
    return torch.cat(to_hidden), to_weight


def nothing_taken_off(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, n_rows, off=0.0)


def uphill(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, n_rows, scale=-1.0)


def of_the_mean(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, n_rows, scale=1 / len(hidden))


def mean_of_each_slice(hidden, weight, targets, n_rows):
    parts = [_head(h, weight, t, n_rows, scale=1 / len(h)) for h, t in zip(hidden.split(n_rows), targets.split(n_rows))]
    return torch.cat([part[0] for part in parts]), sum(part[1] for part in parts)


def last_slice_only(hidden, weight, targets, n_rows):
    for rows, wanted in zip(hidden.split(n_rows), targets.split(n_rows)):
        _, to_weight = _head(rows, weight, wanted, n_rows)
    return _head(hidden, weight, targets, n_rows)[0], to_weight


def full_slices_only(hidden, weight, targets, n_rows):
    whole = max(len(hidden) // n_rows, 1) * n_rows
    got = _head(hidden[:whole], weight, targets[:whole], n_rows)
    return torch.cat([got[0], torch.zeros_like(hidden[whole:])]), got[1]


def exponentials_that_overflow(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, n_rows, probabilities=lambda x: x.exp() / x.exp().sum(-1, keepdim=True))


def softmax_over_the_rows(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, n_rows, probabilities=lambda x: x.softmax(0))


def in_one_piece(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, len(hidden))


def by_autograd(hidden, weight, targets, n_rows):
    inputs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(inputs[0] @ inputs[1].T, targets, reduction="sum"), inputs)


def by_backward(hidden, weight, targets, n_rows):
    inputs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.enable_grad():
        F.cross_entropy(inputs[0] @ inputs[1].T, targets, reduction="sum").backward()
    return inputs[0].grad, inputs[1].grad


def by_the_engine(hidden, weight, targets, n_rows):
    inputs = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.enable_grad():
        torch.autograd.backward(F.cross_entropy(inputs[0] @ inputs[1].T, targets, reduction="sum"))
    return inputs[0].grad, inputs[1].grad


def all_slices_kept(hidden, weight, targets, n_rows):
    tables = [(rows @ weight.T).softmax(-1) for rows in hidden.split(n_rows)]
    for p, wanted in zip(tables, targets.split(n_rows)):
        p[torch.arange(len(wanted)), wanted] -= 1
    to_weight = sum(p.T @ rows for p, rows in zip(tables, hidden.split(n_rows)))
    return torch.cat([p @ weight for p in tables]), to_weight


def slices_of_three(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, 3)


def into_what_was_given(hidden, weight, targets, n_rows):
    to_hidden, to_weight = _head(hidden, weight, targets, n_rows)
    return hidden.copy_(to_hidden), to_weight


def in_float64(hidden, weight, targets, n_rows):
    return _head(hidden.double(), weight.double(), targets, n_rows)


def only_of_hidden(hidden, weight, targets, n_rows):
    return _head(hidden, weight, targets, n_rows)[0]


def _bad(gradients):
    return not all(gradient.isfinite().all() for gradient in gradients)


def _rule(gradients, factor, bad=_bad, divide=lambda gradient, factor: gradient.float() / factor):
    return (None, factor / 2) if bad(gradients) else ([divide(gradient, factor) for gradient in gradients], factor)


def multiplied_again(gradients, factor):
    return _rule(gradients, factor, divide=lambda gradient, factor: gradient.float() * factor)


def divided_in_float16(gradients, factor):
    return _rule(gradients, factor, divide=lambda gradient, factor: (gradient / factor).float())


def left_in_float16(gradients, factor):
    return _rule(gradients, factor, divide=lambda gradient, factor: gradient.double() / factor)


def divided_in_place(gradients, factor):
    result = _rule(gradients, factor)
    for gradient in gradients:
        gradient.div_(factor)
    return result


def nan_overlooked(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: any(gradient.isinf().any() for gradient in all_of))


def infinity_overlooked(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: any(gradient.isnan().any() for gradient in all_of))


def plus_infinity_only(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: any((gradient == math.inf).any() for gradient in all_of))


def first_gradient_only(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: _bad(all_of[:1]))


def only_the_bad_one_left_out(gradients, factor):
    kept = [gradient.float() / factor for gradient in gradients if gradient.isfinite().all()]
    return kept, factor / 2 if len(kept) < len(gradients) else factor


def last_number_only(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: not all(g.flatten()[-1].isfinite() for g in all_of))


def nan_in_the_first_only(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: _bad(all_of[:1]) or any(g.isinf().any() for g in all_of))


def flattened(gradients, factor):
    return _rule(gradients, factor, divide=lambda gradient, factor: gradient.float().flatten() / factor)


def zeros_after_a_bad_step(gradients, factor):
    result = _rule(gradients, factor)
    if result[0] is None:
        for gradient in gradients:
            gradient.zero_()
    return result


def half_of_1024_always(gradients, factor):
    got, following = _rule(gradients, factor)
    return got, 512.0 if got is None else following


def halved_without_a_rest(gradients, factor):
    got, following = _rule(gradients, factor)
    return got, factor // 2 if got is None else following


def above_60000_refused(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: any(not (g.abs() <= 60000).all() for g in all_of))


def cut_at_30000(gradients, factor):
    return _rule(gradients, factor, divide=lambda gradient, factor: gradient.float().clamp(-30000, 30000) / factor)


def factor_kept(gradients, factor):
    return _rule(gradients, factor)[0], factor


def factor_doubled_after_each_good_step(gradients, factor):
    got, following = _rule(gradients, factor)
    return got, following if got is None else 2 * following


def large_ones_refused(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: any(not (g.abs() < 32768).all() for g in all_of))


def sums_asked(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: not sum(g.sum() for g in all_of).isfinite())


def sum_of_each_asked(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: not all(g.sum().isfinite() for g in all_of))


def range_of_each_asked(gradients, factor):
    return _rule(gradients, factor, bad=lambda all_of: not all((g.max() - g.min()).isfinite() for g in all_of))


def gradients_alone(gradients, factor):
    return _rule(gradients, factor)[0]


def a_rounded_exponent(sizes, losses, floor, size):
    first, second = (loss - floor for loss in losses)
    exponent = round(math.log(first / second) / math.log(sizes[1] / sizes[0]), 6)
    return floor + first * (size / sizes[0]) ** -exponent


def in_float32_inside(hidden, weight, targets, n_rows):
    to_hidden, to_weight, table = [], torch.zeros_like(weight), weight.float()
    for rows, wanted in zip(hidden.float().split(n_rows), targets.split(n_rows)):
        gradients = (rows @ table.T).softmax(dim=-1)
        gradients[torch.arange(len(wanted)), wanted] -= 1
        to_hidden.append(gradients @ table)
        to_weight += gradients.T @ rows
    return torch.cat(to_hidden).to(hidden.dtype), to_weight


def a_rounded_factor(gradients, factor):
    if not all(gradient.isfinite().all() for gradient in gradients):
        return None, float(f"{factor / 2:.3g}")
    return [gradient.float() / factor for gradient in gradients], float(f"{factor:.3g}")


WRONG = {
    "5s.1": [
        (without_the_floor, "yours is 1.33333. Take the floor off"),
        (floor_not_put_back, "yours is 0.5"),
        (floor_only_put_back, "yours is 1.75"),
        (exponent_with_the_wrong_sign, "yours is 9"),
        (a_straight_line, "yours is -2"),
        (a_line_in_the_logarithm_of_the_size, "yours is 1."),
        (never_below_the_second, "yours is 2."),
        (always_a_square_root, "quotient of two logarithms"),
        (sizes_sorted_alone, "the larger size comes first"),
        (only_beyond_both, "may lie between"),
        (never_above_the_first, "smaller than both"),
        (exponent_of_at_most_one_and_a_half, "may be large"),
        (never_quite_at_the_floor, "as near to the floor"),
        (rounded, "should be 1.61943, yours is 1.619"),
        (a_rounded_exponent, "agrees to a few digits only"),
    ],
    "5s.2": [
        (nothing_taken_off, "with 1 taken off at the target, and by the chain rule"),
        (uphill, "for n = 1 and n_rows = 4"),
        (of_the_mean, "for n = 8 and n_rows = 4"),
        (mean_of_each_slice, "for n = 8 and n_rows = 4"),
        (last_slice_only, "Each slice adds its share"),
        (full_slices_only, "for n = 9 and n_rows = 4"),
        (exponentials_that_overflow, "1000 times as large"),
        (softmax_over_the_rows, "The gradient of hidden"),
        (in_one_piece, "only 4 may"),
        (by_autograd, "`torch.autograd.grad`"),
        (by_backward, "`Tensor.backward`"),
        (by_the_engine, "`torch.autograd.backward`"),
        (all_slices_kept, "let each go before the next"),
        (slices_of_three, "only 2 may"),
        (into_what_was_given, "has changed `hidden`"),
        (in_float64, "returned torch.float64"),
        (only_of_hidden, "Return two tensors"),
        (in_float32_inside, "agrees to a few digits only"),
    ],
    "5s.3": [
        (multiplied_again, "yours is [32, -16]"),
        (divided_in_float16, "change to float32 first"),
        (left_in_float16, "should be 'torch.float32'"),
        (divided_in_place, "has changed `gradients`"),
        (nan_overlooked, "With nan in the first"),
        (infinity_overlooked, "With inf in the first"),
        (plus_infinity_only, "With -inf in the first"),
        (first_gradient_only, "in the second gradient"),
        (last_number_only, "at place 4"),
        (nan_in_the_first_only, "With nan in the second gradient"),
        (only_the_bad_one_left_out, "return None, not a list of 2"),
        (flattened, "should have the shape (2, 3), yours has (6,)"),
        (zeros_after_a_bad_step, "has changed `gradients`"),
        (half_of_1024_always, "should be 1.5, yours is 512"),
        (halved_without_a_rest, "should be 1.5, yours is 1."),
        (above_60000_refused, "65504 is large"),
        (cut_at_30000, "yours is [3e+04]"),
        (factor_kept, "halve it"),
        (factor_doubled_after_each_good_step, "Where all went well it stays"),
        (large_ones_refused, "60000 is large"),
        (sums_asked, "in [[60000.0], [60000.0]] is finite"),
        (sum_of_each_asked, "in [[60000.0, 60000.0]] is finite"),
        (range_of_each_asked, "in [[60000.0, -60000.0]] is finite"),
        (gradients_alone, "Return two things"),
        (a_rounded_factor, "otherwise it is halved: do not round it"),
    ],
}
