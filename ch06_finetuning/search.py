"""Search in documents: passages, two ways to rank them, and answers that name the passage they rest on.

BM25 adds up the words that a question shares with a passage, rare words more than common ones. Mean word vectors
compare what the words stand near to. An answer is a sentence of the best passage, or written by an assistant that has
read it; where no passage suits the question well enough, nothing is answered.

Reference: Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond", section 3.4.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ch02_text_data.embeddings import WordVectors
from ch06_finetuning.assistant import Assistant
from ch06_finetuning.bag_of_words import words_of
from data.own_texts import read_documents

__all__ = [
    "BM25", "CitedAnswer", "Found", "MeanVectors", "Passage", "answer_from", "best_threshold", "cut_passages",
    "is_supported", "read_passages", "search",
]  # fmt: skip

MOST_WORDS = 120  # in a passage
THRESHOLD = 0.254  # chosen with the questions of ch06, section D.6
N_OTHERS = 40  # texts about other things that a small collection is imagined to lie among
ENOUGH = 1.5  # about so many words that no other text holds are a full score
FORM = "{passage}\n{question}"
NOTHING = "I found nothing about that in the documents."
TITLES = "".join(rf"(?<!\b{title}\.)" for title in ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", r"\w"))  # Prof. Li, 7. May
SENTENCE_ENDS = re.compile(rf"(?<=[.!?]){TITLES}\s+|(?<=[。！？])|\n(?=(?:[-*•]|\d+[.)])\s)")
EVERYDAY_WORDS = frozenset(
    """a an and any are as at be been by can could do does did for from had has have how i if in into is it its may me
    must my not of on one or our shall should so than that the their them there they this to until was we were what when
    where which who whom whose why will with would you your""".split()
)


@dataclass(frozen=True)
class Passage:
    """A piece of a document, with the document's name and the line in which it begins, from 1.

    Source: this course. Taught in ch06, section D.5.
    """

    text: str
    name: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.name}, line {self.line}"


@dataclass(frozen=True)
class Found:
    """A passage, and how well it suits a question.

    Source: this course. Taught in ch06, section D.5.
    """

    passage: Passage
    score: float


# -------------------------------------------------------------------------------------------------------- passages


def read_passages(folder: str | Path) -> tuple[list[Passage], list[str]]:
    """Read a folder of documents and cut them: -> passages, sentences about files that were passed over.

    Args:
        folder: the files in `.txt`, `.md` and `.jsonl` in it are read, see `read_documents`; also a single file.

    Raises:
        ValueError: there is no such folder, no text in it, or a file that is no UTF-8 text.

    Source: this course. Taught in ch06, section D.5.
    """
    documents, notes = read_documents(folder)
    return [passage for document in documents for passage in cut_passages(document.text, document.name)], notes


def cut_passages(text: str, name: str, most_words: int = MOST_WORDS) -> list[Passage]:
    """Cut a text at its empty lines; a heading (`# …`) stays with what is below it, and a long piece is cut again.

    Words are parted by spaces: a long text without any, as in Chinese, stays whole.

    Args:
        text: lines of any length.
        name: of the document.
        most_words: in a passage, at least 1.

    Raises:
        ValueError: `most_words` is below 1.

    Source: this course. Taught in ch06, section D.5.
    """
    if most_words < 1:
        raise ValueError(f"most_words={most_words} leaves no passage a word: give at least 1")
    pieces = [piece for block in _blocks(text) for piece in _pieces(block, most_words)]
    return [Passage("\n".join(line for _, line in piece), name, piece[0][0]) for piece in pieces]


def _blocks(text: str) -> list[list[tuple[int, str]]]:
    """Lines with their numbers, those between two empty lines together."""
    blocks: list[list[tuple[int, str]]] = []
    goes_on = False
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            blocks += [] if goes_on else [[]]
            blocks[-1].append((number, line.strip()))
            goes_on = True
        elif blocks:
            goes_on = blocks[-1][-1][1].startswith("#")
    return blocks


def _pieces(block: list[tuple[int, str]], most_words: int) -> Iterator[list[tuple[int, str]]]:
    """Lines of a block that together have at most so many words; a longer line is cut between words."""
    piece: list[tuple[int, str]] = []
    for number, line in block:
        words = line.split()
        while words:
            room = most_words - sum(len(text.split()) for _, text in piece)
            end = _end_of_text(piece)
            if room < 1 or end and room < min(len(words), most_words):
                yield piece[: end or None]
                piece = piece[end:] if end else []
            else:
                piece.append((number, " ".join(words[:room])))
                words = words[room:]
    yield piece


def _end_of_text(piece: list[tuple[int, str]]) -> int:
    """How many lines there are before the headings that end a piece."""
    return max((at for at, (_, line) in enumerate(piece, start=1) if not line.startswith("#")), default=0)


# -------------------------------------------------------------------------------------------------------- ranking


class Index(Protocol):
    """Anything that scores all passages for a question, and knows how much a question could earn."""

    def scores(self, question: str) -> Tensor: ...

    def best_score(self, question: str) -> float: ...


class BM25:
    """Score texts by the words that they share with a question.

    A word adds ln(1 + (N - n + 0.5) / (n + 0.5)) · f / (f + k1 (1 - b + b · length / mean length)), where n of N texts
    hold it and this one holds it f times. The 1 in the logarithm is Lucene's: it keeps common words from counting
    against a text.

    Args:
        texts: what is searched, at least one.
        k1: how slowly repetitions of a word stop to count, at least 0.
        b: how much a long text has to repeat a word to count as much as a short one, 0 to 1.
        ignore: words that are not counted.
        n_others: texts about other things that N counts too, at least 0; without them a few texts cannot tell which
            words are rare.

    Raises:
        ValueError: there are no texts, one string stands for a list, or a number is out of its range.

    Source: Robertson and Zaragoza (2009), section 3.4. Taught in ch06, section D.5.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75,
                 ignore: Iterable[str] = EVERYDAY_WORDS, n_others: int = N_OTHERS):  # fmt: skip
        if not texts or not k1 >= 0 or not 0 <= b <= 1 or not n_others >= 0:
            raise ValueError(
                f"found {len(texts)} texts, k1={k1}, b={b}, n_others={n_others}: give texts, b in 0 to 1, and the "
                "others of at least 0"
            )
        self.n, self.n_others, self.ignore = len(texts), n_others, _ignored(texts, ignore)
        counts = [Counter(_counted_words(text, self.ignore)) for text in texts]
        mean = sum(count.total() for count in counts) / self.n or 1.0
        self.holders: dict[str, list[tuple[int, float]]] = defaultdict(list)  # word -> texts that hold it, weights
        for number, count in enumerate(counts):
            damping = k1 * (1 - b + b * count.total() / mean)
            for word, f in count.items():
                self.holders[word].append((number, f / (f + damping)))

    def rarity(self, word: str) -> float:
        """Return the weight of a word: the larger, the fewer texts hold it."""
        n_holders = len(self.holders.get(word, ()))
        return math.log(1 + (self.n + self.n_others - n_holders + 0.5) / (n_holders + 0.5))

    def scores(self, question: str) -> Tensor:
        """Score each text: a question -> (N,); a word that is asked twice counts once."""
        scores = torch.zeros(self.n, dtype=torch.float64)
        for word in self._asked(question):
            for number, weight in self.holders.get(word, ()):
                scores[number] += self.rarity(word) * weight
        return scores

    def best_score(self, question: str) -> float:
        """Say what is a full score: the rarities of all words of a question, and at most 1.5 · ln(2 N + 20).

        Nobody needs all words of a long question. The logarithm grows as rarities do: among more texts, more of them
        share some word with a question by chance.
        """
        return min(sum(map(self.rarity, self._asked(question))), ENOUGH * math.log(2 * self.n + 20)) or 1.0

    def _asked(self, question: str) -> list[str]:
        return list(dict.fromkeys(_counted_words(question, self.ignore)))


