"""Checks of chapter 6's exercises: the last real token, the loss mask, padding, prompts, scores, LoRA and DPO."""

import math
from functools import lru_cache

import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.text_data import BPETokenizer
from ch06_finetuning.dpo import dpo_loss
from ch06_finetuning.instructions import prompt_ids
from ch06_finetuning.metrics import wilson_interval
from shared.exercises import expect, expect_close, expect_equal, expect_gradients
from shared.exercises.class_numbers import dice, different_numbers, whole_numbers, words

PAD, END = 0, 9
UNCHANGED = "Do not change what you were given: clone it first."


def _numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def _expect_whole_numbers(what: str, got: torch.Tensor) -> None:
    expect(got.dtype == torch.int64, f"{what} should hold whole numbers (int64), yours are {got.dtype}.")


def check_last_real_vector(fn) -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3)  # (B, T, D)
    full = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8]])
    result = fn(hidden, full, PAD)
    expect(isinstance(result, torch.Tensor), f"Return a tensor (B, D); yours is a {type(result).__name__}.")
    hint = "One vector for each row: index with the rows and their positions together, hidden[rows, positions]."
    expect_equal("With no padding, the shape", tuple(result.shape), (2, 3), hint)
    expect_equal("With no padding, the answer", result, hidden[:, 3], "The last token has read everything.")
    short = torch.tensor([[5, 6, 7, 8], [5, 6, PAD, PAD]])
    expected = torch.stack([hidden[0, 3], hidden[1, 1]])
    hint = (
        "Row 1 has two real tokens, so its last real token stands at position 1: count the real ones, then subtract 1."
    )
    expect_equal("With two padded positions in row 1, the answer", fn(hidden, short, PAD), expected, hint)
    other = torch.tensor([[5, 0, 7, 99], [0, 99, 99, 99]])
    hint = "Padding is what equals pad_id, here 99; the id 0 is a token like any other."
    expected = torch.stack([hidden[0, 2], hidden[1, 0]])
    expect_equal("With 99 as padding, the answer", fn(hidden, other, 99), expected, hint)
    one = torch.tensor([[5, PAD, PAD, PAD], [5, 6, 7, PAD]])
    expect_equal(
        "For rows of 1 and 3 tokens, the answer", fn(hidden, one, PAD), torch.stack([hidden[0, 0], hidden[1, 2]])
    )
    hidden = _numbers(9, 3, 8).transpose(0, 1)  # as of a model whose tokens come first
    ids = torch.tensor([[9, 8] + [PAD] * 7, [7, 3, 6, 2] + [PAD] * 5, [5] * 9])
    expected = torch.stack([hidden[row, last] for row, last in enumerate((1, 3, 8))])
    result = fn(hidden, ids, PAD)
    expect_equal("For rows of 2, 4 and 9 tokens, the answer", result, expected, "Rows and vectors may be of any size.")
    expect(fn(hidden.clone().requires_grad_(), ids, PAD).requires_grad,
           "The answer is cut off from hidden, so the model could not learn.")  # fmt: skip
    expect_gradients(lambda hidden: fn(hidden, ids, PAD), lambda hidden: hidden[[0, 1, 2], [1, 3, 8]], hidden=hidden)


