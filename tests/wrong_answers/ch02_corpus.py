"""Classic mistakes in the exercises of `corpus`, each with a fragment of the sentence it must get."""


def _runs(words, n):
    return [tuple(words[start : start + n]) for start in range(max(1, len(words) - n + 1))]


def over_the_first_only(a, b, n):
    return len(set(_runs(a, n)) & set(_runs(b, n))) / len(set(_runs(a, n)))


def over_the_sum(a, b, n):
    first, second = set(_runs(a, n)), set(_runs(b, n))
    return len(first & second) / (len(first) + len(second))


def lists_for_sets(a, b, n):
    first, second = _runs(a, n), _runs(b, n)
    common = sum(run in second for run in first)
    return common / (len(first) + len(second) - common)


def last_run_forgotten(a, b, n):
    first, second = ({tuple(words[k : k + n]) for k in range(max(1, len(words) - n))} for words in (a, b))
    return len(first & second) / len(first | second)


def words_run_together(a, b, n):
    first, second = ({"".join(run) for run in _runs(words, n)} for words in (a, b))
    return len(first & second) / len(first | second)


def words_without_order(a, b, n):
    first, second = ({tuple(sorted(run)) for run in _runs(words, n)} for words in (a, b))
    return len(first & second) / len(first | second)


def no_run_of_short_texts(a, b, n):
    first, second = ({tuple(words[k : k + n]) for k in range(len(words) - n + 1)} for words in (a, b))
    return len(first & second) / len(first | second)


def short_texts_are_never_alike(a, b, n):
    if min(len(a), len(b)) < n:
        return 0.0
    first, second = set(_runs(a, n)), set(_runs(b, n))
    return len(first & second) / len(first | second)


def tails_as_runs(a, b, n):
    first, second = ({tuple(words[k : k + n]) for k in range(len(words))} for words in (a, b))
    return len(first & second) / len(first | second)


def words_taken_out(a, b, n):
    first, second = set(_runs(a, n)), set(_runs(b, n))
    a.clear()
    return len(first & second) / len(first | second)


def second_of_each_pair_dropped(n, pairs):
    dropped = {second for _, second in pairs}
    return [text for text in range(n) if text not in dropped]


def larger_of_each_pair_dropped_even_itself(n, pairs):
    dropped = {max(pair) for pair in pairs}
    return [text for text in range(n) if text not in dropped]


def both_dropped(n, pairs):
    dropped = {text for pair in pairs for text in pair}
    return [text for text in range(n) if text not in dropped]


def smaller_dropped(n, pairs):
    dropped = {min(pair) for pair in pairs if pair[0] != pair[1]}
    return [text for text in range(n) if text not in dropped]


def one_pass(n, pairs):
    leader = list(range(n))
    for first, second in pairs:
        leader[first] = leader[second] = min(leader[first], leader[second])
    return sorted(set(leader))


def two_passes(n, pairs):
    leader = list(range(n))
    for first, second in pairs * 2:
        leader[first] = leader[second] = min(leader[first], leader[second])
    return sorted(set(leader))


def only_copies_listed(n, pairs):
    return sorted({min(pair) for pair in pairs})


def copy_of_a_dropped_text_stays(n, pairs):
    dropped = set()
    for first, second in pairs:
        if min(first, second) not in dropped and first != second:
            dropped.add(max(first, second))
    return [text for text in range(n) if text not in dropped]


def leaders_of_all(n, pairs):
    leader = list(range(n))
    for _ in range(n):
        for first, second in pairs:
            leader[first] = leader[second] = min(leader[first], leader[second])
    return leader


def pairs_used_up(n, pairs):
    leader = list(range(n))
    copies = list(pairs)
    pairs.clear()
    for _ in range(n):
        for first, second in copies:
            leader[first] = leader[second] = min(leader[first], leader[second])
    return sorted(set(leader))


def _weights(sizes, exponent):
    return {name: size**exponent for name, size in sizes.items()}


def shares_for_epochs(sizes, exponent, n_tokens):
    weights = _weights(sizes, exponent)
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def tokens_for_epochs(sizes, exponent, n_tokens):
    return {name: n_tokens * share for name, share in shares_for_epochs(sizes, exponent, n_tokens).items()}


