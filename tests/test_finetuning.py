"""Claims of chapter 6 about classifiers, instruction rows, replay, LoRA and preferences, on tiny models."""

import copy
import math
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS, add_special_tokens
from ch02_text_data.batches import IGNORE_INDEX, EpochBatches
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining.evaluation import evaluate
from ch05_pretraining.hugging_face import export_hugging_face, load_gpt2
from ch05_pretraining.pretraining import TrainConfig, cross_entropy, train
from ch05_pretraining.story_scores import evaluate_stories
from ch06_finetuning.assistant import Assistant, mark_assistant
from ch06_finetuning.bag_of_words import BagOfWords
from ch06_finetuning.dpo import dpo_loss, train_preferences
from ch06_finetuning.finetuning import (
    GPTClassifier,
    MessageDataset,
    collate_messages,
    create_message_loader,
    last_real_tokens,
    predict,
    set_trainable,
    train_assistant,
    train_classifier,
)
from ch06_finetuning.instructions import (
    InstructionDataset,
    ReplayBatches,
    collate_instructions,
    create_instruction_loader,
    prompt_ids,
)
from ch06_finetuning.lora import LoRALinear, apply_lora, lora_layers, merge_lora
from ch06_finetuning.metrics import Rate, classification_report, wilson_interval
from ch06_finetuning.ppo import ActorCritic
from ch06_finetuning.preferences import PreferenceDataset, reference_log_probabilities, sequence_log_probabilities
from ch06_finetuning.recipes import baseline_report, classifier_report
from ch06_finetuning.reward_model import RewardModel
from ch06_finetuning.vocabulary import grow_vocabulary
from data.loaders import load_instructions, load_messages, load_preferences, load_stories
from data.own_messages import read_messages
from data.story_world.message_task import MESSAGE_LABELS, Message
from shared import load_assistant
from tests.sizes import LONG_RUN, n
from tests.small_models import random_ids, shaken, tiktoken_of_bytes, tiny_model

TEXT = "The red fox lost her kite. Who lost the kite? The fox did. The owl found a lamp and was glad. What color? "
MOODS = ("glad", "sad", "cross")


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT * 3, 256 + 40 + len(SPECIAL_TOKENS), SPECIAL_TOKENS)


@pytest.fixture
def model(tokenizer):
    return tiny_model(vocab_size=tokenizer.vocab_size, context_length=64).eval()


@pytest.fixture
def pad(tokenizer):
    return tokenizer.special_tokens["<|pad|>"]


@pytest.fixture
def classifier(model, pad):
    torch.manual_seed(1)
    classifier = GPTClassifier(model, 3, pad)
    torch.nn.init.normal_(classifier.head.weight)  # a head of zeros would hide every difference
    return classifier.eval()


def messages(count=48):
    words = {"glad": "smiles and sings", "sad": "cries alone", "cross": "stamps and shouts"}
    names = ("fox", "owl", "hen", "cat")
    return [
        SimpleNamespace(
            text=f"The {names[i % 4]} {words[MOODS[i % 3]]}, {'again and ' * (i % 4)}again.", label=MOODS[i % 3]
        )
        for i in range(count)
    ]


def records(count=24):
    colors = ("red", "blue", "green")
    return [
        SimpleNamespace(kind="color", prompt=f"The hat {i} is {colors[i % 3]}. What color?", response=colors[i % 3])
        for i in range(count)
    ]


# ----------------------------------------------------------------------------------------------------- classifier


def test_the_last_real_token_is_found_with_padding_on_any_side():
    rows = torch.tensor([[5, 6, 7, 0, 0], [0, 0, 5, 6, 7], [0, 5, 6, 7, 0], [5, 6, 7, 8, 9]])
    aligned, last = last_real_tokens(rows, pad_id=0)
    assert last.tolist() == [2, 2, 2, 4]
    assert aligned[:3, :3].tolist() == [[5, 6, 7]] * 3


@pytest.mark.parametrize("left", range(4))
def test_a_row_scores_the_same_wherever_its_padding_stands(classifier, pad, left):
    row = torch.randint(0, 256, (1, 9))
    padded = F.pad(row, (left, 3 - left), value=pad)
    assert_close(classifier(padded), classifier(row))


def test_a_row_scores_the_same_whatever_shares_its_batch(classifier, pad):
    short, long = torch.randint(0, 256, (6,)), torch.randint(0, 256, (20,))
    batch, _ = collate_messages([(short, torch.tensor(0)), (long, torch.tensor(1))], pad)
    assert_close(classifier(batch)[0], classifier(short[None])[0])


def test_the_classifier_reads_the_last_real_hidden_vector(classifier, pad):
    row = torch.randint(0, 256, (1, 9))
    by_hand = classifier.head(classifier.model.hidden(row)[0, -1])
    assert_close(classifier(F.pad(row, (0, 4), value=pad))[0], by_hand)
    other = row.clone()
    other[0, -1] += 1
    assert not torch.allclose(classifier(other)[0], by_hand)


def test_an_untrained_head_finds_every_class_equally_likely(model, pad):
    ids = torch.randint(0, 256, (4, 7))
    logits = GPTClassifier(model, 3, pad)(ids)
    assert cross_entropy(logits, torch.tensor([0, 1, 2, 0])).item() == pytest.approx(math.log(3))


def test_a_row_of_padding_alone_is_refused(classifier, pad):
    with pytest.raises(ValueError, match="row 1 of the batch holds only padding"):
        classifier(torch.tensor([[5, 6], [pad, pad]]))


def test_one_class_is_refused(model):
    with pytest.raises(ValueError, match="n_classes=1: a classifier needs at least two"):
        GPTClassifier(model, 1)