def check_graded_targets(fn) -> None:
    row = torch.tensor([1, 20, 21, 2, 30, 31, END])  # <|user|> 20 21 <|assistant|> 30 31 <|endoftext|>
    given = row.clone()
    result = fn(given, 4)
    expect(isinstance(result, tuple) and len(result) == 2, "Return two tensors: ids and targets.")
    ids, targets = result
    tensors = all(isinstance(part, torch.Tensor) for part in result)
    expect(tensors, f"Return two tensors; yours are a {type(ids).__name__} and a {type(targets).__name__}.")
    expect_equal(
        "ids", ids, row[:-1], "The model reads everything but the last token, unmasked: it must see the prompt."
    )
    graded = int((targets != IGNORE_INDEX).sum())
    hint = "Three targets are graded: 30, 31 and the end. The <|assistant|> token, at position 3, predicts the 30."
    expect_equal("The number of graded targets", graded, 3, hint)
    expect_equal("targets", targets, torch.tensor([-100, -100, -100, 30, 31, END]), hint)
    expect_equal("targets of a prompt of one token", fn(row.clone(), 1)[1], row[1:], "Then nothing is masked.")
    longer = torch.tensor([1, 40, 2, 50, 51, 52, 53, 54, END])
    hint = "This prompt has three tokens and its answer five and the end: count with n_prompt."
    expected = torch.tensor([-100, -100, 50, 51, 52, 53, 54, END])
    ids, targets = fn(longer, 3)
    expect_equal("targets of a longer answer", targets, expected, hint)
    for name, part in (("ids", ids), ("targets", targets)):
        _expect_whole_numbers(name, part)
    row = torch.tensor([1, 40_000, 2, END, *range(3000, 3030), END])
    expected = row[1:].where(torch.arange(34) >= 2, IGNORE_INDEX)
    hint = "A row may be of any length, an id any number, and the end's id may stand in an answer."
    expect_equal("targets of a long answer with large ids", fn(row, 3)[1], expected, hint)
    (n_prompt,) = whole_numbers(1, 2, 7)
    for number in (0, 1):
        row = torch.tensor([*different_numbers(8, 900, number), END])
        expected = row[1:].where(torch.arange(8) >= n_prompt - 1, IGNORE_INDEX)
        what = f"targets of {row.tolist()} with a prompt of {n_prompt} tokens"
        expect_equal(what, fn(row, n_prompt)[1], expected, "Count with n_prompt.")


def check_pad_rows(fn) -> None:
    long = (torch.tensor([1, 2, 3]), torch.tensor([-100, 3, 4]))
    short = (torch.tensor([5]), torch.tensor([6]))
    result = fn([long, short], 7)
    expect(isinstance(result, tuple) and len(result) == 2, "Return two tensors: ids and targets.")
    ids, targets = result
    expect_equal("The shape of ids", tuple(ids.shape), (2, 3), "Two rows, as long as the longest.")
    expect_equal("ids", ids, torch.tensor([[1, 2, 3], [5, 7, 7]]), "Short rows are filled on the right with pad_id.")
    hint = "A padded position has nothing to predict: its target is -100, which the loss passes over."
    expect_equal("targets", targets, torch.tensor([[-100, 3, 4], [6, -100, -100]]), hint)
    expect_equal("ids of one row alone", fn([short], 7)[0], torch.tensor([[5]]), "Nothing to fill there.")
    rows = [torch.tensor(row) for row in ([8], [8, 4], [8, 9, 4, 2], [9])]
    items = [(row, row + 1) for row in rows]
    ids, targets = fn(items, 9)
    hint = "The longest row may stand anywhere, and the order of the rows stays."
    expected = torch.tensor([[8, 9, 9, 9], [8, 4, 9, 9], [8, 9, 4, 2], [9, 9, 9, 9]])
    expect_equal("ids of four rows, filled up with 9", ids, expected, hint)
    hint = "A real token may be equal to pad_id: go by the length of the row, not by its ids."
    expected = torch.tensor([[9, -100, -100, -100], [9, 5, -100, -100], [9, 10, 5, 3], [10, -100, -100, -100]])
    expect_equal("targets of four rows, filled up with 9", targets, expected, hint)
    for name, part in (("ids", ids), ("targets", targets)):
        _expect_whole_numbers(name, part)
    rows, hint = [torch.arange(n) + 10 for n in (3, 12, 1, 7, 2, 9)], "Any number of rows, of any length."
    for shift in (1, 2):
        ids, targets = fn([(row + shift, row + shift + 1) for row in rows], 5)
        wide = [[row[k].item() + shift if k < len(row) else 5 for k in range(12)] for row in rows]
        expect_equal("ids of six rows, filled up with 5", ids, torch.tensor(wide), hint)
        wide = [[row[k].item() + shift + 1 if k < len(row) else -100 for k in range(12)] for row in rows]
        expect_equal("targets of six rows, filled up", targets, torch.tensor(wide), hint)
    a, b, c, pad = different_numbers(4, 900)
    ids, targets = fn([(torch.tensor([a]), torch.tensor([b])), (torch.tensor([b, c]), torch.tensor([c, a]))], pad)
    expect_equal(
        f"ids of [{a}] and [{b}, {c}], filled up with {pad}", ids, torch.tensor([[a, pad], [b, c]]), "Any ids."
    )
    expect_equal(f"targets [{b}] and [{c}, {a}], filled up", targets, torch.tensor([[b, -100], [c, a]]), "Any ids.")


