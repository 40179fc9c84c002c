"""Room for new tokens: a pretrained model meets a tokenizer that has been given chat tokens.

Each token has a row in the model's table of embeddings and one in its head. New rows begin as the mean of the old ones:
the model then expects a new token about as much as an average one, and training moves it from there.

Reference: Hewitt (2021), "Initializing new word embeddings for pretrained language models".
"""

import dataclasses

import torch

from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.checkpoints import unique_tensors

__all__ = ["grow_vocabulary"]


@torch.no_grad()
def grow_vocabulary(model: GPTModel, vocab_size: int) -> GPTModel:
    """Return a GPT with rows for more tokens; old tokens keep theirs, new ones begin as the mean of the old.

    Args:
        model: a GPTModel or ModernGPT; it is not changed.
        vocab_size: tokens that the new model knows, at least those of the old one.

    Shape:
        a model of V tokens -> a model of `vocab_size` tokens.

    Raises:
        ValueError: `vocab_size` is below the model's, or the model has LoRA layers.

    Source: Hewitt (2021). Taught in ch06, section 6.13.
    """
    n_old = model.config.vocab_size
    if vocab_size < n_old:
        raise ValueError(f"vocab_size={vocab_size} is below the model's {n_old}: a vocabulary can only grow")
    with torch.random.fork_rng(devices=[]):  # the random start is overwritten
        grown = type(model)(dataclasses.replace(model.config, vocab_size=vocab_size))
    old, new = unique_tensors(model), unique_tensors(grown)
    if old.keys() != new.keys():
        raise ValueError("the model has LoRA layers: call merge_lora(model) first")
    for name, tensor in new.items():
        if tensor.shape == old[name].shape:
            tensor.copy_(old[name])
        else:
            tensor[:n_old] = old[name]
            tensor[n_old:] = old[name].mean(dim=0)
        tensor.requires_grad_(old[name].requires_grad)
    return grown.to(next(model.parameters())).train(model.training)
