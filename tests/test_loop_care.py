"""One care in all loops: each is tried with the same mishaps, and each meets them in the same way."""

import copy
import itertools
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.datasets import create_dataloader
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining.evaluation import evaluate
from ch05_pretraining.loop_care import TrainingInterrupted, fingerprint, in_mode
from ch05_pretraining.optimizers import Muon
from ch05_pretraining.pretraining import TrainConfig, make_optimizers, train, train_plainly
from ch05_pretraining.run_state import History
from ch06_finetuning.bag_of_words import BagOfWords
from ch06_finetuning.dpo import train_preferences
from ch06_finetuning.finetuning import (
    GPTClassifier,
    create_message_loader,
    predict,
    set_trainable,
    train_assistant,
    train_classifier,
)
from ch06_finetuning.grpo import RewardConfig, train_grpo
from ch06_finetuning.instructions import create_instruction_loader
from ch06_finetuning.lora import apply_lora
from ch06_finetuning.ppo import ActorCritic, ppo_step
from ch06_finetuning.preferences import PreferenceDataset, preference_report, reference_log_probabilities
from ch06_finetuning.reward_model import RewardModel, rank_pairs, train_reward_model
from ch06_finetuning.rollouts import judge, write_answers
from tests.far_device import FAR, far_away, far_copy
from tests.small_models import tiny_model, weight_vector

TEXT = "".join(f"the owl {n} sat in the old mill and the fox ran home. " for n in range(30))
TOKENIZER = BPETokenizer.train(TEXT, 300, SPECIAL_TOKENS)
PAD = TOKENIZER.special_tokens["<|pad|>"]
ANIMALS = ("fox", "owl")
MESSAGES = [SimpleNamespace(text=f"the {ANIMALS[n % 2]} {n}", label=ANIMALS[n % 2]) for n in range(16)]
RECORDS = [
    SimpleNamespace(prompt=f"Tell {n}", response="the owl sat", chosen="the owl sat", rejected="the fox ran home")
    for n in range(8)
]
PROMPTS = ["Tell a", "Tell b", "Tell c"]
PAIRS = PreferenceDataset(RECORDS, TOKENIZER, 40)
WINDOWS = create_dataloader(TEXT, TOKENIZER, batch_size=4, max_length=16, stride=16)
ANSWERS = create_instruction_loader(RECORDS, TOKENIZER, batch_size=4, max_length=40)
REPLAY = list(ANSWERS)
SORTED = create_message_loader(MESSAGES, TOKENIZER, ANIMALS, batch_size=4, max_length=20)


def gpt(**changes):
    return tiny_model(**{"vocab_size": TOKENIZER.vocab_size, "context_length": 48} | changes)


def as_it_is(model):
    return model


def classifier(model):
    return GPTClassifier(model, 2, PAD)


def reward_model(model):
    return RewardModel(model, TOKENIZER)


def plan(steps, rate):
    return TrainConfig(steps, rate, warmup_steps=0)


def length_of(prompt, answer):
    return float(len(answer))


def run_grpo(model, steps, rate):
    config = RewardConfig(
        max_steps=steps, learning_rate=rate, prompts_per_step=2, group_size=3, max_new_tokens=8, kl_weight=0.1
    )
    return train_grpo(model, TOKENIZER, PROMPTS, length_of, config, replay=REPLAY)


def run_ppo(policy, steps, rate):
    reference = copy.deepcopy(policy.model)
    optimizer, errors = torch.optim.AdamW(policy.parameters(), rate), []
    for step in range(steps):
        rollouts = write_answers(policy.model, TOKENIZER, PROMPTS[:2], 3, max_new_tokens=8, seed=step)
        errors.append(ppo_step(policy, reference, optimizer, rollouts, torch.arange(6.0)))
    return errors


