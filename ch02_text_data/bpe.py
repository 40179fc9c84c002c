"""Byte-pair merging at speed: learn merges from counted words, and apply them to one piece of text.

The idea is that of the simple loops in the notebook; only the bookkeeping differs. A merge changes nothing but its
neighbors, so tokens hang on a chain, and each pair remembers where it stands. Time grows with the number of merges
made, not with text times vocabulary. Taught in ch02, section 2.9.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import regex

from ch02_text_data.required_input import require_text

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WALL = -1  # stands between two words: nothing merges with it

Pair = tuple[int, int]
Merge = tuple[bytes, bytes]
Texts = str | Iterable[str]  # one text or many


def byte_order(numbering: str) -> bytes:
    """Return the 256 bytes in the order of their ids.

    Args:
        numbering: "bytes" for the order of their values, or "gpt2" for GPT-2's: first the bytes that print as a sign of
            Latin-1, then the others.

    Raises:
        ValueError: another numbering.

    Source: Radford et al. (2019), released vocabulary. Taught in ch02, section 2.10.
    """
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    orders = {"bytes": [*range(256)], "gpt2": [*visible, *(byte for byte in range(256) if byte not in visible)]}
    if numbering not in orders:
        raise ValueError(f"found numbering={numbering!r}; expected 'bytes' or 'gpt2'")
    return bytes(orders[numbering])


def split_pieces(text: str) -> list[str]:
    """Cut a text as GPT-2 does, before any merge: words with the space before them, numbers, marks, white space.

    Source: Radford et al. (2019), section 2.2. Taught in ch02, section 2.9.
    """
    return regex.findall(GPT2_PATTERN, text)


def count_pieces(texts: Texts) -> dict[bytes, int]:
    """Count the different pieces of one text or of many: bytes of a piece -> how often it occurs.

    Raises:
        ValueError: a text is no string, or all are empty.

    Source: this course. Taught in ch02, section 2.9.
    """
    texts = [texts] if isinstance(texts, str) else texts
    pieces = Counter(piece for text in texts for piece in split_pieces(require_text(text)))
    if not pieces:
        raise ValueError("found no text to learn from; expected at least one that is not empty")
    return {piece.encode("utf-8"): count for piece, count in pieces.items()}


def cut_at_specials(text: str, allowed: Collection[str], special_tokens: Collection[str]) -> list[str]:
    """Cut a text at the allowed special tokens: ordinary text, special token, ordinary text and so on.

    Args:
        text: any string.
        allowed: special tokens to cut at; where one begins like another, the longer one is taken.
        special_tokens: those that there are.

    Raises:
        ValueError: an allowed special token does not exist.

    Source: this course. Taught in ch02, section 2.19.
    """
    if unknown := [token for token in allowed if token not in special_tokens]:
        raise ValueError(f"found {unknown[0]!r} in allowed_special; expected some of {list(special_tokens)}")
    longest_first = sorted(allowed, key=len, reverse=True)
    return regex.split(f"({'|'.join(map(regex.escape, longest_first))})", text) if allowed else [text]


class Chain:
    """Tokens as beads on a string, so that a merge touches only its neighbors.

    `places[pair]` lists the beads where that pair once began; an entry may be out of date and is checked when used.

    Args:
        words: byte strings; no merge crosses from one into the next.

    Source: this course. Taught in ch02, section 2.9.
    """

    def __init__(self, words: Iterable[bytes]):
        self.ids = [WALL]
        for word in words:
            self.ids += [*word, WALL]
        self.left = list(range(-1, len(self.ids) - 1))
        self.right = list(range(1, len(self.ids) + 1))
        self.places: dict[Pair, list[int]] = defaultdict(list)
        for bead, pair in enumerate(zip(self.ids, self.ids[1:])):
            if WALL not in pair:
                self.places[pair].append(bead)

    def merge(self, pair: Pair, new_id: int) -> Iterator[tuple[int, int, int]]:
        """Merge one pair everywhere, left to right; yield (bead, id before it, id after it) for each place merged."""
        ids, left, right, places = self.ids, self.left, self.right, self.places
        for bead in sorted(places.pop(pair, ())):
            eaten = right[bead]
            if (ids[bead], ids[eaten]) != pair:
                continue  # an earlier merge has used one of the two
            before, after = left[bead], right[eaten]
            ids[bead], ids[eaten] = new_id, WALL
            right[bead], left[after] = after, bead
            places[ids[before], new_id].append(before)
            places[new_id, ids[after]].append(bead)
            yield bead, ids[before], ids[after]


def learn_merges(words: Mapping[bytes, int], n_merges: int) -> list[Merge]:
    """Return the merges, the most frequent pair first; ties go to the lexicographically greatest pair.

    Args:
        words: byte string -> how often it occurs.
        n_merges: merges wanted; fewer come back when no pair is left.

    Source: Sennrich et al. (2016), section 3.2. Taught in ch02, sections 2.7 and 2.9.
    """
    chain = Chain(words)
    weights = [0]
    for word, count in words.items():
        weights += [count] * len(word) + [0]
    counts = Counter({pair: sum(map(weights.__getitem__, beads)) for pair, beads in chain.places.items()})
    tokens = [bytes([byte]) for byte in range(256)]
    ranking = _Ranking(tokens)
    for known, count in counts.items():
        ranking.add(known, count)
    merges: list[Merge] = []
    while len(merges) < n_merges and (pair := ranking.best(counts)):
        merges.append((tokens[pair[0]], tokens[pair[1]]))
        new_id = len(tokens)
        tokens.append(b"".join(merges[-1]))
        grown = set()
        for bead, before, after in chain.merge(pair, new_id):
            for neighbors in ((before, pair[0]), (pair[1], after)):
                counts[neighbors] -= weights[bead]
            for neighbors in ((before, new_id), (new_id, after)):
                counts[neighbors] += weights[bead]
                grown.add(neighbors)
        del counts[pair]
        for neighbors in grown:
            ranking.add(neighbors, counts[neighbors])
    return merges


class _Ranking:
    """Pairs, the best first. A count only falls once its pair is in: a stale entry goes back with its new count."""

    def __init__(self, tokens: list[bytes]):
        self.tokens = tokens
        self.heap: list[tuple[int, tuple[tuple[int, ...], tuple[int, ...]], Pair]] = []

    def add(self, pair: Pair, count: int) -> None:
        if count > 0 and WALL not in pair:
            order = _descending(self.tokens[pair[0]]), _descending(self.tokens[pair[1]])
            heapq.heappush(self.heap, (-count, order, pair))

    def best(self, counts: Mapping[Pair, int]) -> Pair | None:
        while self.heap:
            count, order, pair = heapq.heappop(self.heap)
            if counts[pair] == -count:
                return pair
            if counts[pair] > 0:
                heapq.heappush(self.heap, (-counts[pair], order, pair))
        return None


def _descending(token: bytes) -> tuple[int, ...]:
    """A key that sorts the lexicographically greatest byte string first: a heap gives its smallest."""
    return (*(-byte for byte in token), 1)


def apply_merges(piece: bytes, new_ids: Mapping[Pair, int]) -> list[int]:
    """Return the ids of one piece: its bytes, merged in the order in which the merges were learned.

    Args:
        piece: the ids of its bytes; without a wall, they fit into bytes themselves.
        new_ids: pair of ids -> id of the merged token; a later merge has a greater id.

    Source: Sennrich et al. (2016), section 3.2. Taught in ch02, section 2.19.
    """
    chain = Chain([piece])
    waiting = [(new_ids[pair], pair) for pair in chain.places if pair in new_ids]
    heapq.heapify(waiting)
    while waiting:
        new_id, pair = heapq.heappop(waiting)
        grown = {
            neighbors
            for _, before, after in chain.merge(pair, new_id)
            for neighbors in ((before, new_id), (new_id, after))
        }
        for neighbors in grown & new_ids.keys():
            heapq.heappush(waiting, (new_ids[neighbors], neighbors))
    return [id_ for id_ in chain.ids if id_ != WALL]