@pytest.mark.parametrize("part", ["head", "last_block", "all"])
def test_only_the_chosen_part_changes(model, tokenizer, pad, part):
    classifier = GPTClassifier(model, 3, pad)
    before = copy.deepcopy(classifier.state_dict())
    loader = create_message_loader(messages(), tokenizer, MOODS, batch_size=16, max_length=40)
    train_classifier(classifier, loader, None, TrainConfig(max_steps=3, warmup_steps=0), part=part)
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    allowed = {
        "head": lambda name: name.startswith("head."),
        "last_block": lambda name: name.startswith(("head.", "model.blocks.1.", "model.final_norm.")),
        "all": lambda name: True,
    }[part]
    assert "head.weight" in changed and all(map(allowed, changed))
    assert ("model.blocks.1.attention.qkv_proj.weight" in changed) == (part != "head")
    assert ("model.blocks.0.attention.qkv_proj.weight" in changed) == (part == "all")
    assert all(p.requires_grad for p in classifier.parameters())


def test_an_unknown_part_is_refused(classifier):
    with pytest.raises(ValueError, match="part='tail' is unknown"):
        set_trainable(classifier, "tail")


def test_a_classifier_learns_and_repeats_by_seed(model, tokenizer, pad):
    def trained():
        classifier = GPTClassifier(copy.deepcopy(model), 3, pad)
        loader = create_message_loader(messages(), tokenizer, MOODS, batch_size=16, max_length=40, seed=3)
        train_classifier(classifier, loader, None, TrainConfig(max_steps=40, learning_rate=3e-3, warmup_steps=5))
        return classifier

    first, second = trained(), trained()
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b)
    held_out = create_message_loader(messages(12), tokenizer, MOODS, batch_size=5, max_length=40, shuffle=False)
    targets, probabilities = predict(first, held_out)
    assert_close(probabilities.sum(dim=1), torch.ones(12))
    assert (probabilities.argmax(dim=1) == targets).float().mean() >= 0.9


def test_a_stopped_classifier_training_resumes_to_the_same_weights(model, tokenizer, pad, tmp_path):
    config = TrainConfig(max_steps=8, warmup_steps=2, eval_every=4, optimizer="muon")

    def run(folder, stop_at=None):
        classifier = GPTClassifier(copy.deepcopy(model), 3, pad)
        loader = create_message_loader(messages(), tokenizer, MOODS, batch_size=16, max_length=40)

        def stop(progress):
            if progress.step == stop_at:
                raise KeyboardInterrupt

        try:
            train_classifier(classifier, loader, None, config, checkpoint_dir=folder, resume=True, on_step=stop)
        except KeyboardInterrupt:
            pass
        except Exception as error:
            assert stop_at and "stopped after step" in str(error)
        return classifier

    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", stop_at=5)
    resumed = run(tmp_path / "parts")
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b)


def test_messages_begin_like_documents_and_count_what_is_cut(tokenizer):
    dataset = MessageDataset(messages(4), tokenizer, MOODS, max_length=12)
    assert all(ids[0] == tokenizer.special_tokens["<|endoftext|>"] and len(ids) <= 12 for ids, _ in dataset.items)
    long_rows = sum(len(tokenizer.encode(message.text)) + 1 > 12 for message in messages(4))
    assert dataset.n_truncated == long_rows > 0


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (SimpleNamespace(text=" ", label="glad"), "record 1 has no text under 'text'"),
        (SimpleNamespace(text="Hello.", label="bored"), "row 1 has the label 'bored'; the labels are glad, sad, cross"),
        (SimpleNamespace(words="Hello."), "record 1 has no text under 'text'"),
    ],
)
def test_a_bad_message_is_named(tokenizer, message, sentence):
    with pytest.raises(ValueError, match=sentence):
        MessageDataset([messages(1)[0], message], tokenizer, MOODS, max_length=20)


# --------------------------------------------------------------------------------------------------------- scores


def test_the_report_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    for _ in range(n(20, 200)):
        targets, predictions = torch.randint(0, 4, (2, 60))
        report = classification_report(targets, predictions, "abcd")
        expected = metrics.precision_recall_fscore_support(targets, predictions, labels=range(4), zero_division=0)
        got = [[rate.value if rate.n else 0.0 for rate in rates] for rates in (report.precision, report.recall)]
        assert_close(
            torch.tensor([*got, report.f1]).double(),
            torch.tensor([list(row) for row in expected[:3]]).double(),
            rtol=1e-6,
            atol=1e-6,
        )
        assert_close(report.confusion, torch.tensor(metrics.confusion_matrix(targets, predictions, labels=range(4))))


def test_a_report_known_by_hand():
    report = classification_report([0, 0, 0, 1], [0, 0, 1, 1], ("no", "yes"))
    assert report.confusion.tolist() == [[2, 1], [0, 1]]
    assert report.accuracy.value == 0.75
    assert [rate.value for rate in report.recall] == [pytest.approx(2 / 3), 1.0]
    assert [rate.value for rate in report.precision] == [1.0, 0.5]
    assert report.f1 == [pytest.approx(0.8), pytest.approx(2 / 3)]
    assert "75.0%" in str(report)


def test_wilson_interval_known_values_and_edges():
    assert wilson_interval(8, 10) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    low, high = wilson_interval(10, 10)
    assert high == 1.0 and 0.7 < low < 0.75
    assert wilson_interval(0, 10)[0] == 0.0
    with pytest.raises(ValueError, match="0 correct of 0 is no rate"):
        wilson_interval(0, 0)


def test_wilson_interval_holds_the_truth_about_95_times_in_100():
    generator = torch.Generator().manual_seed(0)
    held, trials = 0, 2000
    for _ in range(trials):
        low, high = wilson_interval(int((torch.rand(200, generator=generator) < 0.93).sum()), 200)
        held += low <= 0.93 <= high
    assert 0.93 < held / trials < 0.97


@pytest.mark.parametrize(
    ("targets", "predictions", "sentence"),
    [
        ([0, 1], [0], "2 targets and 1 predictions"),
        ([], [], "0 targets"),
        ([0, 2], [0, 1], "class indices run from 0 to 2, but there are 2 labels"),
    ],
)
def test_a_report_refuses_what_it_cannot_count(targets, predictions, sentence):
    with pytest.raises(ValueError, match=sentence):
        classification_report(targets, predictions, ("no", "yes"))


