"""Every text and dataset of the course, by name.

    load_text("name")             one text as a string
    load_stories("train", 20_000) stories of the story world, with their exact probabilities
    load_crawl()                  pages of an invented crawl with those stories in them, and all the rest
    load_messages("train")        messages to classify
    load_instructions("train")    questions with answers that can be marked exactly
    load_preferences("train")     two stories for one request, the better one first

Everything is made on this computer, the same everywhere; data/README.md lists the checksums.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache

from data.paths import CACHE_DIR, DATA_DIR
from data.story_cache import cached_stories
from data.story_world.crawl import Page, write_crawl
from data.story_world.engine import SPLITS, Story
from data.story_world.instruction_task import INSTRUCTION_SPLITS, write_instructions
from data.story_world.marking import Instruction
from data.story_world.message_task import Message, write_messages
from data.story_world.preference_task import Preference, write_preferences

TASK_SPLITS = ("train", "validation", "test")


def catalogue() -> dict[str, dict]:
    """Return the optional downloads: name -> title, license and files with path, bytes, sha256 and addresses."""
    return json.loads((DATA_DIR / "catalogue.json").read_text(encoding="utf-8"))


def load_text(name: str) -> str:
    """Load one text: a story that comes with the course, or one that has been fetched.

    Args:
        name: a file of data/texts without its ending, or the name of a text in data/catalogue.json.

    Raises:
        ValueError: no text has this name, or it has not been fetched yet.

    Source: this course. Taught in ch02, section 2.1.
    """
    ours = {path.stem: path for path in sorted((DATA_DIR / "texts").glob("*.txt"))}
    optional = {key for key, entry in catalogue().items() if entry["files"][0]["path"] == f"{key}.txt"}
    if name in ours:
        return ours[name].read_text(encoding="utf-8")
    if name not in optional:
        raise ValueError(f"there is no text {name!r}; expected one of {', '.join([*ours, *sorted(optional)])}")
    path = CACHE_DIR / f"{name}.txt"
    if not path.is_file():
        raise ValueError(f"the text {name!r} was not fetched yet; fetch it once with: python course.py fetch {name}")
    return path.read_text(encoding="utf-8")


def load_stories(split: str = "train", n: int = 20_000, seed: int = 0, *, mini: bool = False) -> list[Story]:
    """Load the first `n` stories of a split; the first call writes them, later ones read them from data/cache.

    Args:
        split: "train", "validation", "test", "heldout_names", "heldout_objects", "heldout_both", or "all".
        n: number of stories, at least 1.
        seed: another seed, other stories.
        mini: stories of about five sentences instead, for a first reader.

    Raises:
        ValueError: the split is unknown, or n is not a positive whole number.

    Source: this course. Taught in ch02, section 2.1.
    """
    _require_known("split", split, SPLITS)
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r} is not a whole number of at least {least}")
    return cached_stories(CACHE_DIR, split, n, seed, mini)


def load_crawl(seed: int = 0, *, n: int = 1200) -> list[Page]:
    """Load the pages of an invented crawl: stories to learn from, and what stands around and between them.

    Args:
        seed: another seed, other stories and pages.
        n: number of stories, at least 2; the crawl has about five pages for each. A tenth as many short stories come
            along, and the first n // 24 validation stories have leaked.

    Raises:
        ValueError: n or seed is not such a number.

    Source: this course. Taught in ch02, section C.1.
    """
    texts = {split: [story.text for story in load_stories(split, size, seed)]
             for split, size in (("train", n), ("validation", max(1, n // 24)))}  # fmt: skip
    short = [story.text for story in load_stories("train", max(1, n // 10), seed, mini=True)]
    return write_crawl(texts["train"], short, texts["validation"], seed)


def load_messages(split: str) -> list[Message]:
    """Load short messages with what their writer does in them: asks for help, thanks, says sorry, or invites.

    Args:
        split: "train", "validation" or "test"; no combination of wording and topic is in two of them.

    Raises:
        ValueError: the split is unknown.

    Source: this course. Taught in ch06, section 6.2.
    """
    return list(_records(write_messages, _require_known("split", split, TASK_SPLITS)))


def load_instructions(split: str, *, n: int | None = None, n_wordings: int | None = None) -> list[Instruction]:
    """Load questions and requests with answers that `mark` can check.

    Args:
        split: "train", "validation" or "test", where no combination that decides an answer is in two of them; or
            "new_wordings", which asks as somebody else would.
        n: number of records, at least 1; other numbers draw other records. None gives the split its own number.
        n_wordings: ask in the first so many wordings of each kind only, at least 1; None asks in all of them.

    Raises:
        ValueError: the split is unknown, or a number is below 1.

    Source: this course. Taught in ch06, section 6.9.
    """
    _require_known("split", split, INSTRUCTION_SPLITS)
    for name, value in (("n", n), ("n_wordings", n_wordings)):
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} asks nothing: give at least 1, or None for all")
    if n is None and n_wordings is None:
        return list(_records(write_instructions, split))
    return write_instructions(split, n=n, n_wordings=n_wordings)


def load_preferences(split: str) -> list[Preference]:
    """Load requests for a story with a good answer and a spoiled copy of it.

    Args:
        split: "train", "validation" or "test"; no combination of hero and object is in two of them.

    Raises:
        ValueError: the split is unknown.

    Source: this course. Taught in ch06, section 6.14.
    """
    return list(_records(write_preferences, _require_known("split", split, TASK_SPLITS)))


@lru_cache(maxsize=9)
def _records(write: Callable[[str], list], split: str) -> tuple:
    return tuple(write(split))


def _require_known(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ValueError(f"there is no {what} {name!r}; expected one of {', '.join(known)}")
    return name
