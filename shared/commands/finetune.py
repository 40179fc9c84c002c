"""`python course.py finetune`: from a table of messages or a list of records to a model of your own.

The rows are read and split, the base is opened and every row is tried before anything is written. Then the model
learns in `runs/NAME/`; Ctrl-C saves, and `--resume` goes on. `report.md` has the scores on rows
that were kept aside.
"""

import argparse
import hashlib
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data.durable_folders import json_bytes
from data.files import write_atomically
from shared.commands.chat import clean
from shared.commands.command_line import CommandParser, command, seed_number, whole_number
from shared.commands.own_models import SCORE, add_columns, begun_with, keep_rows, kept_rows, never_begun, read_rows
from shared.commands.run import WRITE_ELSEWHERE, ProgressLine, folder_of

KINDS = {"messages": "classifier", "instructions": "assistant"}  # what is read -> what comes of it
GIVEN = {"base": "from", "lora": "lora", "epochs": "epochs", "seed": "seed"}  # our names, and the options
N_MARKED, N_SHOWN = 40, 10
NEAREST = "repeating the answer of the training question with the rarest words in common"
READ_LITTLE = (
    "What to do: this is a small model that has read little (the story GPT nothing but children's stories), so it "
    "remembers the rows that it was taught, and new wordings are mostly lost on it. Begin as a model that has read "
    "much of the web, with `--from smollm2` (first `python course.py fetch smollm2`) and another `--name`; or give "
    "more rows that say the same in other words."
)
STRANGE_SAMPLE, SHOWN_TO_TOKENIZER = 1_000, 2_000  # rows and characters of each tell enough of their words
STORY_PIECES, STRANGE = 1.25, 1.5  # tokens that the story GPT makes of a word of its stories; so many times are strange


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("finetune", "Teach a model to sort your messages or to answer as your records do.")
    rows = options.add_mutually_exclusive_group()
    rows.add_argument("--messages", metavar="FILE", help="a table of labels and texts (TSV, CSV): gives a classifier")
    rows.add_argument("--instructions", metavar="FILE", help="questions and answers (JSON, CSV): gives an assistant")
    told = "story (default), smollm2, the name of a run, a folder or a .gguf file"
    add_columns(options)
    options.add_argument("--from", dest="base", metavar="MODEL", help=f"what it begins as: {told}")
    told = "learn thin corrections, merged at the end (always, where the base is a published model)"
    options.add_argument("--lora", action="store_true", default=None, help=told)
    options.add_argument(
        "--epochs", type=whole_number(1), metavar="N", help="times each row is read (default: by their number)"
    )
    options.add_argument("--seed", type=seed_number, help="another split and order of the rows (default 0)")
    options.add_argument("--name", help="folder in runs/ (default: the file's name)")
    options.add_argument("--resume", action="store_true", help="go on where Ctrl-C stopped; --name NAME is enough")
    return options


class Work:
    """What is to be done: a folder in runs/, the rows, and the settings; everything in it has been checked.

    Args:
        folder: of the run.
        about: what `finetune.json` holds.
        split: the rows.
        notes: what should be known of the rows, sentences.
    """

    def __init__(self, folder: Path, about: dict, split: Any, notes: list[str]):
        from ch06_finetuning.own_data import OwnSettings

        self.folder, self.about, self.split, self.notes = folder, about, split, notes
        self.settings = OwnSettings(**about["settings"])
        self.model_folder = folder / KINDS[about["kind"]]
        self.score: dict[str, int | bool] = {}  # of the model, once `report_of` has measured it


def open_work(options: argparse.Namespace, runs: Path) -> Work:
    """Check everything that was given; nothing is written.

    Raises:
        ValueError: a file, a model, a name or an option that cannot be used.
    """
    kind = next((kind for kind in KINDS if getattr(options, kind) is not None), None)
    file = getattr(options, kind) if kind else None
    if not file and not (options.resume and options.name):
        raise ValueError("give --messages FILE or --instructions FILE, or --resume --name NAME to go on")
    if options.name == "":
        raise ValueError("--name '' names no run: give a name, or leave the option out")
    folder = folder_of(argparse.Namespace(text=[file] if file else None, name=options.name, quick=None), runs)
    if options.resume or kind is None or file is None:
        return _go_on(folder, kind, file, options)
    return _begin(folder, kind, file, options)


