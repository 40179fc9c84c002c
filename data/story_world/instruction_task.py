"""Questions and requests whose answers can be marked: about short texts, about words, and what one says in a talk.

A record is a wording (`tables_tasks/wordings.txt`) filled with the facts of a text (`scene.py`) or with words of the
world. In every kind the words that decide the answer decide the split as well, so a test question joins words that were
never joined in training. The split `new_wordings` asks in other people's words (`held_out_wordings.txt`), which nobody
trains on.
"""

import re

from data.by_hand import load_questions_by_hand

from .asking import Wordings
from .engine import StoryWorld
from .marking import Instruction, mark
from .reading_questions import READING, READING_KINDS, Asked, Source
from .tasks import PortableRandom, split_of
from .word_questions import TALK_KINDS, WORD_KINDS, talk

INSTRUCTION_SPLITS = ("train", "validation", "test", "new_wordings")
INSTRUCTION_SIZES = {"train": 12_000, "validation": 580, "test": 1_160, "new_wordings": 1_160}
"""Records of each split."""
WEIGHTS = {
    "who": 6, "animal": 6, "what": 2, "where": 2, "feeling": 6, "felt": 7, "said": 6, "first": 2, "yesno": 10,
    "choice": 8, "did": 8, "people": 4, "order": 8, "unknown": 12, "follow": 6, "tell": 7, "finish": 3,
    "past": 8, "plural": 4, "opposite": 6, "swap": 2, "count": 5, "last": 2, "group": 5, "repeat": 2,
    "greeting": 1, "thanks": 1, "you": 1, "can": 1,
}  # fmt: skip
"""How often each kind comes in training: the hard ones most. In the other splits all come equally often."""
EARLIER_TURNS = (0, 1, 2, 3, 4, 5)  # how many other questions about the same text come before
MOST_TRIES = 3_000
INSTRUCTION_KINDS = (*READING_KINDS, *WORD_KINDS, *TALK_KINDS)


def write_instructions(split: str, *, n: int | None = None, n_wordings: int | None = None) -> list[Instruction]:
    """Write the records of a split, no prompt twice.

    Args:
        split: "train", "validation", "test", or "new_wordings".
        n: number of records; None gives the split its own.
        n_wordings: use only the first so many wordings of each kind; None uses all.

    Source: this course. For ch06, section 6.9.
    """
    writer = _Writer(split, n_wordings)
    return writer.write(n or INSTRUCTION_SIZES[split])


class _Writer:
    """Writes the records of one split."""

    def __init__(self, split: str, n_wordings: int | None):
        self.new = new = split == "new_wordings"
        self.split, self.rng = "test" if new else split, PortableRandom(f"instructions-{split}")
        self.wordings = Wordings("held_out_wordings" if new else "wordings", self.rng, n_wordings)
        self.source = Source(StoryWorld(1, self.split), self.rng, self.wordings)
        self.seen = {_plain(record.prompt) for record in load_questions_by_hand() if len(record.prompt.split()) > 3}

    def write(self, size: int) -> list[Instruction]:
        train = self.split == "train"
        turns = [kind for kind in INSTRUCTION_KINDS for _ in range(WEIGHTS[kind] if train else 1)]
        records = [self._new(turns[number % len(turns)]) for number in range(size)]
        return self.rng.shuffled(records)

    def _new(self, kind: str) -> Instruction:
        """A record of a kind whose prompt has not come yet, or, where a kind has few prompts, any of it."""
        record: Instruction | None = None
        for _ in range(MOST_TRIES):
            record = self._record(kind) or record
            if record and _asked(record) not in self.seen and (self.split == "train" or mark(record, record.response)):
                break
        if record is None:
            raise ValueError(f"no record of the kind {kind!r} came in {MOST_TRIES} tries: look at its tables")
        self.seen.add(_asked(record))
        return record

    def _record(self, kind: str) -> Instruction | None:
        if kind in READING_KINDS:
            return self._about_text(kind)
        worded = talk(kind) if kind in TALK_KINDS else WORD_KINDS[kind](self.rng)
        prompt = self.wordings.ask(kind, worded.slots)
        if not self._is_ours(kind, worded.key, prompt):
            return None
        return Instruction(kind, prompt, worded.accepted[0], worded.accepted, (), worded.wanted, worded.rivals)

    def _about_text(self, kind: str) -> Instruction | None:
        asked = self.source.ask(kind)
        if asked is None:
            return None
        if asked.opening:  # the world whose story it is belongs to the split
            return asked.record(kind)
        if not self._is_ours(kind, asked.key, asked.question):
            return None
        return asked.record(kind) if asked.history or asked.told else self._later(kind, asked)

    def _later(self, kind: str, asked: Asked) -> Instruction:
        """The same question after some others about the same text."""
        turns: list[tuple[str, str]] = []
        n_turns, kinds = self.rng.pick(EARLIER_TURNS), self.rng.shuffled(tuple(READING))
        for other_kind in kinds * 2:
            other = self.source.ask(other_kind, asked.facts) if len(turns) < n_turns else None
            if other and self._is_ours(other_kind, other.key, other.question):
                turns.append((other.question if turns else other.prompt, other.accepted[0]))
        if not turns:
            return asked.record(kind)
        return asked.record(kind)._replace(prompt=asked.question, history=tuple(turns))

    def _is_ours(self, kind: str, key: tuple[str, ...], question: str) -> bool:
        """Whether what decides the answer is of this split: the key, or without one the words of the question."""
        if not key and (self.new or self.wordings.n):
            return True
        return split_of(kind, *(key or (_plain(question),))) == self.split


def _asked(record: Instruction) -> str:
    """All that was asked in a conversation, without what only a printer sees."""
    return _plain(" ".join([*(part for turn in record.history for part in turn), record.prompt]))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
