"""MP4 with H.264."""

from pathlib import Path

from nca_texture.motion.base import Clip
from nca_texture.motion.video import check_video as check
from nca_texture.motion.video import save

__all__ = ["check", "write"]


def write(path: Path, clip: Clip, force: bool = False) -> None:
    """Write an MP4 file that plays nearly everywhere."""
    options = {"crf": "16", "preset": "medium", "movflags": "+faststart+use_metadata_tags"}
    save(path, clip, force, "mp4", "libx264", options)
