"""Rows of your own: split without leaks, learned from, and turned into a model in a folder.

Whoever tests on rows that stood in the training set, or on near copies of them, measures memory. So rows that share
most of their neighboring words stay together on one side, whatever side that is.

References: Broder (1997), "On the resemblance and containment of documents"; Bayardo, Ma and Srikant (2007), "Scaling
up all pairs similarity search".
"""

import math
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.hugging_face import export_hugging_face
from ch05_pretraining.pretraining import TrainConfig
from ch05_pretraining.published_tokenizers import PublishedTokenizer
from ch05_pretraining.run_state import History, Progress, TrainOptions
from ch05_pretraining.saved_models import save_model
from ch06_finetuning.assistant import Assistant, load_assistant, mark_assistant
from ch06_finetuning.bag_of_words import words_of
from ch06_finetuning.finetuned_models import MESSAGE_LENGTH, TextClassifier, load_classifier, save_classifier
from ch06_finetuning.finetuning import MessageDataset, create_message_loader, predict, train_assistant, train_classifier
from ch06_finetuning.instructions import InstructionDataset, create_instruction_loader
from ch06_finetuning.lora import apply_lora, merge_lora
from ch06_finetuning.metrics import Rate
from ch06_finetuning.named_models import load_base, ready_to_chat
from ch06_finetuning.recipes import ASSISTANT_CONFIG, CLASSIFIER_CONFIG, checkpoint_folder
from data.files import as_seen

__all__ = [
    "Examination", "OwnSettings", "RowSplit", "examine", "finetune_on_instructions", "finetune_on_messages",
    "fitting_notes", "longest_row", "near_copies", "row_key", "split_rows",
]  # fmt: skip

FEWEST_ROWS = 10
NEAR = 0.6  # of two texts' pairs of neighboring words: a text of ten words in which one was changed
COMPARED = 64
ROUNDING = 1e-9  # 0.6 * 5 may come out a little above 3
STEPS, MOST_EPOCHS = 300, 40  # a small table is read often, a large one once
PUBLISHED_STEPS, PUBLISHED_BATCH = 25, 4  # it answers already, and a step of it takes a second
ANSWERS_CONFIG = replace(ASSISTANT_CONFIG, learning_rate=1.8e-3, muon_learning_rate=6e-3)  # few rows, many times
SORTING_STEPS = 100  # labels are news to it
LARGEST_BATCH, LONGEST_ROW = 32, 1024
LORA_RANK, LORA_ALPHA, LORA_RATE = 8, 16.0, 1e-3


# ------------------------------------------------------------------------------------------------------ near copies


def near_copies(texts: Sequence[str], near: float = NEAR) -> list[list[int]]:
    """Find the texts that repeat one another, wholly or nearly: -> groups of row numbers, each of at least two.

    Two texts are near copies where their sets of pairs of neighboring words have a Jaccard similarity of at least
    `near`. Capital letters and punctuation do not count. A near copy of a near copy belongs to the same group. Of a
    pair of words that very many texts hold, each text is compared with the 64 before it, in the order of their length
    and words: so a hundred thousand texts take a minute or two, and a copy that shares nothing rarer may be missed.

    Args:
        texts: any strings.
        near: least share of common pairs, above 0 and at most 1; 1 finds the same pairs only.

    Raises:
        ValueError: `near` is outside its range, or one string stands for a list.

    Source: Broder (1997), section 2, and Bayardo, Ma and Srikant (2007), section 4.
    """
    if not 0 < near <= 1:
        raise ValueError(f"near={near} is no share: give a number above 0 and at most 1")
    if isinstance(texts, str):
        raise ValueError(f"found one string, {texts!r:.40}: give a list of texts")
    return [rows for rows in _groups([_key(text) for text in texts], near) if len(rows) > 1]


def _key(text: str) -> tuple[str, ...]:
    return tuple(words_of(text)) or (as_seen(text),)


def _groups(keys: list[tuple[str, ...]], near: float, answers: Sequence[Hashable] = ()) -> list[list[int]]:
    """Row numbers that belong together, in the order of their first rows.

    Where there are answers, keys that are near and not the same belong together only if they share an answer.
    """
    same: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        same[key].append(row)
    distinct = list(same)
    leader = list(range(len(distinct)))
    said = [{answers[row] for row in same[key]} if answers else {""} for key in distinct]
    pairs: list[frozenset] = [frozenset(zip(key, key[1:])) or frozenset([key]) for key in distinct]
    for one, other in _near_pairs(pairs, said, near, leader):
        leader[_root(leader, one)] = _root(leader, other)
    groups: dict[int, list[int]] = defaultdict(list)
    for number, key in enumerate(distinct):
        groups[_root(leader, number)] += same[key]
    return sorted(sorted(rows) for rows in groups.values())


