"""Two processes started by torchrun end where one does, also when their shares hold unequal numbers of labels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from ch02_text_data.batches import IGNORE_INDEX
from ch05_pretraining.checkpoints import unique_tensors
from ch05_pretraining.pretraining import TrainConfig, train
from tests.sizes import n
from tests.small_models import tiny_model

ROOT = Path(__file__).resolve().parent.parent
CASES = [
    {"optimizer": optimizer, "accumulation_steps": steps, "seed": seed}
    for seed in range(n(1, 5))
    for optimizer, steps in (("adamw", 1), ("muon", 2))
]
WORKER = """
import sys
import torch.distributed as dist
from ch05_pretraining.machine import leave_together
from tests.test_distributed import run_cases
dist.init_process_group("gloo")
run_cases(sys.argv[1], dist.get_rank(), dist.get_world_size())
leave_together()
"""


def batches(seed, rank=0, world_size=1):
    """Batches of four rows with very different numbers of labels; each process gets its share of the rows."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(6):
        row = torch.randint(64, (4, 17), generator=generator)
        targets = row[:, 1:].clone()
        for i, hidden in enumerate(torch.randint(0, 16, (4,), generator=generator).tolist()):
            targets[i, :hidden] = IGNORE_INDEX
        targets[1::2, :14] = IGNORE_INDEX  # the second process has far fewer
        yield row[rank::world_size, :-1], targets[rank::world_size]


def run_cases(folder, rank=0, world_size=1):
    """Train each case and write, once, the weights and the losses."""
    for number, case in enumerate(CASES):
        model = tiny_model().double()
        data = list(batches(case["seed"], rank, world_size))
        config = TrainConfig(3, learning_rate=1e-2, warmup_steps=0, eval_every=2, **case)
        history = train(model, data, data[:2], config, checkpoint_dir=Path(folder) / f"run{number}")
        if rank == 0:
            save_file(unique_tensors(model), Path(folder) / f"{number}.safetensors")
            losses = {"losses": history.losses, "val_losses": history.val_losses}
            (Path(folder) / f"{number}.json").write_text(json.dumps(losses), encoding="utf-8")


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch has no gloo")
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    worker = two / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", worker, two]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    run_cases(one)
    return one, two


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_end_with_the_weights_of_one(both, number):
    one, two = (load_file(folder / f"{number}.safetensors") for folder in both)
    assert one.keys() == two.keys()
    for name in one:
        assert_close(one[name], two[name], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_two_processes_report_the_losses_of_one(both, number):
    one, two = (json.loads((folder / f"{number}.json").read_text(encoding="utf-8")) for folder in both)
    assert len(one["losses"]) == 3 and len(one["val_losses"]) == 2
    for name in one:
        assert_close(torch.tensor(one[name]), torch.tensor(two[name]), rtol=1e-6, atol=1e-6)


def test_only_one_process_writes_checkpoints(both):
    for number in range(len(CASES)):
        names = [sorted(p.name for p in (folder / f"run{number}").iterdir()) for folder in both]
        assert names[0] == names[1] == ["step-00000002", "step-00000003"]
