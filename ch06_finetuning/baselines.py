"""The baseline every classifier should meet: count the words, weigh them, add them up.

Multinomial logistic regression over the words of a text. It knows nothing of word order, so whatever a GPT scores above
it was won by reading.
"""

import re
from collections import Counter

import torch
from torch import Tensor, nn

__all__ = ["BagOfWords"]


class BagOfWords:
    """Logistic regression on which words a text holds.

    Args:
        n_classes: number of classes, at least 2.
        min_count: a word must stand in this many training texts to be counted.
        weight_decay: strength of the pull of all weights towards zero.

    Raises:
        ValueError: there are no texts, or texts and labels differ in number.

    Source: Jurafsky and Martin, Speech and Language Processing, chapter 5. Taught in ch06, section 6.6.
    """

    def __init__(self, n_classes: int, *, min_count: int = 2, weight_decay: float = 1e-4):
        self.n_classes, self.min_count, self.weight_decay = n_classes, min_count, weight_decay

    def fit(self, texts, targets, *, n_steps: int = 200, learning_rate: float = 0.1) -> "BagOfWords":
        """Choose the words, then fit their weights on the whole training set at once."""
        texts, targets = list(texts), torch.as_tensor(targets).long()
        if not texts or len(texts) != len(targets):
            raise ValueError(f"{len(texts)} texts and {len(targets)} labels: pass at least one text, each with a label")
        counts = Counter(word for text in texts for word in set(_words(text)))
        kept = sorted(word for word, count in counts.items() if count >= self.min_count)
        self.columns = {word: column for column, word in enumerate(kept)}
        self.linear = nn.Linear(len(kept), self.n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._descend(self.features(texts), targets, n_steps, learning_rate)
        return self

    def features(self, texts) -> Tensor:
        """Mark the known words of each text: list of N texts -> (N, words) of zeros and ones."""
        features = torch.zeros(len(texts), len(self.columns))
        for row, text in enumerate(texts):
            features[row, [self.columns[word] for word in set(_words(text)) if word in self.columns]] = 1.0
        return features

    @torch.no_grad()
    def predict(self, texts) -> Tensor:
        """Return the most probable class of each text: list of N texts -> (N,)."""
        return self.linear(self.features(list(texts))).argmax(dim=-1)

    def _descend(self, features: Tensor, targets: Tensor, n_steps: int, learning_rate: float) -> None:
        optimizer = torch.optim.Adam(self.linear.parameters(), lr=learning_rate)
        for _ in range(n_steps):
            loss = nn.functional.cross_entropy(self.linear(features), targets)
            loss = loss + self.weight_decay * self.linear.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
