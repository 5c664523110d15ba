"""The copilot-quant command: what a user types, turned into calls of the rooms, and their answers printed.

Here: the tree of commands, and what becomes of an error: one line and an exit code.
Not here: the commands (backfill, upkeep, quarantine, instruments, warnings, server); what a user's text stands for
(options); what is printed (output); what a command works with (platform); any work. Rooms are imported inside the
functions, so that `--help` answers at once.

Exit codes: 0 every asked cell is settled; 1 some failed (they are listed) or the program broke; 2 wrong usage or a
setting to put right, told in one line; 75 somebody else has what is needed, to be tried again later; 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, NoReturn

import typer

from copilot_quant_pipeline.cli import backfill, export, instruments, quarantine, server, upkeep, venues, warnings
from copilot_quant_pipeline.cli.platform import InterruptedByUserError
from copilot_quant_pipeline.errors import BusyError, UserError, VendorError
from copilot_quant_pipeline.home import private
from copilot_quant_pipeline.process import begin_process
from copilot_quant_pipeline.redaction import presentable
from copilot_quant_pipeline.settings import expect_proxies, keep_loopback_off_proxies

# As sysexits.h has it: EX_TEMPFAIL.
TRY_AGAIN = 75

app = typer.Typer(
    name="copilot-quant",
    help="Daily market data as cells of a date x symbol grid, kept in DuckDB.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# In this order `--help` lists them, the groups last; a line of a narrow terminal holds each.
app.command("heal", short_help="Ask again for what failed or was left out.")(backfill.heal)
app.command("status", short_help="Show how far each grid has come.")(upkeep.status)
app.command("export", short_help="Write what is stored as CSV, Parquet or SQLite.")(export.export)
app.command("reconcile", short_help="Make the grid in Dagit the warehouse's picture.")(upkeep.reconcile)
app.command("prune", short_help="Delete old events and runs of Dagster's.")(upkeep.prune)
app.command("venues", short_help="See whether each venue sends what is expected.")(venues.venues)
app.command("sandbox", short_help="Serve the simulated venues.")(server.sandbox)
app.command("ui", short_help="Open Dagit, with its daemon.")(server.ui)
app.add_typer(backfill.backfill_app, name="backfill")
app.add_typer(backfill.update_app, name="update")
app.add_typer(upkeep.alerts_app, name="alerts")
app.add_typer(quarantine.quarantine_app, name="quarantine")
app.add_typer(instruments.instruments_app, name="instruments")
app.add_typer(warnings.warnings_app, name="warnings")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"copilot-quant {version('copilot-quant-pipeline')}")
        raise typer.Exit


@app.callback(help=app.info.help)
def _before_any_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    expect_proxies()


def main() -> None:
    """The command's entry point: every error a user can cause is one line on stderr and exit code 2."""
    with private():
        _run()


def _run() -> None:
    begin_process(plainly=True)
    keep_loopback_off_proxies()
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except BusyError as error:
        _fail(str(error), TRY_AGAIN)
    except UserError as error:
        _fail(str(error), 2)
    except VendorError as error:
        _fail(str(error), 1)
    except (InterruptedByUserError, typer.Abort):
        _fail("interrupted; what was settled stays settled, the same command goes on from there.", 130)
    except PermissionError as error:
        where = error.filename2 or error.filename or "a file"
        _fail(f"{where} cannot be written ({error.strerror}); give yourself the right to, or choose another --home.", 2)
    except Exception as error:
        if trouble := _trouble_with_sqlite(error):
            _fail(str(trouble), TRY_AGAIN if isinstance(trouble, BusyError) else 2)
        usage = getattr(error, "format_message", None)  # only what typer raises for wrong usage has one
        if not usage:
            _fail(f"broke with {type(error).__name__}: {error} (--verbose shows where)", 1)
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its text is the help
            typer.echo(usage(), err=True)
            sys.exit(2)
        _fail(f"{usage()} (copilot-quant --help shows what can be written)", 2)


def _trouble_with_sqlite(error: Exception) -> UserError | None:
    if "sqlite3" not in sys.modules:  # nothing of Dagster's was opened
        return None
    from copilot_quant_pipeline.ledger.troubles import told

    return told(error)


def _fail(line: str, code: int) -> NoReturn:
    if "--verbose" in sys.argv and code != 130:
        typer.echo(presentable(traceback.format_exc()), err=True)
    typer.echo(f"copilot-quant: {presentable(' '.join(line.split()))}", err=True)
    sys.exit(code)
