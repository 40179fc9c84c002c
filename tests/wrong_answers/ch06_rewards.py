"""Classic mistakes in the exercises of `rewards`, each with a fragment of the sentence it must get."""

import torch

from ch06_finetuning.grpo import group_advantages, kl_estimate


def others(rewards):
    return (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def minus_the_groups_mean(rewards):
    return rewards - rewards.mean(dim=1, keepdim=True)


def minus_the_mean_of_all(rewards):
    return rewards - (rewards.sum() - rewards) / (rewards.numel() - 1)


def the_baseline_itself(rewards):
    return others(rewards)


def the_wrong_way_round(rewards):
    return others(rewards) - rewards


def minus_the_sum_of_the_others(rewards):
    return rewards - others(rewards) * (rewards.shape[1] - 1)


def minus_the_best_other(rewards):
    rows = [[row[k] - torch.cat([row[:k], row[k + 1 :]]).max() for k in range(len(row))] for row in rewards]
    return torch.tensor(rows, dtype=rewards.dtype)


def always_four_answers(rewards):
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / 3


def divided_by_the_spread(rewards):
    above = rewards - others(rewards)
    return above / above.abs().mean(dim=1, keepdim=True).clamp(min=1e-6) * 2 / 3


def groups_in_columns(rewards):
    return above_in_columns(rewards) if len(rewards) > 1 else rewards - others(rewards)


def above_in_columns(rewards):
    return rewards - (rewards.sum(dim=0) - rewards) / (len(rewards) - 1)


def changed_in_place(rewards):
    baseline = others(rewards)
    rewards -= baseline
    return rewards


def above_in_lists(rewards):
    return (rewards - others(rewards)).tolist()


def means(gain, written):
    kept = gain * written
    return (kept.sum(dim=1) / written.sum(dim=1)).mean(), kept.sum() / written.sum()


def nothing_masked(gain, written):
    return gain.mean(dim=1).mean(), gain.mean()


def divided_by_all_places(gain, written):
    return (gain * written).mean(dim=1).mean(), (gain * written).mean()


def tokens_over_all_places(gain, written):
    return means(gain, written)[0], (gain * written).mean()


def only_by_answers(gain, written):
    return means(gain, written)[0]


def one_mean_twice(gain, written):
    return means(gain, written)[0], means(gain, written)[0]


def sums(gain, written):
    return (gain * written).sum(dim=1).mean(), (gain * written).sum()


def sum_of_the_answers(gain, written):
    return (gain * written).sum(dim=1).mean() * 2 / written.sum(dim=1).float().mean(), means(gain, written)[1]


def cut_off(gain, written):
    return tuple(part.detach() for part in means(gain, written))


def two_answers_always(gain, written):
    by_answers, by_tokens = means(gain, written)
    return by_answers * len(gain) / 2, by_tokens


def six_tokens_always(gain, written):
    return means(gain, written)[0], (gain * written).sum() / 6


def ends_of(written):
    return written & (written.flip(1).cumsum(1).flip(1) == 1)


def earned(rewards, policy, reference, written, kl_weight):
    return torch.where(written, ends_of(written) * rewards[:, None] - kl_weight * (policy - reference), 0.0)


def at_the_last_column(rewards, policy, reference, written, kl_weight):
    result = -kl_weight * (policy - reference) * written
    result[:, -1] += rewards
    return result


def at_every_token(rewards, policy, reference, written, kl_weight):
    return (rewards[:, None] - kl_weight * (policy - reference)) * written


def at_the_first_token(rewards, policy, reference, written, kl_weight):
    return earned(0 * rewards, policy, reference, written, kl_weight) + rewards[:, None] * (
        written & (written.cumsum(1) == 1)
    )


def spread_over_the_answer(rewards, policy, reference, written, kl_weight):
    shares = rewards / written.sum(dim=1)
    return (shares[:, None] - kl_weight * (policy - reference)) * written


def one_reward_for_all(rewards, policy, reference, written, kl_weight):
    return earned(rewards[:1].expand(len(rewards)), policy, reference, written, kl_weight)


def paid_for_leaving(rewards, policy, reference, written, kl_weight):
    return earned(rewards, reference, policy, written, kl_weight)


def the_estimate_that_is_never_negative(rewards, policy, reference, written, kl_weight):
    return (ends_of(written) * rewards[:, None] - kl_weight * kl_estimate(policy, reference)) * written


def the_prompt_pays_too(rewards, policy, reference, written, kl_weight):
    return ends_of(written) * rewards[:, None] - kl_weight * (policy - reference)


def no_rope(rewards, policy, reference, written, kl_weight):
    return earned(rewards, policy, policy, written, kl_weight)


def the_usual_price(rewards, policy, reference, written, kl_weight):
    return earned(rewards, policy, reference, written, 0.05 if kl_weight else 0.0)


def paid_at_the_end(rewards, policy, reference, written, kl_weight):
    price = (kl_weight * (policy - reference) * written).sum(dim=1)
    return ends_of(written) * (rewards - price)[:, None]


def the_end_pays_nothing(rewards, policy, reference, written, kl_weight):
    end = ends_of(written)
    return torch.where(
        end & (rewards[:, None] != 0), rewards[:, None], earned(rewards, policy, reference, written, kl_weight)
    )


def written_worn_down(rewards, policy, reference, written, kl_weight):
    result = earned(rewards, policy, reference, written, kl_weight)
    written &= False
    return result


def five_answers_at_most(rewards):
    return rewards[:, :5] - (rewards[:, :5].sum(dim=1, keepdim=True) - rewards[:, :5]) / (rewards.shape[1] - 1)


def in_float32_inside(rewards):
    return (rewards.float() - others(rewards.float())).to(rewards.dtype)


def half_of_it_cut_off(gain, written):
    return tuple((part + part.detach()) / 2 for part in means(gain, written))


def a_gain_of_zero_is_left_out(gain, written):
    return means(gain, written & (gain != 0))


def as_many_tokens_from_the_first(rewards, policy, reference, written, kl_weight):
    last = written.int().argmax(dim=1) + written.sum(dim=1) - 1
    paid = -kl_weight * (policy - reference) * written
    return paid + (torch.arange(written.shape[1]) == last[:, None]) * rewards[:, None]


WRONG = {
    "6r.1": [
        (minus_the_groups_mean, "yours is [0.5, -0.5, -0.5, 0.5]"),
        (group_advantages, "yours is [1, -1, -1, 1]"),
        (minus_the_mean_of_all, "Each row is a group with a baseline of its own"),
        (the_baseline_itself, "yours is [0.3333, 0.6667, 0.6667, 0.3333]"),
        (the_wrong_way_round, "yours is [-0.6667, 0.6667, 0.6667, -0.6667]"),
        (minus_the_sum_of_the_others, "yours is [0, -2, -2, 0]"),
        (minus_the_best_other, "yours is [0, -1, -1, 0]"),
        (always_four_answers, "3 lies 2 above 1"),
        (divided_by_the_spread, "3 lies 2 above 1"),
        (groups_in_columns, "3 lies 2 above 1"),
        (changed_in_place, "has changed `rewards`"),
        (above_in_lists, "yours is [["),
        (five_answers_at_most, "Rewards may be of any size, groups too; this"),
        (in_float32_inside, "agrees to a few digits only"),
    ],
    "6r.2": [
        (nothing_masked, "The mean by answers should be 1, yours is 39.8"),
        (divided_by_all_places, "The mean by answers should be 1, yours is 0.2"),
        (tokens_over_all_places, "The mean by tokens should be 0.333333, yours is 0.2"),
        (only_by_answers, "Return two numbers"),
        (one_mean_twice, "The mean by tokens should be 0.333333, yours is 1"),
        (sums, "The mean by tokens should be 0.333333, yours is 2"),
        (sum_of_the_answers, "The mean by answers should be 1, yours is 0.666667"),
        (cut_off, "cut off from gain"),
        (two_answers_always, "The mean by answers of 5, 1 and 3 tokens"),
        (six_tokens_always, "The mean by tokens of 5, 1 and 3 tokens"),
        (half_of_it_cut_off, "Is a part of it cut off?"),
        (a_gain_of_zero_is_left_out, "A row may be long, written tokens may have"),
    ],
    "6r.3": [
        (at_the_last_column, "only the end of each answer earns"),
        (at_every_token, "yours is [0, 3, 3, 3, 0"),
        (at_the_first_token, "yours is [0, 3, 0, 0, 0"),
        (spread_over_the_answer, "yours is [0, 1, 1, 1, 0"),
        (one_reward_for_all, "only the end of each answer earns"),
        (paid_for_leaving, "pays kl_weight (log p - log p_ref)"),
        (the_estimate_that_is_never_negative, "also where that is below zero"),
        (the_prompt_pays_too, "others pay nothing"),
        (no_rope, "earned_by_token with rewards of 0"),
        (the_usual_price, "earned_by_token with rewards of 0"),
        (paid_at_the_end, "earned_by_token with rewards of 0"),
        (the_end_pays_nothing, "pays for itself, too"),
        (written_worn_down, "has changed `written`"),
        (as_many_tokens_from_the_first, "Any weight, any rewards, rows of any length;"),
    ],
}
