"""The lesson *who is who*, which an assistant learns before any question: few names first, then more and more.

A model that was asked about many names from the beginning stayed at chance between the two people of a text. With four
names in one-sentence introductions it finds the rule, and from there the lesson widens at fixed steps, so a run that is
resumed reads the same rows. The words come from `data/story_world/who_is_who.py`.

References: Bengio et al. (2009), "Curriculum learning".
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ch02_text_data.any_tokenizer import Tokenizer, encode_text
from ch02_text_data.batches import IGNORE_INDEX, pad_batch
from ch02_text_data.datasets import StoryDataset
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import in_mode, to_device_of
from ch06_finetuning.metrics import Rate
from data.story_world.tasks import PortableRandom
from data.story_world.who_is_who import Lesson, write_lesson

__all__ = ["WHO_IS_WHO", "LessonBatches", "LessonStage", "lesson_row", "mark_lesson"]

REPLAY_EVERY = 10  # one batch of so many is of stories
Span = tuple[str, int, int]  # form of a statement, first position of its word, position behind it


@dataclass(frozen=True)
class LessonStage:
    """How wide the lesson is for a number of steps.

    Args:
        n_steps: batches, at least 1.
        n_names: names, kinds of animals, and feelings, that may come.
        plain_share: share of the rows that introduce everybody in one short sentence, 0 to 1.
        part: what is learned, one of `LESSON_PARTS`; see `write_lesson`.

    Source: this course, after Bengio et al. (2009). For ch06, section 6.10.
    """

    n_steps: int
    n_names: int
    plain_share: float = 0.0
    part: str = "people"


WHO_IS_WHO = (
    LessonStage(250, 4, 1.0), LessonStage(80, 4), LessonStage(60, 8), LessonStage(60, 32), LessonStage(150, 80),
    LessonStage(130, 4, 1.0, "kinds"), LessonStage(50, 6, 1.0, "kinds"), LessonStage(50, 8, 0.8, "kinds"),
    LessonStage(50, 12, 0.6, "kinds"), LessonStage(50, 16, 0.4, "kinds"), LessonStage(50, 32, 0.3, "kinds"),
    LessonStage(100, 80, 0.3, "kinds"), LessonStage(400, 80, 0.0, "feelings"), LessonStage(60, 4, 0.0, "yes or no"),
    LessonStage(60, 8, 0.0, "yes or no"), LessonStage(150, 80, 0.0, "yes or no"), LessonStage(700, 80, 0.0, "scenes"),
)  # fmt: skip


def _lesson_of(stage: LessonStage, rng: PortableRandom) -> Lesson:
    plain = rng.random() < stage.plain_share
    return write_lesson(rng, stage.n_names, plain=plain, part=stage.part)


def lesson_row(lesson: Lesson, tokenizer: Tokenizer) -> tuple[list[int], list[Span]]:
    """Write a lesson as one row of ids, and say where the words stand that are to be known.

    Args:
        lesson: a text with statements about it.
        tokenizer: the one of the model that learns.

    Source: this course. For ch06, section 6.10.
    """
    ids, spans = encode_text(tokenizer, lesson.text), []
    for form, begins, word in lesson.statements:
        ids += encode_text(tokenizer, begins)
        known = encode_text(tokenizer, word)
        spans.append((form, len(ids), len(ids) + len(known)))
        ids += [*known, *encode_text(tokenizer, ".")]
    return ids, spans


class LessonBatches:
    """Batches of the lesson *who is who*, in which only the words that end its statements are graded.

    Args:
        tokenizer: the one of the model that learns.
        stages: how wide the lesson is, one stage after the other.
        batch_size: rows of a batch.
        max_length: longest row in tokens; a longer one loses its end.
        stories: rows (ids (T,), targets (T,)) of earlier work; every tenth batch is of them.
        replay_batch: rows of such a batch, 1 to the number of stories.
        seed: batch n is a function of (seed, n) alone.

    Shape:
        batches of ids (B, T), targets (B, T).

    Raises:
        ValueError: no stage, or one without steps, or more stories for a batch than there are.

    Source: this course, after Bengio et al. (2009). For ch06, section 6.10.
    """

    start = 0

    def __init__(
        self, tokenizer: Tokenizer, stages: Sequence[LessonStage] = WHO_IS_WHO, *, batch_size: int = 32,
        max_length: int = 320, stories: Sequence[tuple[Tensor, Tensor]] | StoryDataset = (), replay_batch: int = 8,
        seed: int = 0,
    ):  # fmt: skip
        if not stages or min(stage.n_steps for stage in stages) < 1:
            raise ValueError(f"the stages {list(stages)} leave nothing to learn: give each at least one step")
        if len(stories) and not 1 <= replay_batch <= len(stories):
            raise ValueError(
                f"replay_batch={replay_batch} does not fit {len(stories)} stories: choose 1 to {len(stories)}"
            )
        self.tokenizer, self.stages, self.seed = tokenizer, stages, seed
        self.batch_size, self.max_length = batch_size, max_length
        self.stories, self.replay_batch = stories, replay_batch

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Begin at batch `start`; every epoch is the same."""
        self.start = start

    def __len__(self) -> int:
        return sum(stage.n_steps for stage in self.stages)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self._batch(number) for number in range(self.start, len(self)))

    def stage_of(self, number: int) -> LessonStage:
        """Say which stage batch `number` belongs to; after the last one the last goes on."""
        for stage in self.stages:
            if number < stage.n_steps:
                return stage
            number -= stage.n_steps
        return self.stages[-1]

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        rng, stage = PortableRandom(f"lesson {self.seed}, batch {number}"), self.stage_of(number)
        if len(self.stories) and number % REPLAY_EVERY == REPLAY_EVERY - 1:
            return pad_batch([self.stories[k] for k in rng.sample(range(len(self.stories)), self.replay_batch)])
        return pad_batch([self._row(rng, stage) for _ in range(self.batch_size)])

    def _row(self, rng: PortableRandom, stage: LessonStage) -> tuple[Tensor, Tensor]:
        ids, spans = lesson_row(_lesson_of(stage, rng), self.tokenizer)
        row = torch.tensor(ids)
        targets = torch.full_like(row[1:], IGNORE_INDEX)
        for _, start, end in spans:
            targets[start - 1 : end - 1] = row[start:end]
        return row[:-1][: self.max_length], targets[: self.max_length]


@torch.no_grad()
def mark_lesson(
    model: GPTModel, tokenizer: Tokenizer, stage: LessonStage = WHO_IS_WHO[-1], *, n_lessons: int = 200, seed: int = 0
) -> dict[str, Rate]:
    """Mark how often a model knows the word that ends a statement: form of the statement -> rate.

    Args:
        model: the model to examine.
        tokenizer: its tokenizer.
        stage: how wide the lesson is.
        n_lessons: texts, at least 1.
        seed: which texts; no training reads them in this order.

    Source: this course. For ch06, section 6.10.
    """
    rng, right = PortableRandom(f"marks of the lesson, seed {seed}"), defaultdict(list)
    with in_mode(model, training=False):
        for _ in range(n_lessons):
            ids, spans = lesson_row(_lesson_of(stage, rng), tokenizer)
            row = torch.tensor(ids)
            said = model(*to_device_of(model, row[None]))[0].argmax(dim=-1).cpu()  # (T,)
            for form, start, end in spans:
                right[form].append(torch.equal(said[start - 1 : end - 1], row[start:end]))
    return {form: Rate(sum(marks), len(marks)) for form, marks in right.items()}
