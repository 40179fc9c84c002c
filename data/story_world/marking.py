"""Marks for answers: the accepted ones, and every short sentence that says what is wanted and nothing that is wrong."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from data.files import as_seen, without_blank_lines

from .coherence import check_story

ONE_SHAPE = {ord(sign): shape for shape, signs in (('"', "“”„‟«»"), ("'", "‘’‚‛‹›"), ("-", "‐‑−")) for sign in signs}
SIGNS = ".,;:!…。，、；：！"
CLOSING = re.compile(  # all signs at the end of an answer, and those behind a word in it
    rf"""(?<=[^\s{SIGNS}])(?:[\s{SIGNS}]*[{SIGNS}](?=["']?\Z)|[{SIGNS}]+(?=["']?\s))"""
)
OUTER_QUOTES = re.compile(r"""(["'])((?:(?!\1).|(?<=\w)\1(?=\w))+)\1""")  # an apostrophe in a word is no quotation mark
SHORTEST_END = 5  # words that go on with a story: an empty answer finishes nothing
COUNTED = ("count", "people")  # who counts aloud says other numbers on the way: only the last sentence is marked
LONGEST_SENTENCE = 30  # words: an answer that lists everything is no answer


class Instruction(NamedTuple):
    """A prompt, the answer we would give, and what makes an answer right.

    Attributes:
        accepted: answers that are right as they stand.
        history: earlier (prompt, answer) pairs of the same conversation, oldest first.
        wanted: an answer that holds one of these is right as well, unless it holds one of `rivals`.
        rivals: what no right answer holds, such as the other animal's name.
        told: what a story must hold, all of it.
        opening: the beginning of a story that the answer goes on with.
    """

    kind: str
    prompt: str
    response: str
    accepted: tuple[str, ...]
    history: tuple[tuple[str, str], ...] = ()
    wanted: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    opening: str = ""


class Question(NamedTuple):
    """A question of somebody else, to which no answer is written down, only what makes one right.

    Attributes:
        history: earlier (prompt, answer) pairs of the same conversation, oldest first.
        wanted: a right answer holds one of these.
        rivals: what no right answer holds, such as the other animal's name.
        told: what a story must hold, all of it.
    """

    kind: str
    prompt: str
    history: tuple[tuple[str, str], ...] = ()
    wanted: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def mark(record: Instruction | Question, answer: str) -> bool:
    """Say whether an answer is right.

    Right is an answer that equals an accepted one but for capital letters, closing signs and outer quotes, and every
    short answer that holds what is wanted and no rival. A story must hold who and what was asked for; its mood is not
    read. A whole story (kind "tell", or an opening with its end) must also be one in which `check_story` finds no
    fault.

    Closing signs are commas, periods, colons, semicolons and exclamation marks behind a word. Signs that stand anywhere
    else count, because they can carry the meaning: -5 is not 5, 1.5 is not 15, and C# is not C++. So do line ends and
    indentation where the accepted answer has several lines, as code has.

    Source: this course. Taught in ch06, section 6.11.
    """
    accepted, opening = (record.accepted, record.opening) if isinstance(record, Instruction) else ((), "")
    if opening:
        return len(answer.split()) >= SHORTEST_END and not check_story(f"{opening}\n{answer}")
    if record.told:
        return _holds_all(record.told, answer) and not (record.kind == "tell" and check_story(answer))
    return any(_as_marked(answer, right) == _as_marked(right, right) for right in accepted) or (
        _says_what_is_wanted(record, answer)
    )


def _says_what_is_wanted(record: Instruction | Question, answer: str) -> bool:
    if record.kind in COUNTED:
        answer = re.split(r"[.!?]\s+", answer.strip())[-1]
    return _holds(record.wanted, answer) and not _holds(record.rivals, answer)


def _holds(phrases: Sequence[str], answer: str) -> bool:
    """Whether a short answer holds one of the phrases, as whole words."""
    text = as_seen(answer.casefold()).translate(ONE_SHAPE)
    if len(text.split()) > LONGEST_SENTENCE:
        return False
    return any(re.search(rf"(?<!\w){re.escape(phrase.casefold())}(?!\w)", text) for phrase in phrases)


def _holds_all(told: Sequence[str], answer: str) -> bool:
    asked = {word for part in told for word in part.casefold().split()}
    return asked <= set(re.findall(r"[\w-]+", answer.casefold()))


def _as_marked(text: str, accepted: str) -> list[str]:
    """The lines of a text with their indentation; all in one where the accepted answer has one line."""
    lines = without_blank_lines(text).strip().split("\n") if "\n" in accepted.strip() else [text.strip()]
    return [line[: len(line) - len(line.lstrip())] + _plain(line) for line in lines]


def _plain(text: str) -> str:
    text = CLOSING.sub("", as_seen(text.casefold()).translate(ONE_SHAPE))
    quoted = OUTER_QUOTES.fullmatch(text)
    return CLOSING.sub("", quoted[2]) if quoted else text
