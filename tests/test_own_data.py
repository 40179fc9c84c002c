"""Claims about rows of one's own: what is refused in a sentence, what is split from what, and what comes of them."""

import csv
import hashlib
import io
import json
import os
import random
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.open_weights import FETCHED
from ch05_pretraining.saved_models import save_model
from ch06_finetuning.finetuned_models import TextClassifier, load_classifier
from ch06_finetuning.instructions import InstructionDataset, answer_ends
from ch06_finetuning.metrics import compare_paired
from ch06_finetuning.named_models import load_answering, load_base, ready_to_chat
from ch06_finetuning.own_data import (
    OwnSettings,
    examine,
    finetune_on_instructions,
    finetune_on_messages,
    near_copies,
    split_rows,
)
from data.own_instructions import read_instructions
from data.own_messages import read_messages
from data.story_world.marking import Instruction
from data.story_world.message_task import Message
from shared.commands import chat, evaluate, finetune, run, sample
from shared.commands.own_models import score_of
from tests.small_models import CHATML, press_at, publish, tiktoken_of_bytes, tiny_model, weights
from tests.test_notebooks import ROOT

TICKETS = ROOT / "data" / "own_examples" / "support_tickets.csv"
SHELL = ROOT / "data" / "own_examples" / "shell_talks.jsonl"
TALK = [("How do I list files?", "ls"), ("And the hidden ones?", "ls -a")]
ONCE = OwnSettings(epochs=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of a tiny model that has learned nothing yet."""
    texts = [message.text for message in read_messages(TICKETS)]
    tokenizer = BPETokenizer.train(texts, 320, SPECIAL_TOKENS)
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=96, d_model=16, n_layers=1)
    return save_model(tmp_path_factory.mktemp("base") / "story_gpt", model, tokenizer, {})


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An empty folder for runs."""
    monkeypatch.setenv("COURSE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def messages(n: int, labels: str = "ab") -> list[Message]:
    """Messages of random words, so that no two are near copies."""
    draw = random.Random(0)
    words = [f"w{k}" for k in range(400)]
    return [Message(" ".join(draw.sample(words, 8)), labels[k % len(labels)]) for k in range(n)]


# ---------------------------------------------------------------- split


def test_copies_and_near_copies_are_found_and_what_only_sounds_alike_is_not():
    ten = "the small blue boat came home before the storm began"
    texts = [
        ten,
        ten.upper() + "!",
        ten.replace("storm", "night"),
        "the storm began before the blue boat came home",
        "",
    ]
    assert near_copies(texts) == [[0, 1, 2]]
    assert near_copies(["ja", "Ja!", "nein"]) == [[0, 1]] and near_copies([]) == []
    with pytest.raises(ValueError, match="found one string, 'abcabc': give a list"):
        near_copies("abcabc")


def test_near_copies_are_those_that_comparing_all_pairs_finds():
    draw = random.Random(1)
    texts = [" ".join(draw.choices("abcdef", k=draw.randint(1, 9))) for _ in range(60)]
    sets = [frozenset(zip(t.split(), t.split()[1:])) or frozenset([t]) for t in texts]
    group_of = {row: n for n, rows in enumerate(near_copies(texts)) for row in rows}
    near = [(i, j) for i, j in combinations(range(60), 2) if 5 * len(sets[i] & sets[j]) >= 3 * len(sets[i] | sets[j])]
    assert near and all(group_of.get(i, i) == group_of.get(j, -1) for i, j in near)


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_is_on_the_side_of_its_row_and_every_row_on_one_side(seed):
    rows = messages(60, "abc")
    rows += [Message(row.text.replace(" ", ", ") + "!", row.label) for row in rows[:20]]
    split = split_rows(rows, seed=seed)
    sides = [split.train, split.validation, split.test]
    texts = [{row.text.replace(",", "").rstrip("!") for row in side} for side in sides]
    assert not any(one & other for one, other in combinations(texts, 2))
    assert sorted(row for side in sides for row in side) == sorted(rows)
    assert all({row.label for row in side} == {"a", "b", "c"} for side in sides)
    assert split == split_rows(rows, seed=seed) and split != split_rows(rows, seed=seed + 1)
    assert "20 of 80 rows repeat another" in split.notes[0]


def test_one_huge_group_of_copies_is_learned_from_and_the_others_test():
    rows = [*messages(6), *(Message(f"the same words again and again and once more {k}", "a") for k in range(40))]
    split = split_rows(rows)
    assert len(split.train) >= 40 and split.validation and split.test


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital city of the country number {}?",
        "copy the file a.txt to the file {}.txt",
        "Who wrote the old book number {}?",
    ],
)
def test_questions_that_are_nearly_alike_are_copies_only_if_their_answers_are_too(question):
    def ask(answer):
        return [Instruction("own", question.format(k), answer.format(k), (answer.format(k),)) for k in range(60)]

    split = split_rows(ask("the answer {}"))
    assert len(split.test) == 9 and not split.notes
    with pytest.raises(ValueError, match="only 1 differ .*: give more rows that differ$"):
        split_rows(ask("always the same"))
    twice = [row for row in ask("the answer {}") for _ in range(2)]
    split = split_rows([row._replace(response=f"{n}") for n, row in enumerate(twice)])
    assert "60 of 120 rows repeat another" in split.notes[0]
    assert not {row.prompt for row in split.train} & {row.prompt for row in (*split.validation, *split.test)}


