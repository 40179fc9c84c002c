"""Classic mistakes for chapter 5's exercises, each with a piece of the message that it must get."""

import torch


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


def nothing_masked(row, period):
    return row[:-1], row[1:]


def transposed_only_where_the_shape_complains(name, stored):
    return stored.T if stored.ndim == 2 and stored.shape[0] != stored.shape[1] and "w" != name[0] else stored


def every_matrix_transposed(name, stored):
    return stored.T if stored.ndim == 2 else stored


def nothing_transposed(name, stored):
    return stored


WRONG = {
    "5.1": [
        (softmax_over_the_wrong_axis, "Which axis do you normalise over"),
        (masked_targets_still_counted, "with the second target masked"),
        (exponentials_that_overflow, "exp(1000) overflows"),
        (probability_instead_of_its_logarithm, "minus the logarithm"),
    ],
    "5.2": [
        (rise_from_zero, "A first step of size 0 is wasted"),
        (fall_from_the_start, "45 of its 90 steps are done"),
        (no_fall, "half is left"),
    ],
    "5.3": [
        (always_scaled, "clipping only shrinks"),
        (each_alone, "divided by the same 10"),
        (by_value, "joint length 13"),
        (in_place_without_return, "Return the list of gradients"),
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
    ],
    "5.6": [
        (targets_not_shifted, "yours is [-100, -100, 9, 7, 8, 9]"),
        (one_target_too_many_masked, "yours is 3"),
        (nothing_masked, "yours is 6"),
        (targets_alone, "Return two tensors"),
    ],
    "5.7": [
        (transposed_only_where_the_shape_complains, "This one is square"),
        (every_matrix_transposed, "An embedding is a table of rows"),
        (nothing_transposed, "wants (out, in)"),
    ],
}
