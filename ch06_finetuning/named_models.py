"""Models by what people call them: the one that a fine-tuning begins as, and the one that answers.

A name is that of a run, a folder, or a published model. What comes with the course is called "story" where something is
made of it, and "shipped" where it answers.

Reference: Hewitt (2021), "Initializing new word embeddings for pretrained language models", for new chat tokens.
"""

from pathlib import Path
from typing import Any

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS, add_special_tokens, special_tokens_of
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.open_weights import is_pretrained, load_pretrained
from ch05_pretraining.published_tokenizers import PublishedTokenizer
from ch05_pretraining.saved_models import KINDS, find_model, load_story_gpt
from ch06_finetuning.assistant import Assistant, load_assistant
from ch06_finetuning.finetuned_models import TextClassifier, load_classifier
from ch06_finetuning.vocabulary import grow_vocabulary
from data.durable_folders import CheckpointError, settled
from data.paths import runs_dir

__all__ = ["find_own", "load_answering", "load_base", "ready_to_chat"]


def load_base(source: str | Path = "story") -> tuple[GPTModel, Any]:
    """Load a model to go on from: -> model, tokenizer.

    Args:
        source: "story" (the story GPT that comes with the course), the name of a run, a folder of the course's, or
            what `load_pretrained` opens.

    Raises:
        ValueError: there is no such model, it is a classifier, or its files are damaged; "shipped", which elsewhere
            means a story GPT or an assistant.

    Source: this course.
    """
    if source == "story":
        return load_story_gpt()
    if source == "shipped":
        assistant = find_model(source, "assistant")
        raise ValueError(f"two models come with the course: give 'story' for the GPT, or {assistant} for the assistant")
    place = find_own(source, "story_gpt", "assistant", "classifier") or source
    if not is_pretrained(place) and not Path(place).is_dir():
        runs = ", ".join(sorted({path.parent.name for kind in KINDS for path in runs_dir().glob(f"*/{kind}")}))
        raise ValueError(
            f"there is no model under {str(source)!r} to begin as: give story, smollm2, a folder, a .gguf file, or the "
            f"name of a run ({runs or 'there are none yet'})"
        )
    if (Path(place) / "classifier.safetensors").is_file():
        raise ValueError(f"{source} is a classifier, which nothing goes on from: take what it was made from, or story")
    return load_pretrained(place) if is_pretrained(place) else load_story_gpt(place)


def load_answering(source: str | Path = "shipped", dtype: str = "float32") -> Assistant | TextClassifier:
    """Load what answers: an assistant, see `load_assistant`, or else the classifier of a run or a folder.

    Args:
        source: "shipped", the name of a run, a folder, or a published model.
        dtype: see `load_assistant`.

    Raises:
        ValueError: there is no such model, or its files are damaged.

    Source: this course.
    """
    folder = find_own(source, "assistant", "classifier")
    if folder and (folder / "classifier.safetensors").is_file():
        return load_classifier(folder)[0]
    return load_assistant(folder or source, dtype)


def find_own(source: str | Path, *kinds: str) -> Path | None:
    """Find the folder of a run's model, of the first of these kinds that the run has; None where there is none.

    Args:
        source: the name of a run, or the folder of a run or of a model; published models are in no run.
        kinds: "story_gpt", "assistant" or "classifier".

    Source: this course.
    """
    for kind in () if is_pretrained(source) else kinds:
        try:
            folder = settled(find_model(source, kind))
        except CheckpointError:
            continue
        if (folder / "config.json").is_file():
            return folder
    return None


def ready_to_chat(model: GPTModel, tokenizer: Any) -> tuple[GPTModel, Any]:
    """Give a model of the course its chat tokens where it lacks them: -> model, tokenizer, in which it can be asked.

    Args:
        model: a GPTModel or ModernGPT.
        tokenizer: the one whose ids it reads.

    Raises:
        ValueError: a published model that holds no chat template.

    Source: Hewitt (2021), "Initializing new word embeddings for pretrained language models". For ch06, section 6.13.
    """
    if isinstance(tokenizer, PublishedTokenizer):
        if not tokenizer.has_chat_template:
            raise ValueError("the published model holds no chat template, so nothing says how it is asked: take one "
                             "that was trained to answer, or 'story'")  # fmt: skip
        return model, tokenizer
    if special_tokens_of(tokenizer).keys() >= set(SPECIAL_TOKENS):
        return model, tokenizer
    tokenizer = add_special_tokens(tokenizer)
    n_tokens = max(model.config.vocab_size, 1 + max(special_tokens_of(tokenizer).values()))
    return grow_vocabulary(model, n_tokens), tokenizer
