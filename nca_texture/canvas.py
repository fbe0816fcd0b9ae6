"""A picture on the disk while it is made, so that it needs no memory and outlives a stop.

Beside ``zebra.png`` lies ``zebra.png.part``: 4096 bytes of JSON that say what it is to become and
how far it has come, then the pixels, row by row, as they will be in the final file. Its whole size
is claimed at the start, so that a disk that is too small says so before anything is computed.
"""

import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from nca_texture.errors import InputError
from nca_texture.files import amount, atomic_write, check_folder, claim, try_lock, unwritable

FORMAT = "nca-texture-canvas/1"
_HEADER = 4096  # bytes
_SYNC_EVERY = 2.0  # seconds between two times that progress is made safe


class Canvas:
    """Rows of pixels that are put in from top to bottom, in one block of columns after another.

    Used as a context manager, which locks it. What is in it stays when the block ends, until
    ``remove``.
    """

    def __init__(
        self,
        target: Path,
        size: tuple[int, int],
        channels: int,
        dtype: str,
        job: Mapping[str, Any],
        *,
        columns: int,
        force: bool = False,
    ) -> None:
        """Describe the canvas of a file ``target`` of ``size`` (height, width).

        ``job`` is all that the pixels depend on, as JSON values: an unfinished canvas of the same
        job is gone on with, that of another is an error, or replaced with ``force``. ``columns``
        are the pixels of a block of columns; an unfinished canvas keeps its own.
        """
        self.target = target
        self.path = part_of(target)
        self.size, self.channels, self.dtype = size, channels, np.dtype(dtype)
        self.job = {
            **json.loads(json.dumps(job)),
            "size": list(size),
            "channels": channels,
            "dtype": self.dtype.name,
        }
        self.columns = columns
        self.force = force
        self.block, self.row = 0, 0  # what comes next
        self.kept = False  # whether cells were saved
        self._began = time.monotonic()
        self._synced = self._began

    @property
    def bytes(self) -> int:
        """Count the bytes of the pixels."""
        return math.prod(self.size) * self.channels * self.dtype.itemsize

    @property
    def share(self) -> float:
        """Return which share is done, 0 to 1."""
        height, width = self.size
        done = self.block * self.columns * height
        done += self.row * min(self.columns, width - self.block * self.columns)
        return min(1.0, done / (height * width))

    def __enter__(self) -> Self:
        try:
            self._file = self._found() or self._made()
        except OSError as error:
            raise unwritable(self.target, error) from error
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if not self._file.closed:
                self._sync()
        except OSError as error:
            raise unwritable(self.target, error) from error
        finally:
            self._file.close()

    def _found(self) -> BinaryIO | None:
        """Open the unfinished canvas of the same job, if there is one."""
        try:
            file = self.path.open("r+b")
        except FileNotFoundError:
            return None
        if not try_lock(file):
            file.close()
            raise InputError(f"{self.target} is being made by another process; wait for its end")
        try:
            header = json.loads(file.read(_HEADER))
            same = header["format"] == FORMAT and header["job"] == self.job
            block, row, columns = header["block"], header["row"], header["columns"]
        except (ValueError, KeyError, TypeError):
            same, block, row, columns = False, 0, 0, 0
        if same:
            self.block, self.row, self.columns = block, row, columns
            return file
        file.close()
        if not self.force:
            raise InputError(
                f"{self.path} is an unfinished picture of another kind; go on with the settings it "
                "was begun with, remove it, or pass --force to begin anew"
            )
        self.path.unlink()
        return None

    def _made(self) -> BinaryIO:
        """Make an empty canvas that appears under its name with all the space it needs."""
        check_disk(self.target, self.bytes + _HEADER)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_name(f".{secrets.token_hex(8)}.part")
        file = aside.open("x+b")
        try:
            try_lock(file)
            claim(file, self.bytes + _HEADER)
            self._file = file
            self._write_header()
            aside.replace(self.path)
        except BaseException:
            file.close()
            aside.unlink(missing_ok=True)
            raise
        return file

    def put(self, top: int, left: int, pixels: NDArray[Any]) -> None:
        """Write ``pixels`` [h, w, C] of the canvas's type at (top, left): what comes next."""
        assert (left, top) == (self.block * self.columns, self.row)
        height, width = self.size
        rows, columns = pixels.shape[:2]
        assert pixels.dtype == self.dtype
        pixel = self.channels * self.dtype.itemsize
        try:
            if columns == width:
                self._write(top * width * pixel, pixels)
            else:
                for row in range(rows):
                    self._write(((top + row) * width + left) * pixel, pixels[row])
            self.row += rows
            if self.row == height:
                self.block, self.row = self.block + 1, 0
            if time.monotonic() - self._synced > _SYNC_EVERY:
                self._sync()
        except OSError as error:
            raise unwritable(self.target, error) from error

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return the rows [first, last) as an array [h, W, C]."""
        width = self.size[1]
        row = width * self.channels * self.dtype.itemsize
        self._file.seek(_HEADER + first * row)
        data = self._file.read((last - first) * row)
        return np.frombuffer(data, self.dtype).reshape(last - first, width, self.channels)

    def is_worth_keeping(self, seconds: float = 10.0) -> bool:
        """Say whether more than so many ``seconds`` of work are in it."""
        return (self.share > 0 or self.kept) and time.monotonic() - self._began > seconds

    def keep(self, kept: bool = True) -> None:
        """Say that cells were saved, from which a later call can go on."""
        self.kept = self.kept or kept

    def remove(self) -> None:
        """Remove the canvas; the picture is complete, or nobody wants it."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self.state_path.unlink(missing_ok=True)

    @property
    def state_path(self) -> Path:
        """Name the file of the cells that the pixels will be made from."""
        return state_of(self.target)

    def save_state(self, steps: int, cells: NDArray[np.float32]) -> None:
        """Write ``cells`` of any shape, so many ``steps`` old, in place of those before."""
        about = {"job": self.job, "steps": steps, "shape": list(cells.shape)}
        with atomic_write(self.state_path, force=True) as file:
            file.write(json.dumps(about).encode().ljust(_HEADER - 1) + b"\n")
            file.write(np.ascontiguousarray(cells).data)

    def load_state(self) -> tuple[int, NDArray[np.float32]] | None:
        """Read the cells and their steps; None when there are none of this job."""
        try:
            with self.state_path.open("rb") as file:
                about = json.loads(file.read(_HEADER))
                if about["job"] != self.job:
                    return None
                cells = np.fromfile(file, np.float32, math.prod(about["shape"]))
            return int(about["steps"]), cells.reshape(about["shape"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, at: int, pixels: NDArray[Any]) -> None:
        self._file.seek(_HEADER + at)
        self._file.write(np.ascontiguousarray(pixels).data)

    def _sync(self) -> None:
        """Make what is done safe, then say that it is done."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._write_header()
        self._synced = time.monotonic()

    def _write_header(self) -> None:
        header = {
            "format": FORMAT,
            "job": self.job,
            "columns": self.columns,
            "block": self.block,
            "row": self.row,
        }
        text = json.dumps(header).encode()
        assert len(text) < _HEADER
        self._file.seek(0)
        self._file.write(text.ljust(_HEADER - 1) + b"\n")
        self._file.flush()


def part_of(target: Path) -> Path:
    """Name the canvas of the file ``target``."""
    return target.with_name(f"{target.name}.part")


def state_of(target: Path) -> Path:
    """Name the file of the cells of an unfinished ``target``."""
    return target.with_name(f"{target.name}.part.state")


def columns_of(target: Path) -> int | None:
    """Return the pixels of a block of columns of an unfinished canvas; None when there is none."""
    try:
        with part_of(target).open("rb") as file:
            columns = json.loads(file.read(_HEADER))["columns"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return columns if isinstance(columns, int) and columns > 0 else None


def free_disk(target: Path) -> int:
    """Count the free bytes where ``target`` will be."""
    there = next(place for place in target.absolute().parents if place.exists())
    return shutil.disk_usage(there).free


def check_disk(target: Path, needed: int) -> None:
    """Raise ``InputError`` when the disk of ``target`` has less than ``needed`` bytes to give."""
    check_folder(target.parent)
    free = free_disk(target)
    if needed > free:
        raise InputError(
            f"{target} needs about {amount(needed)} of disk while it is made and {amount(free)} "
            "are free; free some space or give a smaller --size"
        )