def test_bag_of_words_learns_words_and_nothing_of_their_order():
    rows = messages()
    bag = BagOfWords(3).fit([row.text for row in rows], [MOODS.index(row.label) for row in rows])
    assert bag.predict(["The fox cries alone.", "alone cries fox the", "HE SHOUTS"]).tolist() == [1, 1, 2]
    again = BagOfWords(3).fit([row.text for row in rows], [MOODS.index(row.label) for row in rows])
    assert torch.equal(bag.linear.weight, again.linear.weight)
    with pytest.raises(ValueError, match="0 texts and 0 labels"):
        BagOfWords(3).fit([], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The fox's kite, it's 10:30!", "the fox's kite it's 10 30"),
        ("Привет, мой ДРУГ", "привет мой друг"),
        ("L’été à la CAFE\u0301, foo_bar", "l'été à la café foo_bar"),
        ("हिन्दी में مرحبا می\u200cخواهم", "हिन्दी में مرحبا میخواهم"),
        ("안녕 하세요 ½ 2²", "안녕 하세요 ½ 2²"),
        ("你好，世界 iPhone很好", "你 好 你好 世 界 世界 iphone 很 好 很好"),
        ("カメラ สวัส", "カ メ ラ カメ メラ ส ว ั ส สว วั ัส"),
        ("👍👍 so ❤\ufe0f", "👍 👍 so ❤"),
    ],
)
def test_a_bag_holds_the_words_of_every_script(text, words):
    bag = BagOfWords(2, min_count=1).fit([text, "other"], [0, 1])
    assert set(bag.columns) == {*words.split(), "other"}
    assert bag.features([text]).sum() == len(set(words.split()))


def test_a_bag_tells_texts_in_any_script_apart():
    pairs = ("привет друг", "купи товар"), ("我很喜欢这部电影", "服务太差了"), ("👍 👍", "👎"), ("7 8", "9")
    for first, second in pairs:
        bag = BagOfWords(2).fit([first] * 5 + [second] * 5, [0] * 5 + [1] * 5)
        assert bag.predict([first, second]).tolist() == [0, 1]


def test_the_messages_of_the_course_hold_the_words_that_their_figures_were_measured_with():
    rows = load_messages("train")[:: n(8, 1)]
    bag = BagOfWords(4, min_count=1).fit([row.text for row in rows], [0] * len(rows), n_steps=1)
    assert set(bag.columns) == {word for row in rows for word in re.findall(r"[a-z']+", row.text.lower())}


@pytest.mark.parametrize(
    ("texts", "targets", "sentence"),
    [
        (["!!", "?"], [0, 1], "no word stands in 2 of the 2 texts: pass more texts, or a smaller min_count"),
        (["a fox", "an owl"], [0, 1], "no word stands in 2 of the 2 texts"),
        (["fox", "fox"], ["ham", "spam"], "found the label 'ham': pass class numbers, 0 to 1"),
        (["fox", "fox"], [0, 2], "found the label 2: pass class numbers, 0 to 1"),
        (["fox", "fox"], [-1, 0], "found the label -1"),
        (["fox", "fox"], [0], "2 texts and 1 labels"),
    ],
)
def test_a_bag_refuses_what_it_cannot_learn_from(texts, targets, sentence):
    with pytest.raises(ValueError, match=sentence):
        BagOfWords(2).fit(texts, targets)
    with pytest.raises(ValueError, match="n_classes=1: a classifier needs at least two classes"):
        BagOfWords(1)


# ------------------------------------------------------------------------------------------ reports on rows of your own
def _rows(*labels):
    return [Message(f"it is {label} {'.' * k}", label) for k, label in enumerate(labels)]


def test_the_baseline_takes_the_labels_of_the_rows_in_any_order():
    train_rows, test_rows = _rows(*["b", "c", "a"] * 4), _rows("c", "a", "b", "a")
    report = baseline_report(train_rows, test_rows)
    assert report.labels == ("a", "b", "c") and torch.equal(report.confusion, torch.diag(torch.tensor([2, 1, 1])))
    again = baseline_report(train_rows[::-1], test_rows[::-1])
    assert torch.equal(again.confusion, report.confusion)
    ours = baseline_report(_rows(*MESSAGE_LABELS * 3), _rows(*MESSAGE_LABELS[::-1]))
    assert ours.labels == MESSAGE_LABELS and ours.accuracy.value == 1


def test_a_report_names_labels_that_training_never_saw_and_classes_without_a_row():
    report = baseline_report(_rows(*["b", "c", "a"] * 4), _rows("c", "new", "a"))
    assert report.labels == ("a", "b", "c", "new") and report.unseen == ("new",)
    assert report.confusion.sum() == 3 and report.confusion[:3, :3].trace() == 2 and report.confusion[3, 3] == 0
    text = str(report)
    assert "nan" not in text and "never seen in training: new" in text and "no test row: b" in text
    assert re.search(r"^new +–    0\.0%    0\.0%     1$", text, re.M)
    assert str(Rate(0, 0)).split() == ["–", "[0.0%,", "100.0%]", "n=0"]
    whole = str(baseline_report(_rows(*["b", "a"] * 4), _rows("b", "a")))
    assert len(whole.splitlines()) == 4 and "–" not in whole


def test_the_baseline_refuses_rows_that_it_cannot_learn_from_or_report_on():
    rows = _rows("a", "b", "a", "b")
    for train_rows, test_rows, sentence in (
        ([], rows, "train_rows is empty"),
        (rows, [], "test_rows is empty"),
        (rows[::2], rows, "all of train_rows have the label 'a': pass rows of at least two labels"),
    ):
        with pytest.raises(ValueError, match=sentence):
            baseline_report(train_rows, test_rows)


