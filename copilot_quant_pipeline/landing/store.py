"""Kept responses as small Parquet files, one per kind and key.

Here: file names, writing all or nothing, reading fast, moving aside what cannot be read or is not as it was written.
Not here: when a kept response is good enough (response.py).

A file carries a checksum of all its other bytes, between its last page and its footer, where no reader of Parquet
looks. Its metadata say that there is one: those of the versions before have none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from copilot_quant_pipeline.landing.response import Kept
from copilot_quant_pipeline.links import expect_mounted

log = logging.getLogger(__name__)

_META = b"landing"
_LONGEST_NAME = 120

_SUM, _SUM_BYTES = "blake2b", 32
_KEYS_BEFORE_SUMS = {"kind", "key", "start", "end", "fetched_at", "facts"}
# https://parquet.apache.org/docs/file-format/: the footer's length in four bytes, and PAR1.
_TAIL_BYTES = 8


class Landing:
    """The folder of kept responses; processes and threads may use it at once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def keep(self, kind: str, key: str, kept: Kept) -> None:
        """Keep a response in place of the one before; readers see the old one or the new one, whole."""
        path = self._path(kind, key)
        expect_mounted(path.parent).mkdir(parents=True, exist_ok=True)
        table = kept.payload.replace_schema_metadata({_META: json.dumps(_described(kind, key, kept))})
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_with_sum(table))
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
            became = _laid_aside(path)
            log.warning("%s is not a kept response (%s); %s, will be asked again.", path, error, became)
            return None

    def _path(self, kind: str, key: str) -> Path:
        return self._root / _file_name(kind) / f"{_file_name(key)}.parquet"


def _laid_aside(path: Path) -> str:
    aside = path.with_suffix(f".unreadable-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    try:
        path.rename(aside)
    except FileNotFoundError:  # another process has moved it first
        return "moved aside"
    except OSError as error:
        return f"cannot be moved aside ({error.strerror})"
    return f"moved to {aside.name}"


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
        "sum": _SUM,
        "facts": dict(kept.facts),
    }


def _with_sum(table: pa.Table) -> bytes:
    """The file of a table, with its checksum."""
    sink = pa.BufferOutputStream()
    # No dictionaries: prices hardly repeat, and plain pages read faster.
    pq.write_table(table, sink, use_dictionary=False, compression="zstd", write_statistics=False)
    content = sink.getvalue().to_pybytes()
    footer = _footer(content)
    return b"".join((content[:footer], _sum_of(content[:footer], content[footer:]), content[footer:]))


def _is_whole(content: bytes) -> bool:
    """Whether it has a checksum, and the right one."""
    footer = max(_footer(content), _SUM_BYTES)
    kept, there = content[: footer - _SUM_BYTES], content[footer - _SUM_BYTES : footer]
    return _sum_of(kept, content[footer:]) == there


def _footer(content: bytes) -> int:
    return len(content) - _TAIL_BYTES - int.from_bytes(content[-_TAIL_BYTES:-4], "little")


def _sum_of(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_SUM_BYTES)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _read(path: Path, kind: str, key: str) -> Kept:
    content = path.read_bytes()
    is_whole = _is_whole(content)
    # Read in one thread: a dataset scan costs more than this whole file.
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    said = json.loads((table.schema.metadata or {})[_META])
    if not is_whole and said.keys() != _KEYS_BEFORE_SUMS:
        raise ValueError("its bytes are not those that were written")
    if (said["kind"], said["key"]) != (kind, key):
        raise ValueError(f"it is of {said['kind']} {said['key']}")
    return Kept(
        payload=table.replace_schema_metadata(None),
        start=date.fromisoformat(said["start"]),
        end=date.fromisoformat(said["end"]),
        fetched_at=datetime.fromisoformat(said["fetched_at"]),
        facts=said["facts"],
    )
