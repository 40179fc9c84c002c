"""`python course.py sample "Once upon a time"`: let a GPT go on from there, token by token."""

import argparse
import sys
from functools import partial
from itertools import takewhile
from pathlib import Path

from shared.commands.command_line import CommandParser, command, seed_number, whole_number
from shared.commands.published_models import add_precision, tell_memory


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("sample", "Let a GPT go on from a prompt.")
    options.add_argument("prompt", nargs="?", default="", help="how the text begins (default: a new story)")
    which = options.add_mutually_exclusive_group()
    which.add_argument("--run", default="shipped", metavar="NAME", help="a run of yours, or 'shipped' (default)")
    which.add_argument(
        "--model", metavar="SOURCE", help="a published model: smollm2, a folder, or a .gguf file; or a folder of ours"
    )
    add_precision(options)
    options.add_argument("--tokens", type=whole_number(0), default=300, help="most tokens to add (default 300)")
    options.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest each time (default 0.7)")
    options.add_argument("--top-k", type=int, help="draw from this many likeliest tokens only")
    options.add_argument("--top-p", type=float, help="draw from the likeliest tokens of this total only")
    options.add_argument("--seed", type=seed_number, help="the same number, the same text")
    return options


def pieces(model, tokenizer, prompt: str, max_new_tokens: int, **sampling):
    """Yield the text that continues a prompt, as soon as its characters are complete.

    Args:
        model: any GPT.
        tokenizer: the one it was trained with.
        prompt: how the text begins; empty for a new story.
        max_new_tokens: most tokens to add.
        sampling: temperature, top_k, top_p and seed of `generate`.
    """
    import torch

    from ch02_text_data.streaming import stream_text
    from ch04_gpt_model import generation
    from ch05_pretraining.published_tokenizers import PublishedTokenizer

    begin, ends = edges(tokenizer)
    ids = [*begin, *tokenizer.encode(prompt)]
    if not ids:
        raise ValueError("the prompt is empty, and this model begins no text by itself: give the beginning of one")
    tokens = generation.stream(model, torch.tensor([ids]), max_new_tokens, **sampling)
    decode = tokenizer.decode
    if isinstance(tokenizer, PublishedTokenizer):  # the space between the prompt and the first new word stays
        decode = partial(decode, begins=not prompt)
    return stream_text(takewhile(lambda token: token not in ends, tokens), decode)


def edges(tokenizer) -> tuple[list[int], set[int]]:
    """Give the ids with which a text begins, and those that end it.

    Args:
        tokenizer: one of the course, or a published model's.
    """
    from ch05_pretraining.published_tokenizers import PublishedTokenizer

    if isinstance(tokenizer, PublishedTokenizer):
        return [*tokenizer.begin_ids], {*tokenizer.end_ids, *tokenizer.special_tokens.values()}
    end = tokenizer.special_tokens["<|endoftext|>"]
    return [end], {end}


def _opened(run: str, published: str | None, precision: str) -> tuple:
    """The published model that was asked for, or the story GPT of a run, with its tokenizer."""
    from ch05_pretraining.open_weights import is_pretrained, load_pretrained
    from ch05_pretraining.saved_models import load_story_gpt
    from ch06_finetuning.named_models import find_own, load_base

    folder = find_own(run if published is None else Path(published), "story_gpt", "assistant")
    if folder and (run != "shipped" or published is not None) and not is_pretrained(folder) and precision == "float32":
        return load_base(folder)
    published = str(folder) if folder and is_pretrained(folder) else published
    if published is not None:
        tell_memory(published, precision)
        return load_pretrained(published, precision)
    if precision != "float32":
        raise ValueError(f"--precision {precision} goes with --model: a story GPT computes in float32, leave it out")
    return load_story_gpt(run)


@command("sample")
def main(arguments: list[str] | None = None) -> int:
    """Print the prompt and what the model adds; return the exit status."""
    options = parser().parse_args(arguments)
    from ch04_gpt_model.sampling import require_sampling_settings

    require_sampling_settings(options.temperature, options.top_k, options.top_p)
    model, tokenizer = _opened(options.run, options.model, options.precision)
    sampling = {name: getattr(options, name) for name in ("temperature", "top_k", "top_p", "seed")}
    added = pieces(model, tokenizer, options.prompt, options.tokens, **sampling)
    print(options.prompt, end="", flush=True)
    n_signs = 0
    for piece in added:
        n_signs += len(piece)
        print(piece, end="", flush=True)
    print()
    if options.tokens and not n_signs:
        print("The model ended the text at once; an assistant is asked with course.py chat.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
