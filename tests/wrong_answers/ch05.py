"""Classic mistakes for chapter 5's exercises, each with a piece of the message that it must get."""

import math

import torch
import torch.nn.functional as F


def softmax_over_the_wrong_axis(logits, targets):
    picked = logits.log_softmax(dim=1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -picked[targets != -100].mean()


def masked_targets_still_counted(logits, targets):
    picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -(picked * (targets != -100)).mean()


def exponentials_that_overflow(logits, targets):
    probabilities = logits.exp() / logits.exp().sum(-1, keepdim=True)
    picked = probabilities.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return -picked[targets != -100].log().mean()


def probability_instead_of_its_logarithm(logits, targets):
    picked = logits.softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (1 - picked)[targets != -100].mean() * torch.tensor(8.0).log() / 0.875


def rise_from_zero(step, peak, warmup_steps, max_steps):
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * (max_steps - step) / (max_steps - warmup_steps)


def fall_from_the_start(step, peak, warmup_steps, max_steps):
    return peak * min((step + 1) / warmup_steps, 1) * (1 if step < warmup_steps else 1 - step / max_steps)


def no_fall(step, peak, warmup_steps, max_steps):
    return peak * min((step + 1) / warmup_steps, 1 if step < 56 else 0.8)


def always_scaled(gradients, max_norm):
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [g * max_norm / length for g in gradients]


def each_alone(gradients, max_norm):
    return [g * min(1.0, max_norm / max(float(g.norm()), 1e-9)) for g in gradients]


def by_value(gradients, max_norm):
    return [g.clamp(-max_norm, max_norm) for g in gradients]


def in_place_without_return(gradients, max_norm):
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    for g in gradients:
        g.mul_(min(1.0, max_norm / float(length)))


def mean_of_means(losses, counts):
    return sum(losses) / len(losses)


def empty_batch_poisons(losses, counts):
    return sum(loss * count for loss, count in zip(losses, counts)) / sum(counts)


def total_not_mean(losses, counts):
    return sum(loss * count for loss, count in zip(losses, counts) if count)


def _adamw(weights, gradients, learning_rate, weight_decay, corrected=True, decay_in_gradient=False, first=1):
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=first):
        if decay_in_gradient:
            gradient = gradient + weight_decay * weights
        else:
            weights = weights * (1 - learning_rate * weight_decay)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
        fair_mean = mean / (1 - 0.9**step) if corrected else mean
        fair_square = square / (1 - 0.95**step) if corrected else square
        weights = weights - learning_rate * fair_mean / (fair_square.sqrt() + 1e-8)
    return weights


def bias_not_corrected(weights, gradients, learning_rate, weight_decay):
    return _adamw(weights, gradients, learning_rate, weight_decay, corrected=False)


def decay_through_the_gradient(weights, gradients, learning_rate, weight_decay):
    return _adamw(weights, gradients, learning_rate, weight_decay, decay_in_gradient=True)


def means_forgotten_each_step(weights, gradients, learning_rate, weight_decay):
    for gradient in gradients:
        weights = _adamw(weights, [gradient], learning_rate, weight_decay)
    return weights


def decay_after_the_step(weights, gradients, learning_rate, weight_decay):
    factor = 1 - learning_rate * weight_decay
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
        fair = mean / (1 - 0.9**step) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
        weights = (weights - learning_rate * fair) * factor
    return weights


def targets_not_shifted(row, period):
    targets = row[:-1].clone()
    targets[: period - 1] = -100
    return row[:-1], targets


def one_target_too_many_masked(row, period):
    targets = row[1:].clone()
    targets[:period] = -100
    return row[:-1], targets


def targets_alone(row, period):
    return row[1:].masked_fill(torch.arange(len(row) - 1) < period - 1, -100)


def masks_the_row_itself(row, period):
    ids, targets = row[:-1].clone(), row[1:]
    targets[: period - 1] = -100
    return ids, targets


def nothing_masked(row, period):
    return row[:-1], row[1:]


def transposed_only_where_the_shape_complains(name, stored):
    return stored.T if stored.ndim == 2 and stored.shape[0] != stored.shape[1] and "w" != name[0] else stored


