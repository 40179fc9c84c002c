"""Classic mistakes in the exercises of `large_models`, each with a fragment of the sentence it must get."""

import difflib
import math


def _stretch(middle, step, part=0.5):
    return middle - part * step, middle + part * step


def _overlap(first, second):
    return first[0] <= second[1] and second[0] <= first[1]


def _epochs(weight, weight_step, tokens_read, size, part=0.5):
    return tuple(w * tokens_read / size for w in _stretch(weight, weight_step, part))


def weight_taken_as_exact(weight, weight_step, tokens_read, size, printed, printed_step):
    return _overlap(_epochs(weight, 0, tokens_read, size), _stretch(printed, printed_step))


def printed_taken_as_exact(weight, weight_step, tokens_read, size, printed, printed_step):
    return _overlap(_epochs(weight, weight_step, tokens_read, size), (printed, printed))


def whole_steps_of_the_weight(weight, weight_step, tokens_read, size, printed, printed_step):
    return _overlap(_epochs(weight, weight_step, tokens_read, size, 1), _stretch(printed, printed_step))


def whole_steps_of_the_epochs(weight, weight_step, tokens_read, size, printed, printed_step):
    return _overlap(_epochs(weight, weight_step, tokens_read, size), _stretch(printed, printed_step, 1))


def size_over_tokens(weight, weight_step, tokens_read, size, printed, printed_step):
    return _overlap(_epochs(weight, weight_step, size, tokens_read), _stretch(printed, printed_step))


def printed_inside_the_possible(weight, weight_step, tokens_read, size, printed, printed_step):
    low, high = _epochs(weight, weight_step, tokens_read, size)
    return low <= _stretch(printed, printed_step)[0] and _stretch(printed, printed_step)[1] <= high


def an_end_of_the_printed_is_possible(weight, weight_step, tokens_read, size, printed, printed_step):
    low, high = _epochs(weight, weight_step, tokens_read, size)
    return any(low <= end <= high for end in _stretch(printed, printed_step))


def only_not_too_small(weight, weight_step, tokens_read, size, printed, printed_step):
    return _epochs(weight, weight_step, tokens_read, size)[0] <= _stretch(printed, printed_step)[1]


def only_not_too_large(weight, weight_step, tokens_read, size, printed, printed_step):
    return _stretch(printed, printed_step)[0] <= _epochs(weight, weight_step, tokens_read, size)[1]


def never_returned(weight, weight_step, tokens_read, size, printed, printed_step):
    _overlap(_epochs(weight, weight_step, tokens_read, size), _stretch(printed, printed_step))


def _plan(n_parameters, ratio):
    return n_parameters, ratio * n_parameters


def seconds_forgotten(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(math.sqrt(dollars / dollars_per_hour * peak_flops * utilization / (6 * ratio)), ratio)


def six_forgotten(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops * utilization / ratio), ratio)


def no_root(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(dollars / dollars_per_hour * 3600 * peak_flops * utilization / (6 * ratio), ratio)


def price_multiplied(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(math.sqrt(dollars * dollars_per_hour * 3600 * peak_flops * utilization / (6 * ratio)), ratio)


def at_the_peak(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops / (6 * ratio)), ratio)


def twenty_always(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops * utilization / 120), ratio)


def tokens_divided(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    n_parameters = math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops * utilization / (6 * ratio))
    return n_parameters, n_parameters / ratio


def parameters_only(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops * utilization / (6 * ratio))


def pair_turned_round(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    n_parameters = math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops * utilization / (6 * ratio))
    return ratio * n_parameters, n_parameters


def twenty_tokens_always(dollars, dollars_per_hour, peak_flops, utilization, ratio):
    return _plan(math.sqrt(dollars / dollars_per_hour * 3600 * peak_flops * utilization / (6 * ratio)), 20)


def _runs(written, read):
    """All runs of `written` that stand in `read`, by where they begin, the shorter ones first."""
    ends = [(start, end) for start in range(len(written)) for end in range(start + 1, len(written) + 1)]
    runs = [written[start:end] for start, end in ends]
    return [run for run in runs if any(read[i : i + len(run)] == run for i in range(len(read)))]


def the_last_of_equal_runs(written, read):
    return max(reversed(_runs(written, read)), key=len, default=[])


def the_first_run(written, read):
    best = []
    for run in _runs(written, read):
        if best and run[0] is not best[0]:
            break
        best = run
    return best


def common_subsequence(written, read):
    best = [[[] for _ in range(len(read) + 1)] for _ in range(len(written) + 1)]
    for i, a in enumerate(written):
        for j, b in enumerate(read):
            best[i + 1][j + 1] = best[i][j] + [a] if a == b else max(best[i][j + 1], best[i + 1][j], key=len)
    return best[-1][-1]


def in_the_same_place(written, read):
    best, run = [], []
    for a, b in zip(written, read):
        run = [*run, a] if a == b else []
        best = max(best, run, key=len)
    return best


def shared_tokens(written, read):
    best, run = [], []
    for token in written:
        run = [*run, token] if token in read else []
        best = max(best, run, key=len)
    return best


def only_the_length(written, read):
    return max(map(len, _runs(written, read)), default=0)


def in_joined_text(written, read):
    ends = [(start, end) for start in range(len(written)) for end in range(start + 1, len(written) + 1)]
    found = [written[a:b] for a, b in ends if " ".join(map(str, written[a:b])) in " ".join(map(str, read))]
    return max(found, key=len, default=[])