def _root(leader: list[int], number: int) -> int:
    while leader[number] != number:
        leader[number] = number = leader[leader[number]]
    return number


def _near_pairs(sets: list[frozenset], said: list[set], near: float, leader: list[int]) -> Iterator[tuple[int, int]]:
    """Pairs of sets that are near, share an answer and are in no common group yet.

    Two such sets share at least one of their rarest members, so only sets that share one of these are compared.
    """
    counts: Counter[Hashable] = Counter(member for members in sets for member in members)
    holders: dict[Hashable, list[int]] = defaultdict(list)
    for number in sorted(range(len(sets)), key=lambda n: (len(sets[n]), sorted(sets[n]))):
        members, size = sets[number], len(sets[number])
        rare = sorted((m for m in members if counts[m] > 1), key=lambda m: (counts[m], m))
        n_alone = size - len(rare)  # members that no other set holds come first of all
        rarest = rare[: max(0, size - math.ceil(near * size - ROUNDING) + 1 - n_alone)]
        known = {n for member in rarest for n in holders[member][-COMPARED:]}
        for other in [n for n in known if len(sets[n]) >= near * size - ROUNDING]:
            if said[number] & said[other] and _root(leader, number) != _root(leader, other):
                common = len(members & sets[other])
                if common >= near * (size + len(sets[other]) - common) - ROUNDING:
                    yield number, other
        for member in rarest:
            holders[member].append(number)


# ------------------------------------------------------------------------------------------------------------- split


@dataclass(frozen=True)
class RowSplit:
    """Rows to learn from, to choose the best step by, and to test with; `notes` says in sentences what was found.

    Source: this course.
    """

    train: list[Any]
    validation: list[Any]
    test: list[Any]
    notes: tuple[str, ...] = ()


def split_rows(rows: Sequence, *, share: float = 0.15, seed: int = 0) -> RowSplit:
    """Split rows so that copies and near copies of a row stay on its side, each label shared out alike.

    Instructions whose questions are near and whose answers differ are no copies: only the same words are.

    Args:
        rows: messages with `.text` and `.label`, or instructions with `.prompt`; all answers of one talk stay together.
        share: share of the rows in the validation set, and in the test set, above 0 and below 0.5.
        seed: another number, another split.

    Raises:
        ValueError: `share` is out of range, there are too few rows, or too few that differ, or only one label.

    Source: this course, after Broder (1997) for what is nearly the same.
    """
    if not 0 < share < 0.5:
        raise ValueError(f"share={share} leaves a side empty: give a number above 0 and below 0.5")
    rows = list(rows)
    labels = Counter(_label(row) for row in rows)
    if len(labels) == 1 and "" not in labels:
        raise ValueError(f"all {len(rows):,} rows have the label {next(iter(labels))!r}: give rows of at least two")
    if len(rows) < FEWEST_ROWS:
        raise ValueError(f"found {len(rows)} rows; expected at least {FEWEST_ROWS}, better a hundred: give more")
    answers = [] if labels.keys() - {""} else [_key(row.history[0][1] if row.history else row.response) for row in rows]
    groups = _groups([_key(_opening(row)) for row in rows], NEAR, answers)
    sides = _sides(groups, [_label(row) for row in rows], share, random.Random(f"split of own rows {seed}"))
    if len({_label(rows[n]) for n in sides["test"]}) < min(2, len(labels)):
        if len(groups) >= FEWEST_ROWS and not answers:
            raise ValueError(
                f"found {len(labels):,} labels for {len(groups):,} rows that differ, and fewer than two labels have "
                "three of them, one to learn from, one to choose by and one to test with: give more rows of each"
            )
        raise ValueError(
            f"found {len(rows):,} rows, of which only {len(groups):,} differ in more than a word or two, too few to "
            "learn from some and test with others: give more rows that differ"
            + ("" if answers else ", three at least of each label")
        )
    train, validation, test = ([rows[n] for n in sorted(sides[side])] for side in ("train", "validation", "test"))
    return RowSplit(train, validation, test, tuple(_notes(rows, groups, sides)))


