"""Claims about history that was wrong from the first answer on: found, told once, acknowledged, over, and back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from copilot_quant_pipeline.calendar import sessions_in_range
from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk, Said, open_desk

DAYS = sessions_in_range(date(2023, 6, 1), date(2024, 3, 28))
BROKEN, PAID, SPLIT = 60, 40, 80
SYMBOLS = "CLEAN,BAR,PAYS,SPLITS,KDP,NOBODY"
NOW = datetime(2024, 3, 29, 14, tzinfo=UTC)


def series(symbol: str) -> pd.DataFrame:
    """Ten months as Yahoo sends them, with two dividends and sound adjusted closes."""
    n = len(DAYS)
    close = np.round(50 + np.arange(n) * 0.05, 2)
    dividend = np.zeros(n)
    dividend[[PAID, 150]] = 0.3
    frame = pd.DataFrame({"Symbol": symbol, "Date": DAYS, "Close": close, "Volume": 1000, "Dividends": dividend})
    return frame.assign(**{"Stock Splits": 0.0, "Adj Close": adjusted(close, dividend)})


def adjusted(close: np.ndarray, dividend: np.ndarray) -> np.ndarray:
    kept = 1 - np.append(dividend[1:] / close[:-1], 0.0)
    return close * np.cumprod(kept[::-1])[::-1]


def broken() -> dict[str, pd.DataFrame]:
    """Each symbol wrong in its own way, and one that is right and looks wrong."""
    world = {symbol: series(symbol) for symbol in SYMBOLS.split(",")}
    world["BAR"].loc[BROKEN, "Close"] *= 100
    world["PAYS"].loc[PAID, "Dividends"] *= 100
    world["SPLITS"].loc[SPLIT, "Stock Splits"] = 2.0
    world["SPLITS"]["Dividends"] = 0.0
    world["SPLITS"]["Adj Close"] = world["SPLITS"]["Close"]
    world["SPLITS"].loc[: SPLIT - 1, "Close"] *= 2
    special = world["KDP"]
    special.loc[PAID, "Dividends"] = 0.84 * special["Close"][PAID - 1]
    special.loc[PAID:, "Close"] *= 0.17
    special["Adj Close"] = adjusted(special["Close"].to_numpy(), special["Dividends"].to_numpy())
    nobody = world["NOBODY"]
    nobody.loc[: BROKEN - 1, ["Close", "Adj Close"]] = 0.02
    nobody["Dividends"] = 0.0
    nobody["Adj Close"] = nobody["Close"]
    nobody.loc[BROKEN, "Stock Splits"] = 1 / 190
    return world


def write(path: Path, world: dict[str, pd.DataFrame]) -> None:
    whole = pd.concat(world.values())
    whole["High"], whole["Low"], whole["Open"] = whole["Close"] * 1.01, whole["Close"] * 0.99, whole["Close"]
    whole.to_parquet(path)


@contextmanager
def desk_on(home: Path, frame: Path, now: datetime) -> Iterator[Desk]:
    settings = Settings(home=home, equities_start=DAYS[0], pinned_now=now)
    with Sandbox(recorded=frame, now=now) as venues, open_desk(settings, venues) as desk:
        yield desk


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Said, Path]]:
    folder = tmp_path_factory.mktemp("broken")
    write(frame := folder / "frame.parquet", broken())
    with desk_on(folder / "home", frame, NOW) as desk:
        said = desk.run("backfill", "equities", "--symbols", SYMBOLS, "--start", str(DAYS[0]))
        yield desk, said, folder


def ids(desk: Desk, *more: str) -> set[str]:
    listed: list[dict[str, Any]] = json.loads(desk.run("warnings", "list", "--json", *more).out)["warnings"]
    return {warning["id"] for warning in listed}


EXPECTED = {
    f"adj_close:BAR:{DAYS[BROKEN]}",
    # A close of a hundred times its neighbours comes with an open that is, too; both edges are jumps.
    f"jump:BAR:{DAYS[BROKEN]}",
    f"jump:BAR:{DAYS[BROKEN + 1]}",
    f"adj_close:PAYS:{DAYS[PAID - 1]}",
    f"dividend:PAYS:{DAYS[PAID]}",
    f"split:SPLITS:{DAYS[SPLIT]}",
    f"adj_close:SPLITS:{DAYS[SPLIT - 1]}",
    f"dividend:KDP:{DAYS[PAID]}",
    f"jump:KDP:{DAYS[PAID]}",
    f"price:NOBODY:{DAYS[0]}",
    f"split:NOBODY:{DAYS[BROKEN]}",
}


def test_everything_is_found_and_a_clean_series_is_not(world: tuple[Desk, Said, Path]) -> None:
    desk, said, _ = world
    assert said.code == 0, said
    found = ids(desk)
    assert found == EXPECTED
    assert f"{len(found)} things that may be wrong at the source: see `copilot-quant warnings list`" in said.out
    assert f"{len(found)} things" in desk.run("status").out
    assert json.loads(desk.run("status", "--json").out)["warnings"] == len(found)


@pytest.fixture
def own(world: tuple[Desk, Said, Path], tmp_path: Path) -> Iterator[tuple[Desk, Path]]:
    """The same world again, for a claim that changes it."""
    *_, folder = world
    shutil.copytree(folder / "home", tmp_path / "home")
    with desk_on(tmp_path / "home", folder / "frame.parquet", NOW) as desk:
        yield desk, tmp_path


def test_what_is_acknowledged_stays_so_until_its_number_changes(own: tuple[Desk, Path]) -> None:
    desk, folder = own
    known = ids(desk)
    special = f"dividend:KDP:{DAYS[PAID]}"
    assert desk.run("warnings", "acknowledge", special).out == "1 warning acknowledged.\n"
    assert ids(desk) == known - {special}
    assert ids(desk, "--state", "acknowledged") == {special}
    again = desk.run("warnings", "acknowledge", special)
    assert (again.code, again.out) == (0, "nothing of that is open: it was acknowledged before, or is over.\n")
    # The venue mends what it can; what was right stays as it was judged.
    mended = broken()
    mended["PAYS"] = series("PAYS")
    for n, frame in enumerate((mended, broken())):
        write(folder / f"frame{n}.parquet", frame)
        with desk_on(folder / "home", folder / f"frame{n}.parquet", NOW + timedelta(days=n + 4)) as later:
            asked = ("--symbols", "KDP,PAYS", "--start", str(DAYS[0]), "--end", str(DAYS[-1]), "--refresh")
            assert later.run("backfill", "equities", *asked).code == 0
            later.run("quarantine", "accept", "--all")
            later.run("backfill", "equities", *asked)
            left = {one for one in ids(later) if ":PAYS:" in one}
            assert (left == set()) == (n == 0), left
            assert special not in ids(later)


def test_wrong_use_is_told_in_one_line(world: tuple[Desk, Said, Path]) -> None:
    desk, _, _ = world
    for arguments, told in (
        (("acknowledge",), "say what is acknowledged"),
        (("acknowledge", "--all", "--symbol", "KDP"), "say what is acknowledged"),
        (("acknowledge", "dividend:XXX:2023-01-01"), "nothing of that was found"),
        (("acknowledge", f"price:NOBODY:{DAYS[0]}", "nonsense"), "no warning is called 'nonsense'"),
        (("acknowledge", "--date", "soon"), "'soon' is no date"),
        (("list", "--state", "waiting"), "choose one of open, acknowledged, over or all"),
    ):
        said = desk.run("warnings", *arguments)
        assert said.code == 2
        assert told in said.err
        assert said.err.count("\n") == 1
    assert f"price:NOBODY:{DAYS[0]}" in ids(desk)