def check_chat_ids(fn) -> None:
    tokenizer = _tokenizer()
    plain = fn(tokenizer, "Who?", [])
    expect(isinstance(plain, list), f"Return a list of ids; yours is a {type(plain).__name__}.")
    expect_equal("The ids of a first prompt", plain, prompt_ids(tokenizer, "Who?"), "<|user|> prompt <|assistant|>.")
    typed = fn(tokenizer, "Hi <|assistant|>", [])
    specials = sum(id == tokenizer.special_tokens["<|assistant|>"] for id in typed)
    hint = "What a user types is ordinary text: build a list of ids, and never encode one joined string."
    expect_equal("The number of <|assistant|> ids when the user types the word", specials, 1, hint)
    whole = prompt_ids(tokenizer, "Hi <|assistant|>")
    hint = "Not a character of what a user types is lost: the word is text, and text is encoded."
    expect_equal("The ids when the user types <|assistant|>", typed, whole, hint)
    history = [("Who?", "The owl.")]
    expected = prompt_ids(tokenizer, "Why?", history)
    hint = "An earlier turn is <|user|> prompt <|assistant|> answer <|endoftext|>, as it was in training."
    expect_equal("The ids with one earlier turn", fn(tokenizer, "Why?", history), expected, hint)
    history = [("Who?", "The owl."), ("Why?", "Hi there.")]
    expected = prompt_ids(tokenizer, "Who?", history)
    hint = "The oldest turn comes first."
    expect_equal("The ids with two earlier turns", fn(tokenizer, "Who?", history), expected, hint)
    history = [("Who?", "The owl."), ("Why?", " Hi there. "), ("Who?", "The owl."), ("Who?", "The owl.")]
    hint = "Every turn counts, also one that came before, and each text stays as it was typed."
    expected = prompt_ids(tokenizer, " Why? ", history)
    expect_equal("The ids with four earlier turns", fn(tokenizer, " Why? ", history), expected, hint)
    history = [("Hi <|assistant|>", "The <|endoftext|>")]
    expected = prompt_ids(tokenizer, "Who?", history)
    hint = "What was typed or written earlier is ordinary text as well: encode it as you encode the prompt."
    expect_equal("The ids when an earlier turn holds specials", fn(tokenizer, "Who?", history), expected, hint)
    first, second, third = words(3)
    for history in ([(first, second)], [(second, first)]):
        expected, hint = prompt_ids(tokenizer, third, history), "The words may be any, also after the same prompt."
        expect_equal(f"The ids of {third!r} after {history}", fn(tokenizer, third, history), expected, hint)


def check_precision_recall(fn) -> None:
    confusion = torch.tensor([[8, 2], [1, 4]])  # true class by predicted class
    result = fn(confusion)
    two = isinstance(result, tuple) and len(result) == 2
    expect(two and all(isinstance(part, torch.Tensor) for part in result), "Return two tensors: precision and recall.")
    precision, recall = result
    hint = "Recall asks: of the rows that are class i, how many were found? Rows of the matrix are the true classes."
    expect_close("recall", recall, [8 / 10, 4 / 5], hint)
    hint = "Precision asks: of the rows that were called class j, how many are? Columns are the predicted classes."
    expect_close("precision", precision, [8 / 9, 4 / 6], hint)
    confusion = torch.tensor([[5, 3, 0], [1, 7, 2], [4, 0, 2]])
    precision, recall = fn(confusion)
    hint = "Any number of classes: the diagonal over the sums of columns, and over the sums of rows."
    expect_close("precision of three classes", precision, [5 / 10, 7 / 10, 2 / 4], hint)
    expect_close("recall of three classes", recall, [5 / 8, 7 / 10, 2 / 6], hint)
    confusion = torch.arange(1, 26).view(5, 5).T * 300
    precision, recall = fn(confusion)
    hint = "Any number of classes, and counts of thousands; this matrix is the transpose of another tensor."
    right = [confusion[k, k].item() for k in range(5)]
    for name, got, axis in (("precision", precision, 0), ("recall", recall, 1)):
        wanted = [one / total for one, total in zip(right, confusion.sum(dim=axis).tolist())]
        expect_close(f"{name} of five classes", got, wanted, hint)
    a, b, c, d = whole_numbers(4, 1, 90)
    precision, recall = fn(torch.tensor([[a, b], [c, d]]))
    for name, got, expected in (("precision", precision, [a / (a + c), d / (b + d)]),
                                ("recall", recall, [a / (a + b), d / (c + d)])):  # fmt: skip
        expect_close(f"{name} of {[[a, b], [c, d]]}", got, expected, "The numbers may be any.")


