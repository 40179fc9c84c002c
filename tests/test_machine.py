"""Claims about the machine: a device is checked before it is used, sixteen bits are chosen by trial and train well."""

import copy
import dataclasses
import itertools
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

import course
from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining import machine
from ch05_pretraining.loop_care import TrainingInterrupted
from ch05_pretraining.machine import LossScale, choose_device, faster_precision
from ch05_pretraining.pretraining import TrainConfig, train
from tests.small_models import TINY, press_at, random_batches, tiny_model, weights

ROOT = Path(__file__).resolve().parent.parent
CUDA, T4, A100 = torch.device("cuda"), (7, 5), (8, 0)


# ---------------------------------------------------------------- memory

FREED = """
import psutil, torch
from ch05_pretraining.machine import give_memory_back

give_memory_back()
bytes_held = lambda: psutil.Process().memory_info().rss
first = [torch.ones(5_000_000) for _ in range(2)]
del first  # from now on the C library alone would keep tensors of this size
before, large, small = bytes_held(), [], []
for _ in range(20):
    large.append(torch.ones(2_500_000))
    small.append(torch.ones(5_000))
full = bytes_held()
large.clear()
print(full - before, bytes_held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's C library has this option")
@pytest.mark.parametrize("settings", [{}, course.MEMORY], ids=["plain", "course.py"])
def test_linux_gets_the_memory_of_large_tensors_back(settings):
    plain = {name: value for name, value in os.environ.items() if name not in course.MEMORY}
    command = [sys.executable, "-c", FREED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=plain | settings)
    full, left = map(int, done.stdout.split())
    assert full > 100e6 and left < full / 5  # 200 MB were asked for; how much counts as held, the system says


# ---------------------------------------------------------------- devices


@pytest.fixture
def gpus(monkeypatch):
    """Pretend which GPUs there are and what their check says: name -> None when right, or the complaint."""
    there, checked = {}, []

    def check(device):
        checked.append(device.type)
        if there[device.type]:
            raise ValueError(there[device.type])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    monkeypatch.setattr(machine, "require_cpu_numbers", check)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return SimpleNamespace(there=there, checked=checked)


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({}, "cpu"),
        ({"cuda": None}, "cuda"),
        ({"mps": None}, "mps"),
        ({"cuda": None, "mps": None}, "cuda"),
        ({"mps": "computes other numbers"}, "cpu"),
        ({"cuda": "no kernel image"}, "cpu"),
        ({"cuda": "no kernel image", "mps": None}, "mps"),
    ],
)
def test_auto_takes_a_gpu_that_passes_its_check_or_else_the_cpu(gpus, there, chosen):
    gpus.there.update(there)
    assert choose_device("auto").type == chosen
    assert set(gpus.checked) <= set(there)


def test_a_gpu_that_is_named_is_checked_and_its_complaint_is_told(gpus):
    gpus.there.update({"mps": "computes other numbers"})
    with pytest.raises(ValueError, match="computes other numbers"):
        choose_device("mps")
    assert choose_device("cpu") == torch.device("cpu") and gpus.checked == ["mps"]


def test_each_process_of_torchrun_takes_a_gpu_of_its_own(gpus, monkeypatch):
    gpus.there["cuda"] = None
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("cuda") == torch.device("cuda", 3)


@pytest.mark.parametrize("name", ["tpu", "", "CUDA", "cuda:0", None, 0])
def test_an_unknown_device_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match="is unknown: use one of auto, cpu, cuda, mps"):
        choose_device(name)


def test_a_build_for_the_cpu_is_named_with_the_command_that_mends_it(gpus, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(ValueError, match="device='cuda' is not available: this PyTorch is a build for the CPU") as told:
        choose_device("cuda")
    version = torch.__version__.split("+")[0]
    command = f"{sys.executable} -m pip install torch=={version}+cu130 --index-url {machine.WHEELS}cu130"
    assert command in str(told.value) and str(told.value).endswith("or use device='cpu'")


NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver"
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver"


@pytest.mark.parametrize(
    ("said", "shown", "sentence"),
    [
        (NO_DRIVER, None, "PyTorch says 'Found no NVIDIA driver on your system'; install the newest driver"),
        (NO_DRIVER, "", "PyTorch says 'Found no NVIDIA driver on your system'; install the newest driver"),
        (OLD_DRIVER, None, r"is too old \(found version 11040\)'; install the newest driver"),
        ("No CUDA GPUs are available", "", "CUDA_VISIBLE_DEVICES='' hides the GPUs"),
        ("No CUDA GPUs are available", "7", "CUDA_VISIBLE_DEVICES='7' hides the GPUs"),
        ("No HIP GPUs are available", None, "PyTorch says 'No HIP GPUs are available'"),
    ],
)
def test_a_gpu_that_does_not_begin_is_explained_by_what_pytorch_says(gpus, monkeypatch, said, shown, sentence):
    def init():
        raise RuntimeError(said)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    with pytest.raises(ValueError, match=f"device='cuda' is not available: .*{sentence}.*use device='cpu'") as told:
        choose_device("cuda")
    assert "\n" not in str(told.value)


def test_a_mac_without_an_apple_gpu_is_told_what_has_one(gpus):
    with pytest.raises(ValueError, match="device='mps' is not available: only a Mac with Apple silicon and macOS 14"):
        choose_device("mps")


@pytest.mark.parametrize("fault", ["none", "loss", "gradient"])
def test_a_device_that_computes_other_numbers_is_refused(monkeypatch, fault):
    other = torch.device("cpu", 0)  # stands in for the GPU of a Mac

    class Faulty(GPTModel):
        def to(self, place):
            if place == other and fault == "loss":
                torch.nn.init.normal_(self.head.weight)
            if place == other and fault == "gradient":
                self.token_embedding.weight.register_hook(lambda gradient: 1.1 * gradient)
            return super().to(place)

    monkeypatch.setattr(machine, "GPTModel", Faulty)
    before = torch.get_rng_state()
    if fault == "none":
        machine.require_cpu_numbers(other)
        return assert_close(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="device='cpu:0' computes other numbers than the CPU here: use device='cpu'"):
        machine.require_cpu_numbers(other)


NO_CODE = "CUDA error: no kernel image is available for execution on the device\nSearch for `cudaErrorNoKernelImage`"


@pytest.mark.parametrize(
    ("said", "capability", "build"),
    [(NO_CODE, (6, 1), "cu126"), (NO_CODE, (12, 1), None), ("CUDA out of memory. Tried to allocate 2 GiB", T4, None)],
)
def test_a_gpu_that_cannot_compute_is_one_sentence(monkeypatch, said, capability, build):
    class Failing(GPTModel):
        def to(self, place):
            if place == CUDA:
                raise RuntimeError(said)
            return super().to(place)

    monkeypatch.setattr(machine, "GPTModel", Failing)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    with pytest.raises(ValueError, match="device='cuda' cannot compute here, PyTorch says 'CUDA") as told:
        machine.require_cpu_numbers(CUDA)
    sentence = str(told.value)
    assert "\n" not in sentence and sentence.endswith("use device='cpu'")
    assert sentence.count("cu126") == (2 if build else 0)


# ---------------------------------------------------------------- which precision is faster


@pytest.fixture
def timed(monkeypatch):
    """Pretend how long each pass takes in each precision; the list of those that were tried comes back.

    A GPU takes orders at once and works afterwards, so that its clock stands still until somebody waits for it.
    """

    def pretend(capability=T4, **seconds):
        tried, clock = [], SimpleNamespace(now=0.0, ordered=0.0)
        passes = {precision: itertools.cycle(durations) for precision, durations in seconds.items()}

        def arithmetic(device, precision):
            tried.append(precision)
            clock.ordered += next(passes[precision])
            if device.type == "cpu":
                synchronize(device)
            return machine.nullcontext()

        def synchronize(device):
            clock.now, clock.ordered = clock.now + clock.ordered, 0.0

        monkeypatch.setattr(machine.time, "perf_counter", lambda: clock.now)
        monkeypatch.setattr(machine, "arithmetic", arithmetic)
        monkeypatch.setattr(machine, "own_random_numbers", lambda device: machine.nullcontext())
        monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return tried

    return pretend


def winner_on(device):
    """The precision that wins the trial on this device."""
    weight = torch.ones(1, requires_grad=True)
    return faster_precision(lambda: weight.sum(), [weight], torch.device(device))


@pytest.mark.parametrize(
    ("device", "capability", "faster", "chosen"),
    [
        ("cuda", T4, True, "float16"),
        ("cuda", (6, 1), False, "float32"),  # a GTX 1080, whose float16 is slow
        ("cuda", A100, True, "bfloat16"),
        ("cuda", (9, 0), False, "float32"),
        ("mps", None, True, "bfloat16"),
        ("cpu", None, True, "bfloat16"),
        ("cpu", None, False, "float32"),
    ],
)
def test_imitated_bfloat16_is_never_chosen_and_the_trial_decides_everywhere(timed, device, capability, faster, chosen):
    sixteen = "float16" if device == "cuda" and capability < A100 else "bfloat16"
    tried = timed(capability, **{"float32": [1.0], sixteen: [0.5 if faster else 0.99]})
    assert winner_on(device) == chosen
    assert set(tried) == {"float32", sixteen}


def test_amds_gpus_have_bfloat16_of_their_own(timed, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "7.2")
    timed((9, 0), float32=[1.0], bfloat16=[0.5])
    assert winner_on("cuda") == "bfloat16"


@pytest.mark.parametrize(
    ("float32", "float16", "chosen"),
    [
        ([9.0, 0.3, 0.2, 0.4], [0.01, 0.3, 0.25, 0.4], "float32"),
        ([0.01, 0.3, 0.2, 0.4], [9.0, 0.3, 0.1, 0.4], "float16"),
    ],
)
def test_the_clock_of_a_trial_waits_for_the_gpu(timed, float32, float16, chosen):
    """The fastest pass counts, but for a GPU's first one, which loads its code."""
    timed(T4, float32=float32, float16=float16)
    assert winner_on("cuda") == chosen


