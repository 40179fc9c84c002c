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


def asks_pytorch(weights, gradients, learning_rate, weight_decay):
    parameter = torch.nn.Parameter(weights.clone())
    options = {"lr": learning_rate, "betas": (0.9, 0.95), "weight_decay": weight_decay}
    optimizer = torch.optim.AdamW([parameter], **options)
    for gradient in gradients:
        parameter.grad = gradient
        optimizer.step()
    return parameter.detach()


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
    ],
    "5.2": [
        (rise_from_zero, "A first step of size 0 is wasted"),
        (fall_from_the_start, "45 of its 90 steps are done"),
        (no_fall, "half is left"),
        (falls_in_a_cosine, "The rate of step 33"),
        (falls_from_the_peak_down_at_once, "The fall has not begun"),
        (falls_a_step_early, "The rate of step 55 should be 0.005, yours is 0.004889"),
    ],
    "5.3": [
        (always_scaled, "clipping only shrinks"),
        (each_alone, "divided by the same 10"),
        (by_value, "joint norm 13"),
        (in_place_without_return, "Return the list of gradients"),
        (divides_by_zero, "nothing may be divided by it"),
    ],
    "5.4": [
        (mean_of_means, "weighs more"),
        (empty_batch_poisons, "0/0 is NaN"),
        (total_not_mean, "Equal counts"),
    ],
    "5.5": [
        (bias_not_corrected, "Did you divide by 1 - beta**step"),
        (decay_through_the_gradient, "The W in AdamW"),
        (means_forgotten_each_step, "Keep both means from step to step"),
        (decay_after_the_step, "first decays the weights, then moves them"),
        (eps_under_the_root, "not under it"),
        (changes_the_weights, "build new weights"),
        (asks_pytorch, "Write the rule itself"),
    ],
    "5.6": [
        (targets_not_shifted, "yours is [-100, -100, 9, 7, 8, 9]"),
        (one_target_too_many_masked, "yours is 3"),
        (nothing_masked, "yours is 6"),
        (targets_alone, "Return two tensors"),
        (masks_the_row_itself, "clone it first"),
    ],
    "5.7": [
        (transposed_only_where_the_shape_complains, "This one is square"),
        (every_matrix_transposed, "An embedding is a table of rows"),
        (nothing_transposed, "wants (out, in)"),
    ],
}
