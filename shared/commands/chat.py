"""`python course.py chat`: talk with an assistant in the terminal.

Answers appear as they are written. With `--remember`, earlier turns are read again as far as they fit into the model's
context; it is the default for published models only, because an assistant that was trained on single questions mixes
them up. Control characters are taken out of what is typed and of what is shown, and a special token that somebody types
stays text.
"""

import argparse
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.commands.command_line import CommandParser, command, seed_number
from shared.commands.own_models import Sorter, kept_rows, run_of
from shared.commands.published_models import add_precision, tell_memory

if TYPE_CHECKING:
    from ch06_finetuning.assistant import Assistant

HELP = "Type a question and press Enter. /quit ends the talk, Ctrl-C stops an answer."


OURS = (
    "It has learned a few kinds of questions in a few wordings. Asked in other words it is mostly wrong; chapter 6 "
    "measures how often."
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
    "It has learned from {n:,} rows of {file}, and knows nothing but what they say. How often it was right on rows "
    "kept aside says report.md in the folder of {run}; look there before you believe it."
)
SORTS = "It sorts what you type: {labels}."
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
    print(f"{welcome.says}\nYou could ask: " + "\n               ".join(welcome.examples[:3]))
    remember = welcome.remember if settings.remember is None else settings.remember
    talk(assistant, sampling, remember=remember)
    return 0


@dataclass(frozen=True)
class Welcome:
    """What somebody should know before the first question.

    Args:
        says: what the assistant can do and what it cannot.
        examples: questions to begin with.
        remember: whether it reads the talk so far, for which it must have been trained on talks of several turns.
    """

    says: str
    examples: list[str]
    remember: bool = False


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
        told = OWN.format(n=len(split.train), file=made[1]["file"], run=made[0].name)
        return Welcome(f"{sorts} {told}".strip(), examples)
    if isinstance(assistant, Sorter):
        return Welcome(sorts, ["Thank you so much!"])
    if isinstance(assistant.tokenizer, PublishedTokenizer):
        n_parameters = f"{assistant.model.n_parameters / 1e6:,.0f} million parameters"
        return Welcome(PUBLISHED.format(n_parameters=n_parameters), EVERYDAY_QUESTIONS, remember=True)
    return Welcome(OURS, example_questions())


def example_questions(n: int = 4) -> list[str]:
    """Give short questions of different kinds that the assistant has not seen in training.

    Args:
        n: how many, at most one of each kind.
    """
    from data.loaders import load_instructions

    shortest: dict[str, str] = {}
    for record in [record for record in load_instructions("validation") if not record.history]:
        known = shortest.get(record.kind, record.prompt)
        shortest[record.kind] = min(known, record.prompt, key=len)
    return [prompt for prompt in shortest.values() if "\n" not in prompt][:n]


def talk(assistant, sampling: dict | None = None, read=input, write=None, *, remember: bool = True) -> list[tuple]:
    """Ask and answer until /quit or the end of the input, and return the turns that are still remembered.

    Args:
        assistant: anything with `.stream(prompt, history, **sampling)`, `.turns_that_fit(prompt, history)` and
            `.was_cut`.
        sampling: temperature, top_p and seed.
        read: gives the next line of the user, raises EOFError at the end.
        write: shows a piece of text.
        remember: let the assistant read the earlier turns too.
    """
    write = write or _show
    write(HELP + (" /new forgets the talk so far.\n" if remember else "\n"))
    history: list[tuple] = []
    while (line := _next_line(read)) is not None:
        if line == "/new":
            history.clear()
            write("(forgotten)\n")
        elif line:
            _one_turn(assistant, line, history, sampling or {}, write, remember)
    write("Goodbye.\n")
    return history


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


def _one_turn(assistant, line: str, history: list, sampling: dict, write, remember: bool) -> None:
    from ch06_finetuning.assistant import CUT

    pieces = []
    try:
        if remember and (left_out := forget(assistant, line, history)):
            write(f"({left_out})\n")
        for piece in assistant.stream(line, history if remember else [], **sampling):
            pieces.append(clean(piece))
            write(pieces[-1])
        if assistant.was_cut:
            write(f" ({CUT})")
    except KeyboardInterrupt:
        write(" (stopped)")
    except ValueError as error:
        write(f"({error})\n")
        return
    write("\n")
    if answer := "".join(pieces).strip():
        history.append((line, answer))


def _show(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="replace").decode(encoding), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