def test_a_classifier_is_graded_with_the_labels_of_its_training(model, tokenizer):
    labels = ("sad", "glad", "cross")  # neither sorted nor as in the rows
    rows = messages()
    classifier = GPTClassifier(model, 3, tokenizer.special_tokens["<|pad|>"])
    loader = create_message_loader(rows, tokenizer, labels, batch_size=8, max_length=40)
    train_classifier(classifier, loader, None, TrainConfig(max_steps=60, warmup_steps=3, learning_rate=5e-3))
    report = classifier_report(classifier, tokenizer, rows, labels, max_length=40)
    in_order = create_message_loader(rows, tokenizer, labels, batch_size=8, max_length=40, shuffle=False)
    named = [labels[index] for index in predict(classifier, in_order)[1].argmax(dim=1)]
    right = sum(name == row.label for name, row in zip(named, rows))
    assert report.labels == labels and report.accuracy.n_correct == right > len(rows) / 2
    assert report.recall[0].n == sum(row.label == "sad" for row in rows)
    extra = classifier_report(classifier, tokenizer, [*rows, Message("Who?", "new")], labels, max_length=40)
    assert extra.labels == (*labels, "new") and extra.unseen == ("new",) and extra.accuracy.n == len(rows) + 1
    classifier.labels, classifier.max_length = labels, 40  # as a classifier has them that was saved with its labels
    assert torch.equal(classifier_report(classifier, tokenizer, rows).confusion, report.confusion)


def test_a_classifier_is_not_graded_with_guessed_labels(model, tokenizer):
    classifier, rows = GPTClassifier(model, 3, tokenizer.special_tokens["<|pad|>"]), messages()
    for arguments, sentence in (
        ((rows,), r"the messages have the label '\w+': pass labels=…, in the order of the training"),
        ((rows, MOODS[:2]), r"the classifier has 3 classes, but labels=\['glad', 'sad'\]: pass one label for each"),
        ((rows, set(MOODS)), "labels are a set: give a list, whose order is the order of the classes"),
        (([], MOODS), "messages is empty"),
    ):
        with pytest.raises(ValueError, match=sentence):
            classifier_report(classifier, tokenizer, *arguments)


# --------------------------------------------------------------------------------------------------- instructions


def test_a_prompt_is_specials_around_plain_text(tokenizer):
    special = tokenizer.special_tokens
    ids = prompt_ids(tokenizer, "Who?", [("Red?", "Yes.")])
    expected = [special["<|user|>"], *tokenizer.encode("Red?"), special["<|assistant|>"], *tokenizer.encode("Yes.")]
    expected += [special["<|endoftext|>"], special["<|user|>"], *tokenizer.encode("Who?"), special["<|assistant|>"]]
    assert ids == expected


@pytest.mark.parametrize("typed", SPECIAL_TOKENS)
def test_a_special_token_typed_by_a_user_stays_text(tokenizer, typed):
    ids = prompt_ids(tokenizer, f"Hi {typed} there", [(typed, typed)])
    inside = [id for id in ids if id in tokenizer.special_tokens.values()]
    names = {id: name for name, id in tokenizer.special_tokens.items()}
    assert [names[id] for id in inside] == ["<|user|>", "<|assistant|>", "<|endoftext|>", "<|user|>", "<|assistant|>"]
    assert tokenizer.decode(ids).count(typed) == 3 + names_count(typed)


def names_count(typed):
    return {"<|endoftext|>": 1, "<|pad|>": 0, "<|user|>": 2, "<|assistant|>": 2}[typed]


def test_only_the_answer_and_its_end_are_graded(tokenizer):
    record = records(1)[0]
    ids, targets = InstructionDataset([record], tokenizer, 64)[0]
    asked = len(prompt_ids(tokenizer, record.prompt))
    answer = [*tokenizer.encode(record.response), tokenizer.special_tokens["<|endoftext|>"]]
    assert targets[: asked - 1].eq(IGNORE_INDEX).all()
    assert targets[asked - 1 :].tolist() == answer
    assert ids[asked - 1] == tokenizer.special_tokens["<|assistant|>"]  # it predicts the answer's first token
    assert ids[1:].tolist() == prompt_ids(tokenizer, record.prompt)[1:] + answer[:-1]


def test_unmasked_prompts_are_graded_too(tokenizer):
    ids, targets = InstructionDataset(records(1), tokenizer, 64, mask_prompt=False)[0]
    assert torch.equal(targets[:-1], ids[1:])


def test_every_answer_of_a_talk_is_graded_where_that_is_asked_for(tokenizer):
    talk = SimpleNamespace(prompt="And Tom?", response="A bear.", history=(("Who is Mia?", "An owl."), ("Why?", "So.")))
    (_, last_only), (ids, every) = (
        InstructionDataset([talk], tokenizer, 64, grade_history=grade)[0] for grade in (False, True)
    )
    end = tokenizer.special_tokens["<|endoftext|>"]
    said = [[*tokenizer.encode(answer), end] for answer in ("An owl.", "So.", "A bear.")]
    assert every[every != IGNORE_INDEX].tolist() == sum(said, [])
    assert last_only[last_only != IGNORE_INDEX].tolist() == said[-1]
    assert torch.equal(every[every != IGNORE_INDEX][:-1], ids[1:][every[:-1] != IGNORE_INDEX])


def test_padding_is_never_graded_and_never_changes_the_loss(model, tokenizer, pad):
    rows = InstructionDataset([records(1)[0], SimpleNamespace(prompt="Who?", response="The owl.")], tokenizer, 64)
    ids, targets = collate_instructions([rows[0], rows[1]], pad)
    lengths = [len(row) for row, _ in rows.items]
    for row, length in enumerate(lengths):
        assert ids[row, length:].eq(pad).all() and targets[row, length:].eq(IGNORE_INDEX).all()
    alone = [(ids[None], targets[None]) for ids, targets in rows.items]
    assert evaluate(model, [(ids, targets)]) == pytest.approx(evaluate(model, alone), abs=1e-5)


