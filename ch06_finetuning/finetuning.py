"""Chapter 6: one pretrained GPT, two new jobs.

A classifier reads a text and answers with one of a few classes: a small head looks at the hidden vector of the last
real token, the only one that has read everything. An assistant answers in words: the model stays as it is and learns
from records of a prompt and its answer, where only the answer is graded.

The supporting modules beside this one hold the rows of instructions, the assistant, the scores, the baseline, LoRA and
preferences.

References: Radford et al. (2018), section 3.2; Ouyang et al. (2022), section 3.5.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from ch02_text_data.any_tokenizer import Encodes, encode_text, pad_id_of, special_tokens_of
from ch02_text_data.batches import EpochBatches
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import in_mode, to_device_of, training_only
from ch05_pretraining.pretraining import TrainConfig, train
from ch05_pretraining.run_state import History, TrainOptions
from ch06_finetuning.instructions import texts_of
from ch06_finetuning.lora import learning_parameters

__all__ = [
    "GPTClassifier", "MessageDataset", "collate_messages", "create_message_loader", "last_real_tokens", "predict",
    "set_trainable", "train_assistant", "train_classifier",
]  # fmt: skip

# ---------------------------------------------------------------------------------------------------- classifier


def last_real_tokens(ids: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Move the real tokens of each row to its front and say where the last of them stands.

    Padding on the right, on the left or on both sides gives the same answer.

    Args:
        ids: token ids with padding.
        pad_id: the id that fills up short rows.

    Shape:
        ids (B, T) -> aligned ids (B, T), last positions (B,).

    Raises:
        ValueError: a row holds nothing but padding.

    Source: Radford et al. (2018), section 3.2. Taught in ch06, section 6.3.
    """
    real = ids != pad_id  # (B, T)
    lengths = real.sum(dim=1)  # (B,)
    if (lengths == 0).any():
        row = int((lengths == 0).nonzero()[0])
        raise ValueError(f"row {row} of the batch holds only padding (id {pad_id}): give every text at least one token")
    order = real.int().argsort(dim=1, descending=True, stable=True)  # real tokens first, in their old order
    return ids.gather(1, order), lengths - 1