def _begin(folder: Path, kind: str, file: str, options: argparse.Namespace) -> Work:
    from ch05_pretraining.open_weights import is_pretrained
    from ch06_finetuning.named_models import load_base, ready_to_chat
    from ch06_finetuning.own_data import OwnSettings, fitting_notes, split_rows

    if not never_begun(folder):
        what = "go on with it by --resume, or" if begun_with(folder) else "it is no run of this command:"
        raise ValueError(f"{folder} is there already: {what} choose another name with --name")
    given = {name: value for name in GIVEN if (value := getattr(options, name)) is not None}
    settings = OwnSettings(**given)
    published = is_pretrained(settings.base)
    rows, sha256 = read_rows(file, options, kind), _hash(file)
    with _named(file):
        split = split_rows(rows, seed=settings.seed)
    model, tokenizer = load_base(settings.base)
    if kind == "instructions":
        model, tokenizer = ready_to_chat(model, tokenizer)
    with _named(file):
        if kind == "instructions":
            _refuse_long_questions(rows, model, tokenizer)
        notes = [*split.notes, *fitting_notes(rows, model, tokenizer)]
    notes += [] if published else _strange_words(rows, tokenizer)
    settings = replace(settings, lora=settings.lora or published)
    about = {"kind": kind, "settings": asdict(settings), "file": Path(file).name, "sha256": sha256, "notes": notes}
    return Work(folder, about, split, notes)


