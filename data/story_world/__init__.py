"""A small world of children's stories whose text comes with its exact probability."""

from .coherence import check_story
from .engine import PRON, SPLITS, Story, StoryWorld, article, load_tables

NAMES = load_tables().names  # sex ("f", "m") -> names
SEX = load_tables().sexes  # name -> sex
PLOTS, MINIS = load_tables().plots, load_tables().minis

__all__ = ["MINIS", "NAMES", "PLOTS", "PRON", "SEX", "SPLITS", "Story", "StoryWorld", "article", "check_story"]
