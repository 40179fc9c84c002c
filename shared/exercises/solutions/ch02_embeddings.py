"""Answers to the exercises of chapter 2's side room `embeddings`."""

import torch
import torch.nn.functional as F


def nearest_ids(id_, table, k):
    directions = F.normalize(table, dim=1)  # (V, D)
    cosines = directions @ directions[id_]  # (V,)
    cosines[id_] = -torch.inf
    return cosines.topk(k).indices.tolist()


def pair_loss(center, context, negatives):
    return -F.logsigmoid(center @ context) - F.logsigmoid(-(negatives @ center)).sum()


def text_vector(words, vectors):
    total = torch.zeros_like(next(iter(vectors.values())))
    for word in words:
        if word in vectors:
            total = total + vectors[word]
    return F.normalize(total, dim=0)


SOLUTIONS = {
    "2e.1": (
        nearest_ids,
        """Products of vectors of length 1 are cosines. The word's own place gets minus infinity, so that `topk` never
        takes it; leaving out every cosine of 1 would lose a word with the same direction too.""",
    ),
    "2e.2": (
        pair_loss,
        """One surprise at the true word, and one at each random word, whose product must be *small*: hence the minus
        inside. F.logsigmoid(x) is -log(1 + exp(-x)) or x - log(1 + exp(x)), whichever does not overflow.""",
    ),
    "2e.3": (
        text_vector,
        """The sum and the mean point in the same direction, so the mean need not be taken before the length is made 1.
        `total + vector` makes a new tensor; `total += vector` on a vector of the dictionary would change the
        dictionary. F.normalize leaves zeros as they are.""",
    ),
}
