"""Twenty planted mistakes in the code that must not be wrong: each is caught by a check that the true code passes.

A mutant is one line of a module changed; the module is loaded afresh with the change, and everything that uses it too.
When a line has been rewritten, its mutant says so: write a new one for the new line.
"""

import importlib
import math
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PREFIXES = ("ch01_", "ch02_", "ch03_", "ch04_", "ch05_", "data.story_world")


@contextmanager
def chapters(mutated=None, old="", new=""):
    """Import the chapters afresh, one module with `old` replaced by `new`; put the true ones back afterwards."""
    kept = {name: module for name, module in sys.modules.items() if name.startswith(PREFIXES)}
    for name in kept:
        del sys.modules[name]
    try:
        if mutated:
            load_changed(mutated, old, new)
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith(PREFIXES)]:
            del sys.modules[name]
        sys.modules.update(kept)


def load_changed(name, old, new):
    path = ROOT / (name.replace(".", "/") + ".py")
    source = path.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{path.name} holds {old!r} {source.count(old)} times, not once: renew this mutant"
    package = importlib.import_module(name.rpartition(".")[0])
    module = ModuleType(name)
    module.__file__, module.__package__ = str(path), package.__name__
    sys.modules[name] = module
    exec(compile(source.replace(old, new), str(path), "exec"), module.__dict__)
    setattr(package, name.rpartition(".")[2], module)


def model(dropout=0.0):
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch04_gpt_model.gpt_model import GPTModel

    torch.manual_seed(0)
    result = GPTModel(GPTConfig(40, 16, 32, 2, 2, dropout=dropout)).double()
    with torch.no_grad():
        for p in result.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return result.eval()


def batches(n_batches=5):
    ids = torch.randint(40, (n_batches, 2, 13), generator=torch.Generator().manual_seed(1))
    return [(row[:, :-1], row[:, 1:].clone()) for row in ids]


# ---------------------------------------------------------------- the checks


def the_past_does_not_see_the_future():
    gpt, ids = model(), batches()[0][0]
    edited = ids.clone()
    edited[:, 7:] = (edited[:, 7:] + 1) % 40
    before, after = gpt(ids), gpt(edited)
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.equal(before[:, 7:], after[:, 7:])
    maps = torch.stack(gpt.attention_maps(ids))
    assert not maps.triu(1).any() and torch.allclose(maps.sum(-1), torch.ones_like(maps.sum(-1)))


def the_cache_changes_nothing():
    from ch04_gpt_model.generation import KVCache, generate

    gpt, ids = model(), batches()[0][0]
    for sizes in ([1] * 12, [3, 3, 3, 3], [7, 5], [1, 11]):
        cache = KVCache(gpt.config, 2, dtype=torch.float64)
        parts = [gpt(part, cache) for part in ids.split(sizes, dim=1)]
        assert torch.allclose(torch.cat(parts, dim=1), gpt(ids), rtol=1e-10, atol=1e-10)
    for new in (4, 20):  # within the context and past its edge
        assert torch.equal(generate(gpt, ids, new), generate(gpt, ids, new, use_cache=False))


def a_resumed_run_is_the_same_run():
    from ch05_pretraining.loop_care import TrainingInterrupted
    from ch05_pretraining.pretraining import TrainConfig, train

    config = TrainConfig(8, optimizer="muon", warmup_steps=3, accumulation_steps=2, eval_every=3)
    whole, resumed = model(dropout=0.2), model(dropout=0.2)
    expected = train(whole, batches(), batches(2), config)

    def stop(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        try:
            train(model(dropout=0.2), batches(), batches(2), config, checkpoint_dir=folder, on_step=stop)
            raise AssertionError("was not interrupted")
        except TrainingInterrupted:
            torch.manual_seed(99)
        history = train(resumed, batches(), batches(2), config, checkpoint_dir=folder, resume=True)
    assert all(torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters()))
    assert history.losses == expected.losses and history.val_losses == expected.val_losses
    assert len(set(history.losses)) == 8


def only_unmasked_targets_count():
    from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
    from ch02_text_data.batches import IGNORE_INDEX, pad_batch
    from ch02_text_data.datasets import create_story_dataloader
    from ch02_text_data.text_data import BPETokenizer
    from ch05_pretraining.curriculum import RepeatedTokens
    from ch05_pretraining.evaluation import evaluate
    from ch05_pretraining.pretraining import TrainConfig, cross_entropy, train

    gpt, (ids, targets) = model(), batches()[0]
    targets[0, 3:] = IGNORE_INDEX
    unequal = ids, batches()[1][1]
    expected = nats(gpt, ids, targets) / 15
    both = (15 * expected + nats(gpt, *unequal)) / 39
    assert math.isclose(cross_entropy(gpt(ids), targets).item(), expected, rel_tol=1e-5)
    assert math.isclose(evaluate(gpt, [(ids, targets), unequal]), both, rel_tol=1e-5)
    assert math.isclose(train(gpt, [(ids, targets)], None, TrainConfig(1)).losses[0], expected, rel_tol=1e-5)
    for rows, goals in RepeatedTokens(3, 50_000, 8, 20, (2, 6)):
        repeats = torch.stack([first_repeats(row) for row in rows.tolist()])
        assert torch.equal(goals[:, :-1] != IGNORE_INDEX, repeats)
    longer, shorter = torch.tensor([1, 2, 3]), torch.tensor([5])
    assert pad_batch([(longer, longer + 1), (shorter, shorter + 1)], 9)[1].tolist() == [[2, 3, 4], [6, -100, -100]]
    tokenizer = BPETokenizer.train("the cat sat on the mat", 270, SPECIAL_TOKENS)
    for ids, targets in create_story_dataloader(["the cat", "the cat sat on the mat"], tokenizer, batch_size=2,
                                                max_length=30, shuffle=False):  # fmt: skip
        end, pad = tokenizer.special_tokens["<|endoftext|>"], tokenizer.special_tokens["<|pad|>"]
        assert torch.equal(ids[:, 0], torch.full((2,), end)) and not (targets == pad).any()
        assert ((targets == end).sum(1) == 1).all() and torch.equal(targets != IGNORE_INDEX, ids != pad)