@contextmanager
def _named(file: str) -> Iterator[None]:
    """Let a complaint about rows name their file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _refuse_long_questions(rows: list, model: Any, tokenizer: Any) -> None:
    from ch06_finetuning.instructions import prompt_ids
    from ch06_finetuning.own_data import longest_row

    for number, row in enumerate(rows, start=1):
        if (n_tokens := len(prompt_ids(tokenizer, row.prompt, row.history))) > longest_row(model):
            raise ValueError(
                f"record {number}: its question takes {n_tokens:,} tokens, and the model reads {longest_row(model):,}, "
                "which leaves no answer to learn from; shorten it"
            )


def _strange_words(rows: list, tokenizer: Any) -> list[str]:
    """Warn where a tokenizer cuts the words of the rows into many more pieces than those of stories."""
    from ch02_text_data.any_tokenizer import encode_text

    some = random.Random("some rows").sample(rows, min(len(rows), STRANGE_SAMPLE))
    texts = [text[:SHOWN_TO_TOKENIZER] for row in some for text in _texts_of(row)]
    pieces = sum(len(encode_text(tokenizer, text)) for text in texts) / max(1, sum(len(t.split()) for t in texts))
    if pieces <= STRANGE * STORY_PIECES:
        return []
    return [
        f"a word of these texts is {pieces:.1f} tokens to the model, one of its stories about {STORY_PIECES}: it "
        "hardly knows them, so expect little; --from smollm2 knows more of the world"
    ]


def _texts_of(row: Any) -> list[str]:
    return [row.text] if hasattr(row, "text") else [row.prompt, row.response]


def _go_on(folder: Path, kind: str | None, file: str | None, options: argparse.Namespace) -> Work:
    about = begun_with(folder)
    if about is None:
        raise ValueError(f"there is nothing to go on with in {folder}: leave --resume out to begin")
    if kind and kind != about["kind"] or file and _hash(file) != about["sha256"]:
        raise ValueError(f"{folder} was begun with other rows: leave the file out to go on, or choose another --name")
    for name, option in GIVEN.items():
        value, then = getattr(options, name), about["settings"][name]
        if value is not None and value != then:
            how = f"without --{option}" if then is None or then is False else f"with --{option} {then}"
            raise ValueError(f"{folder} was begun {how}: leave the option out, or choose another --name")
    return Work(folder, about, kept_rows(folder, about["kind"]), about.get("notes", []))


def _hash(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


# ---------------------------------------------------------------- learn and report


def learn(work: Work) -> Any:
    """Fine-tune, or take what is done: -> the model."""
    from ch06_finetuning.own_data import finetune_on_instructions, finetune_on_messages

    teach = finetune_on_messages if work.about["kind"] == "messages" else finetune_on_instructions
    sizes = [len(rows) for rows in (work.split.train, work.split.validation, work.split.test)]
    print(
        f"{sizes[0]:,} rows to learn from, {sizes[1]:,} to choose the best step by, {sizes[2]:,} to test with",
        flush=True,
    )
    line = ProgressLine(KINDS[work.about["kind"]])
    try:
        return teach(work.model_folder, work.split, work.settings, on_step=line)
    finally:
        line.end()


def report_of(work: Work, model: Any) -> str:
    """Say how good the model is on the rows that were kept aside, beside what it must beat.

    Args:
        work: the rows and the settings.
        model: what `learn` gave.
    """
    sentences = _classifier_scores(work, model) if work.about["kind"] == "messages" else _assistant_scores(work, model)
    made = work.about["settings"]
    settings = ", ".join(f"{GIVEN[name]} {made[name]}" for name in GIVEN if name != "lora" and made[name] is not None)
    settings += ", by LoRA" if made["lora"] else ""
    notes = "".join(f"- {note}\n" for note in work.notes)
    head = f"# Report on *{work.folder.name}*\n\nMade from {work.about['file']} ({settings}).\n\n{notes}\n"
    return head + "\n\n".join(sentences) + "\n"


def _classifier_scores(work: Work, model: Any) -> list[str]:
    from ch06_finetuning.own_data import examine
    from ch06_finetuning.recipes import classifier_report

    train, test = work.split.train, work.split.test
    found = examine(model, test)
    beside = [
        *_beside(found.right, "counting words (bag of words)", _counted_words(train, test)),
        *_beside(found.right, *_commonest(train, test)),
    ]
    work.score = _score(found, beside)
    return [
        f"## On {len(test):,} rows kept aside",
        _block(classifier_report(model, model.tokenizer, test)),
        *beside,
        *_advice(model, beside),
        *errors_to_read(found),
    ]


def _counted_words(train: list, test: list) -> list[bool] | str:
    """Which test rows a bag of words gets right, or why it cannot be made."""
    from ch06_finetuning.bag_of_words import BagOfWords

    labels = sorted({row.label for row in train})
    try:
        bag = BagOfWords(len(labels)).fit([row.text for row in train], [labels.index(row.label) for row in train])
    except ValueError as error:
        return str(error)
    return [labels[n] == row.label for n, row in zip(bag.predict(row.text for row in test).tolist(), test)]


def _commonest(train: list, test: list) -> tuple[str, list[bool]]:
    """What answers the same each time, the commonest label, and where it is right."""
    label = Counter(row.label for row in train).most_common(1)[0][0]
    return f"always saying {label!r}", [row.label == label for row in test]


def _beside(right: list[bool], name: str, other: list[bool] | str) -> Iterator[str]:
    """The score of what a classifier must beat, and a verdict by the paired test."""
    from ch06_finetuning.metrics import compare_paired

    if isinstance(other, str):
        yield f"Beside {name}: not possible, {other}"
        return
    pair = compare_paired(right, other)
    p = f"exact McNemar test, p = {pair.p_value:.2g}"
    if pair.p_value >= 0.05:
        verdict = f"**Not shown to be better than {name}**: these rows do not tell the two apart ({p})."
    elif pair.only_first > pair.only_second:
        verdict = f"Better than {name} ({p})."
    else:
        verdict = f"**Worse than {name}** ({p}): do not use it."
    yield f"Beside it, {name} gets {str(pair.second).strip()}. {verdict}"


def _score(found: Any, beside: list[str]) -> dict[str, int | bool]:
    """What chat and serve tell of a model: how many rows were right, and whether something simple may be as good."""
    return {"right": sum(found.right), "n": len(found.right), "doubtful": any("**" in verdict for verdict in beside)}


def _advice(model: Any, beside: list[str]) -> list[str]:
    """What to do where a model of the course was not shown to be better than something simple."""
    from ch05_pretraining.published_tokenizers import PublishedTokenizer

    doubtful = any("**" in verdict for verdict in beside)
    return [READ_LITTLE] if doubtful and not isinstance(model.tokenizer, PublishedTokenizer) else []


def _assistant_scores(work: Work, model: Any) -> list[str]:
    from ch06_finetuning.own_data import examine

    found = examine(model, work.split.test[:N_MARKED], max_new_tokens=longest_answer(model, work.split.test))
    beside = list(_beside(found.right, NEAREST, nearest_answers(work.split.train, found.rows)))
    work.score = _score(found, beside)
    return [
        f"## On {len(found.rows):,} rows kept aside",
        f"Answers equal to the wanted one but for capitals and closing signs: {str(found.rate).strip()}",
        *beside,
        *_advice(model, beside),
        f"Loss on the wanted answers, in nats per token: {answer_loss(model, work.split.test):.2f}",
        *errors_to_read(found),
    ]


def nearest_answers(train: list, test: list) -> list[bool]:
    """Say for which questions the answer of the training question that shares the rarest words with it is right.

    Args:
        train: instructions whose answers are known.
        test: other instructions.
    """
    from ch06_finetuning.search import BM25
    from data.story_world.marking import mark

    index = BM25([row.prompt for row in train])
    scores = [index.scores(row.prompt) for row in test]
    nearest = [train[int(own.argmax())] for own in scores]
    return [bool(own.max() > 0) and mark(row, near.response) for own, near, row in zip(scores, nearest, test)]


def longest_answer(model: Any, rows: list) -> int:
    """How many tokens the longest wanted answer has, and a few more, at most 200.

    Args:
        model: an `Assistant`.
        rows: instructions.
    """
    from ch02_text_data.any_tokenizer import encode_text

    return min(200, 8 + max(len(encode_text(model.tokenizer, row.response)) for row in rows))


def answer_loss(model: Any, rows: list) -> float:
    """Measure the loss on wanted answers, in nats per token.

    Args:
        model: an `Assistant`.
        rows: instructions.
    """
    from ch05_pretraining.evaluation import evaluate
    from ch06_finetuning.instructions import create_instruction_loader
    from ch06_finetuning.own_data import longest_row

    loader = create_instruction_loader(
        rows, model.tokenizer, batch_size=8, max_length=longest_row(model.model), shuffle=False
    )
    return evaluate(model.model, loader)


def errors_to_read(found: Any, n: int = N_SHOWN) -> list[str]:
    """Show the first wrong answers beside the wanted ones, as a heading and a list.

    Args:
        found: an `Examination`.
        n: how many at most.
    """
    if not found.errors:
        return []
    more = f", the first {n}" if len(found.errors) > n else ""
    lines = [f"- *{_short(asked)}* wanted: {_short(wanted)}; found: {_short(answer)}"
             for (asked, wanted), answer in ((_pair(row), answer) for row, answer in found.errors[:n])]  # fmt: skip
    return [f"## {len(found.errors):,} errors{more}", "\n".join(lines)]


def _pair(row: Any) -> tuple[str, str]:
    return (row.text, row.label) if hasattr(row, "label") else (row.prompt, row.response)


def _short(text: str, most: int = 160) -> str:
    text = clean(" ".join(text.split()))
    return text if len(text) <= most else f"{text[:most]}…"


def _block(text: object) -> str:
    return f"```\n{text}\n```"


@contextmanager
def warnings_as_sentences(name: str) -> Iterator[None]:
    """Let a warning be a sentence for the user, not a line of source code.

    Args:
        name: the command's.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"course.py {name}: {message}", file=sys.stderr)
        yield