def without_the_last_token(written, read):
    return max(_runs(written[:-1], read), key=len, default=[])


def without_a_default(written, read):
    return max(_runs(written, read), key=len)


def lists_eaten(written, read):
    best = max(_runs(written, read), key=len, default=[])
    read.clear()
    return best


def beginnings_only(written, read):
    return max((written[:end] for end in range(len(written) + 1) if written[:end] == read[:end]), key=len)


def whole_hours(dollars, dollars_per_hour, peak, utilization, ratio):
    n_parameters = math.sqrt(dollars // dollars_per_hour * 3600 * peak * utilization / (6 * ratio))
    return n_parameters, ratio * n_parameters


def numbers_as_text(dollars, dollars_per_hour, peak, utilization, ratio):
    n_parameters = math.sqrt(dollars / dollars_per_hour * 3600 * peak * utilization / (6 * ratio))
    return str(n_parameters), str(ratio * n_parameters)


def first_place_in_read(written, read):
    best = []
    for i, token in enumerate(written):
        if token in read:
            j, n = read.index(token), 0
            while i + n < len(written) and j + n < len(read) and written[i + n] == read[j + n]:
                n += 1
            best = written[i : i + n] if n > len(best) else best
    return best


def by_sequence_matcher(written, read):
    match = difflib.SequenceMatcher(None, written, read).find_longest_match()
    return written[match.a : match.a + match.size]


def _pieces(written, longest):
    return [written[i : i + n] for n in range(longest, 0, -1) for i in range(len(written) - n + 1)]


def in_text_joined_by_spaces(written, read):
    text = f" {' '.join(map(str, read))} "
    return next((run for run in _pieces(written, len(written)) if f" {' '.join(map(str, run))} " in text), [])


def runs_of_five_at_most(written, read):
    found = _pieces(read, len(read))
    return next((run for run in _pieces(written, min(5, len(written))) if run in found), [])


def first_five_tokens(written, read):
    found, few = _pieces(read, len(read)), written[:7]
    return next((run for run in _pieces(few, len(few)) if run in found), [])


def the_first_ten_tokens(written, read):
    runs = [written[i:j] for i in range(len(written[:10])) for j in range(i + 1, len(written[:10]) + 1)]
    found = [run for run in runs if any(read[k : k + len(run)] == run for k in range(len(read)))]
    return max(found, key=len, default=[])


def longest_by_letters(written, read):
    runs = [written[i:j] for i in range(len(written)) for j in range(i + 1, len(written) + 1)]
    found = [run for run in runs if any(read[k : k + len(run)] == run for k in range(len(read)))]
    return max(found, key=lambda run: sum(len(str(token)) for token in run), default=[])


WRONG = {
    "1l.1": [
        (weight_taken_as_exact, "300, 3, 3.4, 0.1) should be True"),
        (printed_taken_as_exact, "1.04 may have been 1.0"),
        (whole_steps_of_the_weight, "The weight lies at most *half* a step away"),
        (whole_steps_of_the_epochs, "The epochs lie at most *half* a step away"),
        (size_over_tokens, "a source of 10: 0.3 epochs"),
        (printed_inside_the_possible, "A weight of 0.076 gives 1.9"),
        (an_end_of_the_printed_is_possible, "4.95 to 5.05 lies between 3 and 7"),
        (only_not_too_small, "the epochs are at least 1.15"),
        (only_not_too_large, "2.9, 0.1) should be False"),
        (never_returned, "is there a `return`"),
    ],
    "1l.2": [
        (seconds_forgotten, "3,600 seconds"),
        (six_forgotten, "should be 3600, yours is 8818"),
        (no_root, "should be 3600, yours is 1.296e+07"),
        (price_multiplied, "At four dollars"),
        (at_the_peak, "Only the share"),
        (twenty_always, "With five tokens for each parameter"),
        (tokens_divided, "The tokens of largest_model(3600, 1, 120, 1, 20)"),
        (parameters_only, "should be a pair"),
        (pair_turned_round, "should be 3600, yours is 72000"),
        (twenty_tokens_always, "The tokens of largest_model(3600, 1, 120, 1, 5)"),
        (whole_hours, "do not round the hours"),
        (numbers_as_text, "yours is '"),
    ],
    "1l.3": [
        (the_last_of_equal_runs, "are equally long: the first"),
        (the_first_run, "A later run may be longer"),
        (common_subsequence, "neighbors in `read` as well"),
        (in_the_same_place, "should be ['the', 'fox']"),
        (shared_tokens, "yours is ['the', 'fox', 'saw', 'a', 'hen']"),
        (only_the_length, "yours is 2"),
        (in_joined_text, "A token may be a number"),
        (without_the_last_token, "reach to the end of both"),
        (without_a_default, "raised ValueError"),
        (lists_eaten, "has changed `read`"),
        (beginnings_only, "yours is []"),
        (first_place_in_read, "look at each of its places"),
        (by_sequence_matcher, "its tokens may be frequent ones"),
        (in_text_joined_by_spaces, "A token may hold a space"),
        (runs_of_five_at_most, "the run may be of any length"),
        (first_five_tokens, "begin at any token of `written`"),
        (the_first_ten_tokens, "`written`, `read` and the run may be as long as"),
        (longest_by_letters, "The longest run has the most tokens, however"),
    ],
}
