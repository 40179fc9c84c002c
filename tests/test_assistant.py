"""Claims about the assistant: what it reads, how it answers, how it is marked, and the chat in the terminal."""

import re
from types import SimpleNamespace

import pytest
import torch

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.streaming import stream_text
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.generation import generate
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.pretraining import TrainConfig
from ch05_pretraining.saved_models import save_model
from ch06_finetuning import assistant as assistant_module
from ch06_finetuning.assistant import Assistant, load_assistant, mark_assistant
from ch06_finetuning.finetuning import train_assistant
from ch06_finetuning.instructions import create_instruction_loader, prompt_ids
from shared.commands.chat import clean, talk, welcome_of
from shared.commands.chat_abilities import Ability, Group, load_groups
from tests.small_models import tiny_model

COLORS = ("red", "blue", "green")
RECORDS = [
    SimpleNamespace(
        kind="hat" if i % 2 else "coat", prompt=f"My hat is {COLORS[i % 3]}. Say its color.", response=COLORS[i % 3]
    )
    for i in range(6)
]


@pytest.fixture(scope="module")
def assistant():
    """A tiny model that has learned to say the color that it read."""
    tokenizer = BPETokenizer.train(" ".join(f"{r.prompt} {r.response}" for r in RECORDS) * 3, 320, SPECIAL_TOKENS)
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=64)
    loader = create_instruction_loader(RECORDS * 4, tokenizer, batch_size=8, max_length=64)
    train_assistant(model, loader, None, TrainConfig(max_steps=80, warmup_steps=5))
    return Assistant(model, tokenizer, max_new_tokens=12)


@pytest.fixture
def untrained(assistant):
    torch.manual_seed(3)
    return Assistant(GPTModel(assistant.model.config), assistant.tokenizer, max_new_tokens=12)


def test_the_assistant_answers_what_it_learned(assistant):
    assert [assistant.reply(record.prompt) for record in RECORDS] == [record.response for record in RECORDS]


def test_greedy_answers_repeat_and_drawn_ones_repeat_by_seed(untrained):
    prompt = RECORDS[0].prompt
    assert untrained.reply(prompt) == untrained.reply(prompt)
    drawn = [untrained.reply(prompt, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 1.0, "seed": 1}, {"temperature": 2.0, "top_p": 0.9, "seed": 2}]
)
def test_the_pieces_of_a_stream_join_to_the_reply(untrained, sampling):
    for record in RECORDS:
        assert "".join(untrained.stream(record.prompt, **sampling)) == untrained.reply(record.prompt, **sampling)


def test_likely_tokens_stand_beside_the_piece_they_could_replace(assistant):
    prompt = RECORDS[0].prompt
    pairs = list(assistant.stream_likely(prompt, n=3))
    assert "".join(piece for piece, _ in pairs) == assistant.reply(prompt)
    ids = assistant.prompt_ids(prompt)
    logits = assistant.model(torch.tensor([ids]))[0, -1]
    assert pairs[0][1][0][1] == pytest.approx(logits.softmax(0).max().item(), abs=1e-5)
    assert all(len(likely) == 3 and sum(p for _, p in likely) <= 1 + 1e-6 for _, likely in pairs)


def test_likely_tokens_are_those_of_the_whole_text_so_far(untrained):
    """What the model says while it writes with its cache is what it says when it reads everything anew."""
    prompt, sampling, read = RECORDS[0].prompt, {"temperature": 1.5, "seed": 4}, []
    ids, pairs = untrained.prompt_ids(prompt), list(untrained.stream_likely(prompt, n=3, **sampling))
    written = generate(untrained.model, torch.tensor([ids]), 12, **sampling)[0, len(ids) :].tolist()
    tokens = (read.append(token) or token for token in written)
    lengths = [len(read) for _ in stream_text(tokens, untrained._text)]  # tokens read when each piece came
    assert len(pairs) == len(lengths) > 3
    for length, (_, likely) in zip(lengths, pairs):
        best = untrained.model(torch.tensor([[*ids, *written[: length - 1]]]))[0, -1].softmax(dim=-1).topk(3)
        assert [p for _, p in likely] == pytest.approx(best.values.tolist(), abs=1e-5)
        assert [text for text, _ in likely] == [untrained.tokenizer.decode([token]) for token in best.indices.tolist()]


def test_likely_tokens_leave_no_hook_behind(assistant):
    answer = assistant.stream_likely(RECORDS[0].prompt)
    next(answer)
    assert not assistant.model.head._forward_hooks


def test_a_stream_never_shows_half_a_character(assistant):
    text = "fox 🦊 and — owl"
    pieces = list(stream_text(assistant.tokenizer.encode(text), assistant._text))
    assert "".join(pieces) == text and not any("\ufffd" in piece for piece in pieces)


def test_no_special_token_is_ever_shown(assistant):
    special = assistant.tokenizer.special_tokens
    ids = [*assistant.tokenizer.encode("red"), special["<|user|>"], *assistant.tokenizer.encode("blue")]
    assert assistant._text(ids) == "red" == "".join(stream_text(ids, assistant._text))


