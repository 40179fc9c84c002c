"""Word vectors: skip-gram with negative sampling, and what can be asked of the vectors afterwards.

A word is known by the words around it. `WordVectors.train` gives every frequent word of a corpus a vector from which
its neighbors can be told from words drawn at random.

Sources: Mikolov et al. (2013), arXiv 1301.3781 and 1310.4546. Taught in ch02, `embeddings.ipynb`.
"""

import re
from collections import Counter
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_words(text: str) -> list[str]:
    """Return the words of a text in small letters, without punctuation.

    Source: this course. For ch02, embeddings.ipynb, section E.2.
    """
    return re.findall(r"[^\W\d_]+", text.lower())


def skip_gram_pairs(ids: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Pair every word with each word at most `window` places away from it.

    Args:
        ids: word ids of one text.
        window: longest distance, at least 1.

    Shape:
        (T,) -> centers (P,), contexts (P,).

    Raises:
        ValueError: window is below 1.

    Source: Mikolov et al. (2013), arXiv 1301.3781, section 3.2. Taught in ch02, embeddings.ipynb, section E.2.
    """
    if window < 1:
        raise ValueError(f"found window={window}; expected at least 1, the direct neighbors")
    later = [torch.stack([ids[:-d], ids[d:]]) for d in range(1, min(window, len(ids) - 1) + 1)]
    if not later:
        return ids[:0], ids[:0]
    both = torch.cat(later + [pair.flip(0) for pair in later], dim=1)
    return both[0], both[1]


def negative_sampling_loss(center: Tensor, context: Tensor, negatives: Tensor) -> Tensor:
    """Reward a high product with the true neighbor and low products with words drawn at random.

    Shape:
        center (B, D), context (B, D), negatives (B, K, D) -> ().

    Source: Mikolov et al. (2013), arXiv 1310.4546, equation 4. Taught in ch02, embeddings.ipynb, section E.2.
    """
    true = (center * context).sum(dim=-1)  # (B,)
    false = (negatives @ center.unsqueeze(-1)).squeeze(-1)  # (B, K)
    return -(F.logsigmoid(true) + F.logsigmoid(-false).sum(dim=-1)).mean()


class WordVectors:
    """One vector of length 1 for each word of a vocabulary.

    Args:
        words: the vocabulary, without repetition.
        vectors: (V, D), any lengths; they are divided by their norms.

    Raises:
        ValueError: another number of words than of vectors, or a word that comes twice.

    Source: Mikolov et al. (2013). Taught in ch02, embeddings.ipynb, section E.3.
    """

    def __init__(self, words: list[str], vectors: Tensor):
        if not len(set(words)) == len(words) == len(vectors):
            found = f"{len(words)} words and {len(vectors)} vectors, and of the words {len(set(words))} differ"
            raise ValueError(f"found {found}; expected one vector a word, and no word twice")
        self.words, self.ids = list(words), {word: id_ for id_, word in enumerate(words)}
        self.vectors = F.normalize(vectors, dim=-1)  # (V, D)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        d_model: int = 48,
        window: int = 4,
        min_count: int = 10,
        n_negatives: int = 5,
        n_steps: int = 600,
        batch_size: int = 4096,
        seed: int = 0,
    ) -> "WordVectors":
        """Train skip-gram vectors with negative sampling.

        Args:
            texts: the corpus; no pair crosses from one text into the next.
            d_model: numbers in a vector.
            window: longest distance of a neighbor, in words.
            min_count: rarer words get no vector.
            n_negatives: random words for each true neighbor.
            n_steps, batch_size, seed: of the training.

        Raises:
            ValueError: no word is frequent enough.
        """
        generator = torch.Generator().manual_seed(seed)
        corpus = [plain_words(text) for text in texts]
        counts = Counter(word for text in corpus for word in text)
        words = sorted(word for word, count in counts.items() if count >= min_count)
        if len(words) < 2:
            raise ValueError(f"found {len(words)} words that occur {min_count} times; expected 2 or more: add text")
        frequency = torch.tensor([float(counts[word]) for word in words])
        centers, contexts = _corpus_pairs(corpus, words, frequency / frequency.sum(), window, generator)
        if not len(centers):
            raise ValueError("found no two neighbors in the texts; expected texts of several words")
        noise = frequency.pow(0.75).cumsum(0) / frequency.pow(0.75).sum()
        tables = [(torch.randn(len(words), d_model, generator=generator) / d_model).requires_grad_() for _ in range(2)]
        optimizer = torch.optim.Adam(tables, lr=0.02)
        for step in range(n_steps):
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / n_steps)
            rows = torch.randint(len(centers), (batch_size,), generator=generator)
            false = torch.searchsorted(noise, torch.rand(batch_size, n_negatives, generator=generator))
            false = false.clamp(max=len(words) - 1)  # rounding may leave the last sum a hair below 1
            loss = negative_sampling_loss(tables[0][centers[rows]], tables[1][contexts[rows]], tables[1][false])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return cls(words, tables[0].detach())

    def __getitem__(self, word: str) -> Tensor:
        """Return the vector (D,) of one word."""
        return self.vectors[_known_id(word, self.ids)]

    def nearest(self, query: str | Tensor, k: int = 5, exclude: Iterable[str] = ()) -> list[tuple[str, float]]:
        """Return the words whose vectors point most nearly the same way, with the cosine of the angle.

        Args:
            query: a word, which is left out of the answer, or a vector (D,).
            k: how many at most, 1 or more; fewer where no more words are left.
            exclude: words to leave out.

        Raises:
            ValueError: k is below 1, a word has no vector, or all words are left out.
        """
        if isinstance(query, str):
            exclude, query = {query, *exclude}, self[query]
        excluded = {_known_id(word, self.ids) for word in exclude}
        if k < 1 or len(excluded) == len(self.words):
            raise ValueError(f"found k={k} and {len(self.words) - len(excluded)} words left; expected 1 or more")
        cosines = self.vectors @ F.normalize(query, dim=-1)  # (V,)
        cosines[list(excluded)] = -torch.inf
        best = cosines.topk(min(k, len(self.words) - len(excluded)))
        return [(self.words[id_], value) for value, id_ in zip(best.values.tolist(), best.indices.tolist())]

    def analogy(self, a: str, b: str, c: str) -> str:
        """Say what is to c as b is to a: the word nearest to b - a + c, the three words themselves left out.

        Raises:
            ValueError: one of the three has no vector, or the vocabulary holds no other word.
        """
        return self.nearest(self[b] - self[a] + self[c], 1, exclude=(a, b, c))[0][0]

    def average(self, text: str) -> Tensor:
        """Return the mean vector (D,) of the words of a text, scaled to length 1; zeros where no word is known."""
        ids = [self.ids[word] for word in plain_words(text) if word in self.ids]
        return F.normalize(self.vectors[ids].sum(dim=0), dim=0)


def _known_id(word: str, ids: dict[str, int]) -> int:
    """Return the id of a word that has a vector."""
    if word not in ids:
        raise ValueError(f"found the word {word!r}; expected one of the {len(ids)} words of the vocabulary")
    return ids[word]


def _corpus_pairs(
    texts: list[list[str]], words: list[str], share: Tensor, window: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pair the words of each text, after dropping most occurrences of the commonest ones."""
    place = {word: id_ for id_, word in enumerate(words)}
    keep = (1e-3 / share).sqrt().clamp(max=1)  # (V,) of a word with 1 % of the text, a third stays
    pairs = []
    for text in texts:
        ids = torch.tensor([place[word] for word in text if word in place], dtype=torch.int64)
        pairs.append(torch.stack(skip_gram_pairs(ids[torch.rand(len(ids), generator=generator) < keep[ids]], window)))
    return tuple(torch.cat(pairs, dim=1))
