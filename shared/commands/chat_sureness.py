"""How sure an answer was, in words, for the assistant that comes with the course: no other one was measured.

The measure is the least probability among the tokens of the answer: a chain of words is as sure as its weakest link.
The borders between the words were chosen on the validation split, and how often such answers are right was counted on
other rows. `python -m shared.maintenance.sureness` does both and writes `sureness.json`, where they stand.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MEASURED = Path(__file__).resolve().with_name("sureness.json")
WORDS = ("guessing", "fairly sure", "sure")
FEWEST = 30  # answers from which a share is told


@dataclass(frozen=True)
class Sureness:
    """The words for how sure an answer was.

    Args:
        borders: the least measures of "fairly sure" and of "sure".
        counts: for each word, how many answers were right, and of how many.
    """

    borders: tuple[float, float]
    counts: dict[str, tuple[int, int]]

    def word(self, answer: str, probabilities: Sequence[float]) -> str:
        """Say how sure an answer was; nothing about a story, which is neither right nor wrong.

        Args:
            answer: its text.
            probabilities: of its tokens, each the likeliest at its place.
        """
        from data.story_world.marking import LONGEST_SENTENCE

        if not answer.strip() or "\n" in answer or len(answer.split()) > LONGEST_SENTENCE:
            return ""
        return WORDS[sum(measure(probabilities) >= border for border in self.borders)]

    def sentence(self, answer: str, probabilities: Sequence[float]) -> str:
        """Say how sure an answer was, and how many of such answers were right.

        Args:
            answer: its text.
            probabilities: of its tokens, each the likeliest at its place.
        """
        word = self.word(answer, probabilities)
        right, n = self.counts.get(word, (0, 0))
        return f"{word}: of 100 such answers, {round(100 * right / n)} were right" if n >= FEWEST else word


def measure(probabilities: Sequence[float]) -> float:
    """Give the least probability among the tokens of an answer.

    Args:
        probabilities: of its tokens, at least one.
    """
    return min(probabilities)


def sureness_of(source: str | Path) -> Sureness | None:
    """Give what was measured of a model: of the shipped assistant, as long as it is the one that was measured.

    Args:
        source: what chat and serve were asked to talk with.
    """
    from data.paths import DATA_DIR

    if source != "shipped" or not MEASURED.is_file():
        return None
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    if measured["model"] != model_hash(DATA_DIR / "story_assistant"):
        return None
    fairly, sure = measured["borders"]
    return Sureness((fairly, sure), {word: (right, n) for word, (right, n) in measured["new_wordings"].items()})


def model_hash(folder: Path) -> str:
    """Give the sha256 of a model's weights, as its manifest has it.

    Args:
        folder: of the model.
    """
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]["model.safetensors"]["sha256"]