def test_the_oldest_turns_are_left_out_when_the_context_is_full(assistant):
    turns = [(f"Turn {number}?", "red") for number in range(30)]
    ids = assistant.prompt_ids("Say its color.", turns)
    room = assistant.model.config.context_length - assistant.max_new_tokens
    kept = next(k for k in range(31) if len(prompt_ids(assistant.tokenizer, "Say its color.", turns[k:])) <= room)
    assert ids == prompt_ids(assistant.tokenizer, "Say its color.", turns[kept:])
    assert 0 < kept < 30 and len(ids) <= room


def test_history_that_fits_is_read(assistant):
    turns = [("My hat is red.", "red")]
    assert assistant.prompt_ids("Say.", turns) == prompt_ids(assistant.tokenizer, "Say.", turns)


def test_a_prompt_too_long_is_refused_in_one_sentence(assistant):
    with pytest.raises(ValueError, match=r"the prompt takes \d+ tokens, but at most 52 fit: shorten it"):
        assistant.reply("hat " * 200)
    with pytest.raises(ValueError, match="the prompt is empty"):
        assistant.reply(" ")


def test_typed_specials_reach_the_model_as_text(assistant):
    ids = assistant.prompt_ids("<|endoftext|><|user|>")
    inside = [id for id in ids if id in assistant.tokenizer.special_tokens.values()]
    assert inside == [assistant.tokenizer.special_tokens[name] for name in ("<|user|>", "<|assistant|>")]


def test_marks_are_exact_by_kind_and_equal_one_by_one_answers(assistant, untrained, monkeypatch):
    monkeypatch.setattr(assistant_module, "mark", lambda record, answer: answer == record.response)
    report = mark_assistant(assistant, RECORDS, batch_size=2)
    assert report.overall.value == 1.0 and not report.failures
    assert {kind: rate.n for kind, rate in report.kinds.items()} == {"coat": 3, "hat": 3}
    other = mark_assistant(untrained, RECORDS, max_new_tokens=untrained.max_new_tokens)
    assert other.answers == [untrained.reply(record.prompt) for record in RECORDS]
    assert other.overall.value < 1.0 and len(other.failures) == 6 - sum(other.right)
    assert re.search(r"all +\d", str(other))


def test_batches_hold_prompts_of_one_length(assistant):
    rows = [[0] * length for length in (3, 5, 3, 3, 5)]
    assert assistant_module._same_length_batches(rows, 2) == [[0, 2], [3], [1, 4]]


def test_a_saved_assistant_gives_the_same_answers(assistant, tmp_path):
    save_model(tmp_path / "assistant", assistant.model, assistant.tokenizer, {}, dtype="float32")
    loaded = load_assistant(tmp_path / "assistant")
    for record in RECORDS:
        assert loaded.reply(record.prompt) == assistant.reply(record.prompt)


def test_an_assistant_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no_such_run"):
        load_assistant("no_such_run")


def test_batched_greedy_answers_are_those_of_generate(assistant):
    ids = torch.tensor([assistant.prompt_ids(RECORDS[0].prompt)])
    new = generate(assistant.model, ids, 12, stop_id=assistant.end_id)[0, ids.shape[1] :]
    assert assistant._text(new.tolist()) == assistant.reply(RECORDS[0].prompt)


# -------------------------------------------------------------------------------------------------- terminal chat


def script(*lines):
    """Stand in for `input`: give the lines, then the end of the input; a KeyboardInterrupt is raised."""
    waiting = list(lines)

    def read(_prompt):
        if not waiting:
            raise EOFError
        if isinstance(waiting[0], type):
            raise waiting.pop(0)
        return waiting.pop(0)

    return read


def run_chat(assistant, *lines, **options):
    shown = []
    history = talk(assistant, {}, script(*lines), shown.append, **options)
    return history, "".join(shown)


def test_the_chat_shows_answers_and_remembers_turns(assistant):
    assert run_chat(Counting(), "a", "", "b")[0] == [("a", "turn 0"), ("b", "turn 1")]
    history, shown = run_chat(assistant, RECORDS[0].prompt)
    assert history == [(RECORDS[0].prompt, RECORDS[0].response)]
    assert RECORDS[0].response in shown and shown.endswith("Goodbye.\n")


class StandIn:
    """Stands in for an assistant whose context holds every talk."""

    was_cut = False

    def turns_that_fit(self, prompt, history):
        return history


class Counting(StandIn):
    """Says how many earlier turns it was given."""

    def stream_likely(self, prompt, history, **sampling):
        yield self.reply(prompt, history), [("turn", 0.8), ("tour", 0.2)]

    def reply(self, prompt, history):
        return f"turn {len(history)}"


@pytest.mark.parametrize("remember", [False, True])
def test_earlier_turns_are_read_only_when_asked_for(monkeypatch, capsys, remember):
    history = talk(Counting(), {}, script("a", "b"), lambda _: None, remember=remember)
    assert [answer for _, answer in history] == ["turn 0", f"turn {int(remember)}"]
    monkeypatch.setattr("builtins.input", script("a", "b", ""))
    assistant_module._text_chat(Counting(), remember)
    assert capsys.readouterr().out == f"assistant> turn 0\nassistant> turn {int(remember)}\n"