def test_doubtful_labels_are_named():
    rows = [*messages(30), Message("lonely", "rare"), Message(messages(30)[0].text, "b")]
    notes = " ".join(split_rows(rows).notes)
    assert "more than one label, 1 times" in notes and "'rare' has fewer than three rows" in notes


@pytest.mark.parametrize(
    "rows, complaint",
    [
        (messages(3), "found 3 rows; expected at least 10"),
        ([], "found 0 rows; expected at least 10"),
        (messages(30, "a"), "all 30 rows have the label 'a'"),
        ([Message("Hello there!", label) for label in "ab" * 20], "only 1 differ in more than a word"),
        ([Instruction("own", "Why?", "Because.", ("Because.",))] * 20, "only 1 differ in more than a word"),
    ],
)
def test_rows_that_cannot_be_split_are_refused_in_a_sentence(rows, complaint):
    with pytest.raises(ValueError, match=complaint):
        split_rows(rows)


def test_all_answers_of_one_talk_stay_together(tmp_path):
    talks = [[(f"w{k} w{k + 50}", "a"), (f"and w{k}", "b")] for k in range(20)]
    lines = [{"messages": said(talk)} for talk in talks]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    split = split_rows(read_instructions(path))
    openings = [{(r.history[0][0] if r.history else r.prompt) for r in side} for side in (split.train, split.test)]
    assert len(split.train) + len(split.validation) + len(split.test) == 40 and not openings[0] & openings[1]


# ---------------------------------------------------------------- talks


def said(talk):
    return [{"role": role, "content": text} for turn in talk for role, text in zip(("user", "assistant"), turn)]


def test_a_talk_gives_a_record_for_each_answer_and_earlier_turns_are_read_and_not_graded(base, tmp_path):
    path = tmp_path / "talk.json"
    path.write_text(json.dumps([{"messages": said(TALK)}]), encoding="utf-8")
    first, second = read_instructions(path)
    assert (first.prompt, first.response, first.history) == (*TALK[0], ())
    assert (second.prompt, second.response, second.history) == (*TALK[1], (TALK[0],))
    _, tokenizer = load_base(base)
    ids, targets = InstructionDataset([second], tokenizer, 96)[0]
    assert tokenizer.decode(ids.tolist()).count("<|user|>") == 2
    assert tokenizer.decode(targets[targets >= 0].tolist()) == "ls -a<|endoftext|>"


def test_an_answer_ends_as_the_published_model_ends_its_own(tmp_path):
    _, tokenizer = load_base(publish(tmp_path))
    record = Instruction("own", "What is the sea?", "Large.", ("Large.",))
    _, targets = InstructionDataset([record], tokenizer, 200)[0]
    assert targets[-1] == answer_ends(tokenizer)[0] == tokenizer.special_tokens["<|im_end|>"]


# ---------------------------------------------------------------- learn


def both_kinds():
    """What is learned from messages and from instructions, one epoch of few rows."""
    rows = [Instruction("own", f"w{k} is what?", f"w{k}", (f"w{k}",)) for k in range(24)]
    return [
        pytest.param(SimpleNamespace(teach=finetune_on_messages, rows=messages(24)), id="messages"),
        pytest.param(SimpleNamespace(teach=finetune_on_instructions, rows=rows), id="instructions"),
    ]


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("kind", both_kinds())
def test_one_that_was_stopped_ends_in_the_weights_of_one_that_was_not_and_opens_by_its_folder(
    base, tmp_path, kind, lora
):
    split, settings = split_rows(kind.rows), OwnSettings(base, lora=lora, epochs=1)
    whole = kind.teach(tmp_path / "whole", split, settings)
    with pytest.raises(TrainingInterrupted):
        kind.teach(tmp_path / "parts", split, settings, on_step=press_at(2))
    kind.teach(tmp_path / "parts", split, settings)
    opened = load_answering(tmp_path / "parts")
    bodies = [model.model for model in (opened, whole)]
    assert type(opened) is type(whole) and not any("lora" in name for name in weights(bodies[0]))
    assert_close(weights(bodies[0]), weights(bodies[1]), rtol=0, atol=0)
    started = weights(load_base(base)[0])
    assert any(not torch.equal(weights(bodies[0])[name], started[name]) for name in started)