def _label(row: Any) -> str:
    return getattr(row, "label", "")


def _opening(row: Any) -> str:
    """What a row is known by: a message's text, or the first thing that was asked."""
    history = getattr(row, "history", ())
    return history[0][0] if history else row.text if hasattr(row, "text") else row.prompt


def _sides(groups: list[list[int]], labels: list[str], share: float, rng: random.Random) -> dict[str, list[int]]:
    """Give whole groups to the test and the validation set until each label has its share there."""
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for rows in groups:
        by_label[labels[rows[0]]].append(rows)
    sides: dict[str, list[int]] = {"test": [], "validation": [], "train": []}
    for _, own in sorted(by_label.items()):
        rng.shuffle(own)
        waiting = sorted(own, key=len) if len(own) < FEWEST_ROWS else own  # few groups: the largest is learned from
        wanted = max(1, round(share * sum(map(len, own))))
        for side in ("test", "validation") if len(own) >= 3 else ():
            taken, waiting = _up_to(waiting, wanted, len(waiting) - (2 if side == "test" else 1))
            sides[side] += [n for rows in taken for n in rows]
        sides["train"] += [n for rows in waiting for n in rows]
    return sides


def _up_to(groups: list[list[int]], wanted: int, most: int) -> tuple[list[list[int]], list[list[int]]]:
    """The first groups, `most` at most, that hold no more rows than are wanted, or the smallest; and the others."""
    taken: list[list[int]] = []
    others: list[list[int]] = []
    room = max(wanted, min(map(len, groups)))
    for rows in groups:
        fits = len(rows) <= room and len(taken) < most
        (taken if fits else others).append(rows)
        room -= len(rows) * fits
    return taken, others


def _notes(rows: list, groups: list[list[int]], sides: dict[str, list[int]]) -> Iterator[str]:
    if copied := [group for group in groups if len(group) > 1]:
        n_more, first = sum(map(len, copied)) - len(copied), copied[0]
        pair = " and ".join(repr(_opening(rows[n])[:60]) for n in first[:2])
        yield (
            f"{n_more:,} of {len(rows):,} rows repeat another, wholly or nearly (rows {first[0] + 1} and "
            f"{first[1] + 1}: {pair}): each stays on one side with its copies"
        )
    if torn := [group for group in groups if len({_label(rows[n]) for n in group}) > 1]:
        labels = " and ".join(sorted({_label(rows[n]) for n in torn[0]}))
        example = f"the first, {_opening(rows[torn[0][0]])[:60]!r}, is {labels}"
        yield f"nearly the same text has more than one label, {len(torn):,} times ({example}): look which is right"
    for label in sorted({_label(row) for row in rows} - {_label(rows[n]) for n in sides["test"]}):
        yield f"the label {label!r} has fewer than three rows that differ: they are learned from and not tested"


# ------------------------------------------------------------------------------------------------------------- learn


@dataclass(frozen=True)
class OwnSettings:
    """What decides a fine-tuning on own rows beside the rows.

    Args:
        base: "story", "smollm2", the name of a run, a folder, or a .gguf file.
        lora: learn thin corrections, which are merged at the end; a published model always does.
        epochs: times that each row is read, at least 1; None suits the number of rows.
        seed: order of the rows.

    Source: this course.
    """

    base: str | Path = "story"
    lora: bool = False
    epochs: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Examination:
    """What a model answered to rows, and which of its answers are right.

    Source: this course.
    """

    rows: list[Any]
    answers: list[str]
    right: list[bool]

    @property
    def rate(self) -> Rate:
        return Rate(sum(self.right), len(self.right))

    @property
    def errors(self) -> list[tuple[Any, str]]:
        return [(row, answer) for row, answer, right in zip(self.rows, self.answers, self.right) if not right]


