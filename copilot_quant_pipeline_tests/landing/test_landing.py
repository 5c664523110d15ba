"""Kept responses: what is read back, what is moved aside, what is good enough."""

from __future__ import annotations

import json
import logging
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.landing import Kept, Landing, is_usable

CLOSE = datetime(2024, 3, 28, 20, 0, tzinfo=UTC)
DAY = date(2024, 3, 28)
SIX_HOURS = timedelta(hours=6)


def response(close: float = 1.0, fetched_at: datetime = CLOSE) -> Kept:
    table = pa.table({"date": pa.array([DAY], pa.date32()), "close": [close]})
    return Kept(table, date(2024, 1, 2), DAY, fetched_at, {"first_trade_date": None, "page": 3})


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "landing")


def test_what_was_kept_is_read_back(landing: Landing) -> None:
    landing.keep("HISTORY", "BRK.B", response())
    assert landing.read("HISTORY", "BRK.B") == response()


def test_what_was_never_kept_is_absent(landing: Landing) -> None:
    landing.keep("HISTORY", "AAPL", response())
    assert landing.read("HISTORY", "MSFT") is None
    assert landing.read("TAIL", "AAPL") is None


def test_the_newest_response_replaces_the_one_before(landing: Landing) -> None:
    landing.keep("HISTORY", "AAPL", response(1.0))
    landing.keep("HISTORY", "AAPL", response(2.0))
    assert landing.read("HISTORY", "AAPL") == response(2.0)


AWKWARD = [
    "aapl",
    "AAPL",
    "..",
    "a/b",
    "a\\b",
    "kalshi:KXFED-24NOV-T4.75",
    "polymarket:wîll-it",
    "x" * 400,
    "x" * 401,
]


def test_awkward_keys_neither_leave_the_folder_nor_meet(landing: Landing, tmp_path: Path) -> None:
    for number, key in enumerate(AWKWARD):
        landing.keep("HISTORY", key, response(float(number)))
    assert [landing.read("HISTORY", key) for key in AWKWARD] == [response(float(n)) for n in range(len(AWKWARD))]
    files = list((tmp_path / "landing" / "HISTORY").iterdir())
    assert len({file.name.lower() for file in files}) == len(AWKWARD)
    assert all(len(file.name) < 200 for file in files)


@pytest.mark.parametrize("damage", [b"", b"PAR1 and then nothing", b"<html>"])
def test_a_damaged_file_is_moved_aside_and_named(
    landing: Landing, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    landing.keep("HISTORY", "AAPL", response())
    (file,) = (tmp_path / "landing" / "HISTORY").iterdir()
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert landing.read("HISTORY", "AAPL") is None
    assert str(file) in caplog.text
    (aside,) = (tmp_path / "landing" / "HISTORY").iterdir()
    assert aside.read_bytes() == damage
    landing.keep("HISTORY", "AAPL", response())
    assert landing.read("HISTORY", "AAPL") == response()


def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, landing: Landing) -> None:
    landing.keep("HISTORY", "AAPL", response())
    (file,) = (tmp_path / "landing" / "HISTORY").iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << place % 8
        file.write_bytes(broken)
        assert landing.read("HISTORY", "AAPL") is None, place
    file.write_bytes(whole)
    assert landing.read("HISTORY", "AAPL") == response()


def test_a_file_of_the_version_before_has_no_checksum_and_is_read(tmp_path: Path, landing: Landing) -> None:
    landing.keep("HISTORY", "AAPL", response())
    (file,) = (tmp_path / "landing" / "HISTORY").iterdir()
    table = pq.read_table(file)
    said = json.loads(table.schema.metadata[b"landing"])
    del said["sum"]
    pq.write_table(table.replace_schema_metadata({"landing": json.dumps(said)}), file, compression="zstd")
    assert landing.read("HISTORY", "AAPL") == response()


def test_a_parquet_file_of_somebody_else_is_moved_aside(landing: Landing, tmp_path: Path) -> None:
    landing.keep("HISTORY", "AAPL", response())
    landing.keep("HISTORY", "MSFT", response())
    folder = tmp_path / "landing" / "HISTORY"
    pq.write_table(pa.table({"x": [1]}), folder / "AAPL.parquet")
    (folder / "MSFT.parquet").write_bytes((folder / "AAPL.parquet").read_bytes())
    assert landing.read("HISTORY", "AAPL") is None
    assert landing.read("HISTORY", "MSFT") is None


def test_a_file_copied_to_another_symbol_is_not_taken_for_it(landing: Landing, tmp_path: Path) -> None:
    landing.keep("HISTORY", "AAPL", response())
    folder = tmp_path / "landing" / "HISTORY"
    (folder / "MSFT.parquet").write_bytes((folder / "AAPL.parquet").read_bytes())
    assert landing.read("HISTORY", "MSFT") is None
    assert landing.read("HISTORY", "AAPL") == response()


def test_a_payload_that_cannot_be_written_leaves_nothing_behind(landing: Landing, tmp_path: Path) -> None:
    landing.keep("HISTORY", "AAPL", response())
    with pytest.raises(TypeError):
        landing.keep("HISTORY", "AAPL", Kept(response().payload, DAY, DAY, CLOSE, {"not json": object()}))
    assert landing.read("HISTORY", "AAPL") == response()
    assert len(list((tmp_path / "landing" / "HISTORY").iterdir())) == 1


def test_readers_never_see_half_a_file(landing: Landing) -> None:
    landing.keep("HISTORY", "AAPL", response(0.0))
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            landing.keep("HISTORY", "AAPL", response(float(number)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert landing.read("HISTORY", "AAPL") is not None
    writer.join()


def usable(kept: Kept, start: date = DAY, end: date = DAY, now: datetime = CLOSE, ttl: timedelta = SIX_HOURS) -> bool:
    return is_usable(kept, start, end, now=now, last_completed_close=CLOSE, ttl=ttl)


def test_a_response_is_good_within_its_window() -> None:
    assert usable(response(), date(2024, 1, 2), DAY)
    assert not usable(response(), date(2024, 1, 1), DAY)
    assert not usable(response(), DAY, date(2024, 3, 29))


def test_a_response_from_before_the_last_close_is_not_good() -> None:
    before = response(fetched_at=CLOSE - timedelta(seconds=1))
    assert not usable(before)


def test_a_response_is_good_for_its_time_and_no_longer() -> None:
    assert usable(response(), now=CLOSE + SIX_HOURS)
    assert not usable(response(), now=CLOSE + SIX_HOURS + timedelta(seconds=1))


@given(st.integers(-40, 40), st.integers(0, 40), st.integers(-600, 600), st.integers(-600, 600))
def test_a_narrower_question_or_a_longer_life_never_makes_a_good_response_bad(
    start: int, length: int, asked: int, fetched: int
) -> None:
    first = DAY + timedelta(days=start)
    now, kept = CLOSE + timedelta(minutes=asked), response(fetched_at=CLOSE + timedelta(minutes=fetched))
    if usable(kept, first, first + timedelta(days=length), now):
        assert usable(kept, first, first, now)
        assert usable(kept, first, first + timedelta(days=length), now, ttl=SIX_HOURS * 2)