def nats(gpt, ids, targets):
    log_probabilities = gpt(ids).log_softmax(-1)
    places = (targets != -100).nonzero().tolist()
    return -sum(log_probabilities[row, t, targets[row, t]].item() for row, t in places)


def first_repeats(row):
    """Which targets row[t + 1] are copies, for the smallest period that fits the row."""
    period = next(p for p in range(1, len(row)) if row[p:] == row[:-p])
    return torch.tensor([t >= period - 1 for t in range(len(row) - 1)])


def no_held_out_combination_is_in_training():
    from data.story_world.engine import StoryWorld

    worlds = {split: StoryWorld(3, split=split) for split in ("train", "validation", "test", "heldout_names",
                                                              "heldout_objects")}  # fmt: skip
    train = worlds["train"]
    names = [name for group in train.names.values() for name in group]
    rows = train.tables["kind"]
    for plot in train._plot_index:
        heroes = [(name, row) for name in names for row in rows]
        places = {split: {n for n, (name, row) in enumerate(heroes) if world.allows_hero(name, row, plot)}
                  for split, world in worlds.items()}  # fmt: skip
        assert all(places.values())
        for split in ("validation", "test", "heldout_names"):
            assert not places["train"] & places[split], (plot, split)
        assert not places["validation"] & places["test"]
        if train.names_object(plot):
            things = {split: {i for i, row in enumerate(train.objects(plot)) if world.allows_object(row, plot)}
                      for split, world in worlds.items()}  # fmt: skip
            assert things["train"] and not things["train"] & things["heldout_objects"]
    told = {split: [world.story().facts for _ in range(30)] for split, world in worlds.items()}
    chosen = {split: {(facts["plot"], facts["hero"]["name"]) for facts in stories} for split, stories in told.items()}
    assert not chosen["train"] & chosen["heldout_names"]
    assert all(train.name_is_held(hero, plot) for plot, hero in chosen["heldout_names"])


ATTENTION, GPT, CACHE = "ch03_attention.attention", "ch04_gpt_model.gpt_model", "ch04_gpt_model.generation"
TRAINING, RUN, SAVING = "ch05_pretraining.pretraining", "ch05_pretraining.run_state", "ch05_pretraining.checkpoints"
EVALUATION = "ch05_pretraining.evaluation"
LESSONS, BATCHES, WORLD = "ch05_pretraining.curriculum", "ch02_text_data.batches", "data.story_world.engine"

MUTANTS_OF = {
    the_past_does_not_see_the_future: [
        (ATTENTION, "is_causal=self.causal and whole", "is_causal=False"),
        (ATTENTION, "if self.causal else None)", "if not self.causal else None)"),
        (ATTENTION, "return x.transpose(1, 2).reshape(x.shape[0]", "return x.reshape(x.shape[0]"),
    ],
    the_cache_changes_nothing: [
        (GPT, "cache.length += ids.shape[1]", "cache.length += 1"),
        (GPT, "start = 0 if cache is None else cache.length", "start = 0"),
        (CACHE, "values[:, :, :end]", "values[:, :, :end].flip(2)"),
        (ATTENTION, "if self.causal and 1 < n_queries < n_keys:", "if False:"),
    ],
    a_resumed_run_is_the_same_run: [
        (TRAINING, "run.step * config.accumulation_steps)", "run.step)"),
        (RUN, "restore(self.model, self.optimizers)", "restore(self.model)"),
        (TRAINING, "seed_dropout(run.config.seed, run.step, run.rank)", "pass"),
        (RUN, "self.history = History(**", "_ = History(**"),
        (SAVING, "torch.as_tensor(value)\n", "torch.as_tensor(value).half()\n"),
        (LESSONS, "islice(loader, position, None)", "islice(loader, 0, None)"),
    ],
    only_unmasked_targets_count: [
        (TRAINING, "graded = targets != IGNORE_INDEX\n    if not", "graded = targets != 1 << 30\n    if not"),
        (EVALUATION, "count += int((targets != IGNORE_INDEX).sum())", "count += targets.numel()"),
        (TRAINING, "here = sum(int((targets != IGNORE_INDEX).sum())", "here = sum(targets.numel()"),
        (LESSONS, "< period - 1, IGNORE_INDEX", "< period, IGNORE_INDEX"),
        (BATCHES, "longest), IGNORE_INDEX", "longest), pad_id"),
    ],
    no_held_out_combination_is_in_training: [
        (WORLD, "get(self.split, group > 1)", "get(self.split, group > 0)"),
        (WORLD, "return not held and {", "return {"),
        (WORLD, 'if self.split in ("heldout_names", "heldout_both"):', 'if self.split == "heldout_both":'),
    ],
}
MUTANTS = [(check, *mutant) for check, mutants in MUTANTS_OF.items() for mutant in mutants]


@pytest.mark.parametrize("check", MUTANTS_OF, ids=lambda check: check.__name__)
def test_the_true_code_passes(check):
    with chapters():
        check()


@pytest.mark.parametrize("number", range(len(MUTANTS)))
def test_a_planted_mistake_is_caught(number):
    check, module, old, new = MUTANTS[number]
    with chapters(module, old, new), pytest.raises((AssertionError, ValueError, TypeError, RuntimeError)):
        check()


def test_there_are_twenty_mutants():
    assert len(MUTANTS) >= 20