def test_a_classifier_learns_what_can_be_learned_and_a_new_process_would_open_it(base, tmp_path):
    rows = [Message(f"{word} {message.text}", label) for message, (word, label) in zip(
        messages(60), [("yes", "good"), ("no", "bad")] * 30)]  # fmt: skip
    split = split_rows(rows)
    classifier = finetune_on_messages(tmp_path / "classifier", split, OwnSettings(base, epochs=80))
    opened, _ = load_classifier(tmp_path / "classifier")
    assert examine(opened, split.train).rate.value > 0.9
    assert opened.classify(rows[0].text) == classifier.classify(rows[0].text)


def test_a_published_model_learns_by_lora_and_is_saved_as_what_model_opens(tmp_path):
    source = publish(tmp_path / "published")
    rows = [Instruction("own", f"What is w{k}?", "It is large.", ("It is large.",)) for k in range(12)]
    split = split_rows(rows)
    finetune_on_instructions(tmp_path / "run" / "assistant", split, OwnSettings(source, epochs=2))
    opened = load_answering(tmp_path / "run")
    then, now = weights(load_base(source)[0]), weights(opened.model)
    changed = {name for name in then if not torch.equal(then[name], now[name])}
    assert changed and all(name.startswith("blocks.") and "proj" in name for name in changed)
    assert opened.tokenizer.has_chat_template


@pytest.mark.parametrize("begins, template", [(False, CHATML), (True, None)], ids=["answers", "continues"])
def test_a_published_model_becomes_a_classifier_by_lora_and_keeps_its_tokenizer(tmp_path, begins, template):
    source = publish(tmp_path / "published", begins=begins, template=template)
    rows = [Message(f"{row.text} is large", row.label) for row in messages(12)]
    made = finetune_on_messages(tmp_path / "run" / "classifier", split_rows(rows), OwnSettings(source, epochs=2))
    opened, (model, tokenizer) = load_answering(tmp_path / "run"), load_base(source)
    then, now = weights(model), weights(opened.model)
    changed = {name for name in then if not torch.equal(then[name], now[name])}
    assert changed and all(name.startswith("blocks.") and "proj" in name for name in changed)
    assert opened.head.weight.any() and not any(parameter.is_meta for parameter in opened.parameters())
    for text in (rows[0].text, "The sea <|im_end|> 🙂 is\u00ad"):
        assert opened.classify(text) == made.classify(text)
        assert opened.tokenizer.encode(text) == tokenizer.encode(text)
    assert opened.pad_id == tokenizer.special_tokens["<|im_end|>"], "and no text holds it"
    assert opened.pad_id not in opened.tokenizer.encode("<|im_end|>")


@pytest.mark.parametrize("kind", both_kinds())
def test_a_published_model_that_was_stopped_ends_in_the_same_weights_with_one_thread(tmp_path, kind):
    source = publish(tmp_path / "published")
    split, settings, n_threads = split_rows(kind.rows), OwnSettings(source, epochs=2), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = kind.teach(tmp_path / "whole", split, settings)
        with pytest.raises(TrainingInterrupted):
            kind.teach(tmp_path / "parts", split, settings, on_step=press_at(2))
        parts = kind.teach(tmp_path / "parts", split, settings)
    finally:
        torch.set_num_threads(n_threads)
    assert_close(weights(parts.model), weights(whole.model), rtol=0, atol=0)
    if kind.teach is finetune_on_messages:
        assert_close(weights(parts.head), weights(whole.head), rtol=0, atol=0)


def test_a_tokenizer_without_chat_tokens_is_given_some_with_rows_of_their_own():
    model = tiny_model(vocab_size=257)
    grown, tokenizer = ready_to_chat(model, tiktoken_of_bytes())
    assert grown.config.vocab_size == 260 and answer_ends(tokenizer) == (256,)
    assert_close(grown.token_embedding.weight[259], model.token_embedding.weight.mean(dim=0))


def test_rows_of_the_other_kind_are_refused(base, tmp_path):
    classifier = TextClassifier(*load_base(base), ["a", "b"])
    with pytest.raises(ValueError, match="rows of another kind; expected messages"):
        examine(classifier, [Instruction("own", "Why?", "So.", ("So.",))])


