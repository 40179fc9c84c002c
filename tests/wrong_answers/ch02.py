"""Classic mistakes for chapter 2's exercises, each with a piece of the message that it must get."""

import math
from collections import Counter

import torch
import torch.nn.functional as F

from shared.exercises.solutions.ch02 import best_pair, encode_piece


def _merge(ids, pair, new_id):
    out = []
    for id_ in ids:
        out.append(id_)
        if tuple(out[-2:]) == pair:
            out[-2:] = [new_id]
    return out


def _rows(stories, end_id, pad_id):
    longest = max(map(len, stories)) + 1
    ids = torch.full((len(stories), longest), pad_id)
    targets = torch.full((len(stories), longest), -100)
    for row, story in enumerate(stories):
        ids[row, : len(story) + 1] = torch.tensor([end_id, *story])
        targets[row, : len(story) + 1] = torch.tensor([*story, end_id])
    return ids, targets


def merges_overlapping(ids, pair, new_id):
    out, skip = [], False
    for a, b in zip(ids, [*ids[1:], None]):
        if (a, b) == pair:
            out.append(new_id)
            skip = True
        elif skip:
            skip = False
        else:
            out.append(a)
    return out


def merges_the_first_only(ids, pair, new_id):
    for i in range(len(ids) - 1):
        if (ids[i], ids[i + 1]) == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids


def merges_in_place(ids, pair, new_id):
    ids[:] = _merge(ids, pair, new_id)
    return ids


def merges_either_order(ids, pair, new_id):
    return _merge(_merge(ids, pair, new_id), pair[::-1], new_id)


def forgets_the_last_id(ids, pair, new_id):
    out, i = [], 0
    while i < len(ids) - 1:
        hit = (ids[i], ids[i + 1]) == pair
        out.append(new_id if hit else ids[i])
        i += 2 if hit else 1
    return out


def _counted(words, weigh=True):
    counts = Counter()
    for tokens, count in words.items():
        for pair in zip(tokens, tokens[1:]):
            counts[pair] += count if weigh else 1
    return counts


def ignores_how_often_a_piece_occurs(words):
    counts = _counted(words, weigh=False)
    return max(counts, key=lambda pair: (counts[pair], pair))


def takes_the_first_of_a_tie(words):
    counts = _counted(words)
    return max(counts, key=counts.get)


def counts_each_pair_once_a_piece(words):
    counts = Counter()
    for tokens, count in words.items():
        for pair in set(zip(tokens, tokens[1:])):
            counts[pair] += count
    return max(counts, key=lambda pair: (counts[pair], pair))


def counts_across_pieces(words):
    tokens = [token for word, count in words.items() for _ in range(count) for token in word]
    counts = Counter(zip(tokens, tokens[1:]))
    return max(counts, key=lambda pair: (counts[pair], pair))


def longest_token_first(piece, merges):
    known, tokens = {a + b for a, b in merges}, []
    while piece:
        size = next((k for k in range(len(piece), 1, -1) if piece[:k] in known), 1)
        tokens.append(piece[:size])
        piece = piece[size:]
    return tokens


def merges_backwards(piece, merges):
    tokens = list(piece)
    for pair in reversed(merges):
        tokens = _merge(tokens, pair, "".join(pair))
    return tokens


def merges_once_each(piece, merges):
    tokens = list(piece)
    for pair in merges:
        tokens = merges_the_first_only(tokens, pair, "".join(pair))
    return tokens


def decodes_token_by_token(ids, vocabulary):
    return "".join(vocabulary[id_].decode("utf-8", errors="replace") for id_ in ids)


def decodes_strictly(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in ids).decode("utf-8")


def decodes_and_drops(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in ids).decode("utf-8", errors="ignore")


def targets_equal_inputs(ids, max_length, stride):
    return [(ids[s : s + max_length],) * 2 for s in range(0, len(ids) - max_length, stride)]


def a_window_without_its_last_target(ids, max_length, stride):
    starts = range(0, len(ids) - max_length + 1, stride)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


def one_window_too_few(ids, max_length, stride):
    starts = range(0, len(ids) - max_length - 1, stride)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


def stride_ignored(ids, max_length, stride):
    starts = range(0, len(ids) - max_length, max_length)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


