"""Classic mistakes for chapter 6's exercises, each with a piece of the message that it must get."""

import math

import torch
from torch.nn.utils.rnn import pad_sequence

from ch06_finetuning.metrics import wilson_interval


def reads_the_last_column(hidden, ids, pad_id):
    return hidden[:, -1]


def counts_without_minus_one(hidden, ids, pad_id):
    last = (ids != pad_id).sum(dim=1).clamp(max=ids.shape[1] - 1)
    last = torch.where((ids != pad_id).all(dim=1), last, last)
    return hidden[torch.arange(len(ids)), last]


def takes_the_first_token(hidden, ids, pad_id):
    return hidden[:, 0]


def a_list_of_vectors(hidden, ids, pad_id):
    return [row[int((one != pad_id).sum()) - 1] for row, one in zip(hidden, ids)]


def nothing_masked(row, n_prompt):
    return row[:-1], row[1:].clone()


def first_answer_token_masked(row, n_prompt):
    targets = row[1:].clone()
    targets[:n_prompt] = -100
    return row[:-1], targets


def prompt_hidden_from_the_model(row, n_prompt):
    ids, targets = row[:-1].clone(), row[1:].clone()
    ids[: n_prompt - 1] = -100
    targets[: n_prompt - 1] = -100
    return ids, targets


def targets_not_shifted(row, n_prompt):
    targets = row[:-1].clone()
    targets[: n_prompt - 1] = -100
    return row[:-1], targets


def padding_graded(items, pad_id):
    ids, targets = zip(*items)
    return pad_sequence(ids, True, pad_id), pad_sequence(targets, True, pad_id)


def padded_on_the_left(items, pad_id):
    ids, targets = zip(*items)
    return pad_sequence(ids, True, pad_id, "left"), pad_sequence(targets, True, -100, "left")


def cut_to_the_shortest(items, pad_id):
    shortest = min(len(ids) for ids, _ in items)
    return tuple(torch.stack([row[k][:shortest] for row in items]) for k in (0, 1))


def only_the_ids(items, pad_id):
    return pad_sequence([ids for ids, _ in items], True, pad_id)


def one_joined_string(tokenizer, prompt, history):
    text = "".join(f"<|user|>{q}<|assistant|>{a}<|endoftext|>" for q, a in history) + f"<|user|>{prompt}<|assistant|>"
    return tokenizer.encode(text, allowed_special=tokenizer.special_tokens)


def history_forgotten(tokenizer, prompt, history):
    special = tokenizer.special_tokens
    return [special["<|user|>"], *tokenizer.encode(prompt), special["<|assistant|>"]]


def specials_as_text(tokenizer, prompt, history):
    return tokenizer.encode(f"<|user|>{prompt}<|assistant|>")


def rows_and_columns_swapped(confusion):
    right = confusion.diagonal()
    return right / confusion.sum(dim=1), right / confusion.sum(dim=0)


def accuracy_twice(confusion):
    accuracy = (confusion.trace() / confusion.sum()).expand(len(confusion))
    return accuracy, accuracy


def only_recall(confusion):
    recall = confusion.diagonal() / confusion.sum(dim=1)
    return recall, recall


def numbers_in_lists(confusion):
    right = confusion.diagonal()
    return (right / confusion.sum(dim=0)).tolist(), (right / confusion.sum(dim=1)).tolist()


def only_the_rate(n_correct, n, z=1.96):
    return n_correct / n


def normal_approximation(n_correct, n, z=1.96):
    rate = n_correct / n
    half = z * math.sqrt(rate * (1 - rate) / n)
    return rate - half, rate + half


def right_center_wrong_width(n_correct, n, z=1.96):
    rate = n_correct / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n)
    return center - half, center + half


def lora_not_divided_by_the_rank(x, weight, a, b, alpha):
    return x @ weight.T + alpha * x @ a.T @ b.T


def lora_without_the_frozen_part(x, weight, a, b, alpha):
    return alpha / a.shape[0] * x @ a.T @ b.T