@command("finetune")
def main(arguments: list[str] | None = None) -> int:
    """Check, learn, report; return the exit status."""
    options = parser().parse_args(arguments)
    from data.locks import alone_in
    from data.paths import runs_dir
    from shared.commands.published_models import tell_memory

    if options.base is not None:
        tell_memory(options.base, "float32", learns=True)
    with warnings_as_sentences("finetune"):
        work = open_work(options, runs_dir())
        for note in work.notes:
            print(f"note: {note}")
        name = work.folder.name
        try:
            with alone_in(work.folder):
                if not options.resume:
                    keep_rows(work.folder, work.split, work.about)
                text = report_of(work, learn(work))
                write_atomically(work.folder / "report.md", text)
                write_atomically(work.folder / SCORE, json_bytes(work.score))
        except BrokenPipeError:  # an OSError too, on which `command` ends quietly
            raise
        except OSError as error:
            trouble = f"{error.filename or work.folder}: {error.strerror or error}"
            raise ValueError(f"{trouble}: {WRITE_ELSEWHERE}") from error
        except KeyboardInterrupt:
            go_on = f"python course.py finetune --resume --name {name}"
            print(f"\nStopped. What is done is saved in {work.folder}; go on with: {go_on}")
            return 130
    print(f"\n{text}\nEverything is in {work.folder}: report.md and the {KINDS[work.about['kind']]}.")
    talk = " --remember" if any(getattr(row, "history", ()) for row in work.split.train) else ""
    doubt = ", but read the verdict above first" if "**Not shown" in text or "**Worse" in text else ""
    print(f"Try it: python course.py chat {name}{talk}, or serve {name}{doubt}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
