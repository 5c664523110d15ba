"""Symbolic links on the way to what is stored: one that leads nowhere is a disk that is not mounted.

Here: refusing such a path before anything is made in its place.
Not here: what is stored where (settings.py), the rights of files (home.py).
"""

from __future__ import annotations

from pathlib import Path

from copilot_quant_pipeline.errors import UserError


def expect_mounted(path: Path) -> Path:
    """The path itself, of something that is there or may be made.

    Raises:
        UserError: It, or a folder on the way to it, is a link to what is not there.
    """
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise UserError(
                f"{part} is a link to {part.readlink()}, which is not there: mount the disk that holds it, or remove"
                " the link to begin anew; nothing was written."
            )
    return path
