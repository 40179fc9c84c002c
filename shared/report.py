"""The scores of a run and the report about them: numbers beside the floor, beside baselines, with their uncertainty.

Everything here reads finished models; nothing trains. Scores are plain numbers, as `run.json` keeps them.
"""

import math
from dataclasses import asdict
from pathlib import Path

import torch

from ch01_understanding_llms.fast_counts import FastNgramModel
from ch04_gpt_model.generation import generate
from ch05_pretraining.story_recipe import evaluate_stories
from data.loaders import load_stories
from data.story_world import check_story
from shared.figures import COLORS, losses

END = "<|endoftext|>"
TEMPERATURE = 0.7
NGRAMS = {1: "unigram", 2: "bigram", 3: "trigram"}


# ---------------------------------------------------------------- scores


def story_scores(trained, *, quick: bool, own_text: bool) -> dict:
    """Grade a pretrained model: bits on held-out stories, n-gram baselines, and stories of its own.

    Args:
        trained: what `train_story_gpt` returned.
        quick: fewer stories, for a first look.
        own_text: whether it was trained on the learner's text, for which there is neither floor nor checker.
    """
    model, tokenizer = trained.model.cpu(), trained.tokenizer
    values = {"splits": {split: asdict(score) for split, score in trained.scores.items()}}
    told = sample_stories(model, tokenizer, 10 if own_text else 40 if quick else 200, seed=trained.settings["seed"])
    values["samples"] = told[:10]
    if not own_text:
        mistakes = [check_story(story) for story in told]
        values["coherent"] = {"n_correct": sum(not found for found in mistakes), "n": len(told)}
        recipe = trained.settings["recipe"]
        values["ngrams"] = ngram_scores(tokenizer, recipe["n_stories"], recipe["n_validation"])
        test = evaluate_stories(model, tokenizer, load_stories("test", recipe["n_heldout"]))
        values["splits"]["test"] = asdict(test)
    return values


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


def ngram_scores(tokenizer, n_train: int, n_validation: int) -> dict[str, float]:
    """Count unigrams, bigrams and trigrams in the training stories: name -> bits per word on the validation split.

    Args:
        tokenizer: cuts the stories as it does for the GPT.
        n_train: training stories, those that the GPT reads.
        n_validation: validation stories, those that the GPT is graded on.
    """
    train, validation = load_stories("train", n_train), load_stories("validation", n_validation)
    seen, asked = _flat_ids(train, tokenizer), _flat_ids(validation, tokenizer)
    n_words = sum(len(story.text.split()) for story in validation)
    scores = {}
    for order, name in NGRAMS.items():
        probabilities = FastNgramModel(order, tokenizer.vocab_size).fit(seen).token_probabilities(asked)[1:]
        scores[name] = -sum(math.log2(p) for p in probabilities.tolist()) / n_words
    return scores


def _flat_ids(stories: list, tokenizer) -> list[int]:
    """One long row: every story stands between end tokens, as in pretraining."""
    end = tokenizer.special_tokens[END]
    return [end, *(token for story in stories for token in (*tokenizer.encode(story.text), end))]


def classifier_scores(outcome) -> dict:
    """Take the plain numbers out of what `finetune_classifier` returned."""
    accuracy, baseline = outcome.report.accuracy, outcome.baseline.accuracy
    return {
        "accuracy": _rate(accuracy),
        "baseline": _rate(baseline),
        "recall": {label: _rate(rate) for label, rate in zip(outcome.report.labels, outcome.report.recall)},
    }


