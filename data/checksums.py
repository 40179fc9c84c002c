"""Checksums of everything in `data`: of the committed files, and of what the generators make.

    python -m data.checksums            compare with the tables in data/README.md
    python -m data.checksums --update   write the tables anew, after a wanted change

A generator is only reproducible if somebody compares: the tables are what you compare with, and a test does it.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence

from data.loaders import TASK_SPLITS, load_crawl, load_instructions, load_messages, load_preferences
from data.paths import DATA_DIR
from data.story_cache import world_hash, write_stories
from data.story_world.engine import SPLITS

README = DATA_DIR / "README.md"
BEGIN, END = "<!-- checksums: begin -->", "<!-- checksums: end -->"
N_STORIES = 200  # of each split; a different first story already means a different checksum


def committed_files() -> list[tuple[str, int, str]]:
    """Return (path, bytes, sha256) of each text and list that is committed, and of the folder of notes as a whole."""
    paths = [*sorted((DATA_DIR / "texts").glob("*.txt")), *sorted((DATA_DIR / "own_examples").glob("*.*"))]
    contents = [
        (path.relative_to(DATA_DIR).as_posix(), path.read_bytes()) for path in (*paths, DATA_DIR / "catalogue.json")
    ]
    notes = sorted(
        (DATA_DIR / "own_examples" / "notes").glob("*.md")
    )  # one line for all: each name, then what it holds
    contents.append(("own_examples/notes/", b"".join(note.name.encode() + note.read_bytes() for note in notes)))
    return [(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in contents]


def generated_splits() -> list[tuple[str, str, int, str]]:
    """Return (dataset, split, records, sha256 of the records as JSON lines) of everything that is generated."""
    loaders: dict[str, Callable[[str], Sequence[tuple]]]
    loaders = {"messages": load_messages, "instructions": load_instructions, "preferences": load_preferences}
    made: list[tuple[str, str, Sequence[tuple]]]
    made = [("stories", split, write_stories(split, N_STORIES, seed=0)) for split in SPLITS]
    made += [(name, split, load(split)) for name, load in loaders.items() for split in TASK_SPLITS]
    made.append(("instructions", "new_wordings", load_instructions("new_wordings")))
    made.append(("crawl", "", load_crawl(n=N_STORIES)))
    return [(name, split, len(records), _checksum(records)) for name, split, records in made]


def _checksum(records: Iterable[tuple]) -> str:
    """The sha256 of the texts in the records; a story's probability is compared to a millionth of a bit."""
    lines = (json.dumps(_plain(record), ensure_ascii=False, sort_keys=True) for record in records)
    return hashlib.sha256("\n".join(lines).encode("utf-8")).hexdigest()


def _plain(record: tuple) -> list:
    return [round(field, 6) if isinstance(field, float) else field for field in record if not isinstance(field, dict)]


def tables() -> str:
    """Return both tables as Markdown, as they stand in data/README.md."""
    files = [f"| `{name}` | {size:,} | `{digest}` |" for name, size, digest in committed_files()]
    splits = [f"| {name} | {split} | {n:,} | `{digest}` |" for name, split, n, digest in generated_splits()]
    head = f"The world's tables and engine together: `{world_hash()}`"
    parts = ["| file | bytes | sha256 |", "|---|---|---|", *files, "", head, ""]
    return "\n".join([*parts, "| dataset | split | records | sha256 of the records |", "|---|---|---|---|", *splits])


def written_tables() -> str:
    """Return the tables that data/README.md holds now."""
    return README.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()


def update() -> None:
    """Write the tables into data/README.md."""
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    text = f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"
    README.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    if "--update" in sys.argv[1:]:
        update()
    elif tables() != written_tables():
        sys.exit("data/README.md differs from what is made; after a wanted change: python -m data.checksums --update")
    print("data/README.md is in step")
