"""Chapter 5's formulas equal PyTorch's, training resumes in the same bits, and bad input gets a sentence."""

import copy
import dataclasses
import itertools
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.datasets import create_dataloader, create_story_dataloader
from ch02_text_data.text_data import BPETokenizer
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch05_pretraining import pretraining
from ch05_pretraining.checkpoints import load_checkpoint, save_checkpoint
from ch05_pretraining.curriculum import Curriculum, FirstReader, RepeatedTokens, batches_from
from ch05_pretraining.evaluation import evaluate, loss_of_logits, loss_sum
from ch05_pretraining.loop_care import TrainingInterrupted, fingerprint
from ch05_pretraining.optimizers import Muon, adamw_step, clip_gradients, orthogonalize
from ch05_pretraining.pretraining import (
    TrainConfig,
    cross_entropy,
    learning_rate_at,
    make_optimizers,
    train,
    train_plainly,
)
from ch05_pretraining.run_state import History
from ch05_pretraining.story_scores import _windows, evaluate_stories
from ch06_finetuning.finetuning import GPTClassifier
from ch06_finetuning.instructions import create_instruction_loader
from tests.sizes import n
from tests.small_models import TINY, press_at, random_batches, tiny_model, weight_vector

# ---------------------------------------------------------------- by hand = by PyTorch


@pytest.mark.parametrize("case", range(n(30, 500)))
def test_cross_entropy_is_torchs(case):
    generator = torch.Generator().manual_seed(case)
    shape = [(3,), (2, 5), (1, 1), (4, 3, 2)][case % 4]
    logits = torch.randn(*shape, 7, generator=generator, dtype=torch.float64) * 10 ** (case % 3)
    targets = torch.randint(7, shape, generator=generator)
    if targets.numel() > 1:
        targets.view(-1)[0] = IGNORE_INDEX
    expected = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
    assert_close(cross_entropy(logits, targets), expected, rtol=1e-12, atol=1e-12)
    assert_close(cross_entropy(logits.float(), targets), expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", range(n(30, 500)))
def test_clipping_is_torchs(case):
    generator = torch.Generator().manual_seed(case)
    mine = [torch.randn(shape, generator=generator, dtype=torch.float64) * (case + 1) for shape in [(3,), (2, 4), ()]]
    theirs = [torch.nn.Parameter(torch.zeros_like(g)) for g in mine]
    for parameter, gradient in zip(theirs, mine):
        parameter.grad = gradient.clone()
    limit = 0.1 * (case + 1) ** 2
    assert_close(clip_gradients(mine, limit), torch.nn.utils.clip_grad_norm_(theirs, limit), rtol=1e-12, atol=1e-12)
    for parameter, gradient in zip(theirs, mine):
        assert_close(gradient, parameter.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", range(n(30, 500)))
def test_adamw_is_torchs(case):
    generator = torch.Generator().manual_seed(case)
    numbers = {"betas": (0.5 + case % 5 / 11, 0.95), "eps": 1e-8, "weight_decay": case % 3 / 10}
    mine = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    theirs = torch.nn.Parameter(mine.clone())
    optimizer = torch.optim.AdamW([theirs], lr=0.01 * (case + 1), fused=bool(case % 2), **numbers)
    mean, square = torch.zeros_like(mine), torch.zeros_like(mine)
    for step in range(1, 6):
        theirs.grad = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        adamw_step(mine, theirs.grad, mean, square, step, learning_rate=0.01 * (case + 1), **numbers)
        optimizer.step()
    assert_close(mine, theirs.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 32), (5, 3)])