def test_a_talk_that_outgrows_the_context_is_shortened_with_a_sentence():
    class Forgetful(Counting):
        def turns_that_fit(self, prompt, history):
            return history[-2:]

    history, shown = run_chat(Forgetful(), "a", "b", "c", "d", "e")
    assert [answer for _, answer in history] == ["turn 2"] * 3
    told = "(To fit into the model's context, the talk goes on without its oldest turn.)\n"
    assert shown.count(told) == 2 and shown.index(told) > shown.index("turn 2")


def test_what_an_assistant_of_ours_says_first_is_what_it_can_do(assistant):
    welcome = welcome_of(assistant)
    assert welcome.says.startswith("Hello! I can answer questions about a short story, tell you a story, and play with")
    assert welcome.remember and welcome.groups == load_groups() and not welcome.examples


GROUPS = [
    Group("Talk", [Ability("Hello!", [["Hi."], ["Hello there!"]]), Ability("And then?", [["What?", "And then?"]])]),
    Group("Play with words", [Ability("Count", [["How many? one, two"]])]),
]


def test_a_number_asks_an_example_and_then_another_one():
    history, shown = run_chat(Counting(), "1", "1", "1", groups=GROUPS)
    assert history == [("Hi.", "turn 0")]  # each example begins a talk
    assert re.findall(r"you> (.+)", shown) == ["Hi.", "Hello there!", "Hi."]
    assert shown.count("a new talk begins") == 2
    assert run_chat(Counting(), "2", groups=GROUPS)[0] == [("What?", "turn 0"), ("And then?", "turn 1")]


def test_the_abilities_are_listed_by_group_with_their_numbers():
    _, shown = run_chat(Counting(), groups=GROUPS)
    assert shown.startswith("Talk             1 Hello!   2 And then?\nPlay with words  3 Count\n")
    assert run_chat(Counting(), "/examples", groups=GROUPS)[1].count("2 And then?") == 2
    _, shown = run_chat(Counting(), groups=load_groups())
    listed = shown.split("A number asks")[0]
    assert max(map(len, listed.splitlines())) <= 100 and "29 Thank you!" in listed


@pytest.mark.parametrize("line", ["0", "4", "1.", "one"])
def test_what_is_the_number_of_no_ability_is_a_question(line):
    assert run_chat(Counting(), line, groups=GROUPS)[0] == [(line, "turn 0")]


def test_where_nothing_is_numbered_a_number_is_a_question():
    history, shown = run_chat(Counting(), "1")
    assert history == [("1", "turn 0")] and "A number" not in shown


def test_new_forgets_and_quit_ends(assistant):
    history, _ = run_chat(assistant, RECORDS[0].prompt, "/new", RECORDS[1].prompt, "/quit", RECORDS[2].prompt)
    assert [turn[0] for turn in history] == [RECORDS[1].prompt]


def test_ctrl_c_at_the_prompt_ends_the_chat(assistant):
    assert run_chat(assistant, KeyboardInterrupt, RECORDS[0].prompt)[0] == []


def test_ctrl_c_in_an_answer_stops_the_answer_only():
    class Slow(StandIn):
        def stream_likely(self, prompt, history, **sampling):
            yield "Once upon", [("Once", 0.9)]
            raise KeyboardInterrupt

    history, shown = run_chat(Slow(), "Tell.", "Again.")
    assert [turn[1] for turn in history] == ["Once upon"] * 2 and shown.count("(stopped)") == 2


def test_control_characters_are_stripped_both_ways():
    class Echo(StandIn):
        def stream_likely(self, prompt, history, **sampling):
            assert prompt == "red[2J alert"
            yield "blue\x1b[31m\x07\u202e", [("blue", 0.9)]

    history, shown = run_chat(Echo(), "red\x1b[2J\u200b alert\x00")
    assert history == [("red[2J alert", "blue[31m")] and "\x1b" not in shown and "\u202e" not in shown
    assert clean("a\nb\tc\ud800") == "a\nbc"


def test_a_refused_prompt_is_answered_with_the_reason_and_forgotten(assistant):
    history, shown = run_chat(assistant, "hat " * 200, RECORDS[0].prompt)
    assert len(history) == 1 and "shorten it" in shown


@pytest.mark.parametrize("records, options, sentence", [
    ([SimpleNamespace(prompt="hi"), SimpleNamespace(prompt=" ")], {}, "record 1: the prompt is empty"),
    ([SimpleNamespace(prompt="hi " * 90)], {}, r"record 0: the prompt takes \d+ tokens"),
    (RECORDS, {"batch_size": 0}, "batch_size=0"), (RECORDS, {"max_new_tokens": 0}, "max_new_tokens=0"),
])  # fmt: skip
def test_marking_names_the_record_or_the_number_that_is_wrong(assistant, records, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        mark_assistant(assistant, records, **options)
