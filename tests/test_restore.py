"""Claims about `course.py restore`: a notebook comes back where git has it, or the reason is told; nothing is lost."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from shared.commands import restore

MINE = b'{"cells": ["mine"]}'
RELEASED = b'{"cells": []}\n'
NAME = "ch03_attention/attention.ipynb"


@pytest.fixture
def released(tmp_path):
    """A small course with one released notebook in its git history."""
    notebook = tmp_path / "ch03_attention" / "attention.ipynb"
    notebook.parent.mkdir()
    notebook.write_bytes(b'{"cells": []}\n')
    (tmp_path / "shared").mkdir()
    listed = {"ch03_attention/attention.ipynb": restore.content_hash(notebook.read_bytes())}
    (tmp_path / "shared" / "released.json").write_text(json.dumps(listed), encoding="utf-8")
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], [*person, "commit", "-q", "-m", "Release"]):
        if subprocess.run(["git", *words], cwd=tmp_path, capture_output=True, check=False).returncode:
            pytest.skip("git is not here")
    return notebook


def test_restore_brings_the_released_notebook_back_and_keeps_the_learners(released):
    root = released.parents[1]
    for number in (1, 2):
        released.write_bytes(b'{"cells": ["mine %d"]}' % number)
        assert restore.differing(root) == ["ch03_attention/attention.ipynb"]
        assert "Your copy: ch03_attention/attention.mine-" in restore.restore("attention", root)
        assert released.read_bytes() == b'{"cells": []}\n'
    kept = sorted(path.read_bytes() for path in released.parent.glob("*.mine-*"))
    assert kept == [b'{"cells": ["mine 1"]}', b'{"cells": ["mine 2"]}']


def test_restore_finds_the_release_behind_the_learners_own_commits(released):
    root = released.parents[1]
    released.write_bytes(b"{}")
    subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qam", "Mine"], cwd=root, check=True)
    restore.restore("ch03", root)
    assert restore.differing(root) == []


def test_restore_leaves_an_unchanged_notebook_alone_whatever_its_line_ends(released):
    released.write_bytes(b'{"cells": []}\r\n')
    assert "nothing to do" in restore.restore("attention", released.parents[1])


def test_restore_names_a_file_that_cannot_be_written(monkeypatch, capsys):
    def refuse(name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(restore, "restore", refuse)
    assert restore.main(["attention.ipynb"]) == 1
    assert "attention.ipynb: Permission denied: close what holds the file" in capsys.readouterr().err


# ---------------------------------------------------------------- where the history comes from


def git(folder: Path, *words: str) -> None:
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *person, *words], cwd=folder, check=True, capture_output=True)


def spoiled(root: Path) -> Path:
    """Let the learner write into the notebook."""
    (root / NAME).write_bytes(MINE)
    return root


def refused(root: Path) -> str:
    """Return what restore says when it cannot; the learner's notebook must be as it was, alone in its folder."""
    with pytest.raises(ValueError) as told:
        restore.restore("attention", root)
    assert [path.read_bytes() for path in (root / NAME).parent.iterdir()] == [MINE]
    assert "\n" not in str(told.value)
    return str(told.value)


def brought_back(root: Path) -> bool:
    told = restore.restore("attention", root)
    kept = root / told.split("Your copy: ")[1]
    return (root / NAME).read_bytes() == RELEASED and kept.read_bytes() == MINE


def test_a_copy_without_git_history_is_told_where_to_get_it(released):
    root = spoiled(released.parents[1])
    shutil.rmtree(root / ".git")
    told = refused(root)
    assert "this copy of the course came without git history" in told and "download the course again" in told


def test_without_git_it_says_so(released, monkeypatch):
    monkeypatch.setenv("PATH", "")
    told = refused(spoiled(released.parents[1]))
    assert told.startswith("git cannot be started") and "install it from git-scm.com, or download the course" in told


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_told_in_gits_words(released):
    root = spoiled(released.parents[1])
    for path in [root, *root.rglob("*")]:
        os.chown(path, 12345, 12345)
    told = refused(root)
    assert told.startswith("git refuses to read the history of this folder, it says: detected dubious ownership")
    assert "git config --global --add safe.directory" in told


def test_a_damaged_history_is_told_in_gits_words(released):
    root = spoiled(released.parents[1])
    (root / ".git" / "HEAD").write_text("nothing", encoding="utf-8")
    assert "git refuses to read the history of this folder, it says: not a git repository" in refused(root)


def test_a_history_without_the_release_says_that(released):
    root = spoiled(released.parents[1])
    listed = {NAME: restore.content_hash(b"another release")}
    (root / "shared" / "released.json").write_text(json.dumps(listed), encoding="utf-8")
    told = refused(root)
    assert told.startswith(f"the git history of this folder does not hold the released {NAME}: download")


def test_a_copy_inside_somebody_elses_repository_is_not_mistaken_for_the_course(released, tmp_path):
    outer = tmp_path / "outer"
    shutil.copytree(released.parents[1], outer / "course", ignore=shutil.ignore_patterns(".git", "outer"))
    git(outer, "init", "-q")
    assert "does not hold the released" in refused(spoiled(outer / "course"))
    git(outer, "add", ".")
    git(outer, "commit", "-qm", "With my course")
    assert "does not hold the released" in refused(outer / "course")