def padding_is_a_target(stories, end_id, pad_id):
    ids, targets = _rows(stories, end_id, pad_id)
    return ids, targets.where(targets != -100, pad_id)


def story_not_opened(stories, end_id, pad_id):
    longest = max(map(len, stories))
    rows = [[*story, end_id] + [pad_id] * (longest - len(story)) for story in stories]
    targets = [row[1:] + [-100] for row in rows]
    return torch.tensor(rows), torch.tensor(targets)


def end_never_predicted(stories, end_id, pad_id):
    ids, targets = _rows(stories, end_id, pad_id)
    return ids, targets.where(targets != end_id, -100)


def masks_by_value(stories, end_id, pad_id):
    ids, targets = _rows(stories, end_id, pad_id)
    return ids, targets.where(targets != pad_id, -100)


def nats_not_turned_into_bits(nats_per_token, n_tokens, n_bytes):
    return nats_per_token * n_tokens / n_bytes


def average_taken_per_token(nats_per_token, n_tokens, n_bytes):
    return nats_per_token / math.log(2) / n_bytes * n_bytes


def bytes_per_token_multiplied(nats_per_token, n_tokens, n_bytes):
    return nats_per_token / math.log(2) * n_bytes / n_tokens


def positions_looked_up_by_id(ids, token_table, position_table):
    return token_table[ids] + position_table[ids % len(position_table)]


def no_positions(ids, token_table, position_table):
    return token_table[ids]


def always_the_first_place(ids, token_table, position_table):
    return token_table[ids] + position_table[0]


def positions_counted_over_the_batch(ids, token_table, position_table):
    places = torch.arange(ids.numel()).reshape(ids.shape) % len(position_table)
    return token_table[ids] + position_table[places]


def rows_mixed_up(ids, token_table, position_table):
    return token_table[ids].sum(dim=1) + position_table[: ids.shape[0]]


def _pair_counts(words):
    counts = Counter()
    for word, n in words.items():
        for pair in zip(word, word[1:]):
            counts[pair] += n
    return counts


def breaks_a_tie_by_the_first_element(words):
    counts = _pair_counts(words)
    return max(counts, key=lambda pair: (counts[pair], pair[0]))


def breaks_a_tie_by_the_joined_string(words):
    counts = _pair_counts(words)
    return max(counts, key=lambda pair: (counts[pair], "".join(pair)))


def stories_changed(stories, end_id, pad_id):
    result = _rows(stories, end_id, pad_id)
    for story in stories:
        story.append(end_id)
    return result


def windows_that_eat_the_ids(ids, max_length, stride):
    pairs = []
    while len(ids) > max_length:
        pairs.append((ids[:max_length], ids[1 : max_length + 1]))
        del ids[:stride]
    return pairs


def returns_a_string(piece, merges):
    return piece


def merges_written_as_text(ids, pair, new_id):
    text = " ".join(map(str, ids)).replace(" ".join(map(str, pair)), str(new_id))
    return [int(part) for part in text.split()]


def gives_back_the_same_list(ids, pair, new_id):
    return _merge(ids, pair, new_id) if pair in zip(ids, ids[1:]) else ids


def takes_a_zero_for_nothing(ids, pair, new_id):
    out = []
    for id_ in ids:
        if out and out[-1] and (out[-1], id_) == pair:
            out[-1] = new_id
        else:
            out.append(id_)
    return out


def empties_the_words(words):
    counts = _pair_counts(words)
    words.clear()
    return max(counts, key=lambda pair: (counts[pair], pair))


def takes_the_longest_of_a_tie(words):
    counts = _pair_counts(words)
    return max(counts, key=lambda pair: (counts[pair], len(pair[0]) + len(pair[1]), pair))


def uses_up_the_merges(piece, merges):
    tokens = list(piece)
    while merges:
        pair = merges.pop(0)
        tokens = _merge(tokens, pair, "".join(pair))
    return tokens


def spaces_between_the_tokens(piece, merges):
    text = " ".join(piece)
    for first, second in merges:
        text = text.replace(f"{first} {second}", first + second)
    return text.split()


def from_right_to_left(piece, merges):
    tokens = list(piece)
    for pair in merges:
        tokens = _merge(tokens[::-1], pair[::-1], "".join(pair))[::-1]
    return tokens


def decodes_in_the_order_of_the_ids(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in sorted(ids)).decode("utf-8", errors="replace")