# ---------------------------------------------------------------- compare


def test_the_paired_test_is_the_binomial_one():
    pair = compare_paired([True] * 9 + [False] * 6, [True] * 3 + [False] * 6 + [True] + [False] * 5)
    assert (pair.both, pair.only_first, pair.only_second, pair.neither) == (3, 6, 1, 5)
    assert_close(pair.p_value, 2 * (1 + 7) / 2**7)
    assert compare_paired([True], [True]).p_value == 1 and compare_paired([True] * 6, [False] * 6).p_value == 2 / 64
    with pytest.raises(ValueError, match="2 and 1 marks"):
        compare_paired([True, False], [True])


def test_models_that_are_equally_good_are_called_different_seldom():
    draw = random.Random(0)
    coins = [[draw.random() < 0.7 for _ in range(50)] for _ in range(400)]
    called = sum(compare_paired(one, other).p_value < 0.05 for one, other in zip(coins[::2], coins[1::2]))
    assert called <= 20, "claim: of 200 pairs of equal models at most a tenth is called different"


# ---------------------------------------------------------------- commands: what is given


def table(rows, separator=","):
    return "\n".join([f"label{separator}text", *(f"{row.label}{separator}{row.text}" for row in rows)])


TRIED = {
    "empty": ("rows.csv", b"", "holds no message"),
    "utf-16": ("rows.csv", table(messages(20)).encode("utf-16"), "is UTF-16 text"),
    "utf-16 without its mark": ("rows.csv", table(messages(20)).encode("utf-16-le"), "holds NUL bytes"),
    "utf-32": ("rows.csv", table(messages(20)).encode("utf-32"), "is UTF-32 text"),
    "one NUL": ("rows.csv", table(messages(20)).replace("w1", "w\0", 1).encode(), "holds NUL bytes (1, the first in"),
    "head only": ("rows.csv", b"label,text\n", "holds no message"),
    "blank": ("rows.csv", b" \n\t\n\n", "holds no message"),
    "open quote": ("rows.csv", b'label,text\na,"hello there\nb,you\n', "line 2: found a quotation mark that is not"),
    "zip as csv": ("rows.csv", b"PK\x03\x04" + bytes(40), "is a ZIP archive"),
    "gzip as csv": ("rows.csv", b"\x1f\x8b\x08\x00" + bytes(40), "is a file packed by gzip"),
    "a web page": ("rows.csv", b"<!DOCTYPE html><html><table><tr>", "found '<!DOCTYPE html>"),
    "text column twice": ("rows.csv", b"label,text,text\na,b,c\n", "each of which may hold the text"),
    "no label in a row": ("rows.csv", (table(messages(20)) + "\n,w1 w2").encode(), "nothing in column 'label'"),
    "spaces inside labels": ("rows.csv", b"label,text\nnot  ok,a b\nnot ok,c d\n", "look the same and are not"),
    "a class for each row": (
        "rows.csv",
        table([row._replace(label=f"l{k}") for k, row in enumerate(messages(40))]).encode(),
        "found 40 labels for 40 rows that differ, and fewer than two labels have three of them",
    ),
    "latin-1": ("rows.csv", table(messages(20)).replace("w1", "ü").encode("latin-1"), "is not UTF-8 text"),
    "excel": ("rows.xlsx", b"PK\x03\x04\x00", "is a ZIP archive"),
    "pdf": ("rows.csv", b"%PDF-1.7", "is a PDF file"),
    "missing column": ("rows.csv", table(messages(20)).replace("label", "score").encode(), "found 'score,text'"),
    "three rows": ("rows.csv", table(messages(3)).encode(), "found 3 rows"),
    "one class": ("rows.csv", table(messages(20, "a")).encode(), "all 20 rows have the label 'a'"),
    "copies": ("rows.csv", table([Message("the same text", label) for label in "ab" * 9]).encode(), "only 1 differ"),
    "json": ("rows.csv", b'{"label": "a", "text": "b"}', "holds JSON records: for a classifier save them as a table"),
    "json by its name": ("rows.jsonl.csv", b'[{"label": "a", "text": "b"}]', "questions and answers are given with"),
    "questions": ("rows.csv", b"question,answer\nwhy?,so", "holds questions and answers"),
    "no json": ("rows.json", b"How do I list files? ls", "begins with 'How do I"),
    "empty list": ("rows.json", b"[]", "holds an empty list"),
    "long prompt": (
        "rows.json",
        json.dumps([{"instruction": f"{k} " + "w" * 9 * k, "output": "a"} for k in range(40)]).encode(),
        "leaves no answer to learn from",
    ),
}


