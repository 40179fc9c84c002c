"""A new release comes in, from a folder or a ZIP file, and nothing that a learner made is lost."""

import json
import zipfile
from pathlib import Path

import pytest

from shared.commands import update
from shared.commands.restore import content_hash, restore

NAMES = ("ch03_attention/attention.ipynb", "ch03_attention/exercises.ipynb")


def course(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> Path:
    """Make a small course whose files hold a text."""
    files = {**dict.fromkeys(names, text), "course.py": f"# {text}", "ch03_attention/attention.py": f"# {text}"}
    files |= {f"shared/released/{name}": text for name in names}
    files["shared/released.json"] = json.dumps({name: content_hash(text.encode()) for name in names})
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def zipped(folder: Path, inside: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, inside + file.relative_to(folder).as_posix())
    return path


@pytest.fixture
def mine(tmp_path):
    """A learner's copy of the old release, with an edited notebook, a run and an environment."""
    root = course(tmp_path / "mine", "old")
    (root / NAMES[1]).write_text("my answers", encoding="utf-8")
    for name in ("runs/default/report.md", ".venv/bin/python", "my notes.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine", encoding="utf-8")
    return root


def everything(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("how", ["folder", "ZIP", "ZIP from the web"])
def test_what_is_new_comes_and_what_is_mine_stays(mine, tmp_path, how):
    new = course(tmp_path / "new", "new", (*NAMES, "ch04_gpt_model/more.ipynb"))
    (new / "runs").mkdir()
    (new / "runs" / "default.txt").write_text("not yours", encoding="utf-8")
    source = new if how == "folder" else zipped(new, "course-1.2/" * how.endswith("web"))
    with update.opened(source) as folder:
        told = update.update(folder, mine)
    after = everything(mine)
    assert after[NAMES[0]] == after[NAMES[1]] == after["ch04_gpt_model/more.ipynb"] == "new"
    (kept,) = [text for name, text in after.items() if ".mine-" in name]
    assert kept == "my answers" and "exercises.mine-" in told[1] and "attention.mine-" not in str(after)
    assert after["runs/default/report.md"] == after[".venv/bin/python"] == after["my notes.txt"] == "mine"
    (replaced,) = [text for name, text in after.items() if "before-update" in name and name.endswith("attention.py")]
    assert replaced == "# old" and "runs/default.txt" not in after


def test_a_second_time_nothing_is_left_to_do(mine, tmp_path):
    new = course(tmp_path / "new", "new")
    update.update(new, mine)
    before = everything(mine)
    assert update.update(new, mine) == ["0 of 7 files are new or changed, and are here now."]
    assert everything(mine) == before


def test_an_interrupted_update_is_finished_by_the_next(mine, tmp_path, monkeypatch):
    new, written = course(tmp_path / "new", "new"), []
    write = update.write_atomically

    def stops(path, content):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    monkeypatch.setattr(update, "write_atomically", stops)
    with pytest.raises(KeyboardInterrupt):
        update.update(new, mine)
    monkeypatch.setattr(update, "write_atomically", write)
    update.update(new, mine)
    after = everything(mine)
    assert [text for name, text in after.items() if ".mine-" in name] == ["my answers"]
    assert {after[name] for name in NAMES} == {"new"} and after["course.py"] == "# new"


def test_restore_needs_no_git_in_a_hand_out(mine):
    assert "Your copy: ch03_attention/exercises.mine-" in restore("ch03_attention/exercises", mine)
    assert (mine / NAMES[1]).read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize(("name", "told"), [("no", "is no folder and no ZIP file"), ("empty", "holds no course.py")])
def test_what_is_no_release_is_named_and_changes_nothing(mine, tmp_path, name, told):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=told), update.opened(tmp_path / name):
        pass


def test_a_copy_is_no_release_of_itself(mine):
    with pytest.raises(ValueError, match="is this copy of the course itself"):
        update.update(mine, mine)


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt"])
def test_a_zip_file_writes_nothing_outside(tmp_path, name):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ValueError, match="which leads out of it"), update.opened(path):
        pass