def check_interval(fn) -> None:
    result = fn(90, 100)
    expect(isinstance(result, tuple) and len(result) == 2, "Return two numbers: the lower and the upper end.")
    low, high = result
    hint = "The lower end comes first: center - half, center + half."
    expect(low < high, f"The ends for 90 of 100 should rise, yours are {low:.4g} and {high:.4g}. {hint}")
    expect_close("The center of the interval for 90 of 100", (low + high) / 2, sum(wilson_interval(90, 100)) / 2,
                 "It is pulled towards 1/2: (p + z²/(2n)) / (1 + z²/n).")  # fmt: skip
    expect_close(
        "The lower end for 90 of 100", low, wilson_interval(90, 100)[0], "Under the root stands p(1-p)/n + z²/(4n²)."
    )
    low, high = fn(20, 20)
    expect_close("The lower end for 20 of 20", low, wilson_interval(20, 20)[0],
                 "A perfect score on 20 rows does not prove a perfect model.")  # fmt: skip
    for n_correct, n in ((20, 20), (7, 40), (2990, 4001)):
        for name, got, expected in zip(("lower", "upper"), fn(n_correct, n), wilson_interval(n_correct, n)):
            expect_close(f"The {name} end for {n_correct} of {n}", got, expected, "Both ends, for any numbers.")
    low, high = fn(7, 40, 1.0)
    hint = "z is given, too: 1 asks for a narrower interval."
    expect_close("The width for 7 of 40 with z = 1", high - low,
                 wilson_interval(7, 40, 1.0)[1] - wilson_interval(7, 40, 1.0)[0], hint)  # fmt: skip
    n_correct, more = whole_numbers(2, 1, 90)
    what = f"end for {n_correct} of {n_correct + more}"
    for name, got, expected in zip(("lower", "upper"), fn(n_correct, n_correct + more),
                                   wilson_interval(n_correct, n_correct + more)):  # fmt: skip
        expect_close(f"The {name} {what}", got, expected, "Both ends, for any numbers.")


def check_lora_output(fn) -> None:
    generator = dice(0)
    x, weight = torch.randn(5, 6, generator=generator), torch.randn(4, 6, generator=generator)
    a, b = torch.randn(2, 6, generator=generator), torch.randn(4, 2, generator=generator)
    start = fn(x, weight, a, torch.zeros(4, 2), 8.0)
    expect_close(
        "With B = 0, the output", start, x @ weight.T, "Nothing is added yet: W x alone. Is x @ W.T in your sum?"
    )
    expected = x @ weight.T + 8.0 / 2 * x @ a.T @ b.T
    hint = "The correction is (alpha / rank) B A x; the rank is the number of rows of A."
    expect_close("The output", fn(x, weight, a, b, 8.0), expected, hint)
    expected = x @ weight.T + 3 / 2 * x @ a.T @ b.T
    expect_close("With alpha = 3, the output", fn(x, weight, a, b, 3), expected, "3 / 2 is 1.5: do not round it.")
    learned = fn(x, weight, a.clone().requires_grad_(), b.clone().requires_grad_(), 8.0)
    expect(learned.requires_grad, "The output is cut off from A and B, so they could not learn.")
    for rank, d_in, d_out, n, alpha in ((5, 6, 6, 1, 0.5), (1, 3, 2, 4, 300.0)):
        x, weight = _numbers(n, d_in), _numbers(d_out, d_in, seed=1)
        a, b = _numbers(rank, d_in, seed=2), _numbers(d_out, rank, seed=3)
        what = f"The output of {n} rows with rank {rank}, alpha {alpha}, D_in {d_in} and D_out {d_out}"
        hint = "All sizes and alpha may be any, also 1 row, a square weight, and an alpha below 1."
        expect_close(what, fn(x, weight, a, b, alpha), x @ weight.T + alpha / rank * (x @ a.T) @ b.T, hint)
    weight = _numbers(4, 6, seed=3)
    x, a, b = (part.requires_grad_() for part in (_numbers(5, 6), _numbers(3, 6, seed=1), _numbers(4, 3, seed=2)))
    expected = x @ weight.T + 2.5 / 3 * x @ a.T @ b.T
    hint = "The rank is the number of rows of A, whatever the other shapes are."
    got = fn(x, weight, a, b, 2.5)
    expect_close("The output with rank 3 and alpha 2.5", got, expected.detach(), hint)
    theirs = torch.autograd.grad(got.square().sum(), (x, a, b), allow_unused=True)
    for name, mine, wanted in zip(("x", "A", "B"), theirs, torch.autograd.grad(expected.square().sum(), (x, a, b))):
        expect(mine is not None, f"The output is cut off from {name}.")
        expect_close(f"The gradient of {name}", mine, wanted, f"Something cuts {name} off.")


