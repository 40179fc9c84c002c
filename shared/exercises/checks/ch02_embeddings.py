"""Checks of the exercises in chapter 2's side room `embeddings`."""

import torch
import torch.nn.functional as F

from shared.exercises import expect, expect_close, expect_equal
from shared.exercises.class_numbers import dice, whole_numbers, words

TABLE = torch.tensor(
    [[1.0, 0.0], [9.0, 3.0], [0.5, 0.0], [0.0, 50.0], [-1.0, 0.25], [2.0, 1.0], [3.0, 2.0]]
)  # (V, D), of very different lengths


def check_nearest_ids(fn) -> None:
    for id_, k, expected, hint in (
        (5, 1, [6], "Take cosines, and return ids: row 6 points nearly where row 5 points, and row 3 is only long."),
        (0, 1, [2], "Row 2 points just where row 0 points, however short it is: divide by the lengths."),
        (0, 3, [2, 1, 5], "The largest cosine comes first. A long vector has large products and need not be near."),
        (2, 2, [0, 1], "The word itself is left out, and not another word in the same direction."),
        (5, 3, [6, 1, 0], "Rows 0 and 2 point in the same direction: the smaller id may come first."),
        (3, 2, [6, 5], "The vector of row 3 is the longest; its length must not count."),
        (4, 6, [3, 6, 5, 1, 0, 2], "A negative cosine is smaller than 0: the opposite direction comes last."),
    ):
        table = TABLE.clone()
        what = f"nearest_ids({id_}, table, {k}), with the table {TABLE.tolist()},"
        got = _list_of_ids(what, fn(id_, table, k))
        twins = [{0: 2, 2: 0}.get(one, one) for one in got]  # these two are equally near to all others
        fits = got == expected or (id_ not in (0, 2) and twins == expected)
        expect(fits, f"{what} should be {expected}, yours is {got}. {hint}")
    same = torch.tensor([[3.0, 1.0], [0.0, 2.0], [3.0, 1.0]])
    hint = "Leave out the word by its id: another word may have the very same vector."
    for id_, k, expected in ((2, 1, [0]), (0, 2, [2, 1])):
        what = f"nearest_ids({id_}, {same.tolist()}, {k})"
        expect_equal(what, _list_of_ids(what, fn(id_, same.clone(), k)), expected, hint)
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    hint = "Its own place must lose against every cosine, against -1 as well: only minus infinity is always smaller."
    for id_ in (0, 1):
        what = f"nearest_ids({id_}, {opposite.tolist()}, 2)"
        expect_equal(what, _list_of_ids(what, fn(id_, opposite.clone(), 2)), [2, 1 - id_], hint)
    angles = torch.tensor([0.0, 0.5006, 0.4994, 0.5002, 0.4990, 0.4998])
    near, hint = torch.stack([angles.cos(), angles.sin()], dim=1), "Cosines may be nearly equal: compare all digits."
    expect_equal(f"nearest_ids(0, {near.tolist()}, 5)", fn(0, near, 5), [4, 2, 5, 3, 1], hint)
    table = torch.randn(9, 4, generator=dice(1))
    id_, k = whole_numbers(1, 0, 8)[0], whole_numbers(1, 2, 8, number=1)[0]
    cosines = F.cosine_similarity(table, table[id_], dim=1)
    expected = [one for one in cosines.argsort(descending=True).tolist() if one != id_][:k]
    what = f"nearest_ids({id_}, table, {k}), with a table of random numbers,"
    expect_equal(what, _list_of_ids(what, fn(id_, table, k)), expected, "Any table, id and k.")


def _list_of_ids(what: str, got) -> list[int]:
    are_ids = isinstance(got, list) and all(type(one) is int for one in got)
    expect(are_ids, f"{what} should be a list of ids, yours is {got!r:.60}. `tolist()` makes one of a tensor.")
    return got


def check_pair_loss(fn) -> None:
    zero = torch.zeros(4)
    none = fn(zero, zero, torch.zeros(5, 4))
    expect(isinstance(none, torch.Tensor) and none.ndim == 0, f"Return a tensor with one number, not {none!r:.60}.")
    expect_close("With vectors of zeros and five random words, the loss", none, 4.158883, "Six coin tosses: 6 ln 2.")
    without = fn(zero, zero, torch.zeros(0, 4))
    expect_close("Without any random word, the loss", without, 0.693147, "One coin toss is left: ln 2.")
    many = fn(zero, zero, torch.zeros(7, 4))
    expect_close("With seven random words, the loss", many, 5.545177, "Eight coin tosses: K may be any number.")
    center, context = torch.tensor([1.0, 2.0, 0.0, -1.0]), torch.tensor([0.5, 1.0, 3.0, 0.0])
    hint = "The center's product with the true word is 2.5: its surprise is -log σ(2.5)."
    expect_close(
        "Without random words and with the product 2.5", fn(center, context, torch.zeros(0, 4)), 0.078889, hint
    )
    negatives = torch.tensor([[1.0, 0.0, 9.0, 0.0], [0.0, -1.0, 0.0, 1.0], [4.0, 0.0, 0.0, 0.0]])
    hint = "The center's products with the random words are 1, -3 and 4; each adds -log σ of *minus* its product."
    expect_close("With three random words, the loss", fn(center, context, negatives), 0.078889 + 5.379999, hint)
    far = fn(-200 * center, context, 200 * negatives[:1] - 400 * negatives[1:2])
    expected = -F.logsigmoid(torch.tensor(-500.0)) - F.logsigmoid(-torch.tensor([-200.0 * (200 + 1200)])).sum()
    hint = "σ of such a product rounds to 0, and its logarithm is infinite: use F.logsigmoid."
    expect_close("For a product of -500 with the true word, the loss", far, expected, hint)
    hint = "Minus the product is -400, and σ of it rounds to 0: use F.logsigmoid for the random words as well."
    wrongly_sure = fn(center, context, 100 * negatives[2:])
    expect_close("For a product of 400 with a random word, the loss", wrongly_sure, 400.078889, hint)
    _expect_gradients(fn, center, context, negatives)
    center, context, *others = torch.randn(5, 6, generator=dice(1))
    mine = fn(center, context, torch.stack(others))
    products = torch.stack([center @ context, *(-center @ other for other in others)])
    right = F.binary_cross_entropy_with_logits(products, torch.ones(4), reduction="sum")
    expect_close("The loss for random vectors and three random words", mine, right, "Any vectors, of any width.")


