"""The baseline every classifier should meet: count the words, weigh them, add them up.

Multinomial logistic regression over the words of a text. It knows nothing of word order, so whatever a GPT scores above
it was won by reading.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ch05_pretraining.loop_care import guarded_step
from data.files import as_seen

__all__ = ["BagOfWords"]

UNSPACED = (  # scripts that write no space between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese, Chinese
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
RUN = re.compile(f"([{UNSPACED}]+)|[^{UNSPACED}]+")


class BagOfWords:
    """Logistic regression on which words a text holds.

    A word is a run of letters, digits and apostrophes; an emoji is a word. Where a script writes no spaces, as Chinese
    and Thai do not, each sign and each pair of neighbors takes the place of a word.

    Args:
        n_classes: number of classes, at least 2.
        min_count: a word must stand in this many training texts to be counted.
        weight_decay: strength of the pull of all weights towards zero.

    Raises:
        ValueError: there are no texts, texts and labels differ in number, a label is no class, or no word is left.

    Source: Jurafsky and Martin, Speech and Language Processing, chapter 5. Taught in ch06, section 6.6.
    """

    def __init__(self, n_classes: int, *, min_count: int = 2, weight_decay: float = 1e-4):
        if n_classes < 2:
            raise ValueError(f"n_classes={n_classes}: a classifier needs at least two classes")
        self.n_classes, self.min_count, self.weight_decay = n_classes, min_count, weight_decay

    def fit(
        self, texts: Iterable[str], targets: Iterable[int], *, n_steps: int = 200, learning_rate: float = 0.1
    ) -> "BagOfWords":
        """Choose the words, then fit their weights on the whole training set at once."""
        texts, classes = list(texts), self._classes(targets)
        if not texts or len(texts) != len(classes):
            raise ValueError(f"{len(texts)} texts and {len(classes)} labels: pass at least one text, each with a label")
        counts = Counter(word for text in texts for word in set(words_of(text)))
        kept = sorted(word for word, count in counts.items() if count >= self.min_count)
        if not kept:
            raise ValueError(
                f"no word stands in {self.min_count} of the {len(texts)} texts: pass more texts, or a smaller min_count"
            )
        self.columns = {word: column for column, word in enumerate(kept)}
        self.linear = nn.Linear(len(kept), self.n_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self._descend(self.features(texts), classes, n_steps, learning_rate)
        return self

    def features(self, texts: Sequence[str]) -> Tensor:
        """Mark the known words of each text: list of N texts -> (N, words) of zeros and ones."""
        features = torch.zeros(len(texts), len(self.columns))
        for row, text in enumerate(texts):
            features[row, [self.columns[word] for word in set(words_of(text)) if word in self.columns]] = 1.0
        return features

    @torch.no_grad()
    def predict(self, texts: Iterable[str]) -> Tensor:
        """Return the most probable class of each text: list of N texts -> (N,)."""
        return self.linear(self.features(list(texts))).argmax(dim=-1)

    def _classes(self, targets: Iterable[int]) -> Tensor:
        targets = list(targets)
        wrong = [target for target in targets if isinstance(target, str) or not 0 <= target < self.n_classes]
        if wrong:
            raise ValueError(f"found the label {wrong[0]!r}: pass class numbers, 0 to {self.n_classes - 1}")
        return torch.as_tensor(targets).long()

    def _descend(self, features: Tensor, targets: Tensor, n_steps: int, learning_rate: float) -> None:
        optimizer = torch.optim.Adam(self.linear.parameters(), lr=learning_rate)
        for step in range(n_steps):
            loss = nn.functional.cross_entropy(self.linear(features), targets)
            loss = loss + self.weight_decay * self.linear.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            guarded_step(self.linear, [optimizer], loss.item(), step, grad_clip=0.0, remedy="lower learning_rate")


class _Signs(dict):
    """For `str.translate`: what belongs to words stays, the rest becomes a space; looked up once, then remembered."""

    def __missing__(self, code: int) -> str:
        sign, kind = chr(code), unicodedata.category(chr(code))
        in_word = kind[0] in "LMN" or sign in "'_"
        self[code] = {"So": f" {sign} ", "Cf": ""}.get(kind, sign if in_word else " ")  # emoji; signs without a shape
        return self[code]


_SIGNS = _Signs({ord("’"): "'"})


def words_of(text: str) -> list[str]:
    """Cut a text into the words that the bag counts, in small letters and in their order.

    Args:
        text: any string.

    Source: this course. For ch06, section 6.6.
    """
    return [word for run in as_seen(text.lower()).translate(_SIGNS).split() for word in _words_of_run(run)]


def _words_of_run(run: str) -> list[str]:
    words = []
    for part in RUN.finditer(run):
        signs = part[1] or ""
        words += [*signs, *map("".join, zip(signs, signs[1:]))] or [part[0]]
    return words
