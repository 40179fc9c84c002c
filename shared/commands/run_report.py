"""The scores of a run and the report about them: numbers beside the floor, beside baselines, with their uncertainty.

Everything here reads finished models; nothing trains. Scores are plain numbers, as `run.json` keeps them.
"""

import re
from dataclasses import asdict
from pathlib import Path

import torch

from ch04_gpt_model.generation import generate
from ch05_pretraining.own_text import text_baselines, text_verdict
from ch05_pretraining.story_scores import evaluate_stories, ngram_bits
from data.files import write_atomically
from data.loaders import load_stories
from data.own_texts import read_own_text
from data.story_world.coherence import check_story
from shared.figures import COLORS, losses

END = "<|endoftext|>"
TEMPERATURE = 0.7
N_SAMPLES, N_OPENINGS, OPENING_WORDS, OPENING_LENGTH = 10, 5, 8, 60  # an opening ends after so many words or characters
N_TOLD = 600  # stories whose slips are counted: an interval of about six points


# ---------------------------------------------------------------- scores


def story_scores(trained, *, quick: bool) -> dict:
    """Grade a model of the story world: bits on held-out stories, n-gram baselines, and stories of its own.

    Args:
        trained: what `train_story_gpt` returned.
        quick: fewer stories, for a first look.
    """
    model, tokenizer, recipe = trained.model.cpu(), trained.tokenizer, trained.settings["recipe"]
    values: dict = {"splits": {split: asdict(score) for split, score in trained.scores.items()}}
    told = sample_stories(model, tokenizer, 40 if quick else N_TOLD, seed=trained.settings["seed"])
    values["samples"] = told[:N_SAMPLES]
    mistakes = [check_story(story) for story in told]
    values["coherent"] = {"n_correct": sum(not found for found in mistakes), "n": len(told)}
    values["ngrams"] = ngram_scores(tokenizer, recipe["n_stories"], recipe["n_validation"])
    test = evaluate_stories(model, tokenizer, load_stories("test", recipe["n_heldout"]))
    values["splits"]["test"] = asdict(test)
    return values


def text_scores(trained) -> dict:
    """Grade a model of the learner's own text: beside baselines, by a verdict, and by what it writes.

    Args:
        trained: what `train_story_gpt` returned; the text stands in its folder.
    """
    own, model, tokenizer = read_own_text(trained.folder / "text.txt"), trained.model.cpu(), trained.tokenizer
    learned, held = own.split()
    score, history, seed = trained.scores["validation"], trained.history, trained.settings["seed"]
    baselines = text_baselines(tokenizer, learned, held)
    return {
        "splits": {"validation": asdict(score)},
        "baselines": baselines,
        "verdict": asdict(text_verdict(history, score.bits_per_byte, baselines)),
        "kept_step": history.best_step,
        "lowest_loss": min(history.val_losses),
        "n_documents": len(own.documents),
        "n_held": len(held) if len(learned) < len(own.documents) else 0,
        "n_bytes": own.n_bytes,
        "samples": sample_stories(model, tokenizer, N_SAMPLES, seed=seed),
        "continued": [continued(model, tokenizer, opening, seed=seed) for opening in openings(held, N_OPENINGS)],
    }


def sample_stories(model, tokenizer, n: int, *, seed: int, batch_size: int = 50) -> list[str]:
    """Let a model tell `n` stories from nothing but the token that separates stories.

    Args:
        model: a `GPTModel`.
        tokenizer: the one it was trained with.
        n: number of stories.
        seed: the same seed, the same stories.
        batch_size: stories told at once.
    """
    end, told = tokenizer.special_tokens[END], []
    for first in range(0, n, batch_size):
        start = torch.full((min(batch_size, n - first), 1), end)
        rows = generate(
            model, start, model.config.context_length - 1, temperature=TEMPERATURE, stop_id=end, seed=seed + first
        )
        told += [tokenizer.decode(_until(row[1:].tolist(), end)) for row in rows]
    return told


