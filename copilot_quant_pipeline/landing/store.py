"""Kept responses as small Parquet files, one per kind and key.

Here: file names, writing all or nothing, reading fast, moving aside what cannot be read.
Not here: when a kept response is good enough (kept.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from copilot_quant_pipeline.landing.kept import Kept

log = logging.getLogger(__name__)

_META = b"landing"
_LONGEST_NAME = 120


class Landing:
    """The folder of kept responses; processes and threads may use it at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, kind: str, key: str, kept: Kept) -> None:
        """Keep a response in place of the one before; readers see the old one or the new one, whole."""
        path = self._path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = kept.payload.replace_schema_metadata({_META: json.dumps(_described(kind, key, kept))})
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        os.close(handle)
        try:
            # No dictionaries: prices hardly repeat, and plain pages read faster.
            pq.write_table(table, name, use_dictionary=False, compression="zstd", write_statistics=False)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def read(self, kind: str, key: str) -> Kept | None:
        """The kept response; None where there is none, or it cannot be read (it is then moved aside)."""
        path = self._path(kind, key)
        try:
            return _read(path, kind, key)
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            aside = path.with_suffix(f".unreadable-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
            with suppress(FileNotFoundError):  # another process may have moved it first
                path.rename(aside)
            log.warning("%s is not a kept response (%s); moved to %s, will be asked again.", path, error, aside.name)
            return None

    def _path(self, kind: str, key: str) -> Path:
        return self._root / _file_name(kind) / f"{_file_name(key)}.parquet"


def _file_name(key: str) -> str:
    """A name that is safe on any file system; keys that differ only in case get different ones too."""
    safe = quote(key, safe="").replace(".", "%2E")
    if safe == safe.upper() and len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _described(kind: str, key: str, kept: Kept) -> dict[str, Any]:
    return {
        "kind": kind,
        "key": key,
        "start": kept.start.isoformat(),
        "end": kept.end.isoformat(),
        "fetched_at": kept.fetched_at.isoformat(),
        "facts": dict(kept.facts),
    }


def _read(path: Path, kind: str, key: str) -> Kept:
    # Opened here and read in one thread: a dataset scan costs more than this whole file.
    with path.open("rb") as file:
        table = pq.ParquetFile(file).read(use_threads=False)
    said = json.loads((table.schema.metadata or {})[_META])
    if (said["kind"], said["key"]) != (kind, key):
        raise ValueError(f"it is of {said['kind']} {said['key']}")
    return Kept(
        payload=table.replace_schema_metadata(None),
        start=date.fromisoformat(said["start"]),
        end=date.fromisoformat(said["end"]),
        fetched_at=datetime.fromisoformat(said["fetched_at"]),
        facts=said["facts"],
    )
