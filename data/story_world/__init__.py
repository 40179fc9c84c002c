"""A small world of children's stories whose text comes with its exact probability."""

from .engine import PRON, SPLITS, Story, StoryWorld, article, load_tables

NAMES = load_tables().names  # sex ("f", "m") -> names
SEX = {name: sex for sex, names in NAMES.items() for name in names}
PLOTS = load_tables().plots
MINIS = load_tables().minis

from .checks import check_story  # noqa: E402  (the checker reads the lists above)

__all__ = ["MINIS", "NAMES", "PLOTS", "PRON", "SEX", "SPLITS", "Story", "StoryWorld", "article", "check_story"]