# ---------------------------------------------------------------- float16: the loss is lifted


class Overflowing(GPTModel):
    """A GPT whose gradients overflow float16 at the chosen steps, whatever the factor, or above a factor."""

    def __init__(self, config, steps=(), above=math.inf):
        super().__init__(config)
        self.calls, self.steps, self.above, self.scale = 0, steps, above, None
        self.token_embedding.weight.register_hook(self._spoil)

    def _spoil(self, gradient):
        self.calls += 1
        too_large = self.calls in self.steps or (self.scale is not None and self.scale.factor > self.above)
        return gradient * math.inf if too_large else gradient


def test_the_factor_moves_as_pytorchs_own_does():
    """The same overflows, the same factors as `torch.amp.GradScaler`, as long as that is above 1."""
    ours, theirs = LossScale(), torch.amp.GradScaler("cpu", growth_interval=2_000)
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    overflows = {0, 1, 5, 6, 2_010, 4_500}
    for step in range(7_000):
        gradient = torch.full((3,), math.inf if step in overflows else 2.0)
        weight.grad = gradient.clone()
        theirs.scale(torch.zeros(()))  # makes its factor
        theirs.step(optimizer)
        theirs.update()
        weight.grad = gradient.clone() * ours.factor
        assert ours.overflowed([weight], "float16") == (step in overflows)
        assert ours.factor == theirs.get_scale(), step
        if step not in overflows:
            assert_close(weight.grad, torch.full((3,), 2.0), rtol=0, atol=0)


