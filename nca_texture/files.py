"""Files that are either as they were or complete, whatever happens in between."""

import errno
import math
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from nca_texture.errors import InputError

PART = re.compile(r"\.[0-9a-f]{16}\.part")  # names of files aside

# What a write can fail with that the user can mend, and what to do about it.
REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EFBIG: "the file is too large for this place; choose another",
    errno.EIO: "the disk reports an error; choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "permission is denied; choose a folder you may write to",
    errno.EPERM: "permission is denied; choose a folder you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def check_writable(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raise ``InputError`` when something is at ``path``; a file is no obstacle to ``force``.

    Long work calls this before it begins.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unwritable(path, error) from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; give the name of a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is a device or a pipe, not a file; give the name of a file")
    if not force:
        raise InputError(f"{path} exists; pass --force to overwrite it")


def check_folder(folder: Path) -> None:
    """Raise ``InputError`` when ``folder`` cannot be made or written in; nothing is left behind."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error


@contextmanager
def atomic_write(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[BinaryIO]:
    """Write a file aside and move it to ``path`` when the block ends without an exception.

    Yields a binary file open for reading and writing. Folders on the way are made. The bytes go to
    a hidden file with a name of its own in the same folder, are flushed to the disk (fsync of the
    file, then of the folder) and renamed, so that ``path`` is always its old self or complete. An
    exception removes the file aside and leaves ``path`` alone. A link is followed; the permissions
    of a file that is replaced are kept.

    Raises ``InputError`` when ``path`` exists (unless ``force``), is not a regular file, or
    cannot be written: no permission, no space, no folder.
    """
    check_writable(path, force=force)
    target = Path(os.path.realpath(path))
    aside = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = aside.open("x+b")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with file:
            try_lock(file)  # so that remove_stale_parts sees that somebody is at work
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_writable(path, force=force)  # somebody else may have been faster
        if target.exists():
            aside.chmod(stat.S_IMODE(target.stat().st_mode))
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        # Failures of other files, read inside the block, carry their name and are not explained.
        if error.filename not in (None, str(aside)):
            raise
        raise unwritable(path, error) from error
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def remove_stale_parts(folder: Path) -> None:
    """Remove what writers that were killed have left aside in ``folder``; spare those at work."""
    for part in folder.glob(".*.part"):
        with suppress(OSError):
            if PART.fullmatch(part.name):
                with part.open("r+b") as file:
                    stale = try_lock(file)
                if stale:
                    part.unlink()


def try_lock(file: IO[Any]) -> bool:
    """Lock ``file`` until it is closed or the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def unwritable(path: str | os.PathLike[str], error: OSError) -> InputError:
    """Say why ``path`` cannot be written and what to do."""
    reason = REMEDIES.get(error.errno or 0, f"{error.strerror or error}; choose another place")
    return InputError(f"cannot write {os.fspath(path)}: {reason}")


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` outlast a power cut, where the system can (Windows cannot)."""
    with suppress(OSError):  # the file is in place and whole either way
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def amount(count: int) -> str:
    """Say how many bytes ``count`` is: 12 MB, 3.4 GB."""
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{math.ceil(count / 2**20)} MB"


def claim(file: BinaryIO, count: int) -> None:
    """Claim ``count`` bytes of disk, or where the system cannot, set the file's length."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, count)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    file.truncate(count)
