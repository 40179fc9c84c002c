"""The two recipes of `python course.py run`: from a pretrained story GPT to a classifier and to an assistant.

Steps, batches and learning rates are fixed numbers, tuned on the validation split and reported on the test split. The
order of the rows is a function of the seed, so an interrupted run that is started again ends in the same weights.

The assistant learns in two phases: first the lesson *who is who* (`lesson.py`), then questions in all wordings. Tried
without the lesson: in as many steps it stayed at chance where the question is which of two people is meant. With a
lesson that asked for yes or no only among all else, answers of yes or no stayed at chance; they need their own stages.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from ch02_text_data.any_tokenizer import Encodes, Tokenizer, pad_id_of
from ch02_text_data.datasets import StoryDataset
from ch02_text_data.encoding_files import KeptTokenizer
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.machine import choose_device
from ch05_pretraining.pretraining import TrainConfig
from ch05_pretraining.run_state import Progress
from ch05_pretraining.saved_models import load_model, save_model
from ch05_pretraining.story_scores import StoryScores, evaluate_stories
from ch06_finetuning.assistant import Assistant, MarkReport, mark_assistant
from ch06_finetuning.bag_of_words import BagOfWords
from ch06_finetuning.finetuned_models import MESSAGE_LENGTH, TextClassifier, load_classifier, save_classifier
from ch06_finetuning.finetuning import (
    GPTClassifier,
    create_message_loader,
    predict,
    require_labels,
    train_assistant,
    train_classifier,
)
from ch06_finetuning.instructions import create_instruction_loader, prompt_ids
from ch06_finetuning.lesson import WHO_IS_WHO, LessonBatches, mark_lesson
from ch06_finetuning.metrics import ClassificationReport, Rate, classification_report
from data.by_hand import load_messages_by_hand, load_questions_by_hand
from data.loaders import load_instructions, load_messages, load_stories
from data.story_world.engine import Story
from data.story_world.marking import Instruction
from data.story_world.message_task import MESSAGE_LABELS, Message

__all__ = [
    "ASSISTANT_CONFIG", "CLASSIFIER_CONFIG", "LESSON_CONFIG", "baseline_report", "classifier_report",
    "finetune_assistant", "finetune_classifier",
]  # fmt: skip

CLASSIFIER_CONFIG = TrainConfig(
    max_steps=400, learning_rate=2e-3, warmup_steps=20, optimizer="muon", muon_learning_rate=5e-3, weight_decay=0.05,
    schedule="linear", eval_every=100,
)  # fmt: skip
CLASSIFIER_BATCH = 32
LESSON_CONFIG = TrainConfig(
    max_steps=sum(stage.n_steps for stage in WHO_IS_WHO), learning_rate=3e-3, warmup_steps=50, optimizer="muon",
    muon_learning_rate=1e-2, weight_decay=0.0, schedule="linear", decay_fraction=0.3, precision="auto",
    products="auto", eval_every=300,
)  # fmt: skip
LESSON_BATCH = 32
ASSISTANT_CONFIG = TrainConfig(
    max_steps=3400, learning_rate=2.7e-3, warmup_steps=50, optimizer="muon", muon_learning_rate=9e-3,
    weight_decay=0.05, schedule="linear", decay_fraction=0.7, precision="auto", products="auto", eval_every=500,
)  # fmt: skip
ASSISTANT_BATCH, ASSISTANT_ROWS = 24, 73_500  # as many rows as the steps read once, beside the stories
LONGEST_ANSWER = 200  # tokens, when it is marked: a story on request is long
REPLAY_SHARE, REPLAY_BATCH, REPLAY_STORIES = 0.1, 8, 2000
QUICK_STEPS = 20


@dataclass(frozen=True)
class ClassifierRun:
    """A fine-tuned classifier with its scores on the test split and on messages by hand, and the baseline's.

    Source: this course.
    """

    classifier: TextClassifier
    tokenizer: KeptTokenizer
    report: ClassificationReport
    baseline: ClassificationReport
    by_hand: ClassificationReport


@dataclass(frozen=True)
class AssistantRun:
    """A fine-tuned assistant with its marks on three kinds of questions, what is left of the lesson, and story scores.

    Attributes:
        marks: on the test split, in the wordings of training.
        new_wordings: on questions in other people's wordings.
        by_hand: on questions that other people wrote as a whole.
        lesson: how often it knows who is who, by form of the statement.

    Source: this course.
    """

    assistant: Assistant
    marks: MarkReport
    new_wordings: MarkReport
    stories_before: StoryScores
    stories_after: StoryScores
    by_hand: MarkReport
    lesson: dict[str, Rate]


def finetune_classifier(
    folder: str | Path, base: str | Path, *, seed: int = 0, quick: bool = False,
    on_step: Callable[[Progress], None] | None = None, resume: bool = True, device: str = "cpu",
) -> ClassifierRun:  # fmt: skip
    """Turn a pretrained model into a classifier of messages and save it.

    Args:
        folder: where the classifier goes; checkpoints wait beside it until it is finished.
        base: folder of the pretrained model.
        seed: order of the rows.
        quick: a few steps only, to see the chain work.
        on_step: called with a Progress after every step.
        resume: go on where an earlier call stopped; a finished classifier is only loaded.
        device: where to train: "cpu", "cuda", "mps" or "auto".

    Raises:
        ValueError: the base is missing or damaged.

    Source: Radford et al. (2018), section 3.2. Taught in ch06, section 6.6.
    """
    folder = Path(folder)
    train_rows, test_rows = load_messages("train"), load_messages("test")
    if not (resume and (folder / "manifest.json").is_file()):
        _train_and_save_classifier(folder, base, train_rows, seed, quick, on_step, resume, device)
    classifier, tokenizer = load_classifier(folder)
    report = classifier_report(classifier, tokenizer, test_rows)
    by_hand = classifier_report(classifier, tokenizer, load_messages_by_hand())
    return ClassifierRun(classifier, tokenizer, report, baseline_report(train_rows, test_rows), by_hand)


def _train_and_save_classifier(
    folder: Path, base: str | Path, train_rows: list[Message], seed: int, quick: bool,
    on_step: Callable[[Progress], None] | None, resume: bool, device: str,
) -> None:  # fmt: skip
    place = choose_device(device)
    model, tokenizer = load_model(base)
    config = _config(CLASSIFIER_CONFIG, seed, quick)
    create_loader = partial(
        create_message_loader, tokenizer=tokenizer, labels=MESSAGE_LABELS, batch_size=CLASSIFIER_BATCH,
        max_length=MESSAGE_LENGTH,
    )  # fmt: skip
    train_loader = create_loader(train_rows, seed=seed)
    val_loader = create_loader(load_messages("validation")[: 64 if quick else None], shuffle=False)
    classifier = GPTClassifier(model, len(MESSAGE_LABELS), pad_id_of(tokenizer)).to(place)
    checkpoints = checkpoint_folder(folder, resume)
    history = train_classifier(
        classifier, train_loader, val_loader, config, checkpoint_dir=checkpoints, resume=resume, on_step=on_step
    )
    recipe = {"classifier": _plain(config), "batch_size": CLASSIFIER_BATCH, "val_losses": history.val_losses}
    save_classifier(folder, classifier.cpu(), tokenizer, MESSAGE_LABELS, recipe, max_length=MESSAGE_LENGTH)
    shutil.rmtree(checkpoints, ignore_errors=True)


def classifier_report(
    classifier: GPTClassifier, tokenizer: Encodes, messages: Iterable[Message], labels: Sequence[str] | None = None, *,
    max_length: int | None = None,
) -> ClassificationReport:  # fmt: skip
    """Classify messages and compare with their labels: -> ClassificationReport.

    Labels of the messages that the classifier never learned get rows of their own, in which nothing is right.

    Args:
        classifier: a trained classifier.
        tokenizer: the tokenizer it was trained with.
        messages: objects with `.text` and `.label`, such as `Message`s.
        labels: its classes, a list in the order of its training; None takes the classifier's own `labels` where it has
            them, and the four of the course where the messages have no others.
        max_length: longest message in tokens, as in its training; None takes the classifier's own, or 128.

    Raises:
        ValueError: there are no messages, or the labels have no order or are not those of the classifier.

    Source: this course. Taught in ch06, section 6.6.
    """
    messages, own = list(messages), getattr(classifier, "labels", None) if labels is None else labels
    classes = MESSAGE_LABELS if own is None else own
    require_labels(classes)
    unseen = _labels_of(messages, "messages", known=classes)
    if unseen and own is None:
        raise ValueError(f"the messages have the label {unseen[0]!r}: pass labels=…, in the order of the training")
    longest = getattr(classifier, "max_length", min(MESSAGE_LENGTH, classifier.model.config.context_length))
    known = [*classes, *unseen]
    loader = create_message_loader(
        messages, tokenizer, known, batch_size=64, max_length=max_length or longest, shuffle=False
    )
    targets, probabilities = predict(classifier, loader)
    if (n_classes := probabilities.shape[1]) != len(classes):
        raise ValueError(
            f"the classifier has {n_classes} classes, but labels={list(classes)}: pass one label for each class"
        )
    return classification_report(targets, probabilities.argmax(dim=-1), known, unseen=unseen)


def baseline_report(train_rows: Iterable[Message], test_rows: Iterable[Message]) -> ClassificationReport:
    """Score a bag of words, fitted on the training messages: -> ClassificationReport.

    The classes are the labels of the training messages. Other labels of the test messages get rows of their own, in
    which nothing is right.

    Args:
        train_rows: objects with `.text` and `.label`, of at least two labels.
        test_rows: the same, at least one.

    Raises:
        ValueError: there are no test rows, fewer than two labels to learn, or no word that two training texts share.

    Source: this course. Taught in ch06, section 6.6.
    """
    train_rows, test_rows = list(train_rows), list(test_rows)
    labels = _labels_of(train_rows, "train_rows")
    if len(labels) < 2:
        raise ValueError(f"all of train_rows have the label {labels[0]!r}: pass rows of at least two labels")
    unseen = _labels_of(test_rows, "test_rows", known=labels)
    classes = {label: index for index, label in enumerate([*labels, *unseen])}
    bag = BagOfWords(len(labels)).fit([row.text for row in train_rows], [classes[row.label] for row in train_rows])
    predictions = bag.predict([row.text for row in test_rows])
    return classification_report([classes[row.label] for row in test_rows], predictions, [*classes], unseen=unseen)


def _labels_of(rows: list[Message], name: str, known: Iterable[str] = ()) -> list[str]:
    """The labels of some rows without those that are known: the course's own in chapter 6's order, others sorted."""
    if not rows:
        raise ValueError(f"{name} is empty: pass at least one row")
    found = {row.label for row in rows} - set(known)
    ours = [label for label in MESSAGE_LABELS if label in found]
    return [*ours, *sorted(found - set(ours), key=str)]


def finetune_assistant(
    folder: str | Path, base: str | Path, *, seed: int = 0, quick: bool = False,
    on_step: Callable[[Progress], None] | None = None, resume: bool = True, device: str = "cpu",
) -> AssistantRun:  # fmt: skip
    """Turn a pretrained model into an assistant and save it: first the lesson *who is who*, then questions.

    Args:
        folder: where the assistant goes; checkpoints wait beside it until it is finished.
        base: folder of the pretrained model.
        seed: order of the rows.
        quick: a few steps only, to see the chain work.
        on_step: called with a Progress after every step; it counts the steps of all phases.
        resume: go on where an earlier call stopped; a finished assistant is only loaded.
        device: where to train: "cpu", "cuda", "mps" or "auto".

    Raises:
        ValueError: the base is missing or damaged.

    Source: Ouyang et al. (2022), section 3.5. Taught in ch06, section 6.11.
    """
    folder = Path(folder)
    if not (resume and (folder / "manifest.json").is_file()):
        _train_and_save_assistant(folder, base, seed, quick, on_step, resume, device)
    model, tokenizer = load_model(folder)
    assistant = Assistant(model, tokenizer)
    marks, new_wordings = (
        mark_assistant(assistant, load_instructions(split)[: 60 if quick else None], max_new_tokens=LONGEST_ANSWER)
        for split in ("test", "new_wordings")
    )
    stories = load_stories("validation", n=20 if quick else 200)
    before = evaluate_stories(*load_model(base), stories)
    after = evaluate_stories(model, tokenizer, stories)
    questions = load_questions_by_hand()[: 20 if quick else None]
    by_hand = mark_assistant(assistant, questions, max_new_tokens=LONGEST_ANSWER)
    lesson = mark_lesson(model, tokenizer, n_lessons=20 if quick else 200)
    return AssistantRun(assistant, marks, new_wordings, before, after, by_hand, lesson)


def _train_and_save_assistant(
    folder: Path, base: str | Path, seed: int, quick: bool, on_step: Callable[[Progress], None] | None, resume: bool,
    device: str,
) -> None:  # fmt: skip
    place = choose_device(device)
    model, tokenizer = load_model(base)
    checkpoints = checkpoint_folder(folder, resume)
    phases: dict[str, tuple[TrainConfig, Callable[..., Loaders]]] = {
        "lesson": (LESSON_CONFIG, _lesson_loaders),
        "assistant": (ASSISTANT_CONFIG, _question_loaders),
    }
    recipe: dict = {"lesson_batch_size": LESSON_BATCH, "stages": [asdict(stage) for stage in WHO_IS_WHO],
                    "batch_size": ASSISTANT_BATCH, "replay_share": REPLAY_SHARE,
                    "replay_stories": REPLAY_STORIES}  # fmt: skip
    configs = {name: _config(config, seed, quick) for name, (config, _) in phases.items()}
    done, total = 0, sum(config.max_steps for config in configs.values())
    for name, (_, loaders) in phases.items():
        history = train_assistant(
            model.to(place), *loaders(model, tokenizer, seed, quick), configs[name],
            checkpoint_dir=checkpoints / name, resume=resume, on_step=_counted_on(on_step, done, total),
        )  # fmt: skip
        recipe |= {name: _plain(configs[name]), f"{name}_val_losses": history.val_losses}
        done += configs[name].max_steps
    save_model(folder, model.cpu(), tokenizer, recipe, dtype="float16")
    shutil.rmtree(checkpoints, ignore_errors=True)


Loaders = tuple[Iterable, Iterable]  # of rows to learn from, and of rows to be graded on


def _lesson_loaders(model: GPTModel, tokenizer: Tokenizer, seed: int, quick: bool) -> Loaders:
    """The lesson, with stories slipped in, and what it has come to in the end, in other texts."""
    context = model.config.context_length
    create = partial(LessonBatches, tokenizer, batch_size=LESSON_BATCH, max_length=context)
    stories = StoryDataset(_replayed(quick), tokenizer, context)
    return create(stories=stories, seed=seed), create([replace(WHO_IS_WHO[-1], n_steps=4)], seed=-1)


def _question_loaders(model: GPTModel, tokenizer: Tokenizer, seed: int, quick: bool) -> Loaders:
    """Questions with stories slipped in, and questions to be graded on; every answer of a talk is graded."""
    context = model.config.context_length
    create = partial(
        create_instruction_loader, tokenizer=tokenizer, batch_size=ASSISTANT_BATCH, max_length=context,
        grade_history=True,
    )  # fmt: skip
    rows = load_instructions("train", n=1000 if quick else ASSISTANT_ROWS)
    train_loader = create(
        _that_fit(rows, tokenizer, context), seed=seed, stories=_replayed(quick), replay_share=REPLAY_SHARE,
        replay_batch=REPLAY_BATCH,
    )  # fmt: skip
    validation = _that_fit(load_instructions("validation"), tokenizer, context)
    return train_loader, create(validation[: 64 if quick else None], shuffle=False)


def _replayed(quick: bool) -> list[Story]:
    return load_stories("train", n=200 if quick else REPLAY_STORIES)


def _that_fit(records: list[Instruction], tokenizer: Tokenizer, n_tokens: int) -> list[Instruction]:
    """The records that leave room for an answer: all of them in the context of the recipe."""
    return [record for record in records if len(prompt_ids(tokenizer, record.prompt, record.history)) < n_tokens]


def _counted_on(on_step: Callable[[Progress], None] | None, done: int, total: int) -> Callable[[Progress], None] | None:
    """Count the steps of a phase among those of the whole training, and the time that is left at its pace."""
    if on_step is None:
        return None

    def count(progress: Progress) -> None:
        left, more = progress.max_steps - progress.step, total - done - progress.max_steps
        seconds = progress.seconds_left / left * (left + more) if left else 0.0
        on_step(replace(progress, step=done + progress.step, max_steps=total, seconds_left=seconds))

    return count


def _config(config: TrainConfig, seed: int, quick: bool) -> TrainConfig:
    torch.manual_seed(seed)
    fixed = {"max_steps": QUICK_STEPS, "warmup_steps": 5, "precision": "float32", "products": "linear"}
    changes = {"seed": seed} | (fixed if quick else {})
    return TrainConfig(**{**_plain(config), **changes})


def _plain(config: TrainConfig) -> dict:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def checkpoint_folder(folder: Path, resume: bool) -> Path:
    """Say where checkpoints wait: beside the finished folder, which appears only when it is complete.

    Args:
        folder: where the finished model goes.
        resume: False removes what an earlier call has left.

    Source: this course.
    """
    checkpoints = folder.with_name(f"{folder.name}_checkpoints")
    if not resume:
        shutil.rmtree(checkpoints, ignore_errors=True)
    return checkpoints