def test_what_stands_in_the_prompt_is_not_learned_but_is_read(model, tokenizer):
    ids, targets = (x[None] for x in InstructionDataset(records(1), tokenizer, 64)[0])
    F.cross_entropy(model(ids).flatten(0, 1), targets.flatten()).backward()
    graded = (targets[0] != IGNORE_INDEX).sum()
    by_hand = cross_entropy(model(ids)[:, -graded:], targets[:, -graded:])
    assert_close(by_hand, cross_entropy(model(ids), targets))
    assert model.token_embedding.weight.grad[ids[0, 1]].abs().sum() > 0  # it was read


def test_truncated_records_are_counted(tokenizer):
    whole = InstructionDataset(records(3), tokenizer, 64)
    longest = max(len(ids) for ids, _ in whole.items)
    cut = InstructionDataset(records(3), tokenizer, longest - 1)
    assert whole.n_truncated == 0 and cut.n_truncated >= 1
    assert all(len(ids) < longest and (targets != IGNORE_INDEX).any() for ids, targets in cut.items)


def test_a_prompt_that_leaves_no_answer_is_refused_with_its_number(tokenizer):
    rows = [SimpleNamespace(prompt="Who?", response="The owl."), *records(1)]
    with pytest.raises(ValueError, match=r"record 1: its prompt takes \d+ tokens, so max_length=12 leaves no answer"):
        InstructionDataset(rows, tokenizer, 12)


@pytest.mark.parametrize(
    "bad", [{"prompt": "Who?"}, {"prompt": "Who?", "response": ""}, {"prompt": 3, "response": "a"}]
)
def test_a_bad_record_is_named(tokenizer, bad):
    with pytest.raises(ValueError, match="record 2 has no text under '(prompt|response)'"):
        InstructionDataset([*records(2), SimpleNamespace(**bad)], tokenizer, 64)


def test_an_empty_prompt_is_refused(tokenizer):
    with pytest.raises(ValueError, match="the prompt is empty"):
        prompt_ids(tokenizer, "  ")


def test_a_tokenizer_without_chat_specials_is_refused():
    plain = BPETokenizer.train(TEXT, 270, ("<|endoftext|>",))
    with pytest.raises(ValueError, match=r"lacks <\|user\|>, <\|assistant\|>"):
        prompt_ids(plain, "Who?")


def test_an_assistant_learns_its_answers(model, tokenizer):
    loader = create_instruction_loader(records(), tokenizer, batch_size=8, max_length=64)
    before = evaluate(model, loader)
    history = train_assistant(model, loader, loader, TrainConfig(max_steps=120, warmup_steps=5, eval_every=60))
    assert before > 4 and history.val_losses[-1] < 0.8


# --------------------------------------------------------------------------------------------------------- replay


def replay(share=0.25, seed=0):
    return ReplayBatches(EpochBatches([1] * 20, 2, seed=seed), EpochBatches([1] * 9, 3, seed=seed), 20, share)


def test_one_batch_in_so_many_is_an_old_one():
    batches = list(replay())
    old = [min(batch) >= 20 for batch in batches]
    assert len(batches) == len(replay()) == 13
    assert [i for i, is_old in enumerate(old) if is_old] == [3, 7, 11]
    assert sorted(index for batch, is_old in zip(batches, old) if not is_old for index in batch) == list(range(20))


def test_replay_resumes_anywhere():
    batches = replay()
    for epoch in range(4):
        batches.set_epoch(epoch)
        whole = list(batches)
        for start in range(len(whole) + 1):
            batches.set_epoch(epoch, start)
            assert list(batches) == whole[start:]


def test_replay_passes_over_all_old_rows_before_it_repeats_one():
    batches, seen = replay(), []
    for epoch in range(3):
        batches.set_epoch(epoch)
        seen += [index for batch in batches if min(batch) >= 20 for index in batch]
    assert sorted(seen[:9]) == sorted(seen[9:18]) == list(range(20, 29))


@pytest.mark.parametrize("share", [0, -0.1, 0.6, 1])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="outside 0 to 0.5"):
        replay(share)


def test_story_batches_grade_every_token_of_the_story(tokenizer):
    loader = create_instruction_loader(
        records(), tokenizer, batch_size=8, max_length=64, stories=[TEXT] * 4, replay_share=0.5, replay_batch=2
    )
    graded = [(targets != IGNORE_INDEX).float().mean().item() for _, targets in loader]
    assert (
        len(graded) == 6 and all(share == 1.0 for share in graded[1::2]) and all(share < 0.5 for share in graded[::2])
    )


# ----------------------------------------------------------------------------------------------------------- LoRA


def test_lora_changes_nothing_at_the_start(model):
    ids = torch.randint(0, 256, (2, 11))
    before = model(ids)
    assert torch.equal(apply_lora(model, rank=4, alpha=8)(ids), before)


def test_lora_adds_what_its_formula_says(model):
    linear = copy.deepcopy(model.blocks[0].attention.qkv_proj)
    lora = LoRALinear(copy.deepcopy(linear), rank=4, alpha=8)
    torch.nn.init.normal_(lora.lora_b)
    x = torch.randn(3, 32)
    assert_close(lora(x), linear(x) + 8 / 4 * x @ (lora.lora_b @ lora.lora_a).T)


def test_only_the_adapters_train_and_merging_keeps_every_logit(model, tokenizer):
    names = list(model.state_dict())
    apply_lora(model, rank=4, alpha=8)
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trainable) == 2 * 4 * 2 and all("lora_" in name for name in trainable)
    before = copy.deepcopy(model.state_dict())
    loader = create_instruction_loader(records(), tokenizer, batch_size=8, max_length=64)
    train_assistant(model, loader, None, TrainConfig(max_steps=5, warmup_steps=0))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(trainable)
    ids = torch.randint(0, 256, (2, 11))
    adapted = model.eval()(ids)
    merge_lora(model)
    assert_close(model(ids), adapted, rtol=1e-4, atol=1e-5)
    assert list(model.state_dict()) == names and all(p.requires_grad for p in model.parameters())


