"""The command that hands out what is stored: export.

Here: its options, and what it prints of what was written.
Not here: what is exported and how (warehouse/exports.py), reading into Python (warehouse/reading.py).
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from copilot_quant_pipeline.cli.options import (
    HomeOption,
    JsonOption,
    SourceOption,
    VerboseOption,
    asked_period,
    asked_symbols,
    listed,
)
from copilot_quant_pipeline.cli.output import print_json, print_table
from copilot_quant_pipeline.cli.platform import interrupts_told
from copilot_quant_pipeline.home import as_the_user_makes_files
from copilot_quant_pipeline.settings import Settings


def export(
    form: Annotated[str, typer.Argument(metavar="csv|parquet|sqlite", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="Folder to write to; made where it is missing.")],
    tables: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: bars, adjusted_bars, lives, markets, prices, daily, coverage; default: all."
        ),
    ] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Comma-separated, such as AAPL,BRK.B; leaves out the tables of markets.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First date; default: the first stored.")] = None,
    end: Annotated[str | None, typer.Option(help="Last date; default: the last stored.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="In CSV, leave free text that a spreadsheet takes for a formula as it is.")
    ] = False,
    source: SourceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write what is stored as files other programs read; an earlier export is replaced, nothing else is.

    CSV and Parquet are a file per table, SQLite is one file of all tables of this export. Times are UTC; CSV and SQLite
    hold exact decimals and times as text.
    """
    from copilot_quant_pipeline.warehouse.exports import export as export_tables
    from copilot_quant_pipeline.warehouse.warehouse import Warehouse

    settings = Settings.from_environment(source=source, home=home)
    first, last = asked_period(start, end)
    chosen = asked_symbols(symbols, None) or None
    warehouse = Warehouse(settings.warehouse_path, settings.lock_timeout)
    folder = out.expanduser().resolve()
    # Whoever ends it by a signal finds nothing half done either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with interrupts_told(), as_the_user_makes_files():
        written = export_tables(warehouse, form, folder, listed(tables), chosen, first, last, raw=raw)
    if as_json:
        print_json({"exported": [{"table": w.table, "path": w.path, "rows": w.rows} for w in written]})
    else:
        print_table(("table", "rows", "file"), [(w.table, w.rows, w.path.name) for w in written])
        typer.echo(f"folder: {folder}")