def every_matrix_transposed(name, stored):
    return stored.T if stored.ndim == 2 else stored


def nothing_transposed(name, stored):
    return stored


def _loss(logits, targets, dim=None):
    picked = logits.log_softmax(-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    graded = targets != -100
    return -(picked * graded).sum(dim) / graded.sum(dim)


def sum_instead_of_mean(logits, targets):
    return _loss(logits, targets) * (targets != -100).sum()


def bits_instead_of_nats(logits, targets):
    return _loss(logits, targets) / torch.tensor(2.0).log()


def mean_of_row_means(logits, targets):
    return _loss(logits, targets, dim=-1).mean()


def cut_off_from_the_scores(logits, targets):
    return _loss(logits, targets).detach()


def a_plain_number(logits, targets):
    return _loss(logits, targets).item()


def the_loss_of_pytorch(logits, targets):
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def falls_in_a_cosine(step, peak, warmup_steps, max_steps):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / (max_steps - warmup_steps)
    return peak * (1 + math.cos(math.pi * done)) / 2


def falls_from_the_peak_down_at_once(step, peak, warmup_steps, max_steps):
    if step == warmup_steps:
        return peak * (max_steps - step - 1) / (max_steps - warmup_steps)
    return min(peak * (step + 1) / warmup_steps, peak * (max_steps - step) / (max_steps - warmup_steps))


def falls_a_step_early(step, peak, warmup_steps, max_steps):
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (max_steps - step - 1) / (max_steps - warmup_steps)


def divides_by_zero(gradients, max_norm):
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [g * (max_norm / length).clamp(max=1.0) / (length / length) for g in gradients]


def eps_under_the_root(weights, gradients, learning_rate, weight_decay):
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(gradients, start=1):
        weights = weights * (1 - learning_rate * weight_decay)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
        fair_mean, fair_square = mean / (1 - 0.9**step), square / (1 - 0.95**step)
        weights = weights - learning_rate * fair_mean / (fair_square + 1e-8).sqrt()
    return weights


def changes_the_weights(weights, gradients, learning_rate, weight_decay):
    return weights.copy_(_adamw(weights, gradients, learning_rate, weight_decay))


def sum_of_exponentials_cut_off(logits, targets):
    picked = logits.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (logits.detach().logsumexp(-1) - picked)[targets != -100].mean()


def targets_changed(logits, targets):
    graded = targets != -100
    picked = logits.log_softmax(-1).gather(-1, targets.clamp_(min=0).unsqueeze(-1)).squeeze(-1)
    return -picked[graded].mean()


def rows_of_two_axes_only(logits, targets):
    picked = logits.log_softmax(2).gather(2, targets.clamp(min=0).unsqueeze(2)).squeeze(2)
    return -picked[targets != -100].mean()


def numbers_of_the_example(step, peak, warmup_steps, max_steps):
    return 0.001 * (step + 1) if step < 10 else 0.01 * (100 - step) / 90


def warm_up_divided_always(step, peak, warmup_steps, max_steps):
    return peak * min((step + 1) / warmup_steps, (max_steps - step) / (max_steps - warmup_steps), 1)


def spectral_norms(gradients, max_norm):
    norms = [torch.linalg.norm(g, 2) for g in gradients]
    length = torch.stack([norm.square() for norm in norms]).sum().sqrt()
    return [g * min(1.0, max_norm / max(float(length), 1e-9)) for g in gradients]


def sum_of_the_norms(gradients, max_norm):
    length = sum(float(g.norm()) for g in gradients)
    return [g * min(1.0, max_norm / max(length, 1e-9)) for g in gradients]


def by_the_largest_number(gradients, max_norm):
    largest = max(float(g.abs().max()) for g in gradients)
    return [g * min(1.0, max_norm / max(largest, 1e-9)) for g in gradients]


def losses_of_zero_left_out(losses, counts):
    kept = [(loss, count) for loss, count in zip(losses, counts) if loss > 0]
    return sum(loss * count for loss, count in kept) / sum(count for _, count in kept)


def lists_shortened(losses, counts):
    while 0 in counts:
        losses.pop(counts.index(0)), counts.remove(0)
    return sum(loss * count for loss, count in zip(losses, counts)) / sum(counts)


def divided_by_the_number_of_batches(losses, counts):
    kept = [(loss, count) for loss, count in zip(losses, counts) if count]
    return sum(loss * count for loss, count in kept) / max(counts) / len(kept)


def rate_of_the_example(weights, gradients, learning_rate, weight_decay):
    return _adamw(weights, gradients, 0.1, weight_decay)


def adam_of_pytorch_with_decay_by_hand(weights, gradients, learning_rate, weight_decay):
    parameter = torch.nn.Parameter(weights.clone())
    optimizer = torch.optim.Adam([parameter], lr=learning_rate, betas=(0.9, 0.95))
    for gradient in gradients:
        parameter.data.mul_(1 - learning_rate * weight_decay)
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


def gradients_scaled_in_place(weights, gradients, learning_rate, weight_decay):
    result = _adamw(weights, gradients, learning_rate, weight_decay)
    gradients[0].mul_(0.1)
    return result


def weights_in_float32(weights, gradients, learning_rate, weight_decay):
    return _adamw(weights, gradients, learning_rate, weight_decay).float()


def graded_where_the_value_was_seen(row, period):
    seen = [int(row[t + 1]) in row[: t + 1].tolist() for t in range(len(row) - 1)]
    return row[:-1], row[1:].masked_fill(~torch.tensor(seen), -100)


def ids_masked_as_well(row, period):
    targets = row[1:].clone()
    targets[: period - 1] = -100
    return targets, targets


def first_blocks_only(name, stored):
    return stored.T if name.startswith("h.0.") and stored.ndim == 2 else stored


def square_ones_transposed(name, stored):
    return stored.T if stored.ndim == 2 and (stored.shape[0] == stored.shape[1] or name[0] != "w") else stored


def reshaped(name, stored):
    return stored.reshape(stored.shape[::-1]) if stored.ndim == 2 and name[0] != "w" else stored


def loss_in_32_bits(logits, targets):
    graded = targets != -100
    return -logits.float().log_softmax(-1)[graded].gather(-1, targets[graded].unsqueeze(-1)).mean().to(logits.dtype)


def a_warm_up_of_one_step_at_least(step, peak, warmup_steps, max_steps):
    warmup_steps = max(warmup_steps, 1)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * (max_steps - step) / (max_steps - warmup_steps)


def clips_the_first_two(gradients, max_norm):
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients[:2]))
    return [g * (max_norm / length if length > max_norm else 1.0) for g in gradients]


