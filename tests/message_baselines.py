"""How far three simple rules get on the messages: `python tests/message_baselines.py`.

A bag of words knows which words a message has and not who says them. If it were enough, there would be nothing to
fine-tune a language model for.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.loaders import load_messages  # noqa: E402
from data.story_world.message_task import MESSAGE_LABELS  # noqa: E402

CUES = {
    "help": ("help", "lend", "borrow", "need"),
    "thanks": ("thank", "grateful", "kind"),
    "sorry": ("sorry", "forgive", "fault"),
    "invite": ("come", "invite", "join", "play"),
}


def keyword_rule(text: str) -> str:
    """Name the label whose cues a text has most of; the first label wins a tie."""
    return max(MESSAGE_LABELS, key=lambda label: sum(text.lower().count(cue) for cue in CUES[label]))


def bag_of_words(longest: int) -> float:
    """Fit a logistic regression on counts of words (and word pairs for 2) and return its share of right test labels."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    train, test = load_messages("train"), load_messages("test")
    counts = CountVectorizer(ngram_range=(1, longest))
    model = LogisticRegression(max_iter=2000)
    model.fit(counts.fit_transform([message.text for message in train]), [message.label for message in train])
    return model.score(counts.transform([message.text for message in test]), [message.label for message in test])


def figures() -> dict[str, float]:
    """Return the share of right labels on the test split for each rule."""
    test = load_messages("test")
    right = sum(keyword_rule(message.text) == message.label for message in test)
    return {"keyword rule": right / len(test), "words": bag_of_words(1), "words and pairs of words": bag_of_words(2)}


if __name__ == "__main__":
    for name, share in figures().items():
        print(f"{name:26s}{share:.1%}")