def test_lora_starts_by_seed(model):
    first, second = (apply_lora(copy.deepcopy(model), 4, 8, seed=5) for _ in range(2))
    other = apply_lora(copy.deepcopy(model), 4, 8, seed=6)
    weight = "blocks.0.attention.qkv_proj.lora_a"
    assert torch.equal(first.state_dict()[weight], second.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


def test_lora_refuses_what_cannot_be_and_leaves_the_model_as_it_was(model):
    model.token_embedding.requires_grad_(False)
    names, before = list(dict(model.named_modules())), copy.deepcopy(model.state_dict())
    trainable = [p.requires_grad for p in model.parameters()]
    for options, message in [
        ({"rank": 0}, "rank=0 does not fit"), ({"rank": 33}, "rank=33 does not fit a 96 x 32 matrix: choose 1 to 32"),
        ({"rank": 2.5}, "rank=2.5 does not fit"), ({"rank": "4"}, "rank=4 does not fit"),
        *(({"alpha": alpha}, f"alpha={alpha} is not a number above 0") for alpha in (0, -1, math.nan, math.inf)),
        ({"targets": ("q_proj",)}, "no linear layer named q_proj: .* are down_proj, head, out_proj, qkv_proj, up_proj"),
        ({"targets": ("qkv_proj", "token_embedding")}, "no linear layer named token_embedding"),
        ({"targets": "proj"}, "no linear layer named proj"), ({"targets": ()}, "no linear layer named"),
        ({"targets": ("qkv_proj", "head")}, r"'head' shares its weights \(token_embedding.weight = head.weight\)"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            apply_lora(model, **{"rank": 4, "alpha": 8} | options)
        assert list(dict(model.named_modules())) == names and [p.requires_grad for p in model.parameters()] == trainable
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="has LoRA layers already"):
        apply_lora(apply_lora(model, 4, 8), 4, 8)


def plain_gpt(**changes):
    return GPTModel(GPTConfig(64, 16, 16, 4, 2, **changes))


def modern_gpt(**changes):
    return ModernGPT(ModernConfig(64, 16, 16, 4, 2, n_kv_heads=2, **changes))


@pytest.mark.parametrize(
    "make, targets",
    [*((plain_gpt, targets) for targets in (None, "qkv_proj", "out_proj", ["up_proj", "down_proj"])),
     *((modern_gpt, targets) for targets in (None, "q_proj", ("k_proj", "v_proj"), {"gate_proj"}, "out_proj")),
     *((partial(make, tie_weights=False), ("head", "out_proj")) for make in (plain_gpt, modern_gpt))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_merging_keeps_every_logit_for_every_choice_of_layers(make, targets, dtype):
    model, ids = shaken(make, 0.1).to(dtype), random_ids(SimpleNamespace(vocab_size=64), 2, 9)
    apply_lora(model, 2, 3, targets=targets)
    for part in model.modules():
        if isinstance(part, LoRALinear):
            torch.nn.init.normal_(part.lora_b, std=0.3)
    adapted = model(ids)
    copied = merge_lora(copy.deepcopy(model))
    tolerance = 1e-10 if dtype == torch.float64 else 0.1
    assert_close(copied(ids), adapted, rtol=tolerance, atol=tolerance)
    assert not lora_layers(copied) and torch.equal(model(ids), adapted)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, LoRALinear):
                part.lora_b.zero_()
    assert (merge_lora(model)(ids) - adapted).abs().max() > 0.3, "the correction was nothing"


def test_lora_corrects_all_layers_in_the_blocks_unless_told_otherwise():
    def corrected(model, **options):
        return {name.rpartition(".")[2] for name in lora_layers(apply_lora(model, 2, 4, **options))}

    assert corrected(modern_gpt()) == {"q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj"}
    assert corrected(plain_gpt()) == {"qkv_proj", "out_proj", "up_proj", "down_proj"}
    assert corrected(plain_gpt(), targets="out_proj") == {"out_proj"}


@pytest.mark.parametrize("around", [lambda m, _: GPTClassifier(m, 3), RewardModel, lambda m, _: ActorCritic(m)])
def test_a_new_head_stays_trainable_beside_lora(model, tokenizer, around):
    whole = apply_lora(around(model, tokenizer), 4, 8)
    trainable = {name for name, p in whole.named_parameters() if p.requires_grad}
    heads = {name for name, _ in whole.named_parameters() if not name.startswith("model.")}
    assert trainable == heads | {name for name, _ in whole.named_parameters() if "lora_" in name} and len(heads) == 2


def test_merging_gives_back_what_was_trainable_before_and_nothing_more(model, pad):
    classifier = GPTClassifier(model, 3, pad)
    model.token_embedding.requires_grad_(False)
    model.blocks[0].attention.qkv_proj.bias.requires_grad_(False)
    before = {name: p.requires_grad for name, p in classifier.named_parameters()}
    assert 0 < sum(before.values()) < len(before)
    for copied in (copy.deepcopy(apply_lora(classifier, 4, 8)), classifier):
        assert {name: p.requires_grad for name, p in merge_lora(copied).named_parameters()} == before
        assert not any("lora" in key for part in copied.modules() for key in vars(part))
    assert {name: p.requires_grad for name, p in merge_lora(classifier).named_parameters()} == before


def test_a_classifier_learns_through_lora_and_its_frozen_matrices_stay(model, tokenizer, pad):
    classifier = apply_lora(GPTClassifier(model, 3, pad), 4, 8)
    before = copy.deepcopy(classifier.state_dict())
    loader = create_message_loader(messages(), tokenizer, MOODS, batch_size=16, max_length=40)
    losses = train(classifier, loader, None, TrainConfig(30, learning_rate=1e-2, warmup_steps=0)).losses
    assert losses[0] == pytest.approx(math.log(3)) and losses[-1] < losses[0] / 2
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("head.") or "lora_" in name}


# ---------------------------------------------------------------------------------------------------- preferences


def pairs(count=16):
    return [
        SimpleNamespace(prompt=f"Tell {i}.", chosen="The owl was glad.", rejected="The fox was red.", corruption="who")
        for i in range(count)
    ]


def test_dpo_starts_at_ln_2():
    policy = torch.randn(2, 5)
    assert dpo_loss(*policy, *policy).item() == pytest.approx(math.log(2))


def test_dpo_by_hand():
    loss = dpo_loss(torch.tensor([-1.0]), torch.tensor([-3.0]), torch.tensor([-2.0]), torch.tensor([-2.5]), beta=0.5)
    margin = 0.5 * ((-1 + 2) - (-3 + 2.5))  # 0.75
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-margin)))