def check_dpo(fn) -> None:
    zero = torch.zeros(3)
    expect_close("The loss where policy and reference agree", fn(zero, zero, zero, zero, 0.1), math.log(2),
                 "Then both rewards are equal, each answer has probability 1/2 of being the better one, "
                 "and the surprise is ln 2.")  # fmt: skip
    better = fn(zero + 1, zero - 1, zero, zero, 1.0)
    expect(float(better) < math.log(2), f"A policy that likes the chosen answers more has loss {float(better):.3f}, "
           "which should be below ln 2 = 0.693. Is the difference the right way round?")  # fmt: skip
    args = (
        torch.tensor([-4.0, -2.0]),
        torch.tensor([-3.0, -6.0]),
        torch.tensor([-5.0, -2.5]),
        torch.tensor([-2.0, -5.0]),
    )
    policy = [part.clone().requires_grad_() for part in args[:2]]
    loss = fn(*policy, *args[2:], 0.5)
    learns = isinstance(loss, torch.Tensor) and loss.requires_grad
    expect(learns, "The loss is cut off from the policy (.item() or .detach()), so nothing could learn.")
    far = torch.tensor([-1000.0])
    expect_close("The loss where the policy is 1,000 nats on the wrong side", fn(far, 0 * far, 0 * far, 0 * far, 1.0),
                 1000.0, "sigmoid(-1000) is 0 in 32 bits, and its logarithm infinite: use logsigmoid.")  # fmt: skip
    hint = "Each reward is beta (policy - reference); the loss is the mean of -log sigmoid(chosen - rejected)."
    expect_close("The loss of two pairs", fn(*args, 0.5), dpo_loss(*args, 0.5), hint)
    chosen, rejected = (_numbers(7, seed=seed).requires_grad_() for seed in (0, 1))
    ref_chosen, ref_rejected = _numbers(7, seed=2), _numbers(7, seed=3)
    for beta in (3.0, 0.3):
        given = chosen, rejected, ref_chosen, ref_rejected, beta
        loss, expected = fn(*given), dpo_loss(*given)
        expect_close(f"The loss of seven pairs with beta {beta}", loss, expected.detach(), hint)
    theirs = torch.autograd.grad(loss, (chosen, rejected), allow_unused=True)
    for name, mine, wanted in zip(("chosen", "rejected"), theirs, torch.autograd.grad(expected, (chosen, rejected))):
        expect(mine is not None, f"The loss is cut off from {name}, so that side could not learn.")
        expect_close(f"The gradient of {name}", mine, wanted, "Do not cut it off or round it.")


@lru_cache(maxsize=1)
def _tokenizer() -> BPETokenizer:
    return BPETokenizer.train("Who? The owl. Why? Hi there.", 256 + 8 + len(SPECIAL_TOKENS), SPECIAL_TOKENS)


CHECKS = {
    "6.1": check_last_real_vector,
    "6.2": check_graded_targets,
    "6.3": check_pad_rows,
    "6.4": check_chat_ids,
    "6.5": check_precision_recall,
    "6.6": check_interval,
    "6.7": check_lora_output,
    "6.8": check_dpo,
}
