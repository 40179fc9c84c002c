"""Answers to the exercises of chapter 1's side room `large_models`."""

import math


def can_be_true(weight, weight_step, tokens_read, size, printed, printed_step):
    fewest, most = ((weight + sign * weight_step / 2) * tokens_read / size for sign in (-1, 1))
    return fewest <= printed + printed_step / 2 and printed - printed_step / 2 <= most


def largest_model(dollars, dollars_per_hour, peak_flops, utilization, tokens_per_parameter):
    flops = dollars / dollars_per_hour * 3600 * peak_flops * utilization
    n_parameters = math.sqrt(flops / (6 * tokens_per_parameter))
    return n_parameters, tokens_per_parameter * n_parameters


def longest_copy(written, read):
    best: list = []
    for start in range(len(written)):
        for end in range(start + len(best) + 1, len(written) + 1):
            run = written[start:end]
            if not any(read[place : place + len(run)] == run for place in range(len(read))):
                break  # no longer run that begins here can stand there either
            best = run
    return best


SOLUTIONS = {
    "1l.1": (
        can_be_true,
        """Both printed numbers stand for a stretch of possible ones. The stretches have a point in common if neither
        ends before the other begins. GPT-3's WebText2 fails this test as well: 3.39 to 3.55 against 2.85 to 2.95.""",
    ),
    "1l.2": (
        largest_model,
        """Money buys hours, hours buy operations, and 6 N times the ratio times N operations train a model of N
        parameters. Four times the money buys twice the model and twice the text.""",
    ),
    "1l.3": (
        longest_copy,
        """Each beginning is tried with growing lengths, and only lengths above the best so far can win; so the first of
        equal runs stays. The time grows with the product of both lengths and more; for real corpora there are suffix
        arrays, which sort all endings of `read` once.""",
    ),
}