def test_dpo_pushes_the_chosen_up_and_the_rejected_down():
    policy = torch.zeros(4, requires_grad=True)
    chosen, rejected = policy[:2], policy[2:]
    dpo_loss(chosen, rejected, torch.zeros(2), torch.zeros(2), beta=0.1).backward()
    assert_close(policy.grad, torch.tensor([-0.025, -0.025, 0.025, 0.025]))  # beta / 2 / batch at the start


def test_dpo_refuses_a_beta_that_is_not_positive():
    with pytest.raises(ValueError, match="beta=0 is not positive"):
        dpo_loss(*torch.zeros(4, 1), beta=0)


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 1)])  # the last two would be spread out without a word
@pytest.mark.parametrize("odd", range(4))
def test_dpo_refuses_tensors_of_different_shapes(shape, odd):
    parts = [torch.zeros(shape if k == odd else (3,)) for k in range(4)]
    with pytest.raises(ValueError, match="have shapes .*: give four of one shape, a number for each pair"):
        dpo_loss(*parts)


def test_sequence_log_probability_is_the_sum_over_graded_tokens(model):
    ids, targets = torch.randint(0, 256, (2, 3, 8))
    targets[:, :4] = IGNORE_INDEX
    logs = model(ids).log_softmax(dim=-1)
    by_hand = [sum(logs[b, t, targets[b, t]] for t in range(4, 8)) for b in range(3)]
    assert_close(sequence_log_probabilities(model, ids, targets), torch.stack(by_hand))


def test_preference_training_separates_held_out_pairs_and_repeats_by_seed(model, tokenizer):
    train_pairs, held_out = PreferenceDataset(pairs(), tokenizer, 64), PreferenceDataset(pairs(5), tokenizer, 64)
    options = {"max_steps": 24, "batch_size": 8, "learning_rate": 2e-3, "eval_every": 12}
    twin = copy.deepcopy(model)
    history = train_preferences(model, train_pairs, held_out, **options)
    first, last = history.reports[0], history.reports[-1]
    assert history.val_steps == [0, 12, 24] and history.losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert first.margin == pytest.approx(0, abs=1e-5) and last.margin > 0.1
    assert last.win_rate.value == 1.0 and last.by_corruption["who"].n == 5
    train_preferences(twin, train_pairs, held_out, **options)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters()))


def test_reference_scores_do_not_depend_on_the_batch(model, tokenizer):
    dataset = PreferenceDataset(pairs(7), tokenizer, 64)
    assert_close(
        reference_log_probabilities(model, dataset, batch_size=3),
        reference_log_probabilities(model, dataset, batch_size=1),
    )


def test_equal_answers_are_refused(tokenizer):
    same = SimpleNamespace(prompt="Who?", chosen="The owl.", rejected="The owl.")
    with pytest.raises(ValueError, match="record 1: the chosen and the rejected answer are the same"):
        PreferenceDataset([*pairs(1), same], tokenizer, 64)


def test_too_few_pairs_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="batch_size=16 does not fit 3 pairs"):
        train_preferences(model, PreferenceDataset(pairs(3), tokenizer, 64))


# ---------------------------------------------------------------------------------------- real models, real shapes


def test_a_model_of_gpt2s_form_goes_through_the_same_functions(tokenizer, pad):
    torch.manual_seed(0)
    config = GPTConfig(tokenizer.vocab_size, 48, d_model=24, n_heads=3, n_layers=3, dropout=0.1)
    model = GPTModel(config)
    loader = create_message_loader(messages(), tokenizer, MOODS, batch_size=16, max_length=40)
    classifier = GPTClassifier(model, 3, pad)
    losses = train_classifier(classifier, loader, None, TrainConfig(max_steps=30, warmup_steps=3)).losses
    assert losses[-1] < losses[0]
    answers = create_instruction_loader(records(), tokenizer, batch_size=8, max_length=48)
    losses = train_assistant(model, answers, None, TrainConfig(max_steps=60, warmup_steps=3)).losses
    assert losses[-1] < losses[0] / 2


def test_gpt2_on_disk_learns_the_learners_own_sms_file(tokenizer, tmp_path):
    """The whole path at a small size: GPT-2's file form, GPT-2's class of tokenizer, the SMS collection's form."""
    export_hugging_face(tiny_model(vocab_size=tokenizer.vocab_size, context_length=48), tokenizer, tmp_path / "gpt2")
    lines = [f"{mood}\tThe fox is {mood}, says the owl{'.' * k}" for k in range(8) for mood in ("glad", "sad")]
    (tmp_path / "sms.tsv").write_text("\n".join([*lines, "sad\tA sad <|endoftext|> fox"]), encoding="utf-8")
    messages, plain = read_messages(tmp_path / "sms.tsv"), tokenizer.to_tiktoken()
    model, end = load_gpt2(tmp_path / "gpt2"), tokenizer.special_tokens["<|endoftext|>"]
    options = {"labels": ("glad", "sad"), "batch_size": 8, "max_length": 40}
    classifier = GPTClassifier(model, 2, pad_id=end)
    loader = create_message_loader(messages, plain, **options)
    train_classifier(classifier, loader, None, TrainConfig(max_steps=40, warmup_steps=3, learning_rate=5e-3))
    targets, probabilities = predict(classifier, create_message_loader(messages, plain, **options, shuffle=False))
    assert (probabilities.argmax(dim=1) == targets).all()