class MeanVectors:
    """Score texts by the cosine between the mean of their word vectors and that of a question.

    Args:
        texts: what is searched, at least one.
        vectors: of chapter 2; a word without a vector does not count.
        ignore: words that are not counted.

    Raises:
        ValueError: there are no texts, or one string stands for a list.

    Source: Mikolov et al. (2013). Taught in ch06, section D.5.
    """

    def __init__(self, texts: Sequence[str], vectors: WordVectors, *, ignore: Iterable[str] = EVERYDAY_WORDS):
        if not texts:
            raise ValueError("found no texts: give at least one to search in")
        self.vectors, self.ignore = vectors, _ignored(texts, ignore)
        self.means = torch.stack([self._mean(text) for text in texts])  # (N, D)

    def scores(self, question: str) -> Tensor:
        """Score each text: a question -> (N,), each from -1 to 1, and 0 where no word has a vector."""
        return self.means @ self._mean(question)

    def best_score(self, question: str) -> float:
        """Say what is a full score: 1, the cosine of equal means."""
        return 1.0

    def _mean(self, text: str) -> Tensor:
        return self.vectors.average(" ".join(_counted_words(text, self.ignore)))


def _ignored(texts: Sequence[str], ignore: Iterable[str]) -> frozenset[str]:
    if isinstance(texts, str) or isinstance(ignore, str):
        raise ValueError(
            f"found one string, {(texts if isinstance(texts, str) else ignore)!r:.40}: give a list of them"
        )
    return frozenset(word.lower() for word in ignore)