def not_divided_by_the_sum(sizes, exponent, n_tokens):
    return {name: n_tokens * weight / sizes[name] for name, weight in _weights(sizes, exponent).items()}


def exponent_upside_down(sizes, exponent, n_tokens):
    weights = _weights(sizes, 1 / exponent if exponent else 0)
    return {name: n_tokens * weights[name] / sum(weights.values()) / sizes[name] for name in sizes}


def exponent_forgotten(sizes, exponent, n_tokens):
    return dict.fromkeys(sizes, n_tokens / sum(sizes.values()))


def powers_of_shares(sizes, exponent, n_tokens):
    return {name: n_tokens * (size / sum(sizes.values())) ** exponent / size for name, size in sizes.items()}


def epochs_of_all(sizes, exponent, n_tokens):
    return {name: n_tokens * share / sum(sizes.values())
            for name, share in shares_for_epochs(sizes, exponent, n_tokens).items()}  # fmt: skip


def whole_epochs(sizes, exponent, n_tokens):
    weights = _weights(sizes, exponent)
    return {name: n_tokens * weights[name] / sum(weights.values()) // sizes[name] for name in sizes}


def list_for_dictionary(sizes, exponent, n_tokens):
    weights = _weights(sizes, exponent)
    return [n_tokens * weights[name] / sum(weights.values()) / sizes[name] for name in sizes]


def sizes_overwritten(sizes, exponent, n_tokens):
    weights = _weights(sizes, exponent)
    for name in sizes:
        sizes[name] = n_tokens * weights[name] / sum(weights.values()) / sizes[name]
    return sizes


def capitals_lost(a, b, n):
    def runs(words):
        return {tuple(word.lower() for word in words[k : k + n]) for k in range(max(1, len(words) - n + 1))}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def ten_passes(n, pairs):
    leader = list(range(n))
    for _ in range(10):
        for first, second in pairs:
            leader[first] = leader[second] = min(leader[first], leader[second])
    return sorted(set(leader))


def whole_tokens(sizes, exponent, n_tokens):
    weights = {name: size**exponent for name, size in sizes.items()}
    return {name: round(n_tokens * weights[name] / sum(weights.values())) / sizes[name] for name in sizes}


WRONG = {
    "2c.1": [
        (over_the_first_only, "Two runs each"),
        (over_the_sum, "yours is 0.25"),
        (lists_for_sets, "build sets"),
        (last_run_forgotten, "yours is 0. Two runs each"),
        (words_run_together, "keep the words of a run apart"),
        (words_without_order, "yours is 0.5. A run counts once"),
        (no_run_of_short_texts, "ZeroDivisionError"),
        (short_texts_are_never_alike, "the only run is all words"),
        (tails_as_runs, "yours is 0.0909091"),
        (words_taken_out, "has changed `a`"),
        (capitals_lost, "Words are compared as they are: a capital"),
    ],
    "2c.2": [
        (second_of_each_pair_dropped, "A pair may come with the larger number first"),
        (larger_of_each_pair_dropped_even_itself, "neither is the first of the other"),
        (both_dropped, "yours is [1]"),
        (smaller_dropped, "yours is [1, 2]"),
        (one_pass, "by the later pair, too"),
        (two_passes, "go on until nothing changes"),
        (only_copies_listed, "Without pairs every text stays"),
        (copy_of_a_dropped_text_stays, "A copy of a copy is a copy"),
        (leaders_of_all, "yours is [0, 1, 0]"),
        (pairs_used_up, "has changed `pairs`"),
        (ten_passes, "A chain may have any number of texts"),
    ],
    "2c.3": [
        (shares_for_epochs, "yours is 1."),
        (tokens_for_epochs, "yours is 250"),
        (not_divided_by_the_sum, "yours is 25000"),
        (exponent_upside_down, "yours is 1.09756"),
        (exponent_forgotten, "shares of 0.75 and 0.25"),
        (powers_of_shares, "yours is 1.054"),
        (epochs_of_all, "yours is 0.45"),
        (whole_epochs, "yours is 2."),
        (list_for_dictionary, "should be a dictionary"),
        (sizes_overwritten, "has changed `sizes`"),
        (whole_tokens, "Round nothing, neither tokens nor shares"),
    ],
}