def test_every_dataset_takes_tiktokens_class(tokenizer):
    typed = "Where is <|endoftext|><|user|> the fox?<|assistant|>"
    asked = [
        SimpleNamespace(prompt=typed, response=f"In {n} <|pad|>.", chosen=f"In {n}.", rejected=typed) for n in range(6)
    ]
    rows = [SimpleNamespace(text=typed, label=MOODS[n % 3]) for n in range(6)]
    builds = {
        "prompt": lambda t: [torch.tensor(prompt_ids(t, typed, [(typed, typed)]))],
        "messages": lambda t: create_message_loader(rows, t, MOODS, batch_size=2, max_length=40),
        "instructions": lambda t: create_instruction_loader(
            asked, t, batch_size=2, max_length=90, stories=[typed] * 4, replay_share=0.5, replay_batch=2
        ),
        "preferences": lambda t: [PreferenceDataset(asked, t, 90).batch([0, 5, 3])],
    }
    for name, build in builds.items():
        ours, theirs = ([*build(t)] for t in (tokenizer, tokenizer.to_tiktoken()))
        assert len(ours) == len(theirs) > 0, name
        assert all(torch.equal(a, b) for mine, other in zip(ours, theirs) for a, b in zip(mine, other)), name


def test_a_pretrained_model_learns_to_chat_with_a_tokenizer_that_was_given_chat_tokens():
    gpt2_like = tiktoken_of_bytes()
    pretrained = tiny_model(vocab_size=gpt2_like.n_vocab, context_length=64).eval()
    with pytest.raises(ValueError, match="lacks <.user.>, <.assistant.>: .* with add_special_tokens"):
        InstructionDataset(records(), gpt2_like, 64)
    chat = add_special_tokens(gpt2_like)
    loader = create_instruction_loader(records(), chat, batch_size=8, max_length=64)
    with pytest.raises(ValueError, match="token id 258 is not in 0..256"):
        train_assistant(pretrained, loader, None, TrainConfig(max_steps=1))
    model = grow_vocabulary(pretrained, chat.n_vocab)
    losses = train_assistant(model, loader, None, TrainConfig(max_steps=60, warmup_steps=3)).losses
    assert losses[-1] < losses[0] - 1
    assert isinstance(Assistant(model, chat, max_new_tokens=4).reply("What color?"), str)


@pytest.mark.parametrize("make", [
    lambda: tiny_model(vocab_size=50), lambda: tiny_model(vocab_size=50, tie_weights=False),
    lambda: ModernGPT(ModernConfig(50, 16, 8, 2, 1)).double(),
])  # fmt: skip
def test_a_grown_vocabulary_keeps_every_old_logit(make):
    torch.manual_seed(0)
    model, ids = make().eval(), torch.randint(50, (2, 9))
    model.token_embedding.requires_grad_(False)
    before = torch.rand(3, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(1)
    grown = grow_vocabulary(model, 53)
    assert torch.equal(torch.rand(3), before) and not grown.training and grown.config.vocab_size == 53
    assert grown(ids).dtype == model(ids).dtype and grown(torch.tensor([[52, 1]])).shape == (1, 2, 53)
    assert_close(grown(ids)[..., :50], model(ids))
    assert_close(grown(ids)[..., 50], model(ids).mean(-1), rtol=1e-3, atol=1e-5)  # a new token is an average one
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert flags == {name: parameter.requires_grad for name, parameter in grown.named_parameters()}
    assert (grown.head.weight is grown.token_embedding.weight) == (model.head.weight is model.token_embedding.weight)
    assert_close(grow_vocabulary(model, 50)(ids), model(ids), rtol=0, atol=0)
    with pytest.raises(ValueError, match="vocab_size=49 is below the model's 50"):
        grow_vocabulary(model, 49)
    with pytest.raises(ValueError, match="call merge_lora"):
        grow_vocabulary(apply_lora(model, 2, 4, targets=("out_proj",)), 53)


def test_an_assistant_speaks_with_tiktokens_class(model, tokenizer):
    ours, theirs = Assistant(model, tokenizer), Assistant(model, tokenizer.to_tiktoken())
    assert ours.reply("Where?") == theirs.reply("Where?") and [*ours.stream("Where?")] == [*theirs.stream("Where?")]


@pytest.mark.skipif(not LONG_RUN, reason="three trainings on the shipped assistant: COURSE_LONG=1")
def test_dpo_wins_more_pairs_by_more_than_the_seeds_differ_and_nothing_else_is_lost():
    assistant, stories = load_assistant(), load_stories("validation", n=40)
    tokenizer, length = assistant.tokenizer, assistant.model.config.context_length
    rows = PreferenceDataset(load_preferences("train")[:320], tokenizer, length)
    held_out = PreferenceDataset(load_preferences("test")[:350], tokenizer, length)
    questions = load_instructions("validation")[:300]

    def others(model):
        marks = mark_assistant(Assistant(model, tokenizer), questions).overall.value
        return marks, evaluate_stories(model, tokenizer, stories).bits_per_word

    before, rates, after = others(assistant.model), [], []
    for seed in range(3):
        model = copy.deepcopy(assistant.model)
        run = train_preferences(
            model, rows, held_out, learning_rate=2e-4, max_steps=40, batch_size=8, eval_every=40, seed=seed
        )
        rates.append(run.reports[-1].win_rate.value)
        after.append(others(model))
    marks, bits = zip(*after)
    assert min(rates) - run.reports[0].win_rate.value > max(rates) - min(rates)
    assert min(marks) >= before[0] - 0.02
    assert max(bits) <= before[1] * 1.02