LOOPS = {  # what is trained, and how: (module, steps, learning rate)
    "train": (as_it_is, lambda m, steps, rate: train(m, WINDOWS, None, plan(steps, rate))),
    "classifier": (classifier, lambda m, steps, rate: train_classifier(m, SORTED, None, plan(steps, rate))),
    "assistant": (as_it_is, lambda m, steps, rate: train_assistant(m, ANSWERS, None, plan(steps, rate))),
    "preferences": (
        as_it_is,
        lambda m, steps, rate: train_preferences(m, PAIRS, PAIRS, max_steps=steps, batch_size=4, learning_rate=rate),
    ),
    "reward model": (
        reward_model,
        lambda m, steps, rate: train_reward_model(m, PAIRS, max_steps=steps, batch_size=4, learning_rate=rate),
    ),
    "grpo": (as_it_is, run_grpo),
    "ppo": (ActorCritic, run_ppo),
}
each_loop = pytest.mark.parametrize("loop", LOOPS)


def made(loop, **changes):
    return LOOPS[loop][0](gpt(**changes))


def run(loop, module, steps=3, rate=1e-2):
    return LOOPS[loop][1](module, steps, rate)


def set_odd_modes(module):
    """Training mode, but for one block that its owner has put into evaluation mode."""
    body = getattr(module, "model", module)
    module.train()
    body.blocks[0].eval()
    return [part.training for part in module.modules()]


# ---------------------------------------------------------------- numbers that are not finite


@each_loop
def test_a_nan_reaches_no_weight(loop):
    module = made(loop)
    body = getattr(module, "model", module)
    with torch.no_grad():
        body.final_norm.weight[0] = math.nan
    before = weight_vector(module)
    with pytest.raises(ValueError, match="so the weights were left as they are: lower|logits hold NaN"):
        run(loop, module)
    assert_close(weight_vector(module), before, equal_nan=True, rtol=0, atol=0)


@each_loop
@pytest.mark.parametrize("rate", [1e3, 1e18])
def test_a_rate_far_too_high_ends_in_a_sentence_or_in_numbers(loop, rate):
    module = made(loop)
    try:
        run(loop, module, steps=12, rate=rate)
    except ValueError as error:
        assert "were left as they are: lower" in str(error) or "logits hold NaN" in str(error)
    assert weight_vector(module).isfinite().all()


def test_the_sentence_names_what_the_caller_can_change():
    for loop, remedy in {
        "train": "lower learning_rate, or raise warmup_steps", "classifier": "lower learning_rate, or raise warmup",
        "preferences": "lower learning_rate$", "reward model": "lower learning_rate$", "ppo": "the optimizer's",
    }.items():  # fmt: skip
        module = made(loop)
        head = module.value_head if loop == "ppo" else getattr(module, "head", None)
        with torch.no_grad():
            (head.bias if head is not None and head.bias is not None else module.final_norm.bias).fill_(math.inf)
        with pytest.raises(ValueError, match=remedy):
            run(loop, module)


def test_a_bag_of_words_is_fitted_with_the_same_care():
    bag = BagOfWords(2, min_count=1)
    with pytest.raises(ValueError, match="lower learning_rate"):
        bag.fit(["a b", "b c"], [0, 1], learning_rate=1e30)
    assert bag.linear.weight.isfinite().all()


# ---------------------------------------------------------------- what is frozen


@each_loop
def test_what_is_frozen_stays_frozen_and_the_rest_may_learn_afterwards(loop):
    module = made(loop)
    body = getattr(module, "model", module)
    body.token_embedding.requires_grad_(False)
    body.blocks[0].requires_grad_(False)
    flags, before = [p.requires_grad for p in module.parameters()], copy.deepcopy(module.state_dict())
    run(loop, module)
    assert [p.requires_grad for p in module.parameters()] == flags
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not [name for name in changed if "token_embedding" in name or "blocks.0." in name]
    assert any("blocks.1." in name for name in changed)


