"""Answers to the exercises of chapter 2's side room `corpus`."""


def similarity(a, b, n):
    def runs(words):
        return {tuple(words[start : start + n]) for start in range(max(1, len(words) - n + 1))}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def kept_texts(n, pairs):
    leader = list(range(n))
    changed = True
    while changed:
        before = list(leader)
        for first, second in pairs:
            leader[first] = leader[second] = min(leader[first], leader[second])
        changed = leader != before
    return sorted(set(leader))


def epochs_of(sizes, exponent, n_tokens):
    weights = {name: size**exponent for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: n_tokens * weights[name] / total / sizes[name] for name in sizes}


SOLUTIONS = {
    "2c.1": (
        similarity,
        """A text of k words has k - n + 1 runs, and at least one: the slice of a shorter list is the whole list. Tuples
        keep the words apart, and sets count each run once.""",
    ),
    "2c.2": (
        kept_texts,
        """Each pass hands the smaller leader across every pair. When a pass changes nothing, all texts that hang
        together have the same leader, and that is the smallest of their numbers. Large projects use union-find, which
        needs one pass.""",
    ),
    "2c.3": (
        epochs_of,
        """The shares are the weights divided by their sum. Tokens read of a source are its share of all tokens, and
        dividing by its size gives epochs: with exponent 1 the size cancels, and all sources are read equally often.""",
    ),
}
