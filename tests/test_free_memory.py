"""Claims about free memory: a container's limit counts where it is below what the machine has."""

from types import SimpleNamespace

import pytest

from ch05_pretraining.free_memory import LIMITS, free_memory

MACHINE = 1_000_000


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=MACHINE))


def write(groups, version, most, used, again=0):
    limit = LIMITS[version]
    for name, content in ((limit.most, most), (limit.used, used)):
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{content}\n")
    stat = f"anon 17\ninactive_file 1\n{limit.again} {again}\n" if version else f"anon 17\n{limit.again} {again}\n"
    (groups / limit.used).with_name("memory.stat").write_text(stat)


@pytest.mark.parametrize("version", range(len(LIMITS)))
@pytest.mark.parametrize(
    ("most", "used", "again", "free"),
    [
        (500, 200, 0, 300),
        (500, 200, 150, 450),  # files that were read can be read again, so their memory is as good as free
        (500, 600, 0, 0),
        (2**63 - 4096, 200, 0, MACHINE),  # version 1 says "no limit" like this
        ("max", 200, 0, MACHINE),
        ("", 200, 0, MACHINE),
    ],
)
def test_the_smaller_of_machine_and_container_counts(tmp_path, version, most, used, again, free):
    write(tmp_path, version, most, used, again)
    assert free_memory(tmp_path) == free


def test_without_such_files_the_machine_counts_alone(tmp_path):
    assert free_memory(tmp_path) == free_memory(tmp_path / "nowhere") == MACHINE