@each_loop
@pytest.mark.parametrize("when", ["before the head", "after the head"])
def test_lora_learns_in_every_loop_and_what_it_froze_does_not_move(loop, when):
    make = LOOPS[loop][0]
    module = make(apply_lora(gpt(), 4, 8)) if when == "before the head" else apply_lora(make(gpt()), 4, 8)
    flags, before = [p.requires_grad for p in module.parameters()], copy.deepcopy(module.state_dict())
    run(loop, module)
    assert [p.requires_grad for p in module.parameters()] == flags
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    heads = ("head.", "value_head.") if loop in ("classifier", "reward model", "ppo") else ()
    assert all("lora" in name or name.startswith(heads) for name in changed)
    assert any(name.endswith("lora_b") for name in changed)
    assert when == "after the head" or not heads or any(name.startswith(heads) for name in changed)


@each_loop
def test_a_frozen_model_is_refused_in_one_sentence(loop):
    module = made(loop).requires_grad_(False)
    before = weight_vector(module)
    with pytest.raises(ValueError, match=r"all \d+ parameters of the model are frozen, so nothing can learn"):
        run(loop, module)
    assert torch.equal(weight_vector(module), before) and not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("part", ["head", "last_block", "all"])
def test_a_part_of_a_classifier_with_lora_is_its_head_and_corrections(part):
    module = apply_lora(classifier(gpt()), 4, 8)
    n = set_trainable(module, part)
    trainable = [name for name, p in module.named_parameters() if p.requires_grad]
    assert n == sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert {"head.weight", "head.bias"} < set(trainable) or part == "head"
    blocks = {"head": (), "last_block": ("model.blocks.1.",), "all": ("model.blocks.",)}[part]
    for name, _ in module.named_parameters():
        learns = name.startswith("head.") or (name.startswith(blocks or "-") and "lora" in name)
        assert (name in trainable) == learns, name


def test_a_classifier_trains_what_its_part_and_its_owner_allow():
    module = classifier(gpt())
    set_trainable(module, "head")
    flags, body = [p.requires_grad for p in module.parameters()], weight_vector(module.model)
    train_classifier(module, SORTED, None, plan(3, 1e-2), part="all")
    assert torch.equal(weight_vector(module.model), body) and [p.requires_grad for p in module.parameters()] == flags
    assert module.head.weight.any()
    module.head.requires_grad_(False)
    with pytest.raises(ValueError, match="frozen, so nothing can learn"):
        train_classifier(module, SORTED, None, plan(3, 1e-2), part="head")
    with pytest.raises(ValueError, match="part='tail'"):
        train_classifier(module, SORTED, None, plan(3, 1e-2), part="tail")


def test_old_gradients_of_frozen_weights_do_not_shorten_the_step():
    module = classifier(gpt())
    train_classifier(module, SORTED, None, plan(3, 1e-2))  # leaves gradients behind
    fresh = copy.deepcopy(module)  # without them
    for one in (module, fresh):
        train_classifier(one, SORTED, None, plan(3, 1e-2), part="head")
    assert torch.equal(weight_vector(module), weight_vector(fresh))


def test_muon_alone_moves_a_model_of_which_only_blocks_may_learn():
    model = apply_lora(gpt(), 4, 8)
    (muon,) = make_optimizers(model, TrainConfig(1, optimizer="muon"))
    assert isinstance(muon, Muon)
    before = weight_vector(model)
    train(model, WINDOWS, None, TrainConfig(2, optimizer="muon", warmup_steps=0))
    assert not torch.equal(weight_vector(model), before)


# ---------------------------------------------------------------- modes and random numbers


@each_loop
def test_modes_and_random_numbers_are_given_back(loop):
    module = made(loop, dropout=0.1)
    modes = set_odd_modes(module)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(loop, module)
    assert [part.training for part in module.modules()] == modes
    assert torch.equal(torch.rand(3), expected)


@each_loop
def test_modes_are_given_back_after_a_failure_too(loop):
    module = made(loop)
    modes = set_odd_modes(module)
    with torch.no_grad():
        getattr(module, "model", module).final_norm.weight[0] = math.nan
    with pytest.raises(ValueError):
        run(loop, module)
    assert [part.training for part in module.modules()] == modes