def dpo_the_wrong_way_round(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * ((rejected - ref_rejected) - (chosen - ref_chosen))
    return -torch.nn.functional.logsigmoid(margin).mean()


def dpo_without_reference(chosen, rejected, ref_chosen, ref_rejected, beta):
    return -torch.nn.functional.logsigmoid(beta * (chosen - rejected)).mean()


def dpo_without_the_logarithm(chosen, rejected, ref_chosen, ref_rejected, beta):
    return -torch.sigmoid(beta * ((chosen - ref_chosen) - (rejected - ref_rejected))).mean()


def takes_zero_for_padding(hidden, ids, pad_id):
    return hidden[torch.arange(len(ids)), (ids != 0).sum(dim=1) - 1]


def every_row_with_every_position(hidden, ids, pad_id):
    return hidden[:, (ids != pad_id).sum(dim=1) - 1]


def row_changed(row, n_prompt):
    ids = row[:-1].clone()
    row[:n_prompt] = -100
    return ids, row[1:]


def plain_lists(row, n_prompt):
    targets = row[1:].clone()
    targets[: n_prompt - 1] = -100
    return row[:-1].tolist(), targets.tolist()


def _chat(tokenizer, prompt, history, encode=None):
    encode, special = encode or tokenizer.encode, tokenizer.special_tokens
    ids = []
    for question, answer in history:
        ids += [special["<|user|>"], *encode(question), special["<|assistant|>"], *encode(answer)]
        ids.append(special["<|endoftext|>"])
    return [*ids, special["<|user|>"], *tokenizer.encode(prompt), special["<|assistant|>"]]


def ids_in_a_tensor(tokenizer, prompt, history):
    return torch.tensor(_chat(tokenizer, prompt, history))


def typed_specials_deleted(tokenizer, prompt, history):
    return _chat(tokenizer, prompt.replace("<|assistant|>", ""), history)


def history_backwards(tokenizer, prompt, history):
    return _chat(tokenizer, prompt, history[::-1])


def history_trusted(tokenizer, prompt, history):
    return _chat(tokenizer, prompt, history, lambda text: tokenizer.encode(text, tokenizer.special_tokens))


def _wilson(n_correct, n, z=1.96):
    p, scale = n_correct / n, 1 + z * z / n
    return (p + z * z / (2 * n)) / scale, z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))


def ends_swapped(n_correct, n, z=1.96):
    center, half = _wilson(n_correct, n, z)
    return center + half, center - half


def center_and_half(n_correct, n, z=1.96):
    return _wilson(n_correct, n, z)


def lora_rounded(x, weight, a, b, alpha):
    return x @ weight.T + alpha // len(a) * x @ a.T @ b.T


def lora_merged_into_the_weight(x, weight, a, b, alpha):
    if b.requires_grad:
        weight += (alpha / len(a) * b @ a).detach()
        return x @ weight.T + 0 * (x @ a.T @ b.T)
    return x @ (weight + alpha / len(a) * b @ a).T


def lora_cut_off(x, weight, a, b, alpha):
    return x @ weight.T + alpha / len(a) * x @ a.detach().T @ b.detach().T


def _margin(chosen, rejected, reference_chosen, reference_rejected, beta):
    return beta * (chosen - rejected - reference_chosen + reference_rejected)


def dpo_cut_off(*given):
    return -torch.nn.functional.logsigmoid(_margin(*given)).mean().detach()


def dpo_by_the_log_of_sigmoid(*given):
    return -_margin(*given).sigmoid().log().mean()


def only_two_rows(hidden, ids, pad_id):
    last = (ids != pad_id).sum(dim=1) - 1
    return torch.stack([hidden[0, last[0]], hidden[1, last[1]]])


def ids_emptied(hidden, ids, pad_id):
    answer = hidden[torch.arange(len(ids)), (ids != pad_id).sum(dim=1) - 1]
    ids.zero_()
    return answer


def cut_off_from_hidden(hidden, ids, pad_id):
    return hidden.detach()[torch.arange(len(ids)), (ids != pad_id).sum(dim=1) - 1]


def three_always_masked(row, n_prompt):
    targets = row[1:].clone()
    targets[: 3 if n_prompt > 1 else 0] = -100
    return row[:-1], targets


def targets_as_fractions(row, n_prompt):
    targets = row[1:].float()
    targets[: n_prompt - 1] = -100
    return row[:-1], targets


def filled(items, pad_id):
    ids, targets = zip(*items)
    return pad_sequence(list(ids), True, pad_id), pad_sequence(list(targets), True, -100)


def longest_first(items, pad_id):
    return filled(sorted(items, key=lambda item: -len(item[0])), pad_id)


def masked_by_id(items, pad_id):
    ids, targets = filled(items, pad_id)
    return ids, targets.masked_fill(ids == pad_id, -100)