@pytest.fixture
def clones(released, tmp_path):
    """The course cloned in several ways; in each the learner has committed a notebook of their own."""
    root = released.parents[1]

    def clone(*options: str) -> Path:
        folder = tmp_path / "clones" / "one"
        git(root, "clone", "-q", *options, root.as_uri(), str(folder))
        return folder

    return clone


@pytest.mark.parametrize("options", [(), ("--depth=1",), ("--bare", "--no-hardlinks"), ("--filter=blob:none",)])
def test_every_kind_of_clone_gives_it_back(clones, options, tmp_path):
    folder = clones(*options)
    if "--bare" in options:
        git(folder, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
        folder = tmp_path / "tree"
    spoiled(folder)
    git(folder, "commit", "-qam", "Mine")
    assert brought_back(folder)


def test_a_shallow_clone_of_a_later_state_says_how_to_get_the_rest(released, clones):
    root = released.parents[1]
    spoiled(root)
    git(root, "commit", "-qam", "A later state")
    folder = clones("--depth=1")
    told = refused(folder)
    assert told.startswith("the part of the git history that is here does not hold") and "git fetch --unshallow" in told
    git(folder, "fetch", "-q", "--unshallow")
    assert brought_back(folder)


@pytest.mark.parametrize(
    "change",
    [
        [("rm", "-q", NAME), ("commit", "-qm", "Not needed")],
        [("mv", NAME, "mine.ipynb"), ("commit", "-qm", "Renamed")],
        [("checkout", "-q", "--detach")],
        [("checkout", "-q", "--orphan", "new"), ("rm", "-rqf", NAME), ("commit", "-qm", "A history of their own")],
        [("config", "log.showSignature", "true"), ("config", "log.follow", "true"), ("config", "color.ui", "always")],
    ],
)
def test_whatever_the_learner_did_with_git_it_comes_back(released, change):
    root = released.parents[1]
    for words in change:
        git(root, *words)
    if (root / NAME).exists():
        spoiled(root)
    restore.restore("attention", root)
    assert (root / NAME).read_bytes() == RELEASED


def test_settings_of_another_repository_are_not_followed(released, tmp_path, monkeypatch):
    """As in a hook of git, which sets them."""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert brought_back(spoiled(released.parents[1]))


# ---------------------------------------------------------------- nothing is lost


def test_a_missing_notebook_comes_back_without_a_copy(released):
    released.rename(released.with_name("renamed by me.ipynb"))
    assert restore.restore("attention", released.parents[1]) == f"{NAME} is as it was released."
    assert released.read_bytes() == RELEASED and released.with_name("renamed by me.ipynb").exists()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("target", ["mine elsewhere.ipynb", "nowhere.ipynb"])
def test_a_link_is_kept_and_what_it_leads_to_is_not_touched(released, tmp_path, target):
    elsewhere = tmp_path / target
    if target != "nowhere.ipynb":
        elsewhere.write_bytes(MINE)
    released.unlink()
    released.symlink_to(elsewhere)
    told = restore.restore("attention", released.parents[1])
    kept = released.parents[1] / told.split("Your copy: ")[1]
    assert released.read_bytes() == RELEASED and not released.is_symlink() and kept.is_symlink()
    assert not elsewhere.exists() or elsewhere.read_bytes() == MINE


@pytest.mark.parametrize(("step", "call"), [("write_durably", 1), ("replace", 1), ("replace", 2)])
def test_a_full_disk_at_any_moment_loses_nothing(released, monkeypatch, step, call):
    spoiled(released.parents[1])
    work, calls = getattr(restore, step), []

    def full(*given):
        calls.append(1)
        if len(calls) == call:
            raise OSError(28, "No space left on device", str(released))
        work(*given)

    monkeypatch.setattr(restore, step, full)
    with pytest.raises(OSError, match="No space left"):
        restore.restore("attention", released.parents[1])
    assert [path.read_bytes() for path in released.parent.iterdir()] == [MINE]


def test_ten_copies_of_one_day_have_ten_names(released, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "2030-01-01")
    for number in range(10):
        released.write_bytes(b"%d" % number)
        restore.restore("attention", released.parents[1])
    assert len(list(released.parent.glob("attention.mine-2030-01-01*.ipynb"))) == 10


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "{"])
def test_a_damaged_list_of_notebooks_is_named(released, content):
    path = released.parents[1] / "shared" / "released.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="list of the released notebooks, is missing or damaged: download the course"):
        restore.restore("attention", released.parents[1])


@pytest.mark.parametrize("name", ["", ".", "/", "no such", "../.."])
def test_a_name_that_means_nothing_is_answered_with_the_names(capsys, name):
    assert restore.main([name]) == 1
    told = capsys.readouterr().err
    assert told.startswith("course.py restore: no notebook is called") and told.count("\n") == 1