def test_muon_is_torchs_without_its_rounding_to_bfloat16(shape, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    mine = [torch.nn.Parameter(torch.randn(shape)) for _ in range(3)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    ours = Muon(mine, 0.02, momentum=0.9, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1)
    for _ in range(10):
        for p, q in zip(mine, theirs):
            p.grad = q.grad = torch.randn(shape)
        ours.step()
        reference.step()
    for p, q in zip(mine, theirs):
        assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_muon_gives_queries_keys_and_values_of_every_head_an_update_of_their_own():
    model = tiny_model()
    muon, _ = make_optimizers(model, TrainConfig(1, optimizer="muon"))
    whole = model.blocks[0].attention.qkv_proj.weight
    pieces = 3 * model.config.n_heads
    parts = [torch.nn.Parameter(part.detach().clone()) for part in whole.chunk(pieces)]
    whole.grad = torch.randn_like(whole)
    whole.grad[: len(whole) // 3] *= 1e-3  # the queries' gradient is far smaller than the values'
    for part, gradient in zip(parts, whole.grad.chunk(pieces)):
        part.grad = gradient.clone()
    group = next(g for g in muon.param_groups if any(p is whole for p in g["params"]))
    apart = Muon(parts, group["lr"], weight_decay=group["weight_decay"])
    before = whole.detach().clone()
    muon.step()
    apart.step()
    assert_close(whole, torch.cat(list(parts)), rtol=1e-4, atol=1e-6)
    moved = (whole - before).chunk(3)
    assert moved[0].norm() > 0.5 * moved[2].norm()
    with pytest.raises(ValueError, match="cannot be cut into 5 equal pieces"):
        Muon([{"params": parts, "pieces": 5}])


def test_muon_learns_from_the_model_which_matrices_lie_in_one():
    torch.manual_seed(0)
    modern = ModernGPT(ModernConfig(64, 32, d_model=32, n_heads=4, n_layers=2, n_kv_heads=2))
    pieces = {"qkv_proj": 3 * TINY.n_heads, "q_proj": 4, "k_proj": 2, "v_proj": 2}
    for model in (tiny_model(), modern, GPTClassifier(tiny_model(), 3)):
        muon, _ = make_optimizers(model, TrainConfig(1, optimizer="muon"))
        placed = {id(p): group["pieces"] for group in muon.param_groups for p in group["params"]}
        expected = {
            id(p): pieces.get(name.split(".")[-2], 1)
            for name, p in model.named_parameters()
            if "blocks." in name and p.ndim == 2
        }
        assert placed == expected and len(set(placed.values())) > 1


def test_orthogonalize_evens_out_the_singular_values_and_keeps_the_directions():
    for shape in [(16, 16), (16, 48), (48, 16)]:
        u, s, vt = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        matrix = u @ torch.diag(torch.linspace(0.2, 1, len(s))) @ vt
        values = torch.diag(u.mT @ orthogonalize(matrix) @ vt.mT)
        assert values.min() > 0.6 and values.max() < 1.3
        off_diagonal = u.mT @ orthogonalize(matrix) @ vt.mT - torch.diag(values)
        assert off_diagonal.abs().max() < 1e-4


@pytest.mark.parametrize("smallest", [0.1, 1e-3, 0.0])
def test_orthogonalize_on_the_small_square_is_the_polynomial_on_the_matrix(smallest):
    u, _, vt = torch.linalg.svd(torch.randn(16, 48), full_matrices=False)
    matrix = x = u @ torch.diag(torch.linspace(smallest, 1, 16)) @ vt
    x = x / x.norm()
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x @ x.T @ x + 2.0315 * x @ x.T @ x @ x.T @ x
    assert_close(orthogonalize(matrix), x, rtol=1e-3, atol=1e-3)


def test_orthogonalize_treats_a_stack_as_its_matrices():
    stack = torch.randn(3, 4, 6, dtype=torch.float64)
    assert_close(orthogonalize(stack), torch.stack([orthogonalize(m) for m in stack]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("warmup, steps, floor", itertools.product([1, 10], [40, 100], [0.0, 1e-4]))
def test_cosine_schedule_is_torchs(warmup, steps, floor):
    config = TrainConfig(steps, learning_rate=1e-2, warmup_steps=warmup, min_learning_rate=floor, schedule="cosine")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, total_iters=max(1, warmup - 1))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup, eta_min=floor)
    if warmup == 1:
        rise = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[warmup])
    for step in range(steps):
        theirs = optimizer.param_groups[0]["lr"]
        assert math.isclose(learning_rate_at(step, config), theirs, rel_tol=1e-9, abs_tol=1e-12)
        optimizer.step()
        both.step()


def test_linear_cooldown_keeps_the_plateau_and_ends_near_zero():
    config = TrainConfig(100, learning_rate=1.0, warmup_steps=10, schedule="linear", decay_fraction=0.4)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[0] == 0.1 and rates[9:61] == [1.0] * 52
    assert all(a > b for a, b in itertools.pairwise(rates[60:])) and 0 < rates[-1] < 0.03


# ---------------------------------------------------------------- optimizers and first losses


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_has_one_optimizer_and_no_vector_is_decayed(optimizer):
    model = tiny_model()
    groups = [g for o in make_optimizers(model, TrainConfig(1, optimizer=optimizer)) for g in o.param_groups]
    placed = [id(p) for g in groups for p in g["params"]]
    assert sorted(placed) == sorted(id(p) for p in model.parameters())
    for group in groups:
        for p in group["params"]:
            assert (group["weight_decay"] > 0) == (p.ndim == 2)


def test_muon_moves_the_matrices_of_the_blocks_only():
    model = tiny_model()
    muon, adamw = make_optimizers(model, TrainConfig(1, optimizer="muon"))
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    for name, p in model.named_parameters():
        assert (id(p) in by_muon) == (name.startswith("blocks.") and p.ndim == 2)
    model.blocks.requires_grad_(False)
    for without in (torch.nn.Sequential(torch.nn.Linear(2, 2)), model):
        with pytest.raises(ValueError, match="block_matrices.* use optimizer='adamw'"):
            make_optimizers(without, TrainConfig(1, optimizer="muon"))
    with pytest.raises(ValueError, match="give the others to AdamW"):
        Muon([torch.nn.Parameter(torch.zeros(3))])


@pytest.mark.parametrize("seed", range(5))
def test_loss_at_the_start_is_that_of_guessing(seed):
    model = tiny_model(seed, **GPTConfig.story().to_dict())
    batch = random_batches(1, seed, rows=4, length=64, vocab_size=GPTConfig.story().vocab_size)
    assert abs(evaluate(model, batch) - math.log(GPTConfig.story().vocab_size)) < 0.1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_batch_can_be_learned_by_heart(seed, optimizer):
    model, batch = tiny_model(seed), random_batches(1, seed)
    config = TrainConfig(150, learning_rate=1e-2, warmup_steps=10, weight_decay=0, optimizer=optimizer, eval_every=150)
    assert train(model, batch, batch, config).val_losses[-1] < 0.05


def test_learning_lowers_the_loss_on_batches_never_seen():
    """Copying is a rule, so it carries over; a model that memorizes would stay at ln 60 = 4.09."""
    model = tiny_model()
    seen = RepeatedTokens(200, 60, 8, 31, (2, 4), seed=1)
    unseen = list(RepeatedTokens(4, 60, 16, 31, (2, 4), seed=2))
    config = TrainConfig(200, learning_rate=1e-2, optimizer="muon", muon_learning_rate=0.02, eval_every=200)
    assert train(model, seen, unseen, config).val_losses[-1] < 2.0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("warmup_steps, grad_clip", [(0, 0), (0, 0.1), (10, 1.0)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_plain_loop_is_train_without_its_surroundings(optimizer, warmup_steps, grad_clip, masked):
    batches = random_batches(7)
    if masked:
        batches = [(ids, targets.masked_fill(targets % 3 == 0, IGNORE_INDEX)) for ids, targets in batches]
    config = TrainConfig(20, learning_rate=5e-3, warmup_steps=warmup_steps, grad_clip=grad_clip, optimizer=optimizer)
    plain, full = tiny_model().double(), tiny_model().double()
    plain_losses = train_plainly(plain, batches, config)
    full_losses = train(full, batches, None, config).losses
    assert len(plain_losses) == 20 and plain_losses[-1] < plain_losses[0] - 0.1
    assert_close(torch.tensor(plain_losses), torch.tensor(full_losses), rtol=1e-9, atol=1e-9)
    assert_close(weight_vector(plain), weight_vector(full), rtol=1e-6, atol=1e-8)
    single = train_plainly(tiny_model(), batches, config)
    assert_close(torch.tensor(single), torch.tensor(full_losses).float(), rtol=1e-4, atol=1e-4)


def test_the_plain_loop_refuses_what_it_cannot_learn_from():
    ids, targets = random_batches(1)[0]
    with pytest.raises(ValueError, match="the loader has no batches"):
        train_plainly(tiny_model(), [], TrainConfig(1))
    with pytest.raises(ValueError, match="unmask at least one"):
        train_plainly(tiny_model(), [(ids, torch.full_like(targets, IGNORE_INDEX))], TrainConfig(1))


# ---------------------------------------------------------------- exactness


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop", [1, 7, 10, 19])
def test_a_resumed_run_ends_in_the_same_bits(tmp_path, optimizer, stop):
    config = TrainConfig(20, optimizer=optimizer, warmup_steps=3, eval_every=5, checkpoint_every=3)
    data, watched = random_batches(7), random_batches(2, seed=9)
    whole = tiny_model(dropout=0.1)
    expected = train(whole, data, watched, config)

    def press_ctrl_c(progress):
        if progress.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted, match="resume=True"):
        train(tiny_model(dropout=0.1), data, watched, config, checkpoint_dir=tmp_path, on_step=press_ctrl_c)
    torch.manual_seed(123)
    resumed = tiny_model(seed=5, dropout=0.1)
    history = train(resumed, data, watched, config, checkpoint_dir=tmp_path, resume=True)
    assert torch.equal(weight_vector(resumed), weight_vector(whole))
    assert history.losses == expected.losses and history.val_losses == expected.val_losses
    assert history.steps == list(range(1, 21))


def test_a_run_resumes_inside_a_curriculum_of_stories(tmp_path):
    tokenizer = BPETokenizer.train("The cat sat on the mat. " * 3, 280, SPECIAL_TOKENS)
    stories = [f"The {word} sat on the {place}." * k for word in "cat dog".split() for place in "mat hat".split()
               for k in (1, 2, 3)]  # fmt: skip
    changes = {"vocab_size": tokenizer.vocab_size, "context_length": 64}

    def lessons():
        reading = create_story_dataloader(stories, tokenizer, batch_size=4, max_length=64, seed=3)
        return Curriculum([(RepeatedTokens(4, 270, 4, 32), 4), (reading, 10)], rehearse_every=4)

    plan = TrainConfig(14, eval_every=100)
    whole = tiny_model(**changes)
    train(whole, lessons(), None, plan)
    for stop in (3, 10, 14):
        resumed = tiny_model(seed=stop % 3, **changes)

        def press_ctrl_c(progress, stop=stop):
            if progress.step == stop:
                raise KeyboardInterrupt

        try:
            train(resumed, lessons(), None, plan, checkpoint_dir=tmp_path, resume=True, on_step=press_ctrl_c)
        except TrainingInterrupted:
            assert stop < 14
    assert torch.equal(weight_vector(resumed), weight_vector(whole))


OVERFITTING = TrainConfig(24, learning_rate=1e-2, warmup_steps=2, eval_every=4, checkpoint_every=3, keep_best=True)


def by_heart():
    """One batch to learn by heart, and others that get worse meanwhile."""
    return random_batches(1), random_batches(2, seed=9)


def test_keep_best_ends_with_the_weights_of_the_lowest_validation_loss():
    model, looks = tiny_model(dropout=0.1), {}

    def look(progress):
        if progress.val_loss is not None:
            looks[progress.step] = weight_vector(model)

    history = train(model, *by_heart(), OVERFITTING, on_step=look)
    assert min(history.val_losses) < history.val_losses[-1] and history.best_step < 24
    assert torch.equal(weight_vector(model), looks[history.best_step])
    assert evaluate(model, by_heart()[1]) == min(history.val_losses)
    last = tiny_model(dropout=0.1)
    plain = train(last, *by_heart(), dataclasses.replace(OVERFITTING, keep_best=False))
    assert torch.equal(weight_vector(last), looks[24])
    assert plain.losses == history.losses and plain.val_losses == history.val_losses


@pytest.mark.parametrize("stop", [1, 4, 13, 23])
def test_keep_best_survives_an_interruption_bit_for_bit(tmp_path, stop):
    whole, resumed = tiny_model(dropout=0.1), tiny_model(seed=5, dropout=0.1)
    expected = train(whole, *by_heart(), OVERFITTING)
    with pytest.raises(TrainingInterrupted):
        train(tiny_model(dropout=0.1), *by_heart(), OVERFITTING, checkpoint_dir=tmp_path, on_step=press_at(stop))
    history = train(resumed, *by_heart(), OVERFITTING, checkpoint_dir=tmp_path, resume=True)
    assert torch.equal(weight_vector(resumed), weight_vector(whole)) and history.best_step == expected.best_step
    again = tiny_model(seed=6, dropout=0.1)
    train(again, *by_heart(), OVERFITTING, checkpoint_dir=tmp_path, resume=True)  # finished already
    assert torch.equal(weight_vector(again), weight_vector(whole))


def test_the_best_step_is_the_earliest_of_equals_and_no_nan():
    assert History(val_steps=[2, 4, 6, 8], val_losses=[math.nan, 1.0, 0.5, 0.5]).best_step == 6
    assert History(steps=[1], losses=[1.0]).best_step is None


def test_keep_best_needs_a_validation_set(tmp_path):
    with pytest.raises(ValueError, match="keep_best=True needs a val_loader"):
        train(tiny_model(), random_batches(1), None, TrainConfig(1, keep_best=True), checkpoint_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_from_before_a_setting_existed_goes_on(tmp_path):
    config = TrainConfig(4, warmup_steps=0)
    whole, resumed = tiny_model(), tiny_model(seed=5)
    train(whole, random_batches(2), None, config)
    with pytest.raises(TrainingInterrupted):
        train(tiny_model(), random_batches(2), None, config, checkpoint_dir=tmp_path, on_step=press_at(2))
    old = load_checkpoint(tmp_path)
    del old.extra["config"]["keep_best"]
    optimizers = make_optimizers(resumed, config)
    old.restore(resumed, optimizers)
    save_checkpoint(tmp_path, 2, resumed, optimizers, old.extra)
    with pytest.raises(ValueError, match="keep_best was False, now True"):
        train(resumed, random_batches(2), random_batches(1), dataclasses.replace(config, keep_best=True),
              checkpoint_dir=tmp_path, resume=True)  # fmt: skip
    train(resumed, random_batches(2), None, config, checkpoint_dir=tmp_path, resume=True)
    assert torch.equal(weight_vector(resumed), weight_vector(whole))


# ---------------------------------------------------------------- the same rows, or a sentence

TEXT = "".join(f"the owl {number} sat in the old mill. " for number in range(120))
LETTERS = BPETokenizer.train(TEXT, 300, SPECIAL_TOKENS)
OTHERS = BPETokenizer.train("zebras drew waltzes by night. " * 9, 300, SPECIAL_TOKENS)
RECORDS = [SimpleNamespace(prompt=f"Tell {n}", response=f"the owl {n} sat") for n in range(40)]


def windows(text=TEXT, tokenizer=LETTERS, **changes):
    options = {"batch_size": 8, "max_length": 16, "stride": 16} | changes
    return create_dataloader(text, tokenizer, **options)


def with_replay(stories, records=RECORDS, seed=0):
    return create_instruction_loader(
        records, LETTERS, batch_size=4, max_length=32, stories=stories, replay_batch=4, replay_share=0.1, seed=seed
    )


def lessons(first=3, second=4):
    return Curriculum([(random_batches(6, seed=first), 6), (random_batches(30, seed=second), 30)], rehearse_every=5)


def other_targets(batches):
    return [(ids, targets.clone().masked_fill_(targets == targets.max(), 0)) for ids, targets in batches]


FIRST_STORIES, OTHER_STORIES = [f"the owl {n} ran" for n in range(30)], [f"the fox {n} ran" for n in range(30)]
OTHER_ROWS = {
    "seed": (lambda: windows(), lambda: windows(seed=1)),
    "order": (lambda: windows(), lambda: windows(shuffle=False)),
    "window": (lambda: windows(), lambda: windows(max_length=15)),
    "text": (lambda: windows(), lambda: windows(TEXT.replace("owl", "fox"))),
    "tokenizer": (lambda: windows(), lambda: windows(TEXT[: 8 * 16 * 9], OTHERS)),
    "targets": (lambda: random_batches(9), lambda: other_targets(random_batches(9))),
    "dtype": (lambda: random_batches(9), lambda: [(ids.int(), targets) for ids, targets in random_batches(9)]),
    "order of a list": (lambda: random_batches(9), lambda: random_batches(9)[::-1]),
    "replay": (lambda: with_replay(FIRST_STORIES), lambda: with_replay(OTHER_STORIES)),
    "replay seed": (lambda: with_replay(FIRST_STORIES), lambda: with_replay(FIRST_STORIES, seed=1)),
    "records": (lambda: with_replay(FIRST_STORIES), lambda: with_replay(FIRST_STORIES, RECORDS[::-1])),
    "rehearsed lesson": (lambda: lessons(), lambda: lessons(first=5)),
    "lesson": (lambda: lessons(), lambda: lessons(second=5)),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER_ROWS)
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_a_run_is_not_resumed_with_other_rows(tmp_path, change, accumulation_steps):
    config = TrainConfig(17, warmup_steps=0, accumulation_steps=accumulation_steps)
    same, other = OTHER_ROWS[change]
    stopped = tiny_model(vocab_size=300)
    with pytest.raises(TrainingInterrupted):
        train(stopped, same(), None, config, checkpoint_dir=tmp_path, on_step=press_at(15))
    resumed = tiny_model(seed=5, vocab_size=300)
    before = weight_vector(resumed)
    n_batches = len(same())
    loader = [*itertools.islice(itertools.cycle(other()), n_batches)] if len(other()) != n_batches else other()
    with pytest.raises(ValueError, match=r"a run with other data: the loader's batch number \d+ is not the one"):
        train(resumed, loader, None, config, checkpoint_dir=tmp_path, resume=True)
    assert torch.equal(weight_vector(resumed), before)  # refused before anything was restored
    assert len(train(resumed, same(), None, config, checkpoint_dir=tmp_path, resume=True).losses) == 17


@pytest.mark.parametrize("change", [{}, {"read": {"by_processes": 2, "newest": ["of a share of the rows"]}}])
def test_rows_that_nobody_noted_are_trusted(tmp_path, change):
    """A checkpoint from before rows were noted, and one of another number of processes, each with its own rows."""
    config = TrainConfig(4, warmup_steps=0)
    with pytest.raises(TrainingInterrupted):
        train(tiny_model(), random_batches(2), None, config, checkpoint_dir=tmp_path, on_step=press_at(2))
    old, model = load_checkpoint(tmp_path), tiny_model()
    optimizers = make_optimizers(model, config)
    old.restore(model, optimizers)
    del old.extra["read"]
    save_checkpoint(tmp_path, 2, model, optimizers, old.extra | change)
    assert len(train(model, random_batches(2)[::-1], None, config, checkpoint_dir=tmp_path, resume=True).losses) == 4
    kept = load_checkpoint(tmp_path).extra["read"]
    assert kept == {"by_processes": 1, "newest": [fingerprint(batch) for batch in random_batches(2)[::-1]]}


def test_training_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    model = tiny_model(dropout=0.1)
    torch.manual_seed(7)
    train(model, random_batches(2), None, TrainConfig(3))
    assert torch.equal(torch.rand(3), expected)


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_dropout():
    runs = []
    for seed in (0, 0, 1, -1, 2**40 + 5):
        runs.append(tiny_model(dropout=0.1))
        train(runs[-1], random_batches(2), None, TrainConfig(3, seed=seed))
    assert torch.equal(weight_vector(runs[0]), weight_vector(runs[1]))
    assert not any(torch.equal(weight_vector(a), weight_vector(b)) for a, b in itertools.combinations(runs[1:], 2))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulation_equals_the_full_batch_with_unequal_label_counts(optimizer):
    batches = [(i.clone(), t.clone()) for i, t in random_batches(6, rows=2)]
    for number, (_, targets) in enumerate(batches):
        targets[:, : 2 * number] = IGNORE_INDEX
    pairs = [tuple(torch.cat(parts) for parts in zip(*batches[k : k + 2])) for k in (0, 2, 4)]
    config = TrainConfig(3, optimizer=optimizer, warmup_steps=0)
    small, large = tiny_model().double(), tiny_model().double()
    train(small, batches, None, dataclasses.replace(config, accumulation_steps=2))
    train(large, pairs, None, config)
    assert_close(weight_vector(small), weight_vector(large), rtol=1e-6, atol=1e-6)


def test_auto_precision_picks_one_and_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "faster_precision", lambda *_: "float32")
    chosen, plain = tiny_model(dropout=0.1), tiny_model(dropout=0.1)
    train(chosen, random_batches(2), None, TrainConfig(3, precision="auto"))
    train(plain, random_batches(2), None, TrainConfig(3))
    assert torch.equal(weight_vector(chosen), weight_vector(plain))


def test_bfloat16_trains_on_float32_weights():
    model, batch = tiny_model(), random_batches(1)
    history = train(model, batch, None, TrainConfig(2, precision="bfloat16"))
    assert all(p.dtype == torch.float32 for p in model.parameters()) and math.isfinite(history.losses[-1])


# ---------------------------------------------------------------- lessons in order


def test_repeated_tokens_repeat_and_only_the_repeats_are_graded():
    ids, targets = next(iter(RepeatedTokens(1, 50, 8, 40, (2, 9), seed=4)))
    for row, goal in zip(ids.tolist(), targets.tolist()):
        period = goal.index(next(t for t in goal if t != IGNORE_INDEX)) + 1
        assert goal[: period - 1] == [IGNORE_INDEX] * (period - 1) and 2 <= period <= 9
        assert all(goal[t] == row[t + 1 - period] for t in range(period - 1, 40))
        assert row[period:] == row[:-period]


def test_repeated_tokens_are_a_function_of_seed_and_number_and_ranks_share_them():
    whole = list(RepeatedTokens(5, 50, 4, 20, (2, 9), seed=4))
    again = RepeatedTokens(5, 50, 4, 20, (2, 9), seed=4)
    again.set_epoch(0, 3)
    assert torch.equal(next(iter(again))[0], whole[3][0])
    halves = [list(RepeatedTokens(5, 50, 4, 20, (2, 9), seed=4, rank=r, world_size=2)) for r in (0, 1)]
    assert torch.equal(halves[0][2][0], whole[2][0][0::2]) and torch.equal(halves[1][2][0], whole[2][0][1::2])
    with pytest.raises(ValueError, match="choose shorter ones"):
        RepeatedTokens(1, 50, 4, 8, (2, 9))


def test_the_first_reader_chains_whole_stories_and_starts_anywhere():
    rows = [torch.tensor([0, *range(10 * n, 10 * n + n), 0]) for n in range(1, 6)]
    reader = FirstReader(12, rows, 6, alone_steps=4, most_in_a_row=3, seed=2)
    whole = list(reader)
    for number, (ids, targets) in enumerate(whole):
        for row_ids, row_targets in zip(ids, targets):
            row = row_targets[row_targets != -100]
            assert torch.equal(row_ids[1 : len(row)], row[:-1]) and row_ids[0] == 0 and row[-1] == 0
            stories = (row == 0).sum()  # each ends in one end-of-text
            assert stories == 1 if number < 4 else 1 <= stories <= 3
    assert max(int((targets == 0).sum(1).max()) for _, targets in whole[4:]) == 3
    reader.set_epoch(0, 7)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(reader, whole[7:], strict=True))
    halves = [list(FirstReader(12, rows, 6, 4, 3, seed=2, rank=r, world_size=2)) for r in (0, 1)]
    for (_, targets), *parts in zip(whole, *halves, strict=True):
        assert sum(int((t != -100).sum()) for _, t in parts) == int((targets != -100).sum())
    assert max(ids.shape[1] for ids, _ in FirstReader(12, rows, 6, 4, 3, max_length=7, seed=2)) == 7
    with pytest.raises(ValueError, match="batch_size of at least 6"):
        FirstReader(1, rows, 4, most_in_a_row=3, world_size=2)


@pytest.mark.parametrize("every", [0, 2, 4, 9])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_curriculum_gives_the_same_batches_from_any_start(every, share):
    warm_up, reading = [f"copy {i}" for i in range(3)], [f"read {i}" for i in range(5)]
    lessons = Curriculum([(warm_up, 4), (reading, 9)], rehearse_every=every, rehearse_share=share)
    whole = list(lessons)
    assert len(whole) == len(lessons) == 13 and whole[:4] == ["copy 0", "copy 1", "copy 2", "copy 0"]
    until = round(9 * share)
    assert sum(b.startswith("copy") for b in whole[4:]) == (until // every if every else 0)
    assert all(b.startswith("read") for b in whole[4 + until :])
    assert [b for b in whole[4:] if b.startswith("read")][:3] == reading[:3]
    for start in range(13):
        lessons.set_epoch(0, start)
        assert list(lessons) == whole[start:]


def test_batches_go_on_into_the_next_epoch():
    assert list(itertools.islice(batches_from([1, 2, 3], 4), 5)) == [2, 3, 1, 2, 3]
    with pytest.raises(ValueError, match="the loader has no batches"):
        next(batches_from([], 0))
    with pytest.raises(ValueError, match="at least one phase"):
        Curriculum([([1], 0)])


# ---------------------------------------------------------------- evaluation


def test_evaluation_weighs_tokens_not_batches_and_keeps_the_mode():
    model = tiny_model().train()
    (ids, targets), other = random_batches(2)
    targets[1:] = IGNORE_INDEX
    both = torch.cat([ids, other[0]]), torch.cat([targets, other[1]])
    assert math.isclose(evaluate(model, [(ids, targets), other]), evaluate(model, [both]), rel_tol=1e-5)
    assert model.training
    assert evaluate(model, [(ids, targets), other], max_batches=1) == evaluate(model, [(ids, targets)])


class Story:
    def __init__(self, text, log2_probability):
        self.text, self.log2_probability = text, log2_probability


def test_story_scores_are_those_of_the_definition():
    tokenizer = BPETokenizer.train("the cat sat on the mat " * 5, 290, SPECIAL_TOKENS)
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=64)
    stories = [Story("The cat sat.", -6.0), Story("On the mat the cat sat down.", -14.0)]
    end, nats, n_tokens = tokenizer.special_tokens["<|endoftext|>"], 0.0, 0
    for story in stories:
        row = torch.tensor([[end, *tokenizer.encode(story.text), end]])
        nats += F.cross_entropy(model(row[:, :-1])[0], row[0, 1:], reduction="sum").item()
        n_tokens += row.shape[1] - 1
    scores = evaluate_stories(model, tokenizer, stories)
    assert math.isclose(scores.nats_per_token, nats / n_tokens, rel_tol=1e-5)
    assert math.isclose(scores.bits_per_word, nats / math.log(2) / 10, rel_tol=1e-5)
    assert math.isclose(scores.bits_per_byte, nats / math.log(2) / 40, rel_tol=1e-5)
    assert scores.floor_bits_per_word == 2.0 and scores.n_stories == 2
    assert math.isclose(scores.times_floor, scores.bits_per_word / 2)
    assert evaluate_stories(model, tokenizer, ["The cat sat."]).floor_bits_per_word is None
    with pytest.raises(ValueError, match="give at least one"):
        evaluate_stories(model, tokenizer, [])


@pytest.mark.parametrize("length", [2, 5, 9, 10, 11, 14, 15, 33])
def test_windows_grade_every_token_once_with_all_the_context_there_is(length):
    graded, row = [], list(range(100, 100 + length))
    for ids, targets in _windows(row, 8):
        assert len(ids) == len(targets) <= 8
        for place, (token, target) in enumerate(zip(ids, targets)):
            if target != IGNORE_INDEX:
                assert target == token + 1 and place >= min(4, token - 100)
                graded.append(target)
    assert graded == row[1:]


class Capped(GPTModel):
    """A GPT of somebody else's, whose logits never leave (-2, 2)."""

    def forward(self, ids, cache=None):
        return 2 * torch.tanh(self.head(self.hidden(ids, cache)) / 2)


def with_a_bias():
    model = tiny_model()
    model.head = torch.nn.Linear(32, 64)
    return model


@pytest.mark.parametrize("make", [tiny_model, with_a_bias, lambda: Capped(TINY), lambda: torch.nn.Embedding(64, 64)])
def test_the_loss_is_that_of_the_logits_that_a_model_gives(make):
    torch.manual_seed(0)
    model, (ids, targets) = make().double(), random_batches(1)[0]
    targets[0, :5] = IGNORE_INDEX
    expected = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum")
    for loss in (loss_sum, loss_of_logits):
        assert_close(loss(model, ids, targets), expected, rtol=1e-12, atol=1e-12)
        assert_close(evaluate(model, [(ids, targets)], loss=loss), expected.item() / int((targets >= 0).sum()))


def test_another_loss_is_what_is_lowered_and_measured():
    def gap(model, ids, targets):
        """The squared distance of the scores to 1 at the target and 0 elsewhere: no cross-entropy."""
        return (model(ids) - F.one_hot(targets, 64)).square().sum()

    batches, config = random_batches(2), TrainConfig(60, learning_rate=1e-2, warmup_steps=5, eval_every=30)
    model = tiny_model()
    before = evaluate(model, batches, loss=gap)
    history = train(model, batches, batches, config, loss=gap)
    assert math.isclose(history.losses[0], evaluate(tiny_model(), batches[:1], loss=gap), rel_tol=1e-5)
    assert history.val_losses[-1] == evaluate(model, batches, loss=gap) < 0.7 * before


# ---------------------------------------------------------------- what bad input gets


def test_masked_empty_and_foreign_targets_get_a_sentence():
    model = tiny_model()
    ids, targets = random_batches(1)[0]
    masked = torch.full_like(targets, IGNORE_INDEX)
    with pytest.raises(ValueError, match="unmask at least one"):
        cross_entropy(torch.zeros(2, 3), torch.tensor([IGNORE_INDEX] * 2))
    with pytest.raises(ValueError, match="no target other than -100"):
        evaluate(model, [(ids, masked)])
    with pytest.raises(ValueError, match="no target other than -100"):
        evaluate(model, [])
    with pytest.raises(ValueError, match="all targets of step 0"):
        train(model, [(ids, masked)], None, TrainConfig(1))
    with pytest.raises(ValueError, match="no target other than -100"):
        train(model, [(ids, targets)], [(ids, masked)], TrainConfig(1))
    with pytest.raises(ValueError, match="the loader has no batches"):
        train(model, [], None, TrainConfig(1))
    with pytest.raises(ValueError, match="outside 0 to 63"):
        train(model, [(ids, targets + 64)], None, TrainConfig(1))


def test_a_loss_that_is_not_finite_stops_before_it_reaches_the_weights():
    model = tiny_model()
    with torch.no_grad():
        model.final_norm.weight[0] = math.nan
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="lower learning_rate"):
        train(model, random_batches(1), None, TrainConfig(1))
    assert_close(weight_vector(model), weight_vector(before), equal_nan=True, rtol=0, atol=0)


def test_a_learning_rate_far_too_high_ends_in_a_sentence_or_a_finite_loss():
    config = TrainConfig(200, learning_rate=1e6, warmup_steps=0, grad_clip=0)
    try:
        history = train(tiny_model(), random_batches(3), None, config)
    except ValueError as error:
        assert "lower learning_rate" in str(error)
    else:
        assert all(map(math.isfinite, history.losses))


@pytest.mark.parametrize("changes, fragment", [
    ({"max_steps": 0}, "max_steps=0"), ({"learning_rate": 0}, "learning_rate=0"), ({"warmup_steps": -1}, "0 or more"),
    ({"learning_rate": math.nan}, "above 0"), ({"optimizer": "adam"}, "one of adamw, muon"),
    ({"decay_fraction": 0}, "at most 1"),
    ({"precision": "half"}, "one of float32"), ({"min_learning_rate": 1.0}, "0 to learning_rate"),
    ({"accumulation_steps": 0}, "at least 1"), ({"grad_clip": math.inf}, "finite|0 or more"),
    ({"schedule": "step"}, "cosine"), ({"eval_batches": 0}, "1 or more, or None"), ({"seed": 0.5}, "whole number"),
    ({"checkpoint_every": 0}, "1 or more, or None"),
])  # fmt: skip
def test_a_setting_out_of_range_is_refused(changes, fragment):
    with pytest.raises(ValueError, match=fragment):
        TrainConfig(**{"max_steps": 10} | changes)


def test_a_real_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path):
    def press(progress):
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match=r"stopped after step 4 of 9.*resume=True"):
        train(tiny_model(), random_batches(2), None, TrainConfig(9), checkpoint_dir=tmp_path, on_step=press)
    assert signal.getsignal(signal.SIGINT) is before
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000004"]
    with pytest.raises(TrainingInterrupted, match="give checkpoint_dir"):
        train(tiny_model(), random_batches(2), None, TrainConfig(9), on_step=press)


def test_checkpoints_of_another_run_are_refused(tmp_path):
    train(tiny_model(), random_batches(2), None, TrainConfig(2), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="pass resume=True"):
        train(tiny_model(), random_batches(2), None, TrainConfig(2), checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="learning_rate was 0.003, now 0.001"):
        train(tiny_model(), random_batches(2), None, TrainConfig(2, learning_rate=1e-3), checkpoint_dir=tmp_path,
              resume=True)  # fmt: skip
    with pytest.raises(ValueError, match="n_batches was 2, now 3"):
        train(tiny_model(), random_batches(3), None, TrainConfig(2), checkpoint_dir=tmp_path, resume=True)
    with pytest.raises(ValueError, match="holds another shape|another model"):
        other = tiny_model(d_model=16)
        train(other, random_batches(2), None, TrainConfig(2), checkpoint_dir=tmp_path, resume=True)
    finished = train(tiny_model(), random_batches(2), None, TrainConfig(2), checkpoint_dir=tmp_path, resume=True)
    assert finished.steps == [1, 2]