def examine(model: Assistant | TextClassifier, rows: Sequence, *, max_new_tokens: int = 100) -> Examination:
    """Let a classifier sort messages, or an assistant answer instructions, and mark every row.

    Args:
        model: what `load_answering` gave.
        rows: messages for a classifier, instructions for an assistant; at least one.
        max_new_tokens: where an assistant's answer is cut off, at least 1.

    Raises:
        ValueError: there are no rows, or they are not of the kind that the model reads.

    Source: this course. For ch06, section 6.11.
    """
    rows, sorts = list(rows), isinstance(model, TextClassifier)
    if not rows or sorts != hasattr(rows[0], "label"):
        wanted = "messages with labels (TSV or CSV)" if sorts else "instructions with answers (.json or .jsonl)"
        raise ValueError(f"found {'no rows' if not rows else 'rows of another kind'}; expected {wanted} for this model")
    if not isinstance(model, TextClassifier):
        marks = mark_assistant(model, rows, max_new_tokens=max_new_tokens, batch_size=16)
        return Examination(rows, marks.answers, marks.right)
    known = [*model.labels, *sorted({row.label for row in rows} - {*model.labels})]
    loader = create_message_loader(
        rows, model.tokenizer, known, batch_size=64, max_length=model.max_length, shuffle=False
    )
    answers = [known[n] for n in predict(model, loader)[1].argmax(dim=-1).tolist()]
    return Examination(rows, answers, [row.label == answer for row, answer in zip(rows, answers)])


def row_key(row: Any) -> tuple[str, ...]:
    """Give what two rows share that are the same but for capital letters and punctuation.

    Args:
        row: a message or an instruction.

    Source: this course.
    """
    return _key(_opening(row))


def finetune_on_messages(
    folder: str | Path, split: RowSplit, settings: OwnSettings = OwnSettings(), *,
    on_step: Callable[[Progress], None] | None = None, resume: bool = True,
) -> TextClassifier:  # fmt: skip
    """Teach a copy of a GPT to sort messages of your own, and save it.

    The weights of the lowest validation loss are kept. A published model learns by LoRA, which is merged, and what
    stands after the last step is kept. `load_classifier(folder)` opens the classifier again.

    Args:
        folder: where the classifier goes; checkpoints wait beside it until it is finished.
        split: what `split_rows` gave for messages.
        settings: the base and how it learns.
        on_step: called with a Progress after every step.
        resume: go on where an earlier call stopped; a finished classifier is only loaded.

    Raises:
        ValueError: the base is missing or damaged, or a row cannot be read.

    Source: Radford et al. (2018), section 3.2, and Hu et al. (2021), section 4.1, for LoRA.
    """
    folder = Path(folder)
    if not (resume and (folder / "manifest.json").is_file()):
        model, tokenizer = load_base(settings.base)
        published = isinstance(tokenizer, PublishedTokenizer)
        labels = sorted({row.label for row in split.train})
        classifier = TextClassifier(model, tokenizer, labels)
        batch_size = _batch_size(len(split.train), published)
        options: Any = {"batch_size": batch_size, "max_length": classifier.max_length}
        train_loader = create_message_loader(split.train, tokenizer, labels, seed=settings.seed, **options)
        val_loader = create_message_loader(split.validation, tokenizer, labels, shuffle=False, **options)
        settings = replace(settings, lora=settings.lora or published)
        config = _config(CLASSIFIER_CONFIG, settings, len(train_loader), SORTING_STEPS if published else STEPS)
        with _taught(classifier, settings, folder, resume, on_step) as kept:
            history = train_classifier(classifier, train_loader, val_loader, config, **kept)
        recipe = _recipe(settings, config, batch_size, history)
        save_classifier(folder, classifier, tokenizer, labels, recipe, max_length=classifier.max_length)
        shutil.rmtree(checkpoint_folder(folder, resume=True), ignore_errors=True)
    return load_classifier(folder)[0]