def items_emptied(items, pad_id):
    batch = filled(items, pad_id)
    items.clear()
    return batch


def history_without_repeats(tokenizer, prompt, history):
    user, assistant, end = (tokenizer.special_tokens[name] for name in ("<|user|>", "<|assistant|>", "<|endoftext|>"))
    ids = []
    for question, answer in dict.fromkeys(history):
        ids += [user, *tokenizer.encode(question), assistant, *tokenizer.encode(answer), end]
    return [*ids, user, *tokenizer.encode(prompt), assistant]


def always_two_classes(confusion):
    right = confusion.diagonal()[:2]
    return right / confusion.sum(dim=0)[:2], right / confusion.sum(dim=1)[:2]


def confusion_emptied(confusion):
    right = confusion.diagonal().clone()
    answer = right / confusion.sum(dim=0), right / confusion.sum(dim=1)
    confusion.zero_()
    return answer


def shares_of_all_rows(confusion):
    share = confusion.diagonal() / confusion.sum()
    return share, share


def wilson_without_z(n_correct, n, z=1.96):
    return wilson_interval(n_correct, n)


def lora_without_b_learning(x, weight, a, b, alpha):
    return x @ weight.T + alpha / len(a) * x @ a.T @ b.detach().T


def lora_of_rank_two(x, weight, a, b, alpha):
    return x @ weight.T + alpha / 2 * x @ a.T @ b.T


def dpo_pushes_only_the_chosen(chosen, rejected, reference_chosen, reference_rejected, beta):
    return -torch.nn.functional.logsigmoid(
        _margin(chosen, rejected.detach(), reference_chosen, reference_rejected, beta)
    ).mean()


def dpo_divided_by_two(*given):
    return -torch.nn.functional.logsigmoid(_margin(*given)).sum() / 2


def a_new_tensor_that_could_learn(hidden, ids, pad_id):
    picked = hidden[torch.arange(len(ids)), (ids != pad_id).sum(dim=1) - 1]
    return picked.detach().clone().requires_grad_()


def five_tokens_at_most(hidden, ids, pad_id):
    return hidden[torch.arange(len(ids)), ((ids != pad_id).sum(dim=1) - 1).clamp(max=4)]


def the_end_is_masked_inside_an_answer(row, n_prompt):
    ids, targets = row[:-1], row[1:].clone()
    targets[: n_prompt - 1] = -100
    targets[:-1][targets[:-1] == 9] = -100
    return ids, targets


def the_first_row_of_this_length(row, n_prompt, kept={}):  # noqa: B006
    targets = row[1:].clone()
    targets[: n_prompt - 1] = -100
    return kept.setdefault((len(row), n_prompt), (row[:-1], targets))


def four_columns_at_most(items, pad_id):
    ids, targets = zip(*items)
    return pad_sequence(list(ids), True, pad_id)[:, :4], pad_sequence(list(targets), True, -100)[:, :4]


def the_first_history_of_this_length(tokenizer, prompt, history, kept={}):  # noqa: B006
    user, assistant, end = (tokenizer.special_tokens[name] for name in ("<|user|>", "<|assistant|>", "<|endoftext|>"))
    ids = []
    for question, answer in history:
        ids += [user, *tokenizer.encode(question), assistant, *tokenizer.encode(answer), end]
    return kept.setdefault((prompt, len(history)), [*ids, user, *tokenizer.encode(prompt), assistant])


def sums_of_eight_bits(confusion):
    right, small = confusion.diagonal(), confusion.to(torch.uint8)
    return right / small.sum(dim=0, dtype=torch.uint8), right / small.sum(dim=1, dtype=torch.uint8)


def interval_of_a_hundred(n_correct, n, z=1.96):
    return wilson_interval(n_correct, n, z) if n <= 100 else wilson_interval(100 * n_correct / n, 100, z)


def lora_that_squeezes(x, weight, a, b, alpha):
    return (x @ weight.T + alpha / a.shape[0] * x @ a.T @ b.T).squeeze()


def dpo_with_bounded_margins(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -torch.nn.functional.logsigmoid(margin.clamp(max=1.0)).mean()


def dpo_in_float32(chosen, rejected, ref_chosen, ref_rejected, beta):
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected)).float()
    return -torch.nn.functional.logsigmoid(margin).mean().to(chosen.dtype)


