"""The coherence checker: what a story promises, judged from its text alone."""

import re


def check_story(text):
    """List what is wrong with a story; an empty list means that it is coherent."""
    found = []
    if len(text.split()) < 50:
        found.append("too short")
    if not re.search(r'[.!?]"?$', text.strip()):
        found.append("does not end with a whole sentence")
    return found
