"""Classic mistakes in the exercises of `embeddings`, each with a fragment of the sentence it must get."""

import torch
import torch.nn.functional as F


def _cosines(id_, table):
    directions = F.normalize(table, dim=1)
    return directions @ directions[id_]


def products_for_cosines(id_, table, k):
    scores = table @ table[id_]
    scores[id_] = -torch.inf
    return scores.topk(k).indices.tolist()


def smallest_distance(id_, table, k):
    distances = (table - table[id_]).norm(dim=1)
    distances[id_] = torch.inf
    return distances.topk(k, largest=False).indices.tolist()


def itself_included(id_, table, k):
    return _cosines(id_, table).topk(k).indices.tolist()


def first_one_dropped(id_, table, k):
    return _cosines(id_, table).argsort(descending=True, stable=True)[1 : k + 1].tolist()


def all_of_cosine_one_dropped(id_, table, k):
    scores = _cosines(id_, table)
    return scores.masked_fill(scores > 0.9999, -torch.inf).topk(k).indices.tolist()


def farthest_first(id_, table, k):
    scores = _cosines(id_, table)
    scores[id_] = torch.inf
    return scores.topk(k, largest=False).indices.tolist()


def one_too_few(id_, table, k):
    scores = _cosines(id_, table)
    scores[id_] = -torch.inf
    return scores.topk(k - 1).indices.tolist()


def opposite_as_near(id_, table, k):
    scores = _cosines(id_, table).abs()
    scores[id_] = -torch.inf
    return scores.topk(k).indices.tolist()


def table_normalized_in_place(id_, table, k):
    table /= table.norm(dim=1, keepdim=True)
    scores = table @ table[id_]
    scores[id_] = -torch.inf
    return scores.topk(k).indices.tolist()


def columns_normalized(id_, table, k):
    directions = F.normalize(table, dim=0)
    scores = directions @ directions[id_]
    scores[id_] = -torch.inf
    return scores.topk(k).indices.tolist()


def own_place_zero(id_, table, k):
    scores = _cosines(id_, table)
    scores[id_] = 0
    return scores.topk(k).indices.tolist()


def sign_of_random_words(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(negatives @ center).sum()


def mean_of_random_words(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ center)).mean()


def sum_of_gains(center, context, negatives):
    return F.logsigmoid(center @ context) + F.logsigmoid(-(negatives @ center)).sum()


def true_word_forgotten(center, context, negatives):
    return -F.logsigmoid(-(negatives @ center)).sum()


def random_words_beside_the_context(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ context)).sum()


def logarithm_of_the_sigmoid(center, context, negatives):
    return -torch.sigmoid(center @ context).log() - torch.sigmoid(-(negatives @ center)).log().sum()


def clamped_logarithm(center, context, negatives):
    true, false = torch.sigmoid(center @ context), torch.sigmoid(-(negatives @ center))
    return -true.clamp(min=1e-12).log() - false.clamp(min=1e-12).log().sum()


def probabilities_without_logarithm(center, context, negatives):
    return 1 - torch.sigmoid(center @ context) + torch.sigmoid(negatives @ center).sum()


def plain_number(center, context, negatives):
    return pair_loss_of(center, context, negatives).item()


def pair_loss_of(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ center)).sum()


def detached(center, context, negatives):
    return pair_loss_of(center, context, negatives).detach()


def random_words_detached(center, context, negatives):
    return pair_loss_of(center, context, negatives.detach())


def center_detached_for_random_words(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ center.detach())).sum()


def in_bits(center, context, negatives):
    return pair_loss_of(center, context, negatives) / torch.tensor(2.0).log()


def one_number_in_a_row(center, context, negatives):
    return pair_loss_of(center, context, negatives).view(1)


def _known(words, vectors):
    return [vectors[word] for word in words if word in vectors]


def _zeros(vectors):
    return torch.zeros_like(next(iter(vectors.values())))


def not_scaled(words, vectors):
    return sum(_known(words, vectors), _zeros(vectors))


def mean_not_scaled(words, vectors):
    known = _known(words, vectors)
    return torch.stack(known).mean(dim=0) if known else _zeros(vectors)


def each_word_once(words, vectors):
    return F.normalize(sum(_known(dict.fromkeys(words), vectors), _zeros(vectors)), dim=0)


def every_vector_scaled_first(words, vectors):
    return F.normalize(sum((F.normalize(v, dim=0) for v in _known(words, vectors)), _zeros(vectors)), dim=0)


def unknown_words_looked_up(words, vectors):
    return F.normalize(sum((vectors[word] for word in words), _zeros(vectors)), dim=0)


def divided_by_length_zero(words, vectors):
    total = sum(_known(words, vectors), _zeros(vectors))
    return total / total.norm()


def none_for_no_known_word(words, vectors):
    known = _known(words, vectors)
    return F.normalize(torch.stack(known).sum(dim=0), dim=0) if known else None


def first_vector_added_to(words, vectors):
    known = _known(words, vectors)
    if not known:
        return _zeros(vectors)
    total = known[0]
    for vector in known[1:]:
        total += vector
    return F.normalize(total, dim=0)


def stops_at_an_unknown_word(words, vectors):
    total = _zeros(vectors)
    for word in words:
        if word not in vectors:
            break
        total = total + vectors[word]
    return F.normalize(total, dim=0)


def always_two_zeros(words, vectors):
    return F.normalize(torch.stack([torch.zeros(2), *_known(words, vectors)]).sum(dim=0), dim=0)


