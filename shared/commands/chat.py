"""`python course.py chat`: talk with an assistant in the terminal.

Answers appear as they are written. With `--remember`, earlier turns are read again as far as they fit into the model's
context; an assistant that was trained on single questions mixes them up, so it is the default for the course's own
assistant and for published models only. Where it was measured how sure the answers are, a word says it. Control
characters are taken out of what is typed and of what is shown, and a special token that somebody types stays text.
"""

import argparse
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from shared.commands.chat_abilities import Group, load_groups
from shared.commands.chat_sureness import Sureness, sureness_of
from shared.commands.command_line import CommandParser, command, seed_number
from shared.commands.own_models import Sorter, kept_rows, run_of, score_of
from shared.commands.published_models import add_precision, tell_memory

if TYPE_CHECKING:
    from ch06_finetuning.assistant import Assistant

HELP = "Type a question and press Enter. /quit ends the talk, Ctrl-C stops an answer."
NUMBERS = "A number asks an example, and the same number again another one. /examples lists them once more.\n"
NEW = "(a new talk begins: what was said before is forgotten)\n"

OURS = (
    "Hello! I can answer questions about a short story, tell you a story, and play with words. I have read nothing but "
    "children's stories, and I can be wrong; chapter 6 measures how often."
)
PUBLISHED = (
    "It is a published model of {n_parameters} and has read much of the web. It answers in fluent English whether it "
    "knows or not, so check what matters; where a long answer repeats itself, a higher temperature helps."
)
EVERYDAY_QUESTIONS = [
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "What can I cook with eggs and potatoes?",
    "Write a short poem about the sea.",
]
OWN = (
    "It has learned from {n:,} rows of {file}. {score} report.md in the folder of {run} says more; look there before "
    "you believe it."
)
SCORED = "Of {n:,} rows kept aside it got {right:,} right."
DOUBTFUL = " That is not shown to be better than something far simpler."
SORTS = "It sorts what you type: {labels}. Everything gets one of these, also what belongs to none of them."
LINE = 100  # characters in a line of the terminal
MODELS = "name of a run, a folder, a published model (smollm2, a folder, a .gguf file), or 'shipped' (default)"


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("chat", "Talk with an assistant in the terminal.")
    options.add_argument("model", nargs="?", default="shipped", help=MODELS)
    options.add_argument("--temperature", type=float, default=0.0, help="0 always gives the likeliest answer (default)")
    options.add_argument("--top-p", type=float, default=None, help="draw from the likeliest tokens of this total only")
    options.add_argument("--seed", type=seed_number, default=None, help="makes drawn answers repeatable")
    told = "read the talk so far with every question, or not (default: what the model was trained for)"
    add_precision(options)
    options.add_argument("--remember", action=argparse.BooleanOptionalAction, default=None, help=told)
    return options


@command("chat")
def main(arguments: list[str] | None = None) -> int:
    """Load the assistant that was asked for and talk until the user ends it; return the exit status."""
    settings = parser().parse_args(arguments)
    sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "seed": settings.seed}
    from ch04_gpt_model.sampling import require_sampling_settings
    from shared.commands.own_models import load_talker

    require_sampling_settings(settings.temperature, None, settings.top_p)
    tell_memory(settings.model, settings.precision)
    assistant = load_talker(settings.model, settings.precision)
    welcome = welcome_of(assistant, settings.model)
    print(welcome.says)
    if welcome.examples:
        print("You could ask: " + "\n               ".join(welcome.examples[:3]))
    remember = welcome.remember if settings.remember is None else settings.remember
    sureness = None if settings.temperature else sureness_of(settings.model)
    talk(assistant, sampling, remember=remember, groups=welcome.groups, sureness=sureness)
    return 0


@dataclass(frozen=True)
class Welcome:
    """What somebody should know before the first question.

    Args:
        says: what the assistant can do and what it cannot.
        examples: questions to begin with.
        remember: whether it reads the talk so far, for which it must have been trained on talks of several turns.
        groups: what it can do, with examples; only for an assistant of the course.
        name: what it is called; nothing where it has no name of its own.
    """

    says: str
    examples: list[str]
    remember: bool = False
    groups: list[Group] = field(default_factory=list)
    name: str = ""


def welcome_of(assistant: "Assistant | Sorter", source: str | Path = "shipped") -> Welcome:
    """Say what an assistant is good for: a published model knows much of the world, ours the story world.

    Args:
        assistant: who answers.
        source: where it was loaded from; one that was made from own rows suggests some of its validation set.
    """
    from ch05_pretraining.published_tokenizers import PublishedTokenizer

    sorts = SORTS.format(labels=", ".join(assistant.classifier.labels)) if isinstance(assistant, Sorter) else ""
    if made := run_of(source):
        split = kept_rows(made[0], made[1]["kind"])
        shown = [row for row in split.validation if not getattr(row, "history", ())]  # the test set stays unseen
        examples = [" ".join((row.text if sorts else row.prompt).split()) for row in shown[:4]]
        told = OWN.format(n=len(split.train), file=made[1]["file"], run=made[0].name, score=_scored(made[0]))
        return Welcome(" ".join(f"{sorts} {told}".split()), examples, name=made[0].name)
    if isinstance(assistant, Sorter):
        return Welcome(sorts, ["Thank you so much!"])
    if isinstance(assistant.tokenizer, PublishedTokenizer):
        n_parameters = f"{assistant.model.n_parameters / 1e6:,.0f} million parameters"
        return Welcome(PUBLISHED.format(n_parameters=n_parameters), EVERYDAY_QUESTIONS, remember=True)
    return Welcome(OURS, [], remember=True, groups=load_groups())