@pytest.mark.parametrize("name, content, complaint", TRIED.values(), ids=TRIED)
def test_what_cannot_be_learned_from_is_one_sentence_and_nothing_is_written(
    base, runs, tmp_path, capsys, name, content, complaint
):
    path = tmp_path / name
    path.write_bytes(content)
    option = "--instructions" if name.endswith("json") else "--messages"
    assert finetune.main([option, str(path), "--from", str(base)]) == 1
    said = capsys.readouterr().err.strip().split("\n")
    assert complaint in said[-1] and name in said[-1] and not runs.exists()
    assert path.read_bytes() == content


def test_numbers_as_labels_emoji_typed_specials_and_a_very_long_message_are_learned_from(base, runs, tmp_path, capsys):
    path, rows = (
        tmp_path / "my rows (final).v2.csv",
        [row._replace(label=f" {'01'['ab'.index(row.label)]} ") for row in messages(24)],
    )
    odd = ["🙂👍🏽", "<|endoftext|><|pad|>", "w1 " * 70_000, 'say ""hi"", or not', "NaN", "日本語 \u200d \u00ad x"]
    rows = [row._replace(text=f"{row.text} {odd[k % 6]}" if k < 12 else row.text) for k, row in enumerate(rows)]
    lines = [f'1;{row.label};"{row.text}"' for row in rows]  # the same number for each row
    path.write_bytes("\ufeff".encode() + "\r".join(["id;label;text", *lines]).encode())
    assert finetune.main(["--messages", str(path), "--from", str(base), "--epochs", "1"]) == 0
    assert "2 of 24 texts have more than 96 tokens" in capsys.readouterr().out
    (run,) = runs.iterdir()
    model, _ = load_classifier(run / "classifier")
    assert model.labels == ["0", "1"] and run.name == "my-rows-final-.v2"
    with open(run / "test.csv", encoding="utf-8", newline="") as file:
        kept = list(csv.DictReader(file))
    assert {row["text"].replace('"', "") for row in kept} <= {row.text.replace('"', "").rstrip() for row in rows}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_every_delimiter_and_a_byte_order_mark_are_read(base, runs, tmp_path, separator):
    path = tmp_path / "rows.csv"
    path.write_text("\ufeff" + table(messages(20), separator), encoding="utf-8")
    assert finetune.main(["--messages", str(path), "--from", str(base), "--epochs", "1"]) == 0
    assert (runs / "rows" / "report.md").is_file()