@each_loop
def test_dropout_is_a_function_of_the_seed(loop):
    ends = []
    for noise in (1, 2):
        module = made(loop, dropout=0.3)
        torch.manual_seed(noise)
        run(loop, module)
        ends.append(weight_vector(module))
    assert torch.equal(*ends)


READERS = {
    "predict": (classifier, lambda m: predict(m, SORTED)[1]),
    "evaluate": (as_it_is, lambda m: evaluate(m, WINDOWS)),
    "reference": (as_it_is, lambda m: reference_log_probabilities(m, PAIRS)),
    "report": (as_it_is, lambda m: preference_report(m, PAIRS, torch.zeros(2, len(PAIRS))).margins),
    "rank": (reward_model, lambda m: rank_pairs(m, PAIRS).n_correct),
    "score": (reward_model, lambda m: m.score("Tell", "the owl")),
    "judge": (as_it_is, lambda m: judge(m, TOKENIZER, PROMPTS, length_of, max_new_tokens=5).rewards),
    "write": (as_it_is, lambda m: write_answers(m, TOKENIZER, PROMPTS, 2, max_new_tokens=5).ids.cpu()),
}


def read_by(reader, module):
    result = READERS[reader][1](module)
    return result if isinstance(result, torch.Tensor) else torch.tensor(float(result))


def shaken(make, **changes):
    module = make(gpt(**changes))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return module


@pytest.mark.parametrize("reader", READERS)
def test_what_only_reads_reads_without_dropout_and_gives_the_modes_back(reader):
    module = shaken(READERS[reader][0], dropout=0.5)
    modes = set_odd_modes(module)
    first = read_by(reader, module)
    assert [part.training for part in module.modules()] == modes
    assert torch.equal(first, read_by(reader, module.eval()))


# ---------------------------------------------------------------- another device


@pytest.mark.parametrize("reader", READERS)
def test_readers_move_what_they_read_to_the_model(reader):
    module = shaken(READERS[reader][0])
    with far_away():
        result = read_by(reader, far_copy(module))
        assert result.device.type == "cpu"
        assert_close(result, read_by(reader, module), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loop", ["preferences", "reward model", "grpo", "ppo"])
def test_loops_move_what_they_learn_from_to_the_model(loop):
    module = made(loop)
    with far_away():
        far = far_copy(module)
        run(loop, far)
        assert all(p.device == FAR for p in far.parameters())
        run(loop, module)
        for mine, other in zip(far.parameters(), module.parameters()):
            assert_close(mine.detach().cpu(), other.detach(), rtol=1e-2, atol=1e-3)


def test_the_far_device_refuses_to_mix():
    with far_away():
        far, (ids, _) = far_copy(gpt()), next(iter(WINDOWS))
        assert_close(far(ids.to(FAR)).cpu(), gpt()(ids), rtol=1e-4, atol=1e-4)
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            far(ids)


# ---------------------------------------------------------------- Ctrl-C


def press_in_pass(module, number):
    """Press Ctrl-C, for real, in the middle of the model's so-many-th forward pass."""
    passes = itertools.count(1)

    def press(*_):
        if next(passes) == number:
            os.kill(os.getpid(), signal.SIGINT)

    return getattr(module, "model", module).final_norm.register_forward_hook(press)


@each_loop
def test_ctrl_c_ends_between_two_steps_and_the_history_is_there(loop):
    module, handler = made(loop), signal.getsignal(signal.SIGINT)
    modes = set_odd_modes(module)
    hook = press_in_pass(module, {"preferences": 6, "grpo": 14, "ppo": 11}.get(loop, 2))
    with pytest.raises(TrainingInterrupted, match="stopped after") as stopped:
        run(loop, module, steps=9)
    hook.remove()
    assert signal.getsignal(signal.SIGINT) is handler and [part.training for part in module.modules()] == modes
    assert weight_vector(module).isfinite().all()
    history = stopped.value.history
    n_steps = {"train": "losses", "classifier": "losses", "assistant": "losses", "preferences": "losses",
               "grpo": "rewards"}.get(loop)  # fmt: skip
    if n_steps:
        assert 1 <= len(getattr(history, n_steps)) < 9
        assert f"step {len(getattr(history, n_steps))} of 9" in str(stopped.value)
    else:
        assert (1 <= len(history) < 9) if loop == "reward model" else math.isfinite(history)


def test_a_stopped_loop_has_taken_the_same_whole_steps_as_one_that_went_on():
    kept = []

    def keep(step, _):
        kept.append(weight_vector(going))

    going, stopping = gpt(), gpt()
    options = {"max_steps": 6, "batch_size": 4, "learning_rate": 1e-2}
    train_preferences(going, PAIRS, on_step=keep, **options)

    def stop(step, _):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="step 3 of 6") as stopped:
        train_preferences(stopping, PAIRS, on_step=stop, **options)
    assert torch.equal(weight_vector(stopping), kept[2]) and stopped.value.history.steps == [1, 2, 3]