def finetune_on_instructions(
    folder: str | Path, split: RowSplit, settings: OwnSettings = OwnSettings(), *,
    on_step: Callable[[Progress], None] | None = None, resume: bool = True,
) -> Assistant:  # fmt: skip
    """Teach a copy of a GPT to answer as your own records do, and save it.

    A model of the course is saved by `save_model`, with the weights of the lowest validation loss. A published model
    learns by LoRA, which is merged, and is saved as a Hugging Face folder. `load_assistant(folder)` opens both.

    Args:
        folder: where the assistant goes; checkpoints wait beside it until it is finished.
        split: what `split_rows` gave for instructions.
        settings: the base and how it learns.
        on_step: called with a Progress after every step.
        resume: go on where an earlier call stopped; a finished assistant is only loaded.

    Raises:
        ValueError: the base is missing, damaged or has no way to be asked, or a prompt is too long for it.

    Source: Ouyang et al. (2022), section 3.5, and Hu et al. (2021), section 4.1, for LoRA.
    """
    folder = Path(folder)
    if not (resume and (folder / "config.json").is_file()):
        model, tokenizer = ready_to_chat(*load_base(settings.base))
        published = isinstance(tokenizer, PublishedTokenizer)
        batch_size = _batch_size(len(split.train), published)
        options: Any = {"batch_size": batch_size, "max_length": longest_row(model)}
        train_loader = create_instruction_loader(split.train, tokenizer, seed=settings.seed, **options)
        val_loader = create_instruction_loader(split.validation, tokenizer, shuffle=False, **options)
        settings = replace(settings, lora=settings.lora or published)
        config = _config(ANSWERS_CONFIG, settings, len(train_loader), PUBLISHED_STEPS if published else STEPS)
        with _taught(model, settings, folder, resume, on_step) as kept:
            history = train_assistant(model, train_loader, val_loader, config, **kept)
        if published:
            export_hugging_face(model, tokenizer, folder)
        else:
            save_model(folder, model, tokenizer, _recipe(settings, config, batch_size, history))
        shutil.rmtree(checkpoint_folder(folder, resume=True), ignore_errors=True)
    return load_assistant(folder)


@contextmanager
def _taught(
    model: nn.Module, settings: OwnSettings, folder: Path, resume: bool, on_step: Callable[[Progress], None] | None
) -> Iterator[TrainOptions]:
    """Give the options of a training; thin corrections, where they learn, are added to the weights at its end."""
    if settings.lora:
        apply_lora(model, LORA_RANK, LORA_ALPHA, seed=settings.seed)
    yield {"checkpoint_dir": checkpoint_folder(folder, resume), "resume": resume, "on_step": on_step}
    merge_lora(model)


def fitting_notes(rows: Sequence, model: GPTModel, tokenizer: Any) -> list[str]:
    """Say which rows a model cannot read to their end; refuse, by its number, one that it cannot learn from at all.

    Args:
        rows: all messages or instructions, before they are split.
        model: the base, ready to chat where the rows are instructions.
        tokenizer: the one whose ids it reads.

    Raises:
        ValueError: a prompt leaves no room for an answer.

    Source: this course.
    """
    if hasattr(rows[0], "label"):
        labels, longest = sorted({row.label for row in rows}), min(MESSAGE_LENGTH, model.config.context_length)
        n_cut = MessageDataset(rows, tokenizer, labels, longest).n_truncated
        what = f"texts have more than {longest} tokens, of which the first are read"
    else:
        longest = longest_row(model)
        n_cut = InstructionDataset(rows, tokenizer, longest).n_truncated
        what = f"records have more than {longest} tokens, question and answer together, and lose the answer's end"
    return [f"{n_cut:,} of {len(rows):,} {what}"] if n_cut else []


def longest_row(model: GPTModel) -> int:
    """Say how many tokens of a record are learned from: the model's context, or less where that is very long.

    Args:
        model: any GPT.

    Source: this course.
    """
    return min(model.config.context_length, LONGEST_ROW)


def _batch_size(n_rows: int, published: bool) -> int:
    return min(PUBLISHED_BATCH, n_rows) if published else max(1, min(LARGEST_BATCH, n_rows // 4))


def _config(recipe: TrainConfig, settings: OwnSettings, n_batches: int, steps: int = STEPS) -> TrainConfig:
    """A recipe of the course for so many steps as the rows need, with AdamW where thin corrections learn."""
    torch.manual_seed(settings.seed)
    epochs = settings.epochs or min(MOST_EPOCHS, max(1, round(steps / n_batches)))
    n_steps = epochs * n_batches
    config = replace(
        recipe, max_steps=n_steps, warmup_steps=min(recipe.warmup_steps, n_steps // 10), precision="float32",
        eval_every=max(1, n_steps // 10), seed=settings.seed, keep_best=True,
    )  # fmt: skip
    thin: Any = {"optimizer": "adamw", "learning_rate": LORA_RATE, "keep_best": False, "eval_every": n_steps}
    return replace(config, **thin) if settings.lora else config


def _recipe(settings: OwnSettings, config: TrainConfig, batch_size: int, history: History) -> dict:
    """How a model was made, as its folder keeps it."""
    about = {"base": str(settings.base), "lora": settings.lora, "batch_size": batch_size}
    return about | {"training": asdict(config), "val_losses": history.val_losses}