def test_other_precisions_are_not_touched():
    scale, weight = LossScale(), torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.tensor([1.0, math.inf, math.nan])
    for precision in ("float32", "bfloat16"):
        assert not scale.overflowed([weight], precision) and scale.factor_in(precision) == 1.0
    assert scale == LossScale() and weight.grad[0] == 1.0
    assert scale.factor_in("float16") == 2.0**16


def test_float16_trains_float32_weights_almost_as_float32_does():
    batches, losses = random_batches(4), {}
    for precision in ("float32", "float16"):
        model = tiny_model()
        losses[precision] = train(model, batches, None, TrainConfig(30, precision=precision)).losses
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert_close(torch.tensor(losses["float16"]), torch.tensor(losses["float32"]), rtol=0, atol=0.02)
    assert losses["float16"] != losses["float32"] and losses["float16"][-1] < losses["float16"][0] - 0.3


def test_a_small_gradient_survives_because_the_loss_was_lifted():
    """A loss whose gradient is far below float16's smallest number in the part that is computed in sixteen bits."""
    x = torch.full((1, 64), 1e-3)
    lifted, plain = LossScale().factor, 1.0
    for factor, survives in ((plain, False), (lifted, True)):
        layer = torch.nn.Linear(64, 1, bias=False)
        with torch.autocast("cpu", torch.float16):
            loss = (layer(x).float() * 1e-7).sum()
        (loss * factor).backward()
        assert bool((layer.weight.grad / factor).norm() > 1e-10) == survives


