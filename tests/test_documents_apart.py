"""Claims about documents in one row: masked, each costs what it costs alone, in every kind of model and precision."""

from contextlib import nullcontext

import pytest
import torch
from torch.testing import assert_close

from ch02_text_data.shard_loader import document_mask
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.modern_gpt import ModernConfig
from ch05_pretraining.corpus_plan import model_of
from ch05_pretraining.documents_apart import DocumentsApart, loss_of_documents
from ch05_pretraining.evaluation import loss_of_logits, loss_sum
from ch05_pretraining.machine import arithmetic

END = 7
DOCUMENTS = [[END, 3, 4, 5], [END, 9], [END, 11, 3, 12, 13, 4, 20]]
GPT2, LLAMA = GPTConfig(32, 16, 24, 2, 3), ModernConfig(32, 16, 24, 4, 3, n_kv_heads=2)


def model_in_float64(shape):
    torch.manual_seed(5)
    model = model_of(shape).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)  # far from uniform guesses, so that a leak shows
    return model


def row_of_all():
    stream = torch.tensor([id_ for document in DOCUMENTS for id_ in document] + [END])
    return stream[None, :-1], stream[None, 1:]


def one_by_one(model):
    """Each document in a row of its own: its first token is the end of the one before it, its last target an end."""
    at, total = 0, torch.zeros((), dtype=torch.float64)
    for document in DOCUMENTS:
        row = torch.tensor([[*document, END]])
        if hasattr(model, "position_embedding"):  # positions of a row go on counting
            table = model.position_embedding.weight
            before = table.detach().clone()
            with torch.no_grad():
                table.copy_(before.roll(-at, 0))
            total = total + loss_sum(model, row[:, :-1], row[:, 1:]).detach()
            with torch.no_grad():
                table.copy_(before)
        else:
            total = total + loss_sum(model, row[:, :-1], row[:, 1:]).detach()
        at += len(document)
    return total


@pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_masked_a_row_of_documents_costs_what_they_cost_one_by_one(shape):
    model = model_in_float64(shape)
    ids, targets = row_of_all()
    expected = one_by_one(model)
    assert_close(loss_of_documents(END)(model, ids, targets).detach(), expected, rtol=1e-12, atol=1e-12)
    with DocumentsApart(document_mask(ids, END)):
        assert_close(loss_of_logits(model, ids, targets).detach(), expected, rtol=1e-12, atol=1e-12)
    assert abs(loss_sum(model, ids, targets) - expected) > 0.1, "without the mask it is another loss"


@pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_nothing_of_one_document_reaches_the_gradient_of_another(shape):
    model = model_in_float64(shape)
    ids, targets = row_of_all()
    targets = targets.clone()
    targets[:, : -len(DOCUMENTS[-1])] = -100  # only the last document is graded
    gradients = {}
    for loss in (loss_of_documents(END), loss_sum):
        for word in (20, 21):  # in the first document
            changed = ids.clone()
            changed[:, 1] = word
            model.zero_grad()
            loss(model, changed, targets).backward()
            gradients[loss, word] = {name: p.grad.clone() for name, p in model.named_parameters()}
        apart = loss is not loss_sum
        with nullcontext() if apart else pytest.raises(AssertionError):
            assert_close(gradients[loss, 20], gradients[loss, 21])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_in_sixteen_bits_the_mask_holds_too(shape, precision):
    torch.manual_seed(5)
    model = model_of(shape)
    ids, targets = row_of_all()
    exact = loss_of_documents(END)(model, ids, targets).item()
    with arithmetic(torch.device("cpu"), precision):
        assert loss_of_documents(END)(model, ids, targets).item() == pytest.approx(exact, rel=0.01)
        changed = ids.clone()
        changed[0, 1] = 30  # in the first document
        behind = slice(len(DOCUMENTS[0]), None)
        assert not torch.equal(model(ids)[0, behind], model(changed)[0, behind])
        with DocumentsApart(document_mask(ids, END)):
            assert torch.equal(model(ids)[0, behind], model(changed)[0, behind])


def test_a_row_of_one_document_is_not_changed_by_the_mask():
    model = model_in_float64(GPT2)
    ids = torch.tensor([[3, 4, 5, 9, 11]])
    with DocumentsApart(document_mask(ids, END)):
        masked = model(ids)
    assert_close(masked, model(ids), rtol=1e-12, atol=1e-12)
    assert loss_of_documents(END)(model, ids[:, :-1], ids[:, 1:]).requires_grad