def decodes_each_id_once(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in dict.fromkeys(ids)).decode("utf-8", errors="replace")


def takes_tokens_out_of_the_vocabulary(ids, vocabulary):
    return b"".join(vocabulary.pop(id_) for id_ in ids).decode("utf-8", errors="replace")


def decodes_as_latin_1(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in ids).decode("latin-1")


def decodes_and_strips(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in ids).decode("utf-8", errors="replace").strip()


def windows_of_places(ids, max_length, stride):
    starts = range(0, len(ids) - max_length, stride)
    return [(list(range(s, s + max_length)), list(range(s + 1, s + max_length + 1))) for s in starts]


def stride_of_a_window_at_most(ids, max_length, stride):
    starts = range(0, len(ids) - max_length, min(stride, max_length))
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


def rows_of_fixed_ids(stories, end_id, pad_id):
    return _rows(stories, 1, 0)


def rows_of_short_integers(stories, end_id, pad_id):
    ids, targets = _rows(stories, end_id, pad_id)
    return ids.int(), targets.int()


def rows_without_empty_stories(stories, end_id, pad_id):
    return _rows([story for story in stories if story], end_id, pad_id)


def bits_multiplied_by_ln_2(nats_per_token, n_tokens, n_bytes):
    return nats_per_token * math.log(2) * n_tokens / n_bytes


def bits_of_the_whole_text(nats_per_token, n_tokens, n_bytes):
    return nats_per_token / math.log(2) * n_tokens


def four_bytes_a_token(nats_per_token, n_tokens, n_bytes):
    return nats_per_token / math.log(2) / (1 if n_tokens == n_bytes else 4)


def no_gradient_for_the_tables(ids, token_table, position_table):
    return (token_table[ids] + position_table[: ids.shape[1]]).detach()


def no_gradient_for_the_positions(ids, token_table, position_table):
    return token_table[ids] + position_table[: ids.shape[1]].detach()


def vectors_of_32_bits(ids, token_table, position_table):
    return (token_table[ids] + position_table[: ids.shape[1]]).float()


def merges_the_same_objects(ids, pair, new_id):
    merged = []
    for id_ in ids:
        if merged and merged[-1] is pair[0] and id_ is pair[1]:
            merged[-1] = new_id
        else:
            merged.append(id_)
    return merged


def breaks_a_tie_without_capitals(words):
    counts = _pair_counts(words)
    return max(counts, key=lambda pair: (counts[pair], pair[0].lower(), pair[1].lower()))


def _encoded(piece, merges):
    tokens = list(piece)
    for pair in merges:
        tokens = _merge(tokens, pair, "".join(pair))
    return tokens


def strips_the_piece(piece, merges):
    return _encoded(piece.strip(), merges)


def forgets_capitals(piece, merges):
    return _encoded(piece.lower(), merges)


def decodes_by_place(ids, vocabulary):
    return b"".join(list(vocabulary.values())[i] for i in ids).decode("utf-8", errors="replace")


def decodes_to_the_first_broken_byte(ids, vocabulary):
    whole = b"".join(vocabulary[i] for i in ids)
    try:
        return whole.decode("utf-8")
    except UnicodeDecodeError as error:
        return whole[: error.start].decode("utf-8") + "\ufffd"