def test_a_step_that_overflows_moves_nothing_is_counted_and_schedule_and_data_go_on():
    batches, rates = random_batches(6), []
    torch.manual_seed(0)
    model, before = Overflowing(TINY, steps=(3,)), []
    config = TrainConfig(6, precision="float16", warmup_steps=0)

    def look(progress):
        rates.append(progress.learning_rate)
        before.append(copy.deepcopy(weights(model)))

    history = train(model, batches, None, config, on_step=look)
    assert history.steps == [1, 2, 3, 4, 5, 6] and history.skipped == [3] and all(map(math.isfinite, history.losses))
    changed = [any((a[n] != b[n]).any() for n in a) for a, b in zip(before, before[1:])]
    assert changed == [True, False, True, True, True]
    plain = []
    train(tiny_model(), batches, None, dataclasses.replace(config, precision="float32"),
          on_step=lambda progress: plain.append(progress.learning_rate))  # fmt: skip
    assert rates == plain


def test_the_factor_falls_until_the_gradients_fit(monkeypatch):
    made = []
    monkeypatch.setattr("ch05_pretraining.run_state.LossScale", lambda: made.append(LossScale()) or made[-1])
    torch.manual_seed(0)
    model = Overflowing(TINY, above=2.0**12)

    def watch(progress):
        model.scale = made[0]

    model.scale = SimpleNamespace(factor=2.0**16)
    history = train(model, random_batches(8), None, TrainConfig(8, precision="float16"), on_step=watch)
    assert history.skipped == [1, 2, 3, 4] and made[0] == LossScale(2.0**12, 4)


def test_a_run_that_has_diverged_is_not_taken_for_an_overflow():
    torch.manual_seed(0)
    model = Overflowing(TINY, steps=range(1, 100))  # no factor helps
    before = copy.deepcopy(weights(model))
    with pytest.raises(ValueError, match="the gradient's norm (nan|inf) at step 16.*or use precision='float32'"):
        train(model, random_batches(4), None, TrainConfig(40, precision="float16"))
    assert all(torch.equal(weights(model)[name], tensor) for name, tensor in before.items())


def test_a_loss_that_is_not_finite_is_refused_at_once():
    model = tiny_model()
    with torch.no_grad():
        model.blocks[0].feed_forward.up_proj.weight.fill_(math.nan)
    with pytest.raises(ValueError, match="the loss is nan .* at step 0"):
        train(model, random_batches(2), None, TrainConfig(4, precision="float16"))


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_resumed_float16_run_ends_in_the_same_bits(tmp_path, stop):
    config = TrainConfig(8, precision="float16", optimizer="muon", eval_every=4)
    batches, models = random_batches(3), []
    for number in range(2):
        torch.manual_seed(0)
        models.append(Overflowing(TINY, steps=(2, 4)))
        folder = tmp_path / str(number)
        if number:
            with pytest.raises(TrainingInterrupted):
                train(models[1], batches, None, config, checkpoint_dir=folder, on_step=press_at(stop))
            calls = models[1].calls
            torch.manual_seed(1)
            models[1] = Overflowing(TINY, steps=(2, 4))
            models[1].calls = calls
        last = train(models[number], batches, None, config, checkpoint_dir=folder, resume=bool(number))
        assert last.skipped == [2, 4]
    one, two = map(weights, models)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_auto_may_choose_float16_and_a_resumed_run_keeps_it(tmp_path, monkeypatch):
    from ch05_pretraining import pretraining

    monkeypatch.setattr(pretraining, "faster_precision", lambda *_: "float16")
    config, batches = TrainConfig(6, precision="auto", eval_every=2), random_batches(2)
    with pytest.raises(TrainingInterrupted):
        train(tiny_model(), batches, None, config, checkpoint_dir=tmp_path, on_step=press_at(4))
    monkeypatch.setattr(pretraining, "faster_precision", lambda *_: pytest.fail("a second trial"))
    resumed, whole = tiny_model(), tiny_model()
    train(resumed, batches, None, config, checkpoint_dir=tmp_path, resume=True)
    train(whole, batches, None, dataclasses.replace(config, precision="float16"))
    assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(whole).items())
