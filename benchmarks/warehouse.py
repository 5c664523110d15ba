"""How long a large settle takes and how much memory it needs.

Here: `measure_settle`, run by `python -m benchmarks.warehouse`. Not here: whether it settles rightly (tests).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Measured, print_table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

SECONDS, GIGABYTES = 6.0, 1.5
SYMBOLS = 500
_FETCHED = datetime(2026, 3, 1, tzinfo=UTC)


def measure_settle(cells: int = 500_000) -> list[Measured]:
    """Settle `cells` new bars, then the same with 1 % restated, then unchanged; in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "benchmarks.warehouse", "--measure", str(cells), home]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    found = json.loads(answer.stdout)
    return [
        Measured(f"settle {cells:,} new bars", found["new"], "s", SECONDS),
        Measured(f"settle {cells:,} bars, 1 % restated", found["restated"], "s", SECONDS),
        Measured(f"settle {cells:,} bars, none changed", found["same"], "s", None),
        Measured("peak memory of that process", found["peak"], "GB", GIGABYTES),
        Measured("adjusted_bars of all of it", found["adjusted"], "s", None),
        Measured("warehouse file", found["file"], "MB", None),
    ]


def _measure(cells: int, home: Path) -> dict[str, float]:
    import numpy as np

    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    warehouse = Warehouse(home / "warehouse.duckdb")
    closes = np.random.default_rng(0).uniform(10, 500, cells)
    restated = np.where(np.arange(cells) % 100 == 0, closes * 1.1, closes)
    found = {
        "new": _settle(warehouse, closes, "new"),
        "restated": _settle(warehouse, restated, "restated"),
        "same": _settle(warehouse, restated, "same"),
    }
    began = time.perf_counter()
    warehouse.read("select sum(adj_close) from equities.adjusted_bars")
    found["adjusted"] = time.perf_counter() - began
    found["file"] = warehouse.path.stat().st_size / 1e6
    # Linux counts kilobytes here, macOS bytes.
    scale = 1e9 if sys.platform == "darwin" else 1e6
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return found


def _settle(warehouse: Warehouse, closes: npt.NDArray[np.float64], run_id: str) -> float:
    import pyarrow as pa

    from copilot_quant_pipeline.warehouse.fetch_result import CELLS
    from copilot_quant_pipeline.warehouse.tables import BARS

    rows = _bars(closes)
    settled = {"date": rows["date"], "key": rows["symbol"], "outcome": pa.repeat("settled", len(rows))}
    nothing = dict.fromkeys(("reason", "detail"), pa.nulls(len(rows), pa.string()))
    cells = pa.table({**settled, **nothing, "fetched_at": rows["first_seen_at"]}).select(CELLS.names)
    began = time.perf_counter()
    warehouse.settle(BARS, cells, rows, run_id=run_id)
    return time.perf_counter() - began


def _bars(closes: npt.NDArray[np.float64]) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    count = len(closes)
    number = np.arange(count)
    stamp = pa.scalar(_FETCHED, pa.timestamp("us", tz="UTC"))
    names = pa.array([f"S{n:03d}" for n in range(SYMBOLS)])
    return pa.table(
        {
            "date": pa.array(np.datetime64("2020-01-02") + number // SYMBOLS),
            "symbol": names.take(pa.array(number % SYMBOLS)),
            **{name: closes * by for name, by in (("open", 1), ("high", 1.01), ("low", 0.99), ("close", 1))},
            "volume": (closes * 1000).astype("int64"),
            "dividend": np.zeros(count),
            "split_ratio": np.ones(count),
            "confirmed_at": pa.repeat(stamp, count),
            "quality": pa.repeat("ok", count),
            "source": pa.repeat("yahoo", count),
            "first_seen_at": pa.repeat(stamp, count),
        }
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        sys.stdout.write(json.dumps(_measure(int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        print_table("The warehouse", measure_settle())
