"""Claims about free memory: a container's limit counts where it is below what the machine has."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from ch05_pretraining.free_memory import LIMITS, free_memory

MACHINE = 1_000_000


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=MACHINE))


def write(groups, version, most, used, again=0, inside="", mounted=0):
    limit = LIMITS[version]
    group = groups / limit.folders[mounted] / inside
    group.mkdir(parents=True, exist_ok=True)
    for name, content in ((limit.most, most), (limit.used, used)):
        (group / name).write_text(f"{content}\n", encoding="ascii")
    stat = f"anon 17\ninactive_file 1\n{limit.again} {again}\n" if version else f"anon 17\n{limit.again} {again}\n"
    (group / "memory.stat").write_text(stat, encoding="ascii")


NOWHERE = Path("/nowhere")


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
    assert free_memory(tmp_path, NOWHERE) == free


def test_without_such_files_the_machine_counts_alone(tmp_path):
    assert free_memory(tmp_path, NOWHERE) == free_memory(tmp_path / "nowhere") == MACHINE


# what /proc/self/cgroup says: "number:what the group counts:path", without the first two in version 2
OWN = {
    "version 2": (0, 0, "0::/user.slice/room-7/lesson\n"),
    "version 2 beside version 1": (0, 1, "4:cpu,cpuacct:/elsewhere\n0::/user.slice/room-7/lesson\n"),
    "version 1": (1, 0, "9:name=systemd:/\n4:cpu,memory:/user.slice/room-7/lesson\n3:cpuset:/elsewhere\n0::/\n"),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("limited", ["", "user.slice", "user.slice/room-7", "user.slice/room-7/lesson"])
def test_a_limit_of_the_own_group_or_of_any_around_it_counts(tmp_path, kind, limited):
    version, mounted, told = OWN[kind]
    (tmp_path / "own").write_text(told, encoding="utf-8")
    for inside in ("", "user.slice", "user.slice/room-7", "user.slice/room-7/lesson"):
        write(tmp_path / "groups", version, 500 if inside == limited else "max", 200, 50, inside, mounted)
    for neighbor in ("user.slice/room-8", "user.slice/room-7/lesson/inner", "elsewhere"):
        write(tmp_path / "groups", version, 100, 99, 0, neighbor, mounted)
    assert free_memory(tmp_path / "groups", tmp_path / "own") == 350


@pytest.mark.parametrize("told", ["0::/docker/not-shown-here\n", "0::/../beside\n", "", "no such line\n", "0::\n"])
def test_a_group_that_is_not_shown_or_not_named_leaves_the_outermost_one(tmp_path, told):
    (tmp_path / "own").write_text(told, encoding="utf-8")
    write(tmp_path / "groups", 0, 500, 200)
    write(tmp_path, 0, 10, 9, inside="beside")
    assert free_memory(tmp_path / "groups", tmp_path / "own") == 300