def sum_of_numbers_one(words, vectors):
    total = sum(_known(words, vectors), _zeros(vectors))
    return total / total.abs().sum().clamp(min=1e-9)


def last_word_only(words, vectors):
    return F.normalize(([_zeros(vectors)] + _known(words, vectors))[-1], dim=0)


def all_of_the_same_vector_dropped(id_, table, k):
    scores = _cosines(id_, table)
    return scores.masked_fill((table == table[id_]).all(dim=1), -torch.inf).topk(k).indices.tolist()


def the_other_side_overflows(center, context, negatives):
    return -F.logsigmoid(center @ context) + torch.log(1 + torch.exp(negatives @ center)).sum()


def the_random_side_capped(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ center).clamp(max=100)).sum()


def divided_by_nothing(words, vectors):
    known = [vectors[word] for word in words if word in vectors]
    total = sum(known, torch.zeros_like(next(iter(vectors.values()))))
    return total / total.norm() if known else total


def short_sums_left_short(words, vectors):
    total = sum((vectors[w] for w in words if w in vectors), torch.zeros_like(next(iter(vectors.values()))))
    return F.normalize(total, dim=0, eps=0.5)


def own_place_minus_one(id_, table, k):
    scores = _cosines(id_, table)
    scores[id_] = -1
    return scores.topk(k).indices.tolist()


def ids_in_a_tensor(id_, table, k):
    scores = _cosines(id_, table)
    scores[id_] = -torch.inf
    return scores.topk(k).indices


def list_of_small_tensors(id_, table, k):
    return list(ids_in_a_tensor(id_, table, k))


def five_random_words_only(center, context, negatives):
    return pair_loss_of(center, context, negatives[:5])


def small_letters(words, vectors):
    return F.normalize(sum(_known([word.lower() for word in words], vectors), _zeros(vectors)), dim=0)


def loss_in_float64(center, context, negatives):
    center, context, negatives = center.double(), context.double(), negatives.double()
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ center)).sum()


def with_a_large_eps(words, vectors):
    known = [vectors[word] for word in words if word in vectors]
    return F.normalize(sum(known, torch.zeros_like(next(iter(vectors.values())))), dim=0, eps=1e-2)


def ranked_in_sixteen_bits(id_, table, k):
    directions = F.normalize(table, dim=1)
    cosines = (directions @ directions[id_]).bfloat16()
    cosines[id_] = -torch.inf
    return cosines.sort(descending=True, stable=True).indices[:k].tolist()


WRONG = {
    "2e.1": [
        (products_for_cosines, "should be [6], yours is [3]"),
        (smallest_distance, "should be [6], yours is [0]"),
        (itself_included, "should be [6], yours is [5]"),
        (first_one_dropped, "The word itself is left out"),
        (all_of_cosine_one_dropped, "should be [2], yours is [1]"),
        (farthest_first, "should be [6], yours is [4]"),
        (one_too_few, "should be [6], yours is []"),
        (opposite_as_near, "yours is [2, 4, 1]"),
        (table_normalized_in_place, "has changed `table`"),
        (columns_normalized, "yours is"),
        (own_place_zero, "A negative cosine is smaller than 0"),
        (all_of_the_same_vector_dropped, "Leave out the word by its id"),
        (own_place_minus_one, "against -1 as well"),
        (ids_in_a_tensor, "yours is tensor([6])"),
        (list_of_small_tensors, "yours is [tensor(6)]"),
        (ranked_in_sixteen_bits, "Cosines may be nearly equal: compare all digits"),
    ],
    "2e.2": [
        (sign_of_random_words, "of *minus* its product"),
        (mean_of_random_words, "Six coin tosses"),
        (sum_of_gains, "yours is -4.15888"),
        (true_word_forgotten, "yours is 3.46574"),
        (random_words_beside_the_context, "of *minus* its product"),
        (logarithm_of_the_sigmoid, "use F.logsigmoid"),
        (clamped_logarithm, "yours is 27.63"),
        (probabilities_without_logarithm, "yours is 3. Six"),
        (plain_number, "Return a tensor with one number"),
        (detached, "No gradient can flow back"),
        (random_words_detached, "No gradient reaches negatives"),
        (center_detached_for_random_words, "Every term must hold the center"),
        (in_bits, "yours is 6"),
        (one_number_in_a_row, "Return a tensor with one number, not tensor([4.1589])"),
        (the_other_side_overflows, "yours is inf"),
        (the_random_side_capped, "σ of it rounds to 0"),
        (five_random_words_only, "Eight coin tosses"),
        (loss_in_float64, "returned torch.float64"),
    ],
    "2e.3": [
        (not_scaled, "yours is [6, 0]"),
        (mean_not_scaled, "yours is [3, 0]"),
        (each_word_once, "four times 1 up"),
        (every_vector_scaled_first, "yours is [0.2425, 0.9701]"),
        (unknown_words_looked_up, "KeyError"),
        (divided_by_length_zero, "yours is [nan, nan]"),
        (none_for_no_known_word, "yours is None"),
        (first_vector_added_to, "has changed `vectors`"),
        (stops_at_an_unknown_word, "A word without a vector is left out"),
        (always_two_zeros, "RuntimeError"),
        (sum_of_numbers_one, "yours is [0.4286, 0.5714]"),
        (last_word_only, "yours is [0, 1]"),
        (divided_by_nothing, "which have no direction"),
        (short_sums_left_short, "However short the sum is"),
        (small_letters, "look words up as they are written"),
        (with_a_large_eps, "However short the sum is, the result has length"),
    ],
}
