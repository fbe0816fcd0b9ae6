"""WebM with VP9."""

from pathlib import Path

from nca_texture.motion.base import Clip
from nca_texture.motion.video import check_video as check
from nca_texture.motion.video import save

__all__ = ["check", "write"]


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write a WebM file."""
    options = {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "4"}
    save(path, clip, force, "webm", "libvpx-vp9", options)