def assistant_scores(outcome) -> dict:
    """Take the plain numbers out of what `finetune_assistant` returned."""
    n = len(outcome.marks.records)
    shown = dict.fromkeys(k * (n - 1) // 5 for k in range(6))  # spread over the kinds, right or wrong
    return {
        "overall": _rate(outcome.marks.overall),
        "kinds": {kind: _rate(rate) for kind, rate in outcome.marks.kinds.items()},
        "stories_before": outcome.stories_before.bits_per_word,
        "stories_after": outcome.stories_after.bits_per_word,
        "examples": [
            [outcome.marks.records[k].prompt, outcome.marks.answers[k], bool(outcome.marks.right[k])] for k in shown
        ],
    }


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
    to_nats = validation["nats_per_token"] / validation["bits_per_word"]
    references = {name: bits * to_nats for name, bits in scores.get("ngrams", {}).items()}
    floor = validation["floor_bits_per_word"] and validation["floor_bits_per_word"] * to_nats
    ax = losses(trained.history, title=_finding(validation), floor=floor, references=references)
    first_reader = trained.settings["recipe"]["mini_steps"]
    if 0 < first_reader < len(trained.history.steps):
        ax.axvline(first_reader, color=COLORS["baseline"], linestyle=":", linewidth=1.2)
        ax.annotate(" long stories begin", (first_reader, ax.get_ylim()[1]), va="top", fontsize=9, color="#444444")
    ax.figure.savefig(path, dpi=150)
    plt.close(ax.figure)


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
        state: what `run.json` holds: settings, results, seconds.
        trained: what `train_story_gpt` returned.
    """
    results, settings = state["results"], state["settings"]
    rows = _own_text_rows(results) if settings["text"] else _rows(results, state["seconds"], trained)
    parts = [
        f"# Report on the run *{folder.name}*",
        _settings_sentence(settings, trained),
        _table(("what", "score", "wanted"), rows),
        "![Training and validation loss over the steps; the text below the figure says what to see](loss.png)",
        _what_to_see(settings),
        *_details(results),
        "## Seconds of each stage",
        _table(("stage", "seconds"), [(name, f"{spent:.0f}") for name, spent in state["seconds"].items()]),
        "## Ten samples, none chosen",
        *[f"{k}. {_one_paragraph(story)}" for k, story in enumerate(results["stories"]["samples"], 1)],
    ]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (folder / "stories.txt").write_text("\n\n".join(results["stories"]["samples"]) + "\n", encoding="utf-8")
    width = max(len(row[0]) for row in rows)
    return "\n".join(f"{name.ljust(width)}  {score}" for name, score, _ in rows)


def _what_to_see(settings: dict) -> str:
    lines = "The blue line is the loss on what is being read, the dashed line the loss on text kept aside."
    if settings["text"]:
        return lines
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


def _rows(results: dict, seconds: dict, trained) -> list[tuple[str, str, str]]:
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
        ("questions answered", percent(assistant["overall"]), "at least 92 %"),
    ]


def _own_text_rows(results: dict) -> list[tuple[str, str, str]]:
    validation = results["stories"]["splits"]["validation"]
    return [
        ("last tenth of the text", f"{validation['bits_per_byte']:.3f} bits per byte", ""),
        ("", f"{validation['nats_per_token']:.3f} nats per token", ""),
    ]


def _details(results: dict) -> list[str]:
    parts = []
    splits = results["stories"]["splits"]
    if splits["validation"]["floor_bits_per_word"]:
        parts += [
            "## Held-out stories",
            _table(("split", "stories", "bits per word", "floor", "times"), _split_rows(splits)),
        ]
    if "classifier" in results:
        rows = [(label, percent(rate)) for label, rate in results["classifier"]["recall"].items()]
        parts += ["## Classifier: messages of each kind found", _table(("kind", "share of the test messages"), rows)]
    if "assistant" in results:
        parts += _assistant_details(results["assistant"])
    return parts


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
    rows = [(kind, percent(rate)) for kind, rate in assistant["kinds"].items()]
    before, after = assistant["stories_before"], assistant["stories_after"]
    return [
        "## Assistant: answers right to the letter",
        _table(("kind", "share of the test questions"), rows),
        f"It still tells stories: {before:.3f} bits per word before fine-tuning, {after:.3f} after.",
        "Some questions of the test split and its answers:",
        "\n".join(
            f"- *{_one_paragraph(q)}* {_one_paragraph(a)}{'' if ok else ' (wrong)'}"
            for q, a, ok in assistant["examples"]
        ),
    ]


def _example(question: str, answer: str, right: bool) -> str:
    return f"- *{_one_paragraph(question)}* {_one_paragraph(answer)}{'' if right else ' (wrong)'}"


def percent(rate: dict) -> str:
    """Write a rate with its 95 % interval.

    Args:
        rate: {"n_correct": …, "n": …}.
    """
    from ch06_finetuning.scoring import wilson_interval

    low, high = wilson_interval(rate["n_correct"], rate["n"])
    return f"{rate['n_correct'] / rate['n']:.1%} of {rate['n']:,} (95 % interval {low:.1%} to {high:.1%})"


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _one_paragraph(text: str) -> str:
    return " ".join(text.split())