# ---------------------------------------------------------------- the callers' own words


def too_long():
    return PreferenceDataset(
        [SimpleNamespace(prompt="Tell", chosen="the owl sat " * 30, rejected="the fox ran " * 30)] * 4, TOKENIZER, 90
    )


def long_windows():
    return create_dataloader(TEXT, TOKENIZER, batch_size=2, max_length=60, stride=60)


LONG_ROWS = {
    "train": (
        lambda: train(gpt(), long_windows(), None, plan(1, 1)),
        "a row has 60 tokens, and the model's context holds 48: make the rows with a smaller max_length",
    ),
    "evaluate": (
        lambda: evaluate(gpt(), long_windows()),
        "make the rows with a smaller max_length",
    ),
    "classifier": (
        lambda: train_classifier(
            classifier(gpt()),
            create_message_loader(
                [SimpleNamespace(text=TEXT, label=label) for label in ANIMALS], TOKENIZER, ANIMALS, batch_size=2,
                max_length=60,
            ),
            None,
            plan(1, 1),
        ),
        "make the rows with a smaller max_length",
    ),
    "preferences": (lambda: train_preferences(gpt(), too_long(), batch_size=2), "the PreferenceDataset with a smaller"),
    "reference": (lambda: reference_log_probabilities(gpt(), too_long()), "the PreferenceDataset with a smaller"),
    "reward model": (
        lambda: train_reward_model(reward_model(gpt()), too_long(), batch_size=2),
        "the PreferenceDataset with a smaller",
    ),
    "rank": (lambda: rank_pairs(reward_model(gpt()), too_long()), "the PreferenceDataset with a smaller"),
    "grpo": (
        lambda: train_grpo(gpt(), TOKENIZER, PROMPTS * 2, length_of, RewardConfig(max_new_tokens=45)),
        "with max_new_tokens=45 an answer may be too long; lower it",
    ),
    "grpo's replay": (
        lambda: train_grpo(
            gpt(), TOKENIZER, PROMPTS * 2, length_of, RewardConfig(max_new_tokens=5),
            replay=list(long_windows()),
        ),
        "make the batches of `replay` with a smaller max_length",
    ),
    "ppo": (
        lambda: ppo_step(
            ActorCritic(gpt()), gpt(), None, write_answers(gpt(), TOKENIZER, PROMPTS, max_new_tokens=60), torch.ones(3)
        ),
        "write the rollouts with a smaller max_new_tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call", LONG_ROWS)
def test_rows_longer_than_the_context_are_refused_with_the_callers_own_remedy(call):
    action, sentence = LONG_ROWS[call]
    with pytest.raises(ValueError, match=sentence):
        action()


def replay_of_nothing():
    ids, targets = REPLAY[0]
    return [(ids, torch.full_like(targets, IGNORE_INDEX))]


def loader_of(n, **options):
    return create_message_loader(MESSAGES[:n], TOKENIZER, ANIMALS, batch_size=8, max_length=9, **options)


def instructions(**options):
    return create_instruction_loader(RECORDS, TOKENIZER, batch_size=2, max_length=40, **options)


ROLLOUTS = write_answers(gpt(), TOKENIZER, PROMPTS, max_new_tokens=4)
CLAIMS = {
    "found 5 rows, too few for one batch of 8; lower batch_size or give more$": lambda: loader_of(5),
    "max_length=1 leaves no room for a message": lambda: create_message_loader(
        MESSAGES, TOKENIZER, ANIMALS, batch_size=8, max_length=1
    ),
    "replay_batch=16 does not fit 3 stories: choose 1 to 3": lambda: instructions(stories=["the owl"] * 3),
    "replay_batch=0 does not fit 3 stories": lambda: instructions(stories=["the owl"] * 3, replay_batch=0),
    "a replay share of 0.7 is outside 0 to 0.5": lambda: instructions(
        stories=["the owl"] * 3, replay_batch=2, replay_share=0.7
    ),
    "the loader has no batch: give it at least one": lambda: predict(classifier(gpt()), []),
    "the PreferenceDataset holds no pairs": lambda: train_preferences(gpt(), PreferenceDataset([], TOKENIZER, 40)),
    "batch_size=9 does not fit 8 pairs: choose 1 to 8": lambda: train_reward_model(
        reward_model(gpt()), PAIRS, batch_size=9
    ),
    "batch_size=0 does not fit 8 pairs": lambda: rank_pairs(reward_model(gpt()), PAIRS, batch_size=0),
    "batch_size=-1 does not fit 8 pairs": lambda: reference_log_probabilities(gpt(), PAIRS, batch_size=-1),
    "max_steps=0: expected at least 1": lambda: train_preferences(gpt(), PAIRS, batch_size=4, max_steps=0),
    "eval_every=0: expected at least 1": lambda: train_preferences(gpt(), PAIRS, batch_size=4, eval_every=0),
    "group_size=0 is below 1": lambda: write_answers(gpt(), TOKENIZER, PROMPTS, 0),
    "max_new_tokens=0 is below 1": lambda: judge(gpt(), TOKENIZER, PROMPTS, length_of, max_new_tokens=0),
    "max_steps=-1: expected at least 1": lambda: train_reward_model(
        reward_model(gpt()), PAIRS, batch_size=4, max_steps=-1
    ),
    "learning_rate=-1: expected a number above 0": lambda: train_preferences(
        gpt(), PAIRS, batch_size=4, learning_rate=-1
    ),
    "learning_rate=nan": lambda: train_reward_model(reward_model(gpt()), PAIRS, batch_size=4, learning_rate=math.nan),
    "reference has shape \\(2, 3\\), and the dataset 8 pairs": lambda: preference_report(
        gpt(), PAIRS, torch.zeros(2, 3)
    ),
    "found a batch without rows": lambda: PAIRS.batch([]),
    "found batch_size=0; expected at least 1$": lambda: create_message_loader(
        MESSAGES, TOKENIZER, ANIMALS, batch_size=0, max_length=9
    ),
    "there is no prompt: give at least one": lambda: write_answers(gpt(), TOKENIZER, []),
    "prompts is one text, 'Tell me': give a list": lambda: train_grpo(gpt(), TOKENIZER, "Tell me", length_of),
    "prompt 1 is ' ': give a question": lambda: write_answers(gpt(), TOKENIZER, ["Tell", " "]),
    "prompt 1 is 3: give a question": lambda: judge(gpt(), TOKENIZER, ["Tell", 3], length_of),
    "is None; it must be a finite number": lambda: judge(gpt(), TOKENIZER, PROMPTS, lambda p, a: None),
    "is 'good'; it must be a finite number": lambda: judge(gpt(), TOKENIZER, PROMPTS, lambda p, a: "good"),
    "is inf; it must be a finite number": lambda: judge(gpt(), TOKENIZER, PROMPTS, lambda p, a: math.inf),
    "max_batches=0 leaves nothing to grade": lambda: evaluate(gpt(), WINDOWS, max_batches=0),
    "the loader is a list_iterator, which has no length": lambda: train(gpt(), iter(REPLAY), None, plan(1, 1)),
    "the loader is a generator, which has no length": lambda: train_plainly(gpt(), (b for b in REPLAY), plan(1, 1)),
    "targets have shape \\(4,\\) and the model's predictions \\(4, \\d+\\)": lambda: evaluate(gpt(), SORTED),
    "targets have shape \\(4, 16\\) and the model's predictions \\(4,\\)": lambda: evaluate(classifier(gpt()), WINDOWS),
    "prompt 2 is '': give": lambda: train_grpo(gpt(), TOKENIZER, ["Tell", "Tell", ""], length_of),
    "a batch of `replay` has no target": lambda: train_grpo(
        gpt(), TOKENIZER, PROMPTS * 2, length_of, RewardConfig(max_new_tokens=4), replay=replay_of_nothing()
    ),
    "found rewards of shape \\(2,\\) .* for 3 answers": lambda: ppo_step(
        ActorCritic(gpt()), gpt(), None, ROLLOUTS, torch.ones(2)
    ),
    "up to nan for 3 answers: give one finite": lambda: ppo_step(
        ActorCritic(gpt()), gpt(), None, ROLLOUTS, torch.tensor([1.0, math.nan, 2.0])
    ),
    "updates=0": lambda: ppo_step(ActorCritic(gpt()), gpt(), None, ROLLOUTS, torch.ones(3), updates=0),
}  # fmt: skip


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_mistake_is_named_in_the_callers_own_words(claim):
    with pytest.raises(ValueError, match=claim):
        CLAIMS[claim]()


@pytest.mark.parametrize("changes, fragment", [
    ({"group_size": 1}, "group_size=1: expected 2 or more; change it in RewardConfig"), ({"max_steps": 0}, "1 or more"),
    ({"prompts_per_step": 0}, "1 or more"), ({"updates": 0}, "updates=0"), ({"learning_rate": 0}, "above 0"),
    ({"learning_rate": math.nan}, "learning_rate=nan"), ({"kl_weight": -1}, "0 or more"), ({"clip": 1}, "between"),
    ({"kl_weight": math.inf}, "kl_weight=inf"), ({"max_new_tokens": 0}, "1 or more"), ({"seed": 1.5}, "a whole number"),
    ({"replay_weight": -0.1}, "replay_weight"),
])  # fmt: skip
def test_settings_of_grpo_out_of_range_are_refused(changes, fragment):
    with pytest.raises(ValueError, match=fragment):
        RewardConfig(**changes)


@pytest.mark.parametrize("seed", [-3, 2**32, 2**62, 2**70])
def test_any_whole_number_is_a_seed_of_every_loop(seed):
    train_preferences(gpt(dropout=0.1), PAIRS, batch_size=4, max_steps=1, seed=seed)
    train_reward_model(reward_model(gpt()), PAIRS, batch_size=4, max_steps=1, seed=seed)
    config = RewardConfig(max_steps=1, prompts_per_step=2, group_size=2, max_new_tokens=3, seed=seed)
    train_grpo(gpt(), TOKENIZER, PROMPTS, length_of, config)
    train(gpt(), WINDOWS, None, TrainConfig(1, seed=seed))


# ---------------------------------------------------------------- what is cut or left out is counted


def pair(prompt="Tell", chosen="the owl sat", rejected="the fox ran"):
    return SimpleNamespace(prompt=prompt, chosen=chosen, rejected=rejected)


def test_cut_answers_of_pairs_are_counted_and_pairs_that_become_equal_are_refused():
    long = "the owl sat in the old mill. " * 9
    data = PreferenceDataset([pair(), pair(chosen=long), pair(chosen="a " + long, rejected="b " + long)], TOKENIZER, 32)
    assert data.n_truncated == 3 and all(len(ids) <= 32 for rows in data.items for ids, _ in rows)
    with pytest.raises(ValueError, match="record 1: with max_length=32 the chosen and the rejected answer become"):
        PreferenceDataset([pair(), pair(chosen=long + "good", rejected=long + "bad")], TOKENIZER, 32)
    assert PreferenceDataset([pair(chosen=long + "good", rejected=long + "bad")], TOKENIZER, 300).n_truncated == 0
    with pytest.raises(ValueError, match="record 0: with max_length=90"):  # the same bytes, whatever the length
        PreferenceDataset([pair(chosen="a\ud800", rejected="a\ufffd")], TOKENIZER, 90)


def test_one_token_of_difference_at_the_edge_of_the_cut_is_enough():
    row = PreferenceDataset([pair(chosen="x" * 9 + "a", rejected="x" * 9 + "b")], TOKENIZER, 90).items[0][0][0]
    n = len(row)  # prompt and answer; the last target is the end
    assert len(PreferenceDataset([pair(chosen="x" * 9 + "a", rejected="x" * 9 + "b")], TOKENIZER, n - 1).items) == 1
    with pytest.raises(ValueError, match=f"max_length={n - 2}"):
        PreferenceDataset([pair(chosen="x" * 9 + "a", rejected="x" * 9 + "b")], TOKENIZER, n - 2)


def test_answers_without_an_end_are_counted():
    model, end = gpt(), TOKENIZER.special_tokens["<|endoftext|>"]
    rollouts = write_answers(model, TOKENIZER, PROMPTS, 20, max_new_tokens=40)
    ended = (rollouts.targets == end).any(dim=1)
    assert rollouts.n_truncated == int((~ended).sum()) and 0 < rollouts.n_truncated < 60
    assert judge(model, TOKENIZER, PROMPTS, length_of, max_new_tokens=1).n_truncated == 3


def test_grpo_counts_the_prompts_that_it_never_asks_and_the_answers_that_it_cuts():
    prompts = [*PROMPTS, "Tell me of the old mill and the fox", "Tell"]
    config = RewardConfig(max_steps=2, prompts_per_step=2, group_size=2, max_new_tokens=2)
    history = train_grpo(gpt(), TOKENIZER, prompts, length_of, config)
    assert history.n_left_out == 2 and len(history.truncated) == 2 and 0 < history.truncated[0] <= 1


def test_a_reward_model_counts_the_answers_that_it_does_not_read_to_the_end():
    judge_model = reward_model(gpt())
    scores = [judge_model.score("Tell", "the owl sat " * n) for n in (1, 40, 41)]
    assert judge_model.n_truncated == 2 and scores[1] == scores[2]


# ---------------------------------------------------------------- small parts


@pytest.mark.parametrize(
    "make", [gpt, lambda: gpt(tie_weights=False), lambda: ModernGPT(ModernConfig(300, 48, 32, 2, 2))]
)
def test_every_model_and_its_classifier_can_be_tried_for_speed(make):
    config = TrainConfig(2, warmup_steps=0, products="auto")
    for module, loader in ((make(), WINDOWS), (classifier(make()), SORTED)):
        assert all(map(math.isfinite, train(module, loader, None, config).losses))


def test_a_fingerprint_tells_values_shapes_and_types_apart():
    ids = torch.arange(6)
    batches = [
        [ids], [ids + 1], [ids.view(2, 3)], [ids.view(3, 2)], [ids.int()], [ids, ids], [ids.float()], [ids[:0]],
        [ids.bfloat16()], [ids.bool()], [ids.view(2, 3).T], [torch.tensor(3)], [],
    ]  # fmt: skip
    assert len({fingerprint(batch) for batch in batches}) == len(batches)
    assert fingerprint([ids.view(2, 3).T]) == fingerprint([ids.view(2, 3).T.contiguous()])


def test_a_mode_is_given_back_to_every_module():
    model = gpt()
    modes = set_odd_modes(model)
    with in_mode(model, training=False):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == modes


def test_interrupted_training_tells_its_history():
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as stopped:
        train(gpt(), WINDOWS, None, plan(3, 1e-3), on_step=stop)
    assert isinstance(stopped.value.history, History) and stopped.value.history.steps == [1]
