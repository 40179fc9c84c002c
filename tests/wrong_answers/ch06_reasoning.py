"""Classic mistakes in the exercises of `reasoning`, each with a fragment of the sentence it must get."""

import math
from collections import Counter


def one_pass(n, count, k):
    return 1 - math.comb(n - count, k) / math.comb(n, k)


def share_alone(counts, n, k):
    return sum(counts) / (n * len(counts))


def all_wrong_instead(counts, n, k):
    return sum(math.comb(n - count, k) / math.comb(n, k) for count in counts) / len(counts)


def all_right(counts, n, k):
    return sum(math.comb(count, k) / math.comb(n, k) for count in counts) / len(counts)


def with_putting_back(counts, n, k):
    return sum(1 - (1 - count / n) ** k for count in counts) / len(counts)


def of_the_mean_count(counts, n, k):
    return one_pass(n, round(sum(counts) / len(counts)), k)


def summed(counts, n, k):
    return sum(one_pass(n, count, k) for count in counts)


def counts_emptied(counts, n, k):
    n_questions, total = len(counts), 0
    while counts:
        total += one_pass(n, counts.pop(), k)
    return total / n_questions


def never_more_than_two(counts, n, k):
    return sum(one_pass(n, count, min(k, 2)) for count in counts) / len(counts)


def plain_vote(answers, trust):
    return Counter(answers).most_common(1)[0][0]


def most_trusted(answers, trust):
    return answers[trust.index(max(trust))]


def sums_of(answers, trust):
    sums = {}
    for answer, number in zip(answers, trust):
        sums[answer] = sums.get(answer, 0) + number
    return sums


def mean_trust(answers, trust):
    sums = sums_of(answers, trust)
    return max(sums, key=lambda answer: sums[answer] / answers.count(answer))


def empty_may_win(answers, trust):
    sums = sums_of(answers, trust)
    return max(sums, key=sums.get)


def last_of_equals(answers, trust):
    sums = {answer: total for answer, total in sums_of(answers, trust).items() if answer}
    best = max(sums.values(), default=0)
    return [answer for answer in sums if sums[answer] == best][-1] if sums else ""


def first_in_the_alphabet(answers, trust):
    sums = {answer: total for answer, total in sums_of(answers, trust).items() if answer}
    return min(sums, key=lambda answer: (-sums[answer], answer)) if sums else ""


def frequent_of_equals(answers, trust):
    sums = {answer: total for answer, total in sums_of(answers, trust).items() if answer}
    return max(sums, key=lambda answer: (sums[answer], answers.count(answer))) if sums else ""


def none_without_answers(answers, trust):
    sums = {answer: total for answer, total in sums_of(answers, trust).items() if answer}
    return max(sums, key=sums.get) if sums else None


def only_above_0(answers, trust):
    best, winner = 0, ""
    for answer, total in sums_of(answers, trust).items():
        if answer and total > best:
            best, winner = total, answer
    return winner


def trust_of_others(answers, trust):
    sums = sums_of([answer for answer in answers if answer], trust)
    return max(sums, key=sums.get) if sums else ""


def in_tenths(answers, trust):
    sums = {answer: round(total, 1) for answer, total in sums_of(answers, trust).items() if answer}
    return max(sums, key=sums.get) if sums else ""


def in_small_letters(answers, trust):
    sums = {answer: total for answer, total in sums_of(map(str.lower, answers), trust).items() if answer}
    return max(sums, key=sums.get) if sums else ""


def none_below_0(answers, trust):
    sums = {answer: total for answer, total in sums_of(answers, trust).items() if answer}
    return max(sums, key=sums.get) if sums and max(sums.values()) >= 0 else ""


def trust_sorted(answers, trust):
    sums = {answer: total for answer, total in sums_of(answers, trust).items() if answer}
    trust.sort(reverse=True)
    return max(sums, key=sums.get) if sums else ""


def share_of_groups(rewards, lengths):
    return sum(len(set(group)) == 1 for group in rewards) / len(rewards)


def all_right_only(rewards, lengths):
    written = sum(map(sum, lengths))
    return sum(sum(row) for group, row in zip(rewards, lengths) if min(group) == 1) / written


def all_wrong_only(rewards, lengths):
    written = sum(map(sum, lengths))
    return sum(sum(row) for group, row in zip(rewards, lengths) if max(group) == 0) / written


def wrong_answers(rewards, lengths):
    written = sum(map(sum, lengths))
    return sum(n for group, row in zip(rewards, lengths) for reward, n in zip(group, row) if not reward) / written


def wasted(rewards, lengths, teaches_nothing):
    written = sum(map(sum, lengths))
    return sum(sum(row) for group, row in zip(rewards, lengths) if teaches_nothing(group)) / written if written else 0


def useful_share(rewards, lengths):
    return 1 - wasted(rewards, lengths, lambda group: len(set(group)) == 1)


