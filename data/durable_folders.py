"""Folders that survive: written all at once or not at all, and read only when every byte is the one that was written.

A folder gets a manifest of sha256 hashes. It is written beside its final place, flushed to the disk and renamed in one
move, so a power cut leaves either the old files or the new ones, never half of each.

Left out: sharded files and asynchronous saving, which models too large for one disk write need.
Reference: Pillai et al. (2014), "All file systems are not created equal". Taught in ch05, section 5.12.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from data.files import replace, write_durably

FORMAT = 1
LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # by programs that only show a folder


class CheckpointError(ValueError):
    """A checkpoint or model folder cannot be written or trusted; the message names the remedy."""


def write_folder(target: str | Path, files: dict[str, bytes]) -> Path:
    """Write a folder of files so that it exists completely or not at all.

    Args:
        target: the folder to make; one that this function made earlier is replaced.
        files: file name -> content. A `manifest.json` with their sha256 is added last.

    Raises:
        CheckpointError: the disk is full, the place cannot be written, or something else lies there; what stood there
            before still stands.

    Source: Pillai et al. (2014), section 2. Taught in ch05, section 5.12.
    """
    target = Path(target)
    _refuse_what_is_not_ours(target, files)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, content in files.items():
            write_durably(temporary / name, content)
        write_durably(temporary / "manifest.json", _manifest(files))
        _flush_folder(temporary)
        _replace_folder(temporary, target)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(_why_not_written(target, files, error)) from error
    return target


def read_folder(folder: str | Path, *, without: str = "") -> dict[str, bytes]:
    """Read every file that a folder's manifest lists, refusing the folder if one byte differs.

    Args:
        folder: a folder that `write_folder` made.
        without: a file that is neither read nor looked at, because it is large and not needed.

    Raises:
        CheckpointError: a file is missing, shortened, changed or of a newer format.

    Source: this course. Taught in ch05, section 5.12.
    """
    folder = settled(Path(folder))
    files = {}
    for name, expected in _read_manifest(folder)["files"].items():
        if name == without:
            continue
        content = _read(folder / name)
        if len(content) != expected["bytes"] or hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise CheckpointError(
                f"{folder / name} is damaged: its {len(content):,} bytes are not those that the manifest lists "
                f"({expected['bytes']:,} bytes); delete this folder and use an older checkpoint, or make it again"
            )
        files[name] = content
    return files


def settled(folder: Path) -> Path:
    """Give the folder itself or, when a kill fell between the two renames, the one that stood there before.

    Args:
        folder: a folder that `write_folder` made; it need not exist.

    Source: Pillai et al. (2014), section 2.
    """
    path = Path(os.path.abspath(folder))
    old = path.parent / f".{path.name}.old"
    return old if os.path.isdir(old) and not os.path.exists(folder) else folder


def json_bytes(value: object) -> bytes:
    """Write a value as the JSON of all files that the course keeps: UTF-8, one entry a line, in the order given.

    Args:
        value: text, numbers, lists, and dictionaries with text as keys.

    Raises:
        CheckpointError: JSON cannot hold the value.

    Source: RFC 8259, "The JavaScript Object Notation (JSON) Data Interchange Format".
    """
    try:
        return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"JSON cannot hold what is to be kept beside the numbers ({error}): give text, numbers, lists and "
            "dictionaries with text as keys"
        ) from error


def few(names: list[str], shown: int = 3) -> str:
    """Name the first of many things, and say how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _refuse_what_is_not_ours(target: Path, files: dict[str, bytes]) -> None:
    """A folder is replaced as a whole, so nothing may lie in it that somebody else has put there."""
    if not target.name:
        raise CheckpointError(f"the folder {str(target)!r} has no name of its own: give the name of a folder to make")
    try:
        ours = set(_read_manifest(target)["files"])
    except CheckpointError:  # none there, or a damaged one that is to be made again
        ours = set()
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    if others := sorted(there - ours - files.keys() - {"manifest.json"} - LEFT_BY_SYSTEMS):
        raise CheckpointError(
            f"{target} would be replaced, but it holds what this course did not write ({few(others)}): choose another "
            "folder, or move these files"
        )


def _manifest(files: dict[str, bytes]) -> bytes:
    listed = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()}
    return json_bytes({"files": listed, "format": FORMAT})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); the folder is incomplete: "
            "delete it and use an older checkpoint, or make it again"
        ) from error


def _read_manifest(folder: Path) -> dict:
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; check the name, or train or save a model there first")
    if not (folder / "manifest.json").is_file():
        raise CheckpointError(
            f"{folder} has no manifest.json, so this course did not write it, or not to its end: choose another "
            "folder, or make it again"
        )
    content = _read(folder / "manifest.json")
    try:
        manifest = json.loads(content.decode("utf-8"))
        if manifest["format"] > FORMAT:
            raise CheckpointError(
                f"{folder} has format {manifest['format']}, and this code reads formats up to {FORMAT}: "
                "update the course, or make the folder again"
            )
        if not manifest["files"] or content != json_bytes(manifest):
            raise ValueError("not as it was written")
        for name, entry in manifest["files"].items():
            if Path(name).name != name or set(entry) != {"bytes", "sha256"}:
                raise ValueError("a name or an entry is wrong")
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder / 'manifest.json'} is damaged ({error}); delete this folder and use an older checkpoint, "
            "or make it again"
        ) from error
    return manifest


def _flush_folder(folder: Path) -> None:
    """Flush the folder's own entry, which Windows neither allows nor needs."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _replace_folder(temporary: Path, target: Path) -> None:
    """Move a finished folder into place; what stood there waits beside it until the move is done."""
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        replace(target, old)
    replace(temporary, target)
    _flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _why_not_written(target: Path, files: dict[str, bytes], error: OSError) -> str:
    """Say in a sentence why a folder could not be written, and what to do."""
    size = sum(map(len, files.values())) / 1e6
    return (
        f"could not write {target} ({error.strerror or error}); it needs {size:.1f} MB in a folder you may write to: "
        "free some space or choose another folder (what was saved earlier is untouched)"
    )
