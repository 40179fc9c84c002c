"""Stories on disk, so that twenty thousand of them are written once and read in a second afterwards.

A cached file is named by what it was made from: the world's tables and engine, the split, the number and the seed.
Change one word of a table and the name changes with it, so an old file is never taken for a new one.
"""

import hashlib
import json
from functools import lru_cache
from itertools import islice
from pathlib import Path

from data.files import write_atomically
from data.paths import DATA_DIR
from data.story_world.engine import Story, StoryWorld

WORLD_DIR = DATA_DIR / "story_world"
ENGINE = ("cast", "chooser", "engine", "grammar", "people", "speech", "teller", "template", "writer")  # modules


@lru_cache(maxsize=1)
def world_hash() -> str:
    """Return the sha256 of everything that decides which stories the world tells: its tables and its engine."""
    digest = hashlib.sha256()
    files = [*(WORLD_DIR / "tables").rglob("*.txt"), *(WORLD_DIR / f"{name}.py" for name in ENGINE)]
    for name, path in sorted((path.relative_to(WORLD_DIR).as_posix(), path) for path in files):
        digest.update(name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def write_stories(split: str, n: int, seed: int, mini: bool = False) -> list[Story]:
    """Let the story world write the first `n` stories, or mini stories, of a split and seed."""
    world = StoryWorld(seed, split=split)
    return [world.story(mini=mini) for _ in range(n)]


def cached_stories(folder: Path, split: str, n: int, seed: int, mini: bool = False) -> list[Story]:
    """Return the first `n` stories, or mini stories, of a split and seed, from the cache when it holds them undamaged.

    A folder that cannot be written costs time, not the stories.
    """
    kind = "mini-stories" if mini else "stories"
    path = Path(folder) / f"{kind}-{split}-{n}-seed{seed}-{world_hash()[:16]}.jsonl"
    stories = _read(path, n)
    if stories is None:
        stories = write_stories(split, n, seed, mini)
        try:
            body = "".join(json.dumps(list(story), ensure_ascii=False) + "\n" for story in stories)
            write_atomically(path, _checksum(body) + "\n" + body)
        except OSError:  # a full disk or a read-only folder: the stories are here all the same
            pass
    return stories


def _read(path: Path, n: int) -> list[Story] | None:
    """The stories of a file whose checksum fits; None when there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            checksum = file.readline().strip()
            body = file.read()
        if checksum != _checksum(body) or body.count("\n") != n:
            return None
        return [Story(*json.loads(line)) for line in islice(body.split("\n"), n)]
    except (OSError, ValueError, TypeError):
        return None


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8")).hexdigest()
