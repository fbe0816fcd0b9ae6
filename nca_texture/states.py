"""Two states of all cells in one file: the rows of one are read while the other is written.

4096 bytes of JSON say what is in it and how far it has come; then come both states, row by row. The
whole size is claimed at the start. What a kill leaves behind is gone on with.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nca_texture.errors import InputError
from nca_texture.files import claim, unwritable

FORMAT = "nca-texture-states/1"
_HEADER = 4096  # bytes
_SYNC_EVERY = 5.0  # seconds between two times that progress is made safe


class States:
    """Cells [C, H, W] of one age, and those rows of a later age that are there already."""

    def __init__(self, path: Path, cells: tuple[int, int, int], job: Mapping[str, Any]) -> None:
        """Describe the file at ``path`` for ``cells`` (channels, height, width).

        ``job`` is all that the cells depend on, as JSON values: states of another job are replaced.
        """
        self.path, self.cells = path, cells
        self.job = json.loads(json.dumps(job))
        self.steps = 0  # of the older state; 0 means that it has not been written
        self.later = 0  # steps of the newer one
        self.row = 0  # of the newer one, what comes next
        self._newer = 0  # which half of the file holds it
        self._synced = time.monotonic()

    @property
    def bytes(self) -> int:
        """Count the bytes of the file."""
        return _HEADER + 2 * 4 * math.prod(self.cells)

    def __enter__(self) -> Self:
        try:
            self._open()
        except OSError as error:
            raise unwritable(self.path, error) from error
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if not self._file.closed:
                self._sync()
        finally:
            self._file.close()

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("r+b" if self.path.exists() else "x+b")
        try:
            said = json.loads(self._file.read(_HEADER))
            same = said["format"] == FORMAT and said["job"] == self.job
            found = [int(said[name]) for name in ("steps", "later", "row", "newer")]
        except (ValueError, KeyError, TypeError):
            same, found = False, []
        if same and self.path.stat().st_size == self.bytes:
            self.steps, self.later, self.row, self._newer = found
            return
        try:
            self._file.truncate(0)
            claim(self._file, self.bytes)
            self._sync()
        except BaseException:
            self._file.close()
            self.path.unlink(missing_ok=True)
            raise

    def begin(self, later: int) -> None:
        """Begin or go on with the state after ``later`` steps."""
        if later != self.later:
            self.later, self.row = later, 0

    def read(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return ``rows`` of the older state as [C, h, W]."""
        channels, _, width = self.cells
        found = np.empty((len(rows), channels, width), np.float32)
        ends = np.flatnonzero(np.diff(rows) != 1) + 1
        for part in np.split(np.arange(len(rows)), ends):
            self._seek(1 - self._newer, int(rows[part[0]]))
            wanted = found[part[0] : part[-1] + 1]
            if self._file.readinto(wanted.data) != wanted.nbytes:
                raise InputError(f"{self.path} is cut short; remove it and begin anew")
        return found.transpose(1, 0, 2)

    def write(self, rows: NDArray[np.float32]) -> None:
        """Write the next ``rows`` [C, h, W] of the newer state."""
        try:
            self._seek(self._newer, self.row)
            self._file.write(np.ascontiguousarray(rows.transpose(1, 0, 2)).data)
            self.row += rows.shape[1]
            if self.row == self.cells[1]:
                self.steps, self.row, self._newer = self.later, 0, 1 - self._newer
                self._sync()
            elif time.monotonic() - self._synced > _SYNC_EVERY:
                self._sync()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _seek(self, half: int, row: int) -> None:
        channels, height, width = self.cells
        self._file.seek(_HEADER + 4 * channels * width * (half * height + row))

    def _sync(self) -> None:
        """Make what is done safe, then say that it is done."""
        self._file.flush()
        os.fsync(self._file.fileno())
        said = {
            "format": FORMAT,
            "job": self.job,
            "steps": self.steps,
            "later": self.later,
            "row": self.row,
            "newer": self._newer,
        }
        text = json.dumps(said).encode()
        assert len(text) < _HEADER
        self._file.seek(0)
        self._file.write(text.ljust(_HEADER - 1) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()
