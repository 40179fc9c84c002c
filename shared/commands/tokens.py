"""`python course.py tokens FOLDER`: turn texts into token shards, which `ShardLoader` reads batch by batch.

The text may be larger than the memory. An interrupted call goes on where it stopped, and ends with the same bytes.
"""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from shared.commands.command_line import CommandParser, command, whole_number

SAMPLE = 20_000_000  # characters from which a new vocabulary is learned


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("tokens", "Turn .txt, .md, .jsonl and, with pyarrow, .parquet files into token shards.")
    options.add_argument("source", type=Path, help="a folder with such files, or one file; UTF-8")
    options.add_argument("--out", type=Path, help="where the shards go (default: runs/tokens/ and the source's name)")
    told = "learn a vocabulary of N tokens from the first texts (default: GPT-2's; fetch gpt2-tokenizer brings it)"
    options.add_argument("--vocabulary", type=whole_number(300, 100_000), metavar="N", help=told)
    processes = os.cpu_count() or 1
    told = f"how many work at once; the shards are the same with any (default {processes}, the cores)"
    options.add_argument("--processes", type=whole_number(1), default=processes, help=told)
    told = "share of the documents kept aside for validation (default 0.01)"
    options.add_argument("--kept-aside", type=float, default=0.01, metavar="SHARE", help=told)
    return options


@command("tokens")
def main(arguments: list[str] | None = None) -> int:
    """Write the shards and say what they hold; return the exit status."""
    options = parser().parse_args(arguments)
    from ch02_text_data.token_shards import write_token_shards
    from data.document_stream import text_files
    from data.paths import runs_dir

    if not options.source.exists():
        raise ValueError(f"there is no {options.source}: give a folder with texts, or a file")
    notes: list[str] = []
    paths = text_files(options.source, notes) if options.source.is_dir() else [options.source]
    for note in notes:
        print(note, file=sys.stderr)
    folder = options.out or runs_dir() / "tokens" / options.source.resolve().stem
    begun = time.perf_counter()
    try:
        manifest = write_token_shards(
            paths, folder, _tokenizer(folder, paths, options.vocabulary), kept_aside=options.kept_aside,
            processes=options.processes, on_shard=lambda progress: _show(progress, time.perf_counter() - begun),
        )  # fmt: skip
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on.")
        return 130
    for split in ("train", "validation"):
        tokens, documents = (sum(shard[key] for shard in manifest[split]) for key in ("tokens", "documents"))
        print(f"{split}: {tokens:,} tokens of {documents:,} documents, shards: {len(manifest[split]):,}")
    print(f"in {folder}. To train on them:")
    words = [sys.executable, "-m", "ch05_pretraining.gpt2_recipe", str(folder), "--out", str(runs_dir() / "NAME")]
    print(f"  {shlex.join([*words, '--shape', 'small'])}")
    return 0


def _tokenizer(folder: Path, paths: list[Path], vocabulary: int | None):
    """The tokenizer of an earlier call; or a new one; or GPT-2's."""
    from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
    from ch02_text_data.encoding_files import tokenizer_from_json
    from ch02_text_data.text_data import BPETokenizer
    from ch02_text_data.tokenizer_files import gpt2_tokenizer

    if vocabulary is None:
        try:
            return gpt2_tokenizer()
        except ValueError as error:
            raise ValueError(f"{error}, or learn one of your text: --vocabulary 8000") from error
    if (folder / "tokenizer.json").is_file():
        kept = tokenizer_from_json((folder / "tokenizer.json").read_bytes())
        if isinstance(kept, BPETokenizer) and kept.vocab_size == vocabulary:
            return kept
    return BPETokenizer.train(_first_texts(paths), vocabulary, SPECIAL_TOKENS)


def _first_texts(paths: list[Path]):
    from data.document_stream import stream_documents

    left = SAMPLE
    for path in paths:
        for part in stream_documents(path):
            yield part.text
            left -= len(part.text)
            if left < 0:
                return


def _show(progress, seconds: float) -> None:
    now = progress.bytes_read - progress.bytes_before  # an earlier call has read the others
    left = seconds * max(0, progress.bytes_in_all - progress.bytes_read) / max(1, now)
    print(
        f"{progress.tokens:,} tokens, {progress.bytes_read / 1e6:,.0f} of {progress.bytes_in_all / 1e6:,.0f} MB, "
        f"about {left:,.0f} s left",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