def clips_and_rounds(gradients, max_norm):
    length = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    scale = max_norm / length if length > max_norm else 1.0
    return [(g * scale * 1e4).round() / 1e4 for g in gradients]


def losses_in_order_of_size(losses, counts):
    graded = sorted(loss for loss, count in zip(losses, counts) if count)
    return sum(loss * count for loss, count in zip(graded, filter(None, counts))) / sum(counts)


def three_steps_at_most(weights, gradients, learning_rate, weight_decay):
    mean, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for step, gradient in enumerate(gradients[:3], start=1):
        weights = weights * (1 - learning_rate * weight_decay)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
        move = mean / (1 - 0.9**step) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
        weights = weights - learning_rate * move
    return weights


def twelve_targets_at_most(row, period):
    ids, targets = row[:-1], row[1:].clone()
    targets[: period - 1] = -100
    targets[12:] = -100
    return ids, targets


def one_weight_for_all(name, stored, kept={}):  # noqa: B006
    conv1d = name.endswith(("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"))
    found = kept.setdefault((name, stored.shape), torch.empty_like(stored.T if conv1d else stored))
    return found.copy_(stored.T if conv1d else stored)


WRONG = {
    "5.1": [
        (softmax_over_the_wrong_axis, "Which axis do you normalize over"),
        (masked_targets_still_counted, "with the second target masked"),
        (exponentials_that_overflow, "exp(1000) overflows"),
        (probability_instead_of_its_logarithm, "minus the logarithm"),
        (sum_instead_of_mean, "is the sum over the six targets"),
        (bits_instead_of_nats, "take the natural logarithm"),
        (mean_of_row_means, "not a mean of the rows' means"),
        (cut_off_from_the_scores, "so nothing could learn"),
        (a_plain_number, "so that gradients can flow"),
        (the_loss_of_pytorch, "Write the loss itself"),
        (sum_of_exponentials_cut_off, "The gradient of the loss"),
        (targets_changed, "has changed `targets`"),
        (rows_of_two_axes_only, "Dimension out of range"),
        (loss_in_32_bits, "agrees to a few digits only"),
    ],
    "5.2": [
        (rise_from_zero, "A first step of size 0 is wasted"),
        (fall_from_the_start, "45 of its 90 steps are done"),
        (no_fall, "half is left"),
        (falls_in_a_cosine, "The rate of step 33"),
        (falls_from_the_peak_down_at_once, "The fall has not begun"),
        (falls_a_step_early, "The rate of step 55 should be 0.005, yours is 0.00488889"),
        (numbers_of_the_example, "Peak, warm-up and end are arguments"),
        (warm_up_divided_always, "ZeroDivisionError"),
        (a_warm_up_of_one_step_at_least, "Half of its 20 steps are left"),
    ],
    "5.3": [
        (always_scaled, "clipping only shrinks"),
        (each_alone, "divided by the same 10"),
        (by_value, "joint norm 13"),
        (in_place_without_return, "Return the list of gradients"),
        (divides_by_zero, "nothing may be divided by it"),
        (spectral_norms, "A matrix counts as one long row"),
        (sum_of_the_norms, "yours is [0.2294, 0.3059]"),
        (by_the_largest_number, "yours is [0.325, 0.4333]"),
        (clips_the_first_two, "one norm and one factor serve all"),
        (clips_and_rounds, "one norm and one factor serve all"),
    ],
    "5.4": [
        (mean_of_means, "weighs more"),
        (empty_batch_poisons, "0/0 is NaN"),
        (total_not_mean, "Equal counts"),
        (losses_of_zero_left_out, "A loss of 0 is a loss"),
        (lists_shortened, "has changed `losses`"),
        (divided_by_the_number_of_batches, "yours is 1.66667"),
        (losses_in_order_of_size, "Each loss goes with the count in its place, and"),
    ],
    "5.5": [
        (bias_not_corrected, "Did you divide by 1 - beta**step"),
        (decay_through_the_gradient, "The W in AdamW"),
        (means_forgotten_each_step, "Keep both means from step to step"),
        (decay_after_the_step, "first decays the weights, then moves them"),
        (eps_under_the_root, "not under it"),
        (changes_the_weights, "has changed `weights`"),
        (adam_of_pytorch_with_decay_by_hand, "Write the rule itself"),
        (rate_of_the_example, "The learning rate is an argument"),
        (gradients_scaled_in_place, "has changed `gradients`"),
        (weights_in_float32, "returned torch.float32"),
        (three_steps_at_most, "Any weights, and any number of steps"),
    ],
    "5.6": [
        (targets_not_shifted, "yours is [-100, -100, 9, 7, 8, 9]"),
        (one_target_too_many_masked, "yours is 3"),
        (nothing_masked, "yours is 6"),
        (targets_alone, "Return two tensors"),
        (masks_the_row_itself, "has changed `row`"),
        (graded_where_the_value_was_seen, "The period decides"),
        (ids_masked_as_well, "ids should be"),
        (twelve_targets_at_most, "A row may be of any length, and an id any number"),
    ],
    "5.7": [
        (transposed_only_where_the_shape_complains, "This one is square"),
        (every_matrix_transposed, "An embedding is a table of rows"),
        (nothing_transposed, "wants (out, in)"),
        (first_blocks_only, "A block may have any number"),
        (square_ones_transposed, "A square wpe.weight"),
        (reshaped, "This one is square"),
        (one_weight_for_all, "has changed with the next call"),
    ],
}