def _expect_gradients(fn, center, context, negatives) -> None:
    given = [tensor.clone().requires_grad_() for tensor in (center, context, negatives)]
    loss = fn(*given)
    expect(
        loss.requires_grad, "No gradient can flow back: stay with tensors, without .item(), detach or torch.no_grad."
    )
    loss.backward()
    for name, tensor in zip(("center", "context", "negatives"), given):
        expect(tensor.grad is not None, f"No gradient reaches {name}: it must not be detached.")
    factor = torch.sigmoid(negatives @ center)
    slope = (torch.sigmoid(center @ context) - 1) * context + factor @ negatives
    expect_close("The gradient of the center", given[0].grad, slope, "Every term must hold the center, undetached.")
    slope = factor[:, None] * center
    expect_close("The gradient of the random words", given[2].grad, slope, "Every random word must be in the sum.")


VECTORS = {
    "fox": torch.tensor([3.0, 0.0]),
    "hen": torch.tensor([0.0, 1.0]),
    "saw": torch.tensor([0.0, -2.0]),
    "ran": torch.tensor([-1.0, 2.0]),
}


def check_text_vector(fn) -> None:
    for text, expected, hint in (
        ("fox fox", [1.0, 0.0], "The result has length 1."),
        ("fox hen hen hen hen", [0.6, 0.8], "3 to the right and four times 1 up: (3, 4), of length 5."),
        ("fox ran ran", [1 / 17**0.5, 4 / 17**0.5], "Add the vectors as they are, the long one counts more."),
        ("fox unicorn hen hen hen hen", [0.6, 0.8], "A word without a vector is left out."),
        ("unicorn fox", [1.0, 0.0], "The first word may have no vector."),
        ("Fox hen", [0.0, 1.0], "Fox is another word than fox and has no vector: look words up as they are written."),
        ("saw hen hen hen hen hen", [0.0, 1.0], "Opposite directions take each other away."),
        ("unicorn", [0.0, 0.0], "No known word: as many zeros as a vector has numbers."),
        ("", [0.0, 0.0], "No words: as many zeros as a vector has numbers."),
        ("hen saw hen", [0.0, 0.0], "These vectors add up to zeros, which have no direction: no division by 0."),
    ):
        vectors = {word: vector.clone() for word, vector in VECTORS.items()}
        what = f"text_vector({text.split()}, vectors)"
        got = fn(text.split(), vectors)
        expect_close(what, got, torch.tensor(expected), hint)
    one = {"fox": torch.tensor([0.0, 3.0, 4.0])}
    expect_close("The vector of ['fox'] with three numbers", fn(["fox"], one), torch.tensor([0.0, 0.6, 0.8]))
    short = {"fox": torch.tensor([0.0, 0.06, 0.08])}
    hint = "However short the sum is, the result has length 1."
    expect_close("The vector of ['fox'] with a short vector", fn(["fox"], short), torch.tensor([0.0, 0.6, 0.8]), hint)
    tiny = {"fox": torch.tensor([0.0, 0.0006, 0.0008])}
    expect_close("The vector of ['fox'] with a tiny vector", fn(["fox"], tiny), torch.tensor([0.0, 0.6, 0.8]), hint)
    many = "saw saws hen hen hen hen fox".split()
    hint = "There may be any number of words, and saws is another word than saw."
    expect_close(f"The vector of {many}", fn(many, vectors), F.normalize(torch.tensor([3.0, 2.0]), dim=0), hint)
    expect_close("The vector of [] with three numbers", fn([], one), torch.zeros(3), "Ask `vectors` for the size.")
    known = words(3)
    rows = torch.randn(3, 5, generator=dice(1))
    got = fn([known[0], known[2]], dict(zip(known, rows)))
    right = F.normalize(rows[0] + rows[2], dim=0)
    expect_close(f"The vector of {[known[0], known[2]]} with five random numbers a word", got, right, "Any words.")


CHECKS = {
    "2e.1": check_nearest_ids,
    "2e.2": check_pair_loss,
    "2e.3": check_text_vector,
}