class GPTClassifier(nn.Module):
    """A GPT whose last real token answers with a class instead of a next token.

    The head starts at zero: before training every class is equally likely, and the loss is ln(n_classes).

    Args:
        model: the pretrained GPTModel; its own weights are used, not a copy.
        n_classes: number of classes, at least 2.
        pad_id: id of the padding token; None means that batches hold no padding.

    Shape:
        ids (B, T) -> logits (B, C).

    Raises:
        ValueError: fewer than two classes, or a row of nothing but padding.

    Source: Radford et al. (2018), section 3.2. Taught in ch06, section 6.4.
    """

    def __init__(self, model: GPTModel, n_classes: int, pad_id: int | None = None):
        super().__init__()
        if n_classes < 2:
            raise ValueError(f"n_classes={n_classes}: a classifier needs at least two classes")
        self.model, self.pad_id = model, pad_id
        self.head = nn.Linear(model.config.d_model, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        ids, last = last_real_tokens(ids, -1 if self.pad_id is None else self.pad_id)
        hidden = self.model.hidden(ids[:, : int(last.max()) + 1])  # (B, T, D)
        rows = torch.arange(len(ids), device=ids.device)
        return self.head(hidden[rows, last])  # (B, C)


def set_trainable(classifier: GPTClassifier, part: str) -> int:
    """Choose what a classifier may change and return the number of trainable parameters.

    Matrices that LoRA has frozen stay frozen: of a body with LoRA only the corrections learn.

    Args:
        classifier: the classifier to prepare, changed in place.
        part: "head" (body frozen), "last_block" (head, last block and final norm) or "all".

    Raises:
        ValueError: `part` is none of the three.

    Source: Howard and Ruder (2018), section 3.3. Taught in ch06, section 6.16.
    """
    chosen = parameters_of(classifier, part)
    for parameter in classifier.parameters():
        parameter.requires_grad_(parameter in chosen)
    return sum(parameter.numel() for parameter in chosen)


def parameters_of(classifier: GPTClassifier, part: str) -> set[nn.Parameter]:
    """Say which parameters a part of a classifier has that may learn; see `set_trainable`.

    Raises:
        ValueError: `part` is none of the three.

    Source: Howard and Ruder (2018), section 3.3. Taught in ch06, section 6.5.
    """
    model = classifier.model
    parts: dict[str, list[nn.Module]] = {"head": [], "last_block": [model.blocks[-1], model.final_norm], "all": [model]}
    if part not in parts:
        raise ValueError(f"part={part!r} is unknown: choose 'head', 'last_block' or 'all'")
    body = {parameter for module in parts[part] for parameter in module.parameters()}
    return learning_parameters(classifier.head) | body & learning_parameters(model)


def require_labels(labels: Sequence[str]) -> None:
    """Refuse labels that do not name the classes one by one.

    Args:
        labels: words, a list in the order of the classes.

    Raises:
        ValueError: a set or a string, which have no order of labels; a label twice; one that is no word.

    Source: this course. Taught in ch06, section 6.2.
    """
    if not isinstance(labels, (list, tuple)):
        raise ValueError(f"labels are a {type(labels).__name__}: give a list, whose order is the order of the classes")
    if not all(isinstance(label, str) and label.strip() for label in labels) or len(set(labels)) < len(labels):
        raise ValueError(f"labels are {list(labels)}: give different words, one for each class")


class MessageDataset(Dataset):
    """Messages as token ids with their class: item = (ids (T,), class ()), int64.

    A row begins with <|endoftext|>, as every document did in pretraining. Longer rows keep their first `max_length`
    tokens; `n_truncated` counts them.

    Args:
        messages: objects with `.text` and `.label`.
        tokenizer: anything with `.encode(str)`; where it has an <|endoftext|>, rows start with it.
        labels: all labels, a list in the order of the classes.
        max_length: longest row in tokens, at least 2.

    Raises:
        ValueError: a text is empty or a label unknown, which names the row; the labels have no order, or `max_length`
            is below 2.

    Source: this course. Taught in ch06, section 6.2.
    """

    def __init__(self, messages: Iterable, tokenizer: Encodes, labels: Sequence[str], max_length: int):
        require_labels(labels)
        if max_length < 2:
            raise ValueError(f"max_length={max_length} leaves no room for a message: give at least 2")
        specials = special_tokens_of(tokenizer)
        start = [specials["<|endoftext|>"]] if "<|endoftext|>" in specials else []
        classes = {label: index for index, label in enumerate(labels)}
        self.items, self.n_truncated = [], 0
        for row, message in enumerate(messages):
            text, label = texts_of(message, row, "text", "label")
            if label not in classes:
                raise ValueError(f"row {row} has the label {label!r}; the labels are {', '.join(map(str, labels))}")
            ids = start + encode_text(tokenizer, text)
            self.n_truncated += len(ids) > max_length
            self.items.append((torch.tensor(ids[:max_length]), torch.tensor(classes[label])))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.items[index]


def collate_messages(items: Sequence[tuple[Tensor, Tensor]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Pad rows on the right to the longest of the batch: items -> ids (B, T), classes (B,).

    Source: this course. Taught in ch06, section 6.2.
    """
    rows, classes = zip(*items)
    return pad_sequence(list(rows), True, pad_id), torch.stack(classes)


def create_message_loader(
    messages: Iterable, tokenizer: Encodes, labels: Sequence[str], *, batch_size: int, max_length: int,
    shuffle: bool = True, seed: int = 0,
) -> DataLoader:  # fmt: skip
    """Serve batches of messages of similar length, in an order that is a function of (seed, epoch).

    Source: this course. Taught in ch06, section 6.2.
    """
    dataset = MessageDataset(messages, tokenizer, labels, max_length)
    lengths = [len(ids) for ids, _ in dataset.items]
    batches = EpochBatches(lengths, batch_size, shuffle=shuffle, drop_last=shuffle, seed=seed, group_by_length=shuffle)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=partial(collate_messages, pad_id=pad_id_of(tokenizer)))


def train_classifier(
    classifier: GPTClassifier, train_loader: Iterable, val_loader: Iterable | None, config: TrainConfig, *,
    part: str = "all", **options: Unpack[TrainOptions],
) -> History:  # fmt: skip
    """Fine-tune a classifier with chapter 5's `train`; losses are nats per message.

    What is frozen, by LoRA or by its owner, stays frozen; afterwards everything may learn that might before.

    Args:
        classifier: changed in place.
        train_loader: sized iterable of (ids (B, T), classes (B,)).
        val_loader: the same for validation.
        config: steps, learning rate, schedule.
        part: what may change of that which is not frozen, see `set_trainable`.
        options: `checkpoint_dir`, `resume` and `on_step` of `train`.

    Raises:
        ValueError: `part` is unknown or frozen, or as `train`.

    Source: Radford et al. (2018), section 3.2. Taught in ch06, section 6.5.
    """
    with training_only(classifier, parameters_of(classifier, part)):
        return train(classifier, train_loader, val_loader, config, **options)


@torch.no_grad()
def predict(classifier: GPTClassifier, loader: Iterable) -> tuple[Tensor, Tensor]:
    """Classify every row of an unshuffled loader: -> true classes (N,), probabilities (N, C), on the CPU.

    Raises:
        ValueError: the loader has no batch.

    Source: this course. Taught in ch06, section 6.5.
    """
    targets, probabilities = [], []
    with in_mode(classifier, training=False):
        for ids, classes in loader:
            targets.append(classes.cpu())
            probabilities.append(classifier(*to_device_of(classifier, ids)).float().softmax(dim=-1).cpu())
    if not targets:
        raise ValueError("the loader has no batch: give it at least one message to classify")
    return torch.cat(targets), torch.cat(probabilities)


# ----------------------------------------------------------------------------------------------------- assistant


def train_assistant(
    model: GPTModel, train_loader: Iterable, val_loader: Iterable | None, config: TrainConfig,
    **options: Unpack[TrainOptions],
) -> History:  # fmt: skip
    """Teach a pretrained GPT to answer, with chapter 5's `train`; losses are nats per graded token.

    Args:
        model: a GPTModel, changed in place.
        train_loader: instruction batches, see `create_instruction_loader`.
        val_loader: the same for validation.
        config: steps, learning rate, schedule.
        options: `checkpoint_dir`, `resume` and `on_step` of `train`.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section 6.10.
    """
    return train(model, train_loader, val_loader, config, **options)
