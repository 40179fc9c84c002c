"""Questions and messages that people wrote by hand who had seen neither the wordings nor the code.

They are for testing only: whoever trains or tunes on them measures nothing any more.
"""

import json
from typing import Any

from data.paths import DATA_DIR
from data.story_world.marking import Question
from data.story_world.message_task import Message
from data.story_world.reading_questions import SAYS_NOT
from data.story_world.word_questions import TALK_WANTED


def load_questions_by_hand() -> list[Question]:
    """Load the hundred questions that were written by hand, which `mark` can check.

    Source: this course. Taught in ch06, section 6.11.
    """
    return [_question(entry) for entry in _entries("questions_by_hand")]


def load_messages_by_hand() -> list[Message]:
    """Load the sixty messages that were written by hand, fifteen of each label.

    Source: this course. For ch06, section 6.6.
    """
    return [Message(entry["text"], entry["label"]) for entry in _entries("messages_by_hand")]


def _entries(name: str) -> list[dict[str, Any]]:
    return json.loads((DATA_DIR / f"{name}.json").read_text(encoding="utf-8"))


def _question(entry: dict[str, Any]) -> Question:
    """One question; for some kinds the kind itself says what is right."""
    kind, right = entry["kind"], tuple(entry["right"])
    wanted = {"unknown": SAYS_NOT, **TALK_WANTED}.get(kind, () if entry.get("all") else right)
    rivals = (
        *entry["wrong"],
        *(() if kind == "unknown" else SAYS_NOT),
        *(("cannot", "can't") if kind == "can" else ()),
    )
    history = tuple((question, answer) for question, answer in entry["earlier"])
    told = right if entry.get("all") else ()
    return Question(kind, entry["prompt"], history, wanted, rivals, told)