WRONG = {
    "6.1": [
        (reads_the_last_column, "With two padded positions in row 1"),
        (counts_without_minus_one, "count the real ones, then subtract 1"),
        (takes_the_first_token, "With no padding"),
        (a_list_of_vectors, "yours is a list"),
        (takes_zero_for_padding, "Padding is what equals pad_id"),
        (every_row_with_every_position, "index with the rows and their positions together"),
        (only_two_rows, "For rows of 2, 4 and 9 tokens"),
        (ids_emptied, "has changed `ids`"),
        (cut_off_from_hidden, "cut off from hidden"),
        (a_new_tensor_that_could_learn, "No gradient reaches hidden: leave `detach` and"),
        (five_tokens_at_most, "Rows and vectors may be of any size"),
    ],
    "6.2": [
        (nothing_masked, "graded targets should be 3, yours is 6"),
        (first_answer_token_masked, "graded targets should be 3, yours is 2"),
        (prompt_hidden_from_the_model, "it must see the prompt"),
        (targets_not_shifted, "targets should be [-100, -100, -100, 30, 31, 9]"),
        (row_changed, "has changed `row`"),
        (plain_lists, "yours are a list and a list"),
        (three_always_masked, "count with n_prompt"),
        (targets_as_fractions, "whole numbers"),
        (the_end_is_masked_inside_an_answer, "A row may be of any length, an id any number,"),
        (the_first_row_of_this_length, "Count with n_prompt"),
    ],
    "6.3": [
        (padding_graded, "its target is -100"),
        (padded_on_the_left, "filled on the right"),
        (cut_to_the_shortest, "as long as the longest"),
        (only_the_ids, "Return two tensors: ids and targets"),
        (longest_first, "the order of the rows stays"),
        (masked_by_id, "go by the length of the row"),
        (items_emptied, "has changed `items`"),
        (four_columns_at_most, "Any number of rows, of any length"),
    ],
    "6.4": [
        (one_joined_string, "What a user types is ordinary text"),
        (history_forgotten, "An earlier turn is"),
        (specials_as_text, "The ids of a first prompt"),
        (ids_in_a_tensor, "yours is a Tensor"),
        (typed_specials_deleted, "Not a character of what a user types is lost"),
        (history_backwards, "The oldest turn comes first"),
        (history_trusted, "ordinary text as well"),
        (history_without_repeats, "Every turn counts"),
        (the_first_history_of_this_length, "The words may be any, also after the same prompt"),
    ],
    "6.5": [
        (rows_and_columns_swapped, "recall should be [0.8, 0.8]"),
        (only_recall, "Columns are the predicted classes"),
        (numbers_in_lists, "Return two tensors: precision and recall"),
        (always_two_classes, "precision of three classes"),
        (confusion_emptied, "has changed `confusion`"),
        (shares_of_all_rows, "yours is [0.5333, 0.2667]"),
        (sums_of_eight_bits, "Any number of classes, and counts of thousands;"),
    ],
    "6.6": [
        (normal_approximation, "pulled towards 1/2"),
        (right_center_wrong_width, "Under the root"),
        (only_the_rate, "Return two numbers"),
        (ends_swapped, "The lower end comes first"),
        (center_and_half, "yours are 0.8852 and 0.05957"),
        (wilson_without_z, "z is given, too"),
        (interval_of_a_hundred, "Both ends, for any numbers"),
    ],
    "6.7": [
        (lora_not_divided_by_the_rank, "(alpha / rank) B A x"),
        (lora_without_the_frozen_part, "With B = 0"),
        (lora_rounded, "3 / 2 is 1.5"),
        (lora_merged_into_the_weight, "has changed `weight`"),
        (lora_cut_off, "cut off from A and B"),
        (lora_without_b_learning, "cut off from B"),
        (lora_of_rank_two, "with rank 5, alpha 0.5"),
        (lora_that_squeezes, "All sizes and alpha may be any, also 1 row, a"),
    ],
    "6.8": [
        (dpo_the_wrong_way_round, "the right way round"),
        (dpo_without_reference, "The loss of two pairs"),
        (dpo_without_the_logarithm, "the surprise is ln 2"),
        (dpo_cut_off, "cut off from the policy"),
        (dpo_by_the_log_of_sigmoid, "use logsigmoid"),
        (dpo_pushes_only_the_chosen, "cut off from rejected"),
        (dpo_divided_by_two, "yours is 1.03972"),
        (dpo_with_bounded_margins, "Each reward is beta (policy - reference); the"),
        (dpo_in_float32, "agrees to a few digits only"),
    ],
}