def windows_one_by_one(ids, max_length, stride):
    return ((ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in range(0, len(ids) - max_length, stride))


def masks_the_end_that_fills(stories, end_id, pad_id):
    ids, targets = _rows(stories, end_id, pad_id)
    return ids, targets.masked_fill(targets == pad_id, -100) if end_id == pad_id else targets


def whole_bytes_a_token(nats_per_token, n_tokens, n_bytes):
    return nats_per_token / math.log(2) / (n_bytes // n_tokens)


def id_zero_never_learns(ids, token_table, position_table):
    return F.embedding(ids, token_table, padding_idx=0) + position_table[: ids.shape[1]]


def gradients_by_frequency(ids, token_table, position_table):
    return F.embedding(ids, token_table, scale_grad_by_freq=True) + position_table[: ids.shape[1]]


def first_place_learns_alone(ids, token_table, position_table):
    places = position_table[: ids.shape[1]]
    return token_table[ids] + torch.cat([places[:1], places[1:].detach()])


def joins_by_spelling(piece, merges):
    tokens = list(piece)
    for first, second in merges:
        merged = []
        for token in tokens:
            if merged and merged[-1] + token == first + second:
                merged[-1] += token
            else:
                merged.append(token)
        tokens = merged
    return tokens


def windows_of_tensors(ids, max_length, stride):
    starts = range(0, len(ids) - max_length, stride)
    ids = torch.tensor(ids)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts]


def merges_in_six_ids(ids, pair, new_id):
    return _merge(ids[:6], pair, new_id)


def merges_a_rising_pair(ids, pair, new_id):
    return _merge(ids, tuple(sorted(pair)), new_id)


def merges_into_decimal_numbers(ids, pair, new_id):
    return [float(id_) for id_ in _merge(ids, pair, new_id)]


def uses_four_merges(piece, merges):
    return _encoded(piece, merges[:4])


_pieces: dict = {}


def remembers_the_piece(piece, merges):
    return list(_pieces.setdefault(piece, _encoded(piece, merges)))


_texts: dict = {}


def remembers_the_ids(ids, vocabulary):
    text = b"".join(vocabulary[id_] for id_ in ids).decode("utf-8", errors="replace")
    return _texts.setdefault(tuple(ids), text)


def decodes_five_ids(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in ids[:5]).decode("utf-8", errors="replace")


def best_pair_of_the_first_four_pieces(words):
    return best_pair(dict(list(words.items())[:4]))


def encodes_for_a_single_walk(piece, merges):
    return iter(encode_piece(piece, merges))


def decodes_without_the_mark_at_the_start(ids, vocabulary):
    return b"".join(vocabulary[id_] for id_ in ids).decode("utf-8-sig", errors="replace")


def at_most_three_windows(ids, max_length, stride):
    starts = range(0, len(ids) - max_length, stride)
    return [(ids[s : s + max_length], ids[s + 1 : s + max_length + 1]) for s in starts[:3]]


def at_most_three_stories(stories, end_id, pad_id):
    longest = max(map(len, stories[:3])) + 1
    ids, targets = torch.full((len(stories[:3]), longest), pad_id), torch.full((len(stories[:3]), longest), -100)
    for row, story in enumerate(stories[:3]):
        ids[row, : len(story) + 1] = torch.tensor([end_id, *story])
        targets[row, : len(story) + 1] = torch.tensor([*story, end_id])
    return ids, targets


def vectors_computed_in_32_bits(ids, token_table, position_table):
    return (token_table.float()[ids] + position_table.float()[: ids.shape[1]]).to(token_table.dtype)


WRONG = {
    "2.1": [
        (merges_overlapping, "three 1s are one pair"),
        (merges_the_first_only, "Every pair is replaced"),
        (merges_in_place, "has changed `ids`"),
        (merges_either_order, "The order within a pair matters"),
        (forgets_the_last_id, "merge_pair([1, 1, 1], (1, 1), 9) should be [9, 1], yours is [9]"),
        (merges_written_as_text, "11 is not 1 and 1"),
        (gives_back_the_same_list, "return a copy"),
        (takes_a_zero_for_nothing, "An id may be 0"),
        (merges_the_same_objects, "Compare numbers with =="),
        (merges_in_six_ids, "of any length"),
        (merges_a_rising_pair, "may be the larger one"),
        (merges_into_decimal_numbers, "yours are floats, [9.0, 3.0, 9.0]"),
    ],
    "2.2": [
        (ignores_how_often_a_piece_occurs, "brings its pairs ten times"),
        (takes_the_first_of_a_tie, "last in alphabetical order"),
        (counts_each_pair_once_a_piece, "stands twice in one 'lll'"),
        (counts_across_pieces, "No pair crosses"),
        (breaks_a_tie_by_the_first_element, "the second ones decide"),
        (breaks_a_tie_by_the_joined_string, "not the joined strings"),
        (empties_the_words, "has changed `words`"),
        (takes_the_longest_of_a_tie, "How long the tokens are"),
        (breaks_a_tie_without_capitals, "capitals before small letters"),
        (best_pair_of_the_first_four_pieces, "There may be any number of pieces, and the same"),
    ],
    "2.3": [
        (longest_token_first, "The merge that was learned first"),
        (returns_a_string, "yours is a str, 'hug'"),
        (merges_backwards, "u and g first"),
        (merges_once_each, "applied everywhere"),
        (uses_up_the_merges, "has changed `merges`"),
        (spaces_between_the_tokens, "A space is a character"),
        (from_right_to_left, "no letter is used twice"),
        (strips_the_piece, "spaces at both ends"),
        (forgets_capitals, "yours is [' ', 'hug', ' ']"),
        (joins_by_spelling, "its own two halves"),
        (uses_four_merges, "any number of both"),
        (remembers_the_piece, "The merges decide"),
        (encodes_for_a_single_walk, "encode_piece should return a list of tokens,"),
    ],
    "2.4": [
        (decodes_token_by_token, "join the bytes first"),
        (decodes_strictly, "a UnicodeDecodeError"),
        (decodes_and_drops, "errors='replace'"),
        (decodes_in_the_order_of_the_ids, "Ids come in any order"),
        (decodes_each_id_once, "yours is ' 日caf'"),
        (takes_tokens_out_of_the_vocabulary, "has changed `vocabulary`"),
        (decodes_as_latin_1, "yours is 'cafÃ©'"),
        (decodes_and_strips, "yours is '日cafcaf'"),
        (decodes_by_place, "An id is a key"),
        (decodes_to_the_first_broken_byte, "after a broken byte"),
        (remembers_the_ids, "Another vocabulary"),
        (decodes_five_ids, "of any length"),
        (decodes_without_the_mark_at_the_start, "Every character stays as it is: a mark at the"),
    ],
    "2.5": [
        (targets_equal_inputs, "one place later"),
        (a_window_without_its_last_target, "should be 1, yours is 2"),
        (one_window_too_few, "should be 2, yours is 1"),
        (stride_ignored, "from start to start"),
        (windows_that_eat_the_ids, "has changed `ids`"),
        (windows_of_places, "A window holds ids"),
        (stride_of_a_window_at_most, "should be [0, 5, 10], yours is [0, 2, 4, 6, 8, 10]"),
        (windows_one_by_one, "yours is a generator"),
        (windows_of_tensors, "should be lists of ids"),
        (at_most_three_windows, "There may be any number of windows"),
    ],
    "2.6": [
        (padding_is_a_target, "At [1, 2] it should be -100, yours is 0"),
        (story_not_opened, "A row begins with the end token"),
        (stories_changed, "has changed `stories`"),
        (end_never_predicted, "targets should be"),
        (masks_by_value, "go by the length"),
        (rows_of_fixed_ids, "here 50 and 60"),
        (rows_of_short_integers, "should be int64"),
        (rows_without_empty_stories, "should have the shape (3, 3), yours has (2, 3)"),
        (masks_the_end_that_fills, "as end and as padding"),
        (at_most_three_stories, "There may be any number of stories, of any"),
    ],
    "2.7": [
        (nats_not_turned_into_bits, "One nat is 1 / ln 2 bits"),
        (average_taken_per_token, "bits_per_byte(ln 2, 100, 400) should be 0.25, yours is 1"),
        (bytes_per_token_multiplied, "should be 0.25, yours is 4"),
        (bits_multiplied_by_ln_2, "yours is 3.84362"),
        (bits_of_the_whole_text, "yours is 80"),
        (four_bytes_a_token, "bits_per_byte(2.0, 50, 150)"),
        (whole_bytes_a_token, "3.4 bytes"),
    ],
    "2.8": [
        (positions_looked_up_by_id, "Id 5 in place 0 should be [110, 11] of shape (2,), yours is [210, 11]"),
        (no_positions, "yours is [10, 11]"),
        (always_the_first_place, "the place is the column"),
        (positions_counted_over_the_batch, "Every row of the batch starts at place 0"),
        (rows_mixed_up, "(B, T) becomes (B, T, D)"),
        (no_gradient_for_the_tables, "no gradient flows back"),
        (no_gradient_for_the_positions, "The position table could not learn"),
        (vectors_of_32_bits, "returned torch.float32"),
        (id_zero_never_learns, "that of id 0 as well"),
        (gradients_by_frequency, "The gradient of the token table"),
        (first_place_learns_alone, "Two rows use each place once"),
        (vectors_computed_in_32_bits, "agrees to a few digits only"),
    ],
}
