"""Claims about what a venue may send, however odd: a declared error at most, and one broken record costs itself only.

`COPILOT_QUANT_MUTATIONS` says how many odd answers a reader is given, for longer runs by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline_tests.conftest import NOW
from copilot_quant_pipeline_tests.odd_values import Odd, odd_bodies, odd_pages
from copilot_quant_pipeline_tests.readers import (
    Reader,
    Replay,
    expect_storable,
    good_body,
    outcome,
    readers,
    replaying,
)

MUTATIONS = int(os.environ.get("COPILOT_QUANT_MUTATIONS", "25"))
# How many readers there are, and how many of them read lists.
READERS = 39


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Sandbox(now=NOW) as sandbox:
        yield Replay(sandbox.url, NOW)


@pytest.fixture(scope="module")
def every(replay: Replay) -> list[Reader]:
    found = readers(replay)
    assert len(found) == READERS
    return found


@pytest.mark.parametrize("place", range(READERS))
def test_whatever_a_venue_sends_a_reader_gives_what_can_be_stored_or_a_declared_error(
    every: list[Reader], replay: Replay, place: int
) -> None:
    reader = every[place]
    with replaying(replay):
        good, body = good_body(reader, replay)
        assert body
        before = reader.kept(good)
        assert bool(before) == (reader.records is not None)
        for odd in _odd(reader, body):
            try:
                found = outcome(reader, replay, odd.body)
                expect_storable(found, NOW)
            except Exception as error:
                raise AssertionError(f"{reader.name}, {odd.what}") from error
            if reader.records is not None:
                lost = before - _of_record(reader, body, odd) - reader.kept(found)
                assert not lost, f"{reader.name}, {odd.what}"


def _odd(reader: Reader, body: bytes) -> Iterator[Odd]:
    if body[:1] in b"[{":
        return odd_bodies(body, MUTATIONS, reader.name, reader.records)
    return odd_pages(body, MUTATIONS, reader.name)


def _of_record(reader: Reader, body: bytes, odd: Odd) -> set[str]:
    tree = json.loads(body)
    for step in (*(reader.records or ()), odd.record):
        tree = tree[step]
    return reader.id_of(tree, odd.record)