def _until(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def openings(documents: list[str], n: int) -> list[str]:
    """Take a few words from the beginnings of `n` documents, or from `n` places of the longest if there are fewer.

    Args:
        documents: texts with at least one word.
        n: number of openings.
    """
    if len(documents) >= n:
        places = [(documents[k * len(documents) // n], 0) for k in range(n)]
    else:
        longest = max(documents, key=len)
        places = [(longest, k * len(longest) // n) for k in range(n)]
    return [_opening(*place) for place in places]


def _opening(document: str, at: int) -> str:
    """Some words from the next word's beginning on, or from the very place in a script without spaces."""
    word = re.compile(r"(?<!\S)\S").search(document, at, at + OPENING_LENGTH)
    begun = document[word.start() if word else at :][:OPENING_LENGTH]
    words = re.match(rf"(?:\S+\s+){{1,{OPENING_WORDS - 1}}}\S+(?=\s)", begun)
    return words.group() if words else begun


def continued(model, tokenizer, opening: str, *, seed: int) -> tuple[str, str]:
    """Let a model go on from an opening: -> what it read, what it wrote.

    Args:
        model: a `GPTModel`.
        tokenizer: the one it was trained with.
        opening: cut to half of the model's context.
        seed: the same seed, the same text.
    """
    end, length = tokenizer.special_tokens[END], model.config.context_length
    ids = [end, *tokenizer.encode(opening)][: length // 2]
    row = generate(
        model, torch.tensor([ids]), min(200, length - len(ids)), temperature=TEMPERATURE, stop_id=end, seed=seed
    )
    return tokenizer.decode(ids[1:]), tokenizer.decode(_until(row[0, len(ids) :].tolist(), end))


def ngram_scores(tokenizer, n_train: int, n_validation: int) -> dict[str, float]:
    """Count unigrams, bigrams and trigrams in the training stories: name -> bits per word on the validation split.

    Args:
        tokenizer: cuts the stories as it does for the GPT.
        n_train: training stories, those that the GPT reads.
        n_validation: validation stories, those that the GPT is graded on.
    """
    splits = {"train": n_train, "validation": n_validation}
    train, validation = ([story.text for story in load_stories(split, n)] for split, n in splits.items())
    n_words = sum(len(text.split()) for text in validation)
    bits = ngram_bits(tokenizer, train, validation, (1, 2, 3))
    return {name: number / n_words for name, number in zip(("unigram", "bigram", "trigram"), bits, strict=True)}


def classifier_scores(outcome) -> dict:
    """Take the plain numbers out of what `finetune_classifier` returned."""
    accuracy, baseline = outcome.report.accuracy, outcome.baseline.accuracy
    return {
        "accuracy": _rate(accuracy),
        "baseline": _rate(baseline),
        "by_hand": _rate(outcome.by_hand.accuracy),
        "recall": {label: _rate(rate) for label, rate in zip(outcome.report.labels, outcome.report.recall)},
    }


def assistant_scores(outcome) -> dict:
    """Take the plain numbers out of what `finetune_assistant` returned."""
    n = len(outcome.marks.records)
    shown = dict.fromkeys(k * (n - 1) // 5 for k in range(6))  # spread over the kinds, right or wrong
    return {
        "overall": _rate(outcome.marks.overall),
        "new_wordings": _rate(outcome.new_wordings.overall),
        "by_hand": _rate(outcome.by_hand.overall),
        "kinds": {kind: _rate(rate) for kind, rate in outcome.marks.kinds.items()},
        "new_kinds": {kind: _rate(rate) for kind, rate in outcome.new_wordings.kinds.items()},
        "lesson": {form: _rate(rate) for form, rate in outcome.lesson.items()},
        "stories_before": outcome.stories_before.bits_per_word,
        "stories_after": outcome.stories_after.bits_per_word,
        "examples": [
            [_asked(outcome.marks.records[k]), outcome.marks.answers[k], bool(outcome.marks.right[k])] for k in shown
        ],
    }


def _asked(record) -> str:
    """What was asked, after what was said before it."""
    said = [f"{question} ({answer})" for question, answer in record.history]
    return " ".join([*said, record.prompt])


def _rate(rate) -> dict:
    return {"n_correct": rate.n_correct, "n": rate.n}


# ---------------------------------------------------------------- the figure


def draw_losses(path: Path, trained, scores: dict) -> None:
    """Draw the training curve beside the n-gram models and the floor.

    Args:
        path: PNG file to write.
        trained: what `train_story_gpt` returned.
        scores: what `story_scores` returned.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    validation = scores["splits"]["validation"]
    unit, baselines = ("word", scores["ngrams"]) if "ngrams" in scores else ("byte", scores["baselines"])
    to_nats = validation["nats_per_token"] / validation[f"bits_per_{unit}"]
    floor = validation["floor_bits_per_word"] and validation["floor_bits_per_word"] * to_nats
    references = {name: bits * to_nats for name, bits in baselines.items()}
    ax = losses(trained.history, title=_finding(validation), floor=floor, references=references)
    for step, words in _places(trained, scores):
        ax.axvline(step, color=COLORS["baseline"], linestyle=":", linewidth=1.2)
        ax.annotate(f" {words}", (step, ax.get_ylim()[1]), va="top", fontsize=9, color="#444444")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _places(trained, scores: dict) -> list[tuple[int, str]]:
    """Steps that an upright line marks, and what happens there."""
    if "kept_step" in scores:
        return [(scores["kept_step"], "the weights that are kept")]
    first_reader = trained.settings["recipe"]["mini_steps"]
    return [(first_reader, "long stories begin")] if 0 < first_reader < len(trained.history.steps) else []


def _finding(validation: dict) -> str:
    if not validation["floor_bits_per_word"]:
        return f"The loss falls to {validation['nats_per_token']:.2f} nats per token"
    ratio = validation["bits_per_word"] / validation["floor_bits_per_word"]
    return f"The loss falls to {ratio:.2f} times the least possible"


# ---------------------------------------------------------------- the report


def write_report(folder: Path, state: dict, trained) -> str:
    """Write `report.md` and `stories.txt` into a run's folder and return the summary for the terminal.

    Args:
        folder: the run's folder.
        state: what `run.json` holds: results, seconds.
        trained: what `train_story_gpt` returned.
    """
    results, settings = state["results"], trained.settings
    graded = results["text" if settings["text"] else "stories"]
    rows = _own_text_rows(graded, trained) if settings["text"] else _rows(results, trained)
    parts = [
        f"# Report on the run *{folder.name}*",
        _settings_sentence(settings, trained),
        _table(("what", "score", "wanted"), rows),
        "![Training and validation loss over the steps; the text below the figure says what to see](loss.png)",
        _what_to_see(settings),
        *(_own_text_details(graded) if settings["text"] else _details(results)),
        "## Seconds of each stage",
        _table(("stage", "seconds"), [(name, f"{spent:.0f}") for name, spent in state["seconds"].items()]),
        "## Ten samples, none chosen",
        *[f"{k}. {_one_paragraph(story)}" for k, story in enumerate(graded["samples"], 1)],
    ]
    write_atomically(folder / "report.md", "\n\n".join(parts) + "\n")
    told = [*graded["samples"], *(f"{opening} -> {rest}" for opening, rest in graded.get("continued", []))]
    write_atomically(folder / "stories.txt", "\n\n".join(told) + "\n")
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name.ljust(width)}  {score}" for name, score, _ in rows)


def _what_to_see(settings: dict) -> str:
    lines = "The blue line is the loss on what is being read, the dashed line the loss on text kept aside."
    if settings["text"]:
        return f"{lines} The dotted upright line marks the step with the lowest dashed line: its weights are kept."
    return f"{lines} Left of the dotted upright line the model reads very short stories; right of it, whole ones."


def _settings_sentence(settings: dict, trained) -> str:
    config, steps = trained.model.config, len(trained.history.steps)
    source = "a text of your own" if settings["text"] else "the story world"
    recipe = "the quick look" if settings["quick"] else f"{settings['minutes']} minutes" if settings["minutes"] else ""
    return (
        f"Seed {settings['seed']} on {settings['device']}, {recipe or 'the default recipe'}: a GPT of "
        f"{trained.model.n_parameters:,} parameters ({config.n_layers} blocks, {config.n_heads} heads, width "
        f"{config.d_model}, context {config.context_length}, {config.vocab_size:,} tokens) "
        f"after {steps:,} steps on {source}."
    )


def _rows(results: dict, trained) -> list[tuple[str, str, str]]:
    stories, validation = results["stories"], results["stories"]["splits"]["validation"]
    floor, bits = validation["floor_bits_per_word"], validation["bits_per_word"]
    ngrams = ", ".join(f"{name} {value:.2f}" for name, value in stories["ngrams"].items())
    classifier, assistant = results["classifier"], results["assistant"]
    return [
        ("pretraining", f"{trained.history.seconds[-1] / 60:.1f} minutes", "at most 6 on two cores"),
        ("validation stories", f"{bits:.3f} bits per word, {bits / floor:.2f} times the floor", "at most 1.6 times"),
        ("the world's floor", f"{floor:.3f} bits per word", "at least 0.85"),
        ("n-gram models", f"{ngrams} bits per word", "far above the GPT"),
        ("coherent stories", percent(stories["coherent"]), "at least 75 %"),
        ("messages sorted", percent(classifier["accuracy"]), "at least 98 %"),
        ("bag of words instead", percent(classifier["baseline"]), "below the GPT"),
        ("questions answered", percent(assistant["overall"]), "at least 97 %"),
        *_other_people_rows(classifier, assistant),
    ]


def _other_people_rows(classifier: dict, assistant: dict) -> list[tuple[str, str, str]]:
    """What is left in other people's words; runs of before these were asked have no such score."""
    rows = (
        ("questions in new wordings", assistant, "new_wordings", "at least 85 %, no kind below 65 %"),
        ("messages by hand", classifier, "by_hand", "see section 6.7"),
        ("questions by hand", assistant, "by_hand", "see section 6.11"),
    )
    return [(name, percent(scores[key]), wanted) for name, scores, key, wanted in rows if key in scores]


def _own_text_rows(graded: dict, trained) -> list[tuple[str, str, str]]:
    validation, history, verdict = graded["splits"]["validation"], trained.history, graded["verdict"]
    baselines = ", ".join(f"{name} {bits:.2f}" for name, bits in graded["baselines"].items())
    kept = f"{graded['lowest_loss']:.3f} nats per token after step {graded['kept_step']:,} of {history.steps[-1]:,}"
    return [
        ("text kept aside", f"{validation['bits_per_byte']:.3f} bits per byte", "below bigram and trigram"),
        ("baselines", f"{baselines} bits per byte", "above the GPT"),
        ("lowest validation loss", f"{kept}; these weights are kept", "near the last step"),
        ("last validation loss", f"{history.val_losses[-1]:.3f} nats per token", "near the lowest"),
        ("verdict", f"{verdict['word']}: {verdict['reason']}", "learned"),
        ("what to do", verdict["remedy"], ""),
    ]


def _own_text_details(graded: dict) -> list[str]:
    whole = f"{graded['n_held']:,} of its {graded['n_documents']:,} documents, drawn by chance, were"
    kept = whole if graded["n_held"] else "The end of its longest document was"
    return [
        f"The text has {graded['n_bytes']:,} bytes. {kept} kept aside: neither tokenizer nor model learned from that.",
        "Three baselines count in the rest of the text: single bytes, and bigrams and trigrams of the GPT's tokens. "
        "The number of lzma, a compressor, is what the text kept aside adds when it stands after the rest: the size of "
        "both minus the size of the rest.",
        f"## {len(graded['continued'])} samples that begin with words of the text kept aside, in bold",
        *[f"{k}. **{_one_paragraph(o)}** {_one_paragraph(rest)}" for k, (o, rest) in enumerate(graded["continued"], 1)],
    ]


def _details(results: dict) -> list[str]:
    rows = [(label, percent(rate)) for label, rate in results["classifier"]["recall"].items()]
    return [
        "## Held-out stories",
        _table(("split", "stories", "bits per word", "floor", "times"), _split_rows(results["stories"]["splits"])),
        "## Classifier: messages of each kind found",
        _table(("kind", "share of the test messages"), rows),
        *_assistant_details(results["assistant"]),
    ]


def _split_rows(splits: dict) -> list[tuple]:
    return [
        (
            name.replace("heldout_", "new "),
            f"{s['n_stories']:,}",
            f"{s['bits_per_word']:.3f}",
            f"{s['floor_bits_per_word']:.3f}",
            f"{s['bits_per_word'] / s['floor_bits_per_word']:.2f}",
        )
        for name, s in splits.items()
    ]


def _assistant_details(assistant: dict) -> list[str]:
    marks = assistant["kinds"], assistant.get("new_kinds", {})
    rows = [(kind, *(percent(by_kind[kind]) if kind in by_kind else "" for by_kind in marks)) for kind in _all(*marks)]
    forms = assistant.get("lesson", {})
    known = ", ".join(f"{form} {rate['n_correct'] / rate['n']:.1%}" for form, rate in forms.items())
    before, after = assistant["stories_before"], assistant["stories_after"]
    return [
        "## Assistant: right answers of each kind",
        _table(("kind", "share of the test questions", "in new wordings"), rows),
        *([f"Words that it still knows from the lesson *who is who*: {known}."] if forms else []),
        f"It still tells stories: {before:.3f} bits per word before fine-tuning, {after:.3f} after.",
        "Some questions of the test split and its answers:",
        "\n".join(
            f"- *{_one_paragraph(q)}* {_one_paragraph(a)}{'' if ok else ' (wrong)'}"
            for q, a, ok in assistant["examples"]
        ),
    ]


def _all(*groups: dict) -> list[str]:
    return sorted({name for group in groups for name in group})


def percent(rate: dict) -> str:
    """Write a rate with its 95 % interval.

    Args:
        rate: {"n_correct": …, "n": …}.
    """
    from ch06_finetuning.metrics import wilson_interval

    low, high = wilson_interval(rate["n_correct"], rate["n"])
    return f"{rate['n_correct'] / rate['n']:.1%} of {rate['n']:,} (95 % interval {low:.1%} to {high:.1%})"


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())