def zeros_and_ones(rewards, lengths):
    return wasted(rewards, lengths, lambda group: sum(group) in (0, len(group)))


def divided_by_nothing(rewards, lengths):
    written = sum(map(sum, lengths))
    return sum(sum(row) for group, row in zip(rewards, lengths) if len(set(group)) == 1) / written


def first_two_compared(rewards, lengths):
    return wasted(rewards, lengths, lambda group: group[0] == group[1])


def whole_rewards(rewards, lengths):
    return wasted(rewards, lengths, lambda group: len(set(map(int, group))) == 1)


def first_equals_the_mean(rewards, lengths):
    return wasted(rewards, lengths, lambda group: group[0] == sum(group) / len(group))


def written_rewards(rewards, lengths):
    written = sum(map(sum, lengths))
    seen = [{reward for reward, n in zip(*pair) if n} for pair in zip(rewards, lengths)]
    return sum(sum(row) for kinds, row in zip(seen, lengths) if len(kinds) == 1) / written if written else 0


def rewards_sorted(rewards, lengths):
    for group in rewards:
        group.sort(reverse=True)
    return wasted(rewards, lengths, lambda group: group[0] == group[-1])


def each_count_once(counts, n, k):
    different = set(counts)
    return sum(1 - math.comb(n - count, k) / math.comb(n, k) for count in different) / len(different)


def factorials_as_fractions(counts, n, k):
    def choices(a):
        return math.gamma(a + 1) / math.gamma(a - k + 1) if a >= k else 0.0

    return sum(1 - choices(n - count) / choices(n) for count in counts) / len(counts)


def neighbors_only(answers, trust):
    best, total, last = ("", float("-inf")), 0.0, None
    for answer, number in zip(answers, trust):
        total = total + number if answer == last else number
        last = answer
        best = (answer, total) if answer and total > best[1] else best
    return best[0]


def no_trust_below_zero(answers, trust):
    sums = {}
    for answer, number in zip(answers, trust):
        if answer:
            sums[answer] = sums.get(answer, 0.0) + max(number, 0.0)
    return max(sums, key=sums.get, default="")


def right_or_wrong_only(rewards, lengths):
    same = [len({reward > 0 for reward in group}) == 1 for group in rewards]
    written = sum(map(sum, lengths))
    return sum(sum(tokens) for alike, tokens in zip(same, lengths) if alike) / written if written else 0


WRONG = {
    "6t.1": [
        (share_alone, "Of 6 pairs, 3 hold the right answer"),
        (all_wrong_instead, "pass@1 is the share of right answers"),
        (all_right, "should be 0.5, yours is 0"),
        (with_putting_back, "3 hold the right answer"),
        (of_the_mean_count, "the mean over questions is 1/2"),
        (summed, "the mean over questions is 1/2"),
        (counts_emptied, "has changed `counts`"),
        (never_more_than_two, "one choice in four leaves the right one out"),
        (each_count_once, "A question counts, also where another has the"),
        (factorials_as_fractions, "Your code raised OverflowError in its line 5"),
    ],
    "6t.2": [
        (plain_vote, "not the number of votes"),
        (most_trusted, "the largest single trust does not decide"),
        (mean_trust, "the sum of trust, not its mean"),
        (empty_may_win, "An empty answer cannot win"),
        (last_of_equals, "comes first in the list wins"),
        (first_in_the_alphabet, "not the first in the alphabet"),
        (frequent_of_equals, "although a is said more often"),
        (none_without_answers, "return the empty one"),
        (only_above_0, "Sums of 0 count as well"),
        (trust_sorted, "has changed `trust`"),
        (trust_of_others, "each answer keeps its own trust"),
        (in_tenths, "do not round it"),
        (in_small_letters, "a and A are two answers"),
        (none_below_0, "A verifier may give numbers below 0"),
        (neighbors_only, "The same answer may come again later: 0.5"),
        (no_trust_below_zero, "A verifier may give numbers below 0: -1 is the"),
    ],
    "6t.3": [
        (share_of_groups, "should be 0.4, yours is 0.5"),
        (all_right_only, "All wrong teaches as little"),
        (all_wrong_only, "The first group teaches nothing"),
        (wrong_answers, "The first group teaches nothing"),
        (useful_share, "should be 0.4, yours is 0.6"),
        (zeros_and_ones, "Rewards may be any numbers"),
        (divided_by_nothing, "ZeroDivisionError"),
        (first_two_compared, "Rewards may be any numbers"),
        (rewards_sorted, "has changed `rewards`"),
        (whole_rewards, "Rewards differ, be it by little"),
        (first_equals_the_mean, "equals their mean says nothing"),
        (written_rewards, "so this group is mixed"),
        (right_or_wrong_only, "Rewards differ, be it by little: compare them"),
    ],
}