@pytest.mark.parametrize(
    "words, complaint",
    [
        ([], "give --messages FILE or --instructions FILE"),
        (["--resume"], "give --messages FILE or"),
        (["--messages", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["--messages", str(TICKETS), "--from", "nowhere"], "there is no model under 'nowhere' to begin as: give"),
        (["--messages", str(TICKETS), "--from", "shipped"], "two models come with the course: give 'story' for"),
        (["--messages", str(TICKETS), "--from", str(TICKETS)], "support_tickets.csv"),
        (["--messages", str(TICKETS), "--name", "shipped"], "means the models that come with the course"),
        (["--messages", str(TICKETS), "--name", "smollm2"], "means a published model"),
        (["--resume", "--name", "nothing"], "there is nothing to go on with"),
        (["--messages", str(TICKETS), "--epochs", "0"], "'0' is no whole number of 1 or more"),
        (["--messages", str(TICKETS), "--name", ""], "--name '' names no run"),
        (["--messages", str(TICKETS.parent)], "it is a folder"),
    ],
)
def test_options_that_cannot_be_used_are_one_sentence(runs, capsys, words, complaint):
    assert finetune.main(words) == 1
    assert complaint in capsys.readouterr().err and not runs.exists()


def test_an_answer_longer_than_the_context_is_counted_and_learned_from_as_far_as_it_goes(base, runs, tmp_path, capsys):
    records = [{"instruction": f"w{k}?", "output": f"w{k} " * (90 if k == 3 else 2)} for k in range(12)]
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert finetune.main(["--instructions", str(path), "--from", str(base), "--epochs", "1"]) == 0
    assert "1 of 12 records have more than 96 tokens" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.txt", "rows"])
def test_a_table_is_a_table_whatever_its_ending(base, runs, tmp_path, name):
    path = tmp_path / name
    path.write_text(table(messages(20)), encoding="utf-8")
    assert finetune.main(["--messages", str(path), "--from", str(base), "--epochs", "1"]) == 0
    others = tmp_path / f"others-{name}"
    others.write_text(table([row._replace(text=f"z{k} {row.text}") for k, row in enumerate(messages(6))]))
    assert evaluate.main(["rows", str(others)]) == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
@pytest.mark.parametrize("option", ["--messages", "--instructions"])
def test_a_pipe_is_refused_at_once(runs, tmp_path, capsys, option):
    os.mkfifo(tmp_path / "pipe.csv")
    assert finetune.main([option, str(tmp_path / "pipe.csv")]) == 1  # reading it would wait for ever
    assert "pipe.csv is no file but a pipe or a device: save the rows in a file" in capsys.readouterr().err


def test_an_assistant_stands_beside_the_nearest_question_and_a_bad_one_is_told_what_to_do(base, runs, tmp_path):
    records = [{"instruction": row.text, "output": row.text.split()[0]} for row in messages(24)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert finetune.main(["--instructions", str(path), "--from", str(base), "--epochs", "1"]) == 0
    report = (runs / "rows" / "report.md").read_text(encoding="utf-8")
    assert "repeating the answer of the training question" in report and "--from smollm2" in report


def test_the_nearest_question_is_no_answer_where_no_word_is_shared():
    known = [Instruction("own", "where is the cat", "here", ("here",))]
    asked = [Instruction("own", text, "here", ("here",)) for text in ("Where is this cat?", "who knows", "!?")]
    assert finetune.nearest_answers(known, asked) == [True, False, False]


@pytest.mark.parametrize("then", ["gone", "other"])
def test_a_file_that_changes_while_the_base_is_opened_is_learned_as_it_was(base, runs, tmp_path, monkeypatch, then):
    path = tmp_path / "rows.csv"
    path.write_text(table(messages(20)), encoding="utf-8")
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()

    def open_base(source):
        path.unlink() if then == "gone" else path.write_text(table(messages(30)), encoding="utf-8")
        return load_base(source)

    monkeypatch.setattr("ch06_finetuning.named_models.load_base", open_base)
    assert finetune.main(["--messages", str(path), "--from", str(base), "--epochs", "1"]) == 0
    assert json.loads((runs / "rows" / "finetune.json").read_text(encoding="utf-8"))["sha256"] == wanted
    assert "4 rows kept aside" in (runs / "rows" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "about",
    [
        "{",
        "[]",
        '{"kind": "messages", "settings": [], "file": "x", "sha256": "y"}',
        '{"kind": "messages", "settings": {"bas": "story"}, "file": "x", "sha256": "y"}',
        '{"kind": "songs", "settings": {"base": "x", "lora": 0, "epochs": 1, "seed": 0}, "file": "x", "sha256": "y"}',
    ],
)
def test_a_damaged_record_of_a_run_is_one_sentence(runs, capsys, about):
    (runs / "mine").mkdir(parents=True)
    (runs / "mine" / "finetune.json").write_text(about, encoding="utf-8")
    assert finetune.main(["--resume", "--name", "mine"]) == 1
    assert "there is nothing to go on with" in capsys.readouterr().err


def test_a_run_without_a_model_says_how_to_go_on(base, runs, tmp_path, capsys, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text(table(messages(20)), encoding="utf-8")
    monkeypatch.setattr(finetune, "learn", lambda work: (_ for _ in ()).throw(KeyboardInterrupt))
    assert finetune.main(["--messages", str(path), "--from", str(base)]) == 130
    capsys.readouterr()
    for main, words in ((chat.main, ["rows"]), (evaluate.main, ["rows", str(path)])):
        assert main(words) == 1
        assert "has no model yet: go on with python course.py finetune --resume --name rows" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "[]", '{"right": 1}', '{"right": "x", "n": 2, "doubtful": false}'])
def test_a_score_that_was_not_written_to_the_end_is_not_told(tmp_path, content):
    if content is not None:
        (tmp_path / "score.json").write_text(content, encoding="utf-8")
    assert score_of(tmp_path) is None


def test_what_would_move_the_cursor_is_not_shown(base, runs, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(table([row._replace(text=f"{row.text}\x1b[2J\x07") for row in messages(20)]), encoding="utf-8")
    assert finetune.main(["--messages", str(path), "--from", str(base), "--epochs", "1"]) == 0
    assert "wanted:" in (said := capsys.readouterr().out) and "\x1b" not in said and "\x07" not in said


def test_where_nothing_can_be_written_the_sentence_says_what_to_do(base, tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(table(messages(20)), encoding="utf-8")
    monkeypatch.setenv("COURSE_RUNS", str(path))  # a file in the place of the folder
    assert finetune.main(["--messages", str(path), "--from", str(base)]) == 1
    assert "free some space, or move the course to a folder that you may write to" in capsys.readouterr().err


def test_half_a_character_and_a_link_to_itself_are_no_traceback(base, runs, tmp_path, capsys):
    records = [{"instruction": f"w{k} \ud83d?", "output": f"w{k}"} for k in range(12)]
    path = tmp_path / "half.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert finetune.main(["--instructions", str(path), "--from", str(base), "--epochs", "1"]) == 0
    loop = tmp_path / "loop.csv"
    loop.symlink_to(loop)
    capsys.readouterr()
    assert finetune.main(["--messages", str(loop), "--from", str(base)]) == 1
    assert "loop.csv cannot be read" in capsys.readouterr().err and not (runs / "loop").exists()


def test_no_run_is_called_like_a_published_model():
    assert set(run.PUBLISHED_NAMES) == set(FETCHED)


def test_run_leaves_a_folder_of_finetune_alone_and_the_other_way_round(base, runs, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(table(messages(20)), encoding="utf-8")
    words = ["--messages", str(path), "--from", str(base), "--epochs", "1", "--name"]
    assert finetune.main([*words, "mine"]) == 0
    assert run.main(["--name", "mine", "--quick", "--no-chat"]) == 1
    assert "was made by course.py finetune" in capsys.readouterr().err
    (runs / "whole").mkdir()
    (runs / "whole" / "settings.json").write_text("{}", encoding="utf-8")
    assert finetune.main([*words, "whole"]) == 1
    assert "it is no run of this command" in capsys.readouterr().err


# ---------------------------------------------------------------- commands: what comes of it


def test_messages_become_a_classifier_that_is_evaluated_and_talked_with(base, runs, capsys, monkeypatch):
    words = ["--messages", str(TICKETS), "--name", "tickets", "--epochs", "1"]
    assert finetune.main([*words, "--from", str(base)]) == 0
    report = (runs / "tickets" / "report.md").read_text(encoding="utf-8")
    assert "36 rows kept aside" in report and "bag of words" in report and "wanted:" in report
    assert ("**" in report) == ("--from smollm2" in report), "whoever is not better is told what to do"
    with open(runs / "tickets" / "test.csv", encoding="utf-8", newline="") as file:
        held = {row["text"] for row in csv.DictReader(file)}
    assert len(held) == 36 and held <= {message.text for message in read_messages(TICKETS)}
    assert finetune.main([*words, "--from", str(base)]) == 1 and "is there already" in capsys.readouterr().err
    assert evaluate.main(["tickets", str(TICKETS), "--against", "tickets"]) == 0
    told = capsys.readouterr().out
    assert "288 of 324 rows are left out" in told and "n=36" in told and "p = 1; these rows do not tell" in told
    monkeypatch.setattr("sys.stdin", io.StringIO("I was charged twice.\n/quit\n"))
    assert chat.main(["tickets"]) == 0
    told = capsys.readouterr().out
    assert "It sorts what you type: question, refund, repair" in told and "%)" in told
    score = json.loads((runs / "tickets" / "score.json").read_text(encoding="utf-8"))
    assert f"Of 36 rows kept aside it got {score['right']} right." in told and f"{score['right'] / 36:.1%}" in report
    assert ("far simpler" in told) == score["doubtful"] == ("**" in report)
    kept = json.loads((runs / "tickets" / "rows.json").read_text(encoding="utf-8"))
    assert kept["validation"][0][0] in told and not any(text in told for text in held), "test rows stay unseen"
    assert sample.main(["Once", "--model", str(runs / "tickets" / "classifier")]) == 1


def verdict(right, other):
    return " ".join(finetune._beside(right, "counting words", other))


def test_the_verdict_is_that_of_the_paired_test():
    good, bad = [True] * 10, [False] * 10
    assert "100.0%" in verdict(
        bad, good
    ) and "**Worse than counting words** (exact McNemar test, p = 0.002)" in verdict(bad, good)
    assert "0.0%" in verdict(good, bad) and ". Better than counting words" in verdict(good, bad)
    assert "**Not shown to be better" in verdict(good, [*good[:5], *bad[5:]])
    assert "not possible, no word" in verdict(good, "no word")


@pytest.mark.parametrize(
    "name, head, given",
    [
        ("rows.csv", "Kategorie,Nachricht", ["--label", "Kategorie", "--text", "Nachricht"]),
        ("rows.csv", "score,note", ["--text", "note", "--label", "score"]),
        ("rows.jsonl", ("Frage", "Antwort"), ["--question", "Frage", "--answer", "Antwort"]),
        ("rows.jsonl", ("question", "answer"), []),
        ("talks.csv", "Antwort,Frage", ["--question", "Frage", "--answer", "Antwort"]),
        ("talks.csv", "answer,question", []),
    ],
)
def test_columns_and_keys_are_named_by_options(base, runs, tmp_path, capsys, name, head, given):
    path, rows = tmp_path / name, messages(20)
    lines = [json.dumps({head[0]: row.text, head[1]: row.label}) for row in rows]
    content = "\n".join(lines) if name.endswith("jsonl") else table(rows).replace("label,text", str(head))
    path.write_text(content, encoding="utf-8")
    option = "--messages" if name == "rows.csv" else "--instructions"
    words = [option, str(path), "--from", str(base), "--epochs", "1"]
    if given:
        assert finetune.main(words) == 1 and given[0] in capsys.readouterr().err and not runs.exists()
    assert finetune.main([*words, *given]) == 0
    assert evaluate.main([path.stem, str(path), *given]) == 0 and "n=" in capsys.readouterr().out
    wrong = ["--answer", "a"] if name == "rows.csv" else ["--label", "a"]
    assert finetune.main([*words, *wrong, "--name", "other"]) == 1
    assert f"{wrong[0]} belongs to" in capsys.readouterr().err


def test_messages_become_a_classifier_of_a_published_model_that_is_evaluated_and_talked_with(
    runs, tmp_path, capsys, monkeypatch
):
    source, path = publish(tmp_path / "published"), tmp_path / "rows.csv"
    path.write_text(table(messages(40)), encoding="utf-8")
    assert finetune.main(["--messages", str(path), "--from", str(source), "--epochs", "1"]) == 0
    told = capsys.readouterr()
    assert "by LoRA" in told.out and "hardly knows them" not in told.out and "learning about" in told.err
    assert evaluate.main(["rows", str(path), "--against", "rows"]) == 0
    assert "p = 1" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 w2\n/quit\n"))
    assert chat.main(["rows"]) == 0
    assert "It sorts what you type: a, b" in (told := capsys.readouterr().out) and "%)" in told


def test_labels_that_a_classifier_never_learned_are_named(base, runs, tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text(table(messages(20)), encoding="utf-8")
    assert finetune.main(["--messages", str(path), "--from", str(base), "--epochs", "1"]) == 0
    path.write_text(table([Message("hello there you", "a"), Message("quite another", "c")]), encoding="utf-8")
    capsys.readouterr()
    assert evaluate.main(["rows", str(path)]) == 0
    assert (
        "1 of 2 rows cannot be right, by labels that were not learned: 'c'; rows knows 'a'" in capsys.readouterr().out
    )
    path.write_text(table([Message("hello there you", "d"), Message("quite another", "c")]), encoding="utf-8")
    assert evaluate.main(["rows", str(path)]) == 1
    assert "none of the 2 rows has a label" in capsys.readouterr().err
    words = ["--messages", str(path), "--from", str(runs / "rows" / "classifier"), "--name", "more"]
    path.write_text(table(messages(20)), encoding="utf-8")
    assert finetune.main(words) == 1 and "is a classifier, which nothing goes on from" in capsys.readouterr().err


def test_a_stopped_command_goes_on_and_ends_the_same(base, runs, capsys, monkeypatch):
    words = ["--instructions", str(SHELL), "--from", str(base), "--epochs", "2"]
    assert finetune.main([*words, "--name", "whole"]) == 0
    teach = finetune.ProgressLine.__call__
    monkeypatch.setattr(finetune.ProgressLine, "__call__", lambda self, progress: press_at(2)(progress))
    assert finetune.main([*words, "--name", "parts"]) == 130
    assert "go on with: python course.py finetune --resume --name parts" in capsys.readouterr().out
    monkeypatch.setattr(finetune.ProgressLine, "__call__", teach)
    assert finetune.main(["--resume", "--name", "parts", "--epochs", "3"]) == 1
    assert "was begun with --epochs 2" in capsys.readouterr().err
    assert finetune.main(["--resume", "--name", "parts"]) == 0
    notes = [(runs / name / "report.md").read_text(encoding="utf-8").split("\n##")[0] for name in ("whole", "parts")]
    assert notes[0].replace("whole", "parts") == notes[1] and "a word of these texts is" in notes[1]
    files = [(runs / name / "assistant" / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert files[0] == files[1]
    assert sample.main(["Once", "--run", "parts", "--tokens", "3"]) == 0
    assert evaluate.main(["parts", str(runs / "parts" / "test.jsonl"), "--against", "whole"]) == 0
    assert "p = 1" in capsys.readouterr().out
