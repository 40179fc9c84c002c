"""`python course.py chat`: talk with an assistant in the terminal.

Answers appear as they are written. With `--remember`, earlier turns are read again as far as they fit into the model's
context; it is no default, because an assistant that was trained on single questions mixes them up. Control characters
are taken out of what is typed and of what is shown, and a special token that somebody types stays text.
"""

import argparse
import sys
import unicodedata

from shared.commands.command_line import CommandParser, command, seed_number

HELP = "Type a question and press Enter. /quit ends the talk, Ctrl-C stops an answer."


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("chat", "Talk with an assistant in the terminal.")
    options.add_argument("run", nargs="?", help="name of a run (default: the assistant that comes with the course)")
    options.add_argument("--temperature", type=float, default=0.0, help="0 always gives the likeliest answer (default)")
    options.add_argument("--top-p", type=float, default=None, help="draw from the likeliest tokens of this total only")
    options.add_argument("--seed", type=seed_number, default=None, help="makes drawn answers repeatable")
    options.add_argument("--remember", action="store_true", help="read the talk so far with every question")
    return options


@command("chat")
def main(arguments: list[str] | None = None) -> int:
    """Load the assistant that was asked for and talk until the user ends it; return the exit status."""
    settings = parser().parse_args(arguments)
    sampling = {"temperature": settings.temperature, "top_p": settings.top_p, "seed": settings.seed}
    from ch04_gpt_model.sampling import require_sampling_settings
    from ch06_finetuning.assistant import load_assistant

    require_sampling_settings(settings.temperature, None, settings.top_p)
    assistant = load_assistant(settings.run or "shipped")
    print("You could ask: " + "\n               ".join(example_questions(3)))
    talk(assistant, sampling, remember=settings.remember)
    return 0


def example_questions(n: int = 4) -> list[str]:
    """Give short questions of different kinds that the assistant has not seen in training.

    Args:
        n: how many, at most one of each kind.
    """
    from data.loaders import load_instructions

    shortest: dict[str, str] = {}
    for record in load_instructions("validation"):
        known = shortest.get(record.kind, record.prompt)
        shortest[record.kind] = min(known, record.prompt, key=len)
    return [prompt for prompt in shortest.values() if "\n" not in prompt][:n]


def talk(assistant, sampling: dict | None = None, read=input, write=None, *, remember: bool = True) -> list[tuple]:
    """Ask and answer until /quit or the end of the input, and return the turns.

    Args:
        assistant: anything with `.stream(prompt, history, **sampling)`.
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
    pieces = []
    try:
        for piece in assistant.stream(line, history if remember else [], **sampling):
            pieces.append(clean(piece))
            write(pieces[-1])
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
