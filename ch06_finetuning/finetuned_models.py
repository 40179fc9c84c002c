"""What fine-tuning makes, kept in folders: classifiers with their labels, LoRA layers as LoRA, reward models.

Chapter 5 keeps a GPT. Here everything is kept that this chapter builds around one or into one, and a classifier that
comes back reads texts and answers with labels.

Reference: Hu et al. (2021), section 4.1, for keeping thin corrections beside the frozen weights. Taught in ch06.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from ch02_text_data.any_tokenizer import Encodes, pad_id_of
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.model_parts import bare, refuse_other
from ch05_pretraining.saved_models import StoredTokenizer, find_model, read_model, write_model
from ch06_finetuning.finetuning import GPTClassifier, MessageDataset, predict, require_labels
from ch06_finetuning.lora import about_gpt, build_gpt
from ch06_finetuning.ppo import ActorCritic
from ch06_finetuning.reward_model import RewardModel
from data.durable_folders import CheckpointError

__all__ = ["TextClassifier", "load_classifier", "load_finetuned", "save_classifier", "save_finetuned"]

MESSAGE_LENGTH = 128  # tokens; longer messages are cut

Verdict = tuple[str, dict[str, float]]  # the label of a text, and how probable each label is


class TextClassifier(GPTClassifier):
    """A classifier that knows its tokenizer and its labels: it reads texts and answers in words.

    Args:
        model: the pretrained GPTModel; its own weights are used, not a copy.
        tokenizer: the tokenizer that it was trained with.
        labels: the names of the classes, a list in the order of the classes.
        max_length: longest text that it reads, in tokens; give the one of its training.

    Shape:
        ids (B, T) -> logits (B, C).

    Raises:
        ValueError: the labels do not name at least two classes one by one, or the tokenizer has no padding token.

    Source: Radford et al. (2018), section 3.2. Taught in ch06, section 6.7.
    """

    def __init__(self, model: GPTModel, tokenizer: Encodes, labels: Sequence[str], *, max_length: int = MESSAGE_LENGTH):
        require_labels(labels)
        super().__init__(model, len(labels), pad_id_of(tokenizer))
        self.tokenizer, self.labels = tokenizer, list(labels)
        self.max_length = min(max_length, model.config.context_length)

    def classify(self, text: str | Sequence[str]) -> Verdict | list[Verdict]:
        """Name the class of a text: -> label, {label: probability}; for a list of texts, a list of these.

        Args:
            text: what to read. Special tokens typed in it are ordinary text. Of a text with more than `max_length`
                tokens the first are read, as in training; a warning says so.

        Raises:
            ValueError: a text is empty.
        """
        texts = [text] if isinstance(text, str) else list(text)
        for number, one in enumerate(texts):
            if not isinstance(one, str) or not one.strip():
                raise ValueError(f"text {number} is {one!r}: give a text to classify")
        rows = [SimpleNamespace(text=one, label=self.labels[0]) for one in texts]  # the label is not looked at
        dataset = MessageDataset(rows, self.tokenizer, self.labels, self.max_length)
        if dataset.n_truncated:
            warnings.warn(f"{dataset.n_truncated} of {len(texts)} texts have more than {self.max_length} tokens, of "
                          "which only the first were read", stacklevel=2)  # fmt: skip
        answers = [self._answer(*item) for item in dataset.items]
        return answers[0] if isinstance(text, str) else answers

    def _answer(self, ids: Tensor, any_class: Tensor) -> Verdict:
        _, rows = predict(self, [(ids[None], any_class[None])])  # (1, C)
        return self.labels[int(rows.argmax())], dict(zip(self.labels, rows[0].tolist()))


# ------------------------------------------------------------------------------------------------------------ folders


def save_finetuned(
    folder: str | Path, model: nn.Module, tokenizer: StoredTokenizer, recipe: dict, dtype: str = "float32"
) -> Path:
    """Save what this chapter makes of a GPT, LoRA layers and new heads included.

    Args:
        folder: replaced as a whole when it is there already.
        model: a GPTModel or ModernGPT, a TextClassifier, a RewardModel or an ActorCritic, with LoRA layers or without.
        tokenizer: the tokenizer whose ids the model reads.
        recipe: how it was made and what it scored; anything JSON can hold.
        dtype: "float32", or "float16" for half the size.

    Raises:
        ValueError: a model that `load_finetuned` could not give back; nothing has been written then.
        CheckpointError: the folder cannot be written.

    Source: this course. Taught in ch06, section 6.12.
    """
    model = bare(model)
    about = _about(model, tokenizer)
    weights = "classifier.safetensors" if isinstance(model, TextClassifier) else "model.safetensors"
    return write_model(folder, about, model, lambda: _build(about, tokenizer), tokenizer, recipe, dtype, weights)


def load_finetuned(folder: str | Path) -> tuple[nn.Module, StoredTokenizer]:
    """Load what `save_finetuned`, `save_classifier` or `save_model` has stored: -> model, tokenizer.

    The model comes in float32 and evaluation mode. LoRA layers come back as LoRA layers, beside a frozen GPT.

    Args:
        folder: a folder that one of the three has made.

    Raises:
        CheckpointError: the folder is missing, incomplete or damaged.

    Source: this course. Taught in ch06, section 6.12.
    """
    return read_model(folder, _build)


def save_classifier(
    folder: str | Path, classifier: GPTClassifier, tokenizer: StoredTokenizer, labels: Sequence[str], recipe: dict, *,
    max_length: int = MESSAGE_LENGTH,
) -> Path:  # fmt: skip
    """Save a classifier with tokenizer, labels and recipe in one folder with a manifest.

    Args:
        folder: replaced as a whole when it is there already.
        classifier: a GPTClassifier, with LoRA layers or without.
        tokenizer: the tokenizer whose ids it reads.
        labels: the names of its classes, a list in the order of the classes.
        recipe: how it was made and what it scored; anything JSON can hold.
        max_length: longest message of its training, in tokens; a TextClassifier knows its own.

    Raises:
        ValueError: the labels do not name the classes one by one, or `load_classifier` could not give the classifier
            back; nothing has been written then.
        CheckpointError: the folder cannot be written.

    Source: this course. Taught in ch06, section 6.7.
    """
    model = bare(classifier)
    if not isinstance(model, GPTClassifier):
        raise ValueError(f"found a {type(model).__name__}, not a GPTClassifier: use save_finetuned or save_model")
    require_labels(labels)
    if len(labels) != (n_classes := model.head.out_features):
        raise ValueError(f"found {len(labels)} labels for {n_classes} classes: give one for each class")
    if not isinstance(model, TextClassifier):
        model = _with_labels(model, tokenizer, labels, max_length)
    elif model.labels != list(labels):
        raise ValueError(f"labels are {list(labels)}, but the classifier's own are {model.labels}: give its own")
    return save_finetuned(folder, model, tokenizer, recipe)


def load_classifier(source: str | Path) -> tuple[TextClassifier, Any]:
    """Load a classifier in evaluation mode, with its tokenizer; it has `labels` and `classify(text)`.

    Args:
        source: the name of a run, or a folder made by `save_classifier`.

    Raises:
        CheckpointError: the folder is missing or damaged, or holds no classifier.

    Source: this course. Taught in ch06, section 6.7.
    """
    folder = find_model(source, "classifier")
    classifier, tokenizer = load_finetuned(folder)
    if not isinstance(classifier, TextClassifier):
        raise CheckpointError(f"{folder} holds a {type(classifier).__name__} and no classifier: use load_finetuned")
    return classifier, tokenizer


def _with_labels(
    classifier: GPTClassifier, tokenizer: Encodes, labels: Sequence[str], max_length: int
) -> TextClassifier:
    """The same weights as a TextClassifier."""
    about = about_gpt(classifier.model)
    refuse_other(classifier, lambda: GPTClassifier(build_gpt(about), len(labels), classifier.pad_id))
    named = TextClassifier(classifier.model, tokenizer, labels, max_length=max_length)
    named.head, named.pad_id = classifier.head, classifier.pad_id
    return named


def _about(model: nn.Module, tokenizer: StoredTokenizer) -> dict:
    """Describe a model by its class, its settings and the GPT inside, as JSON can hold them."""
    name = type(model).__name__
    if name not in _BUILDERS:
        return about_gpt(model)
    if not _same(getattr(model, "tokenizer", tokenizer), tokenizer):
        raise ValueError(f"the {name} reads with another tokenizer than the one given: give its own, model.tokenizer")
    settings = {key: getattr(model, key) for key in ("labels", "max_length", "pad_id") if hasattr(model, key)}
    opener = "load_classifier" if name == "TextClassifier" else "load_finetuned"
    return {"class": name, "opened_by": opener, "model": about_gpt(model.get_submodule("model")), **settings}


def _same(one: object, other: object) -> bool:
    """Whether two tokenizers of one class give the same ids."""
    keys = ("tokens", "merges", "special_tokens", "numbering", "_mergeable_ranks", "_special_tokens")
    return type(one) is type(other) and all(getattr(one, key, None) == getattr(other, key, None) for key in keys)


def _build(about: dict, tokenizer: StoredTokenizer) -> nn.Module:
    name = about.get("class", "TextClassifier" if "labels" in about else "GPTModel")  # older folders have no class
    if name not in _BUILDERS:
        return build_gpt(about)
    return _BUILDERS[name](build_gpt(about["model"]), tokenizer, about)


def _build_classifier(gpt: GPTModel, tokenizer: StoredTokenizer, about: dict) -> TextClassifier:
    length = about.get("max_length", MESSAGE_LENGTH)
    classifier = TextClassifier(gpt, tokenizer, about["labels"], max_length=length)
    classifier.pad_id = about["pad_id"]
    return classifier


_BUILDERS: dict[str, Callable[[GPTModel, StoredTokenizer, dict], nn.Module]] = {
    "TextClassifier": _build_classifier,
    "RewardModel": lambda gpt, tokenizer, about: RewardModel(gpt, tokenizer),
    "ActorCritic": lambda gpt, tokenizer, about: ActorCritic(gpt),
}