def _scored(folder: Path) -> str:
    """How good a model of own rows was found to be; nothing where it was not measured to the end."""
    if (score := score_of(folder)) is None:
        return ""
    right, n, doubtful = score
    return SCORED.format(right=right, n=n) + DOUBTFUL * doubtful


def menu(groups: Sequence[Group]) -> str:
    """List what an assistant can do, one group a line, with the number of each ability.

    Args:
        groups: of a welcome.
    """
    lines, number, width = [], 0, max((len(group.title) for group in groups), default=0)
    for group in groups:
        numbered = [f"{number + n} {ability.label}" for n, ability in enumerate(group.abilities, start=1)]
        number += len(numbered)
        kept = textwrap.wrap("   ".join(text.replace(" ", "\xa0") for text in numbered), LINE - width - 2)
        lines += [f"{title:{width}}  {line}\n" for title, line in zip([group.title, *[""] * len(kept)], kept)]
    return "".join(lines).replace("\xa0", " ")


def talk(
    assistant, sampling: dict | None = None, read=input, write=None, *, remember: bool = True,
    groups: Sequence[Group] = (), sureness: Sureness | None = None,
) -> list[tuple]:  # fmt: skip
    """Ask and answer until /quit or the end of the input, and return the turns that are still remembered.

    Args:
        assistant: anything with `.stream_likely(prompt, history, **sampling)`, `.turns_that_fit(prompt, history)` and
            `.was_cut`.
        sampling: temperature, top_p and seed.
        read: gives the next line of the user, raises EOFError at the end.
        write: shows a piece of text.
        remember: let the assistant read the earlier turns too.
        groups: what it can do; a number asks for an example.
        sureness: how sure its likeliest answers are; None says nothing about it.
    """
    now = _Talk(assistant, sampling or {}, write or _show, remember, sureness)
    abilities = [cycle(ability.examples) for group in groups for ability in group.abilities]
    now.write(menu(groups) + NUMBERS * bool(groups) + HELP + " /new forgets the talk so far." * remember + "\n")
    while (line := _next_line(read)) is not None:
        if line == "/new":
            now.history.clear()
            now.write("(forgotten)\n")
        elif line == "/examples":
            now.write(menu(groups))
        elif line.isdecimal() and 0 < int(line) <= len(abilities):
            now.show(next(abilities[int(line) - 1]))
        elif line:
            now.ask(line)
    now.write("Goodbye.\n")
    return now.history


def forget(assistant, prompt: str, history: list) -> str:
    """Take the oldest turns out of a history until the rest fits into the model's context, and say so in a sentence.

    Args:
        assistant: anything with `.turns_that_fit(prompt, history)`.
        prompt: what is asked now.
        history: (prompt, answer) pairs, oldest first; shortened here.
    """
    n_left_out = len(history) - len(assistant.turns_that_fit(prompt, history))
    del history[:n_left_out]
    turns = "its oldest turn" if n_left_out == 1 else f"its {n_left_out} oldest turns"
    return f"To fit into the model's context, the talk goes on without {turns}." if n_left_out else ""


def clean(text: str) -> str:
    """Take control characters, invisible marks and lone surrogates out of a text; line ends stay."""
    return "".join(character for character in text if character == "\n" or unicodedata.category(character)[0] != "C")


def _next_line(read) -> str | None:
    try:
        line = clean(read("you> ").replace("\t", " ")).strip()
    except (EOFError, KeyboardInterrupt):
        return None
    return None if line in ("/quit", "/exit") else line


@dataclass
class _Talk:
    """A talk and what has been said in it."""

    assistant: "Assistant | Sorter"
    sampling: dict
    write: Callable[[str], None]
    remember: bool
    sureness: Sureness | None
    history: list[tuple] = field(default_factory=list)

    def show(self, prompts: list[str]) -> None:
        """Ask an example, which is about a text of its own."""
        if self.history and self.remember:
            self.write(NEW)
        self.history.clear()
        for prompt in prompts:
            self.write(f"you> {prompt}\n")
            self.ask(prompt)

    def ask(self, line: str) -> None:
        """Ask, show the answer and remember both."""
        pieces: list[str] = []
        try:
            self.write(f" ({told})\n" if (told := self._answered(line, pieces)) else "\n")
        except ValueError as error:
            self.write(f"({error})\n")
            return
        if answer := "".join(pieces).strip():
            self.history.append((line, answer))

    def _answered(self, line: str, pieces: list[str]) -> str:
        """Show an answer piece by piece, and return what is to be said about it."""
        probabilities = []
        try:
            if self.remember and (left_out := forget(self.assistant, line, self.history)):
                self.write(f"({left_out})\n")
            history = self.history if self.remember else []
            for piece, likely in self.assistant.stream_likely(line, history, **self.sampling):
                pieces.append(clean(piece))
                probabilities.append(likely[0][1])
                self.write(pieces[-1])
        except KeyboardInterrupt:
            return "stopped"
        if self.assistant.was_cut:
            from ch06_finetuning.assistant import CUT

            return CUT
        return self.sureness.sentence("".join(pieces), probabilities) if self.sureness else ""


def _show(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
