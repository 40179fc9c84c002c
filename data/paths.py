"""Where things lie: the data of the course, its cache, and what training makes."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA_DIR = ROOT / "data"
CACHE_DIR = DATA_DIR / "cache"  # made by use, ignored by git, may be deleted at any time


def runs_dir() -> Path:
    """Return the folder of everything that training makes: `runs`, or what the variable COURSE_RUNS names now."""
    return Path(os.environ.get("COURSE_RUNS") or ROOT / "runs")


RUNS_DIR = runs_dir()