def _counted_words(text: str, ignore: Collection[str]) -> list[str]:
    return [word for word in words_of(text) if word not in ignore]


def search(
    question: str, passages: Sequence[Passage], index: Index, *, k: int = 3, threshold: float = 0.0
) -> list[Found]:
    """Return the passages that suit a question best, the best one first; equal ones in their order.

    A `Found` has its score as a share of the full score of the question, so that scores of different questions, and of
    collections of any size, can be compared; a passage that shares very many words has more than 1.

    Args:
        question: some words.
        passages: those whose texts the index was made of, in the same order.
        index: a BM25 or MeanVectors.
        k: most passages, at least 1.
        threshold: of the share; passages with less, and with 0 or less, are left out.

    Raises:
        ValueError: the question is empty, `k` is below 1, the threshold is no number, or the index was made of more or
            fewer texts.

    Source: this course. Taught in ch06, section D.5.
    """
    if not question.strip() or k < 1 or math.isnan(threshold):
        raise ValueError(
            f"found the question {question!r:.40}, k={k}, threshold={threshold}: give a question, k of at least 1 and "
            "a threshold that is a number"
        )
    scores = index.scores(question).tolist()
    if len(scores) != len(passages):
        raise ValueError(f"found {len(passages)} passages and an index of {len(scores)}: make the index of their texts")
    full = index.best_score(question)
    ranked = sorted((Found(each, score / full) for each, score in zip(passages, scores)), key=lambda one: -one.score)
    return [found for found in ranked[:k] if found.score > 0 and found.score >= threshold]


def best_threshold(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Choose from which score on to answer, so that most decisions to answer or to refuse are right.

    Args:
        scores: of the best passage of some questions, which are not those of the exam.
        right: whether that passage holds the answer.

    Raises:
        ValueError: there are no questions, another number of scores than of truths, or a score that is no number.

    Source: this course. Taught in ch06, section D.6.
    """
    if not scores or len(scores) != len(right) or any(map(math.isnan, scores)):
        raise ValueError(f"found {len(scores)} scores and {len(right)} truths: give numbers and a truth for each")
    levels = sorted({0.0, *scores})
    between = [(low + high) / 2 for low, high in zip(levels, levels[1:])] + [levels[-1] + 1]
    return max(between, key=lambda level: sum((score >= level) == truth for score, truth in zip(scores, right)))


# -------------------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class CitedAnswer:
    """An answer and the passage it rests on; without a passage it says that nothing was found.

    Source: this course. Taught in ch06, section D.6.
    """

    text: str
    source: Passage | None = None

    @property
    def refused(self) -> bool:
        return self.source is None

    def __str__(self) -> str:
        return self.text if self.source is None else f"{self.text} [{self.source.place}]"


def is_supported(answer: str, passage: str, question: str) -> bool:
    """Say whether each word of an answer stands in the passage or in the question, everyday words aside.

    Args:
        answer: what somebody has said; without a word it is not supported.
        passage: the text that it should rest on.
        question: what was asked.

    Source: this course. Taught in ch06, section D.6.
    """
    said = set(words_of(answer))
    return bool(said) and said <= {*words_of(passage), *words_of(question), *EVERYDAY_WORDS}


def answer_from(
    question: str, found: Sequence[Found], assistant: Assistant | None = None, form: str = FORM, *, guard: bool = True
) -> CitedAnswer:
    """Answer from the best of the passages that were found, or say that nothing was found.

    Args:
        question: what is asked.
        found: what `search` gave; the first is read.
        assistant: who reads the passage and answers; None quotes the sentence that suits the question best.
        form: of the prompt, with {passage} and {question}.
        guard: let the quoted sentence take the place of an assistant's answer that is not supported.

    Raises:
        ValueError: the form lacks one of the two, or both together are longer than the assistant's context allows.

    Source: Lewis et al. (2020), section 2, for answers from retrieved passages. Taught in ch06, section D.6.
    """
    if not {"{passage}", "{question}"} <= set(re.findall(r"{\w+}", form)):
        raise ValueError(f"found the form {form!r:.60}: give one with {{passage}} and {{question}}")
    if not found:
        return CitedAnswer(NOTHING)
    best = found[0].passage
    said = "" if assistant is None else assistant.reply(form.format(passage=best.text, question=question))
    if assistant is None or guard and not is_supported(said, best.text, question):
        return CitedAnswer(_best_sentence(question, best.text), best)
    return CitedAnswer(said, best)


def _best_sentence(question: str, text: str) -> str:
    lines = [line for line in text.split("\n") if not line.startswith("#")] or [text]
    sentences = [" ".join(sentence.split()) for sentence in SENTENCE_ENDS.split("\n".join(lines)) if sentence.strip()]
    return sentences[int(BM25(sentences).scores(question).argmax())]
