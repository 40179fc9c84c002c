"""One process at a time in a folder: a lock that the system lets go of when its process ends, in whatever way."""

import errno
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # what some file systems of clusters say of any lock
_held: set[tuple[Path, int]] = set()  # (folder, thread) pairs that hold their lock now


@contextmanager
def alone_in(folder: str | Path) -> Iterator[None]:
    """Hold a folder's lock, a file `.lock` in it; whoever holds it may ask for it again.

    On a file system without locks nobody is kept out.

    Args:
        folder: made when it is absent.

    Raises:
        ValueError: another process, or another thread of this one, holds the lock.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    me = folder.resolve(), threading.get_ident()
    if me in _held:
        yield
        return
    with open(folder / ".lock", "a+b") as lock:
        try:
            _lock(lock)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise ValueError(f"another process is at work in {folder}: wait for it or stop it") from error
        _held.add(me)
        try:
            yield
        finally:
            _held.discard(me)


def _lock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
