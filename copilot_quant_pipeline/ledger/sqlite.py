"""The ledger on SQLite: Dagster's storage of one file per run and one index over all runs.

Here: how a batch gets into these files, and where they are.
Not here: which rows a batch has (events), their JSON (documents).
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from dagster import AssetKey, DagsterEventType, DagsterInstance
from dagster._core.errors import raise_execution_interrupts
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.utils import RUNLESS_RUN_ID
from dagster._core.storage.event_log.schema import (
    AssetEventTagsTable,
    ConcurrencySlotsTable,
    DynamicPartitionsTable,
    PendingStepsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.types.pagination import PaginatedResults
from dagster._serdes import ConfigurableClassData
from dagster._utils.concurrency import ConcurrencyClaimStatus
from dagster_shared.record import copy
from sqlalchemy import ColumnElement, select, true
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random

from copilot_quant_pipeline.errors import UserError
from copilot_quant_pipeline.grid.keys import judge_key
from copilot_quant_pipeline.home import hold
from copilot_quant_pipeline.ledger.accounts import (
    Account,
    Owed,
    close_account,
    open_account,
    read_accounts,
    read_owed,
)
from copilot_quant_pipeline.ledger.events import (
    CELLS_A_BATCH,
    PLANNED,
    CellEvents,
    EventBatch,
    Row,
    asset_of,
    cells_of,
    chunks,
)
from copilot_quant_pipeline.ledger.old_events import find_events_of, forget, forget_last
from copilot_quant_pipeline.ledger.places import dagster_home, kept_engine, newest_version
from copilot_quant_pipeline.ledger.run_lives import is_over, note_process, release, told
from copilot_quant_pipeline.ledger.runless import Runless, forget_wipes, read_reports, read_wipes, runless_of
from copilot_quant_pipeline.ledger.turns import PATIENCE, Turn

_log = logging.getLogger(__name__)

# Of a page of 4 kB, SQLite's default, a quarter would be left empty by rows of 1.5 kB. There are thousands of runs'
# own files, most of some thirty rows: small pages leave the least of them empty. New files only.
_INDEX_PAGE_BYTES, _RUN_PAGE_BYTES = 16_384, 1_024

# Dagster's own pause grows to 15 s, and it asks all the while whether it is over, which takes a whole core. So who has
# to wait waits here: a run of a line takes but seconds.
_LOOK_AGAIN_SECONDS, _WAIT_SECONDS = 0.1, 0.5

# What a run's own file needs of Dagster's eleven tables and twelve indexes, each of which takes a page: its events and
# where they are by type, and the empty table from which Dagster's own storage deletes a run's tags. An asset's events
# are looked for in the index over all runs only. The version comes first, so that a file with events is whole.
_VERSION_TABLE = "create table if not exists alembic_version (version_num varchar(32) not null primary key)"
_VERSION = "insert or ignore into alembic_version values (?)"
_EVENTS_BY_TYPE = "create index if not exists idx_event_type on event_logs (dagster_event_type, id)"
_HAS_EVENTS = "select 1 from sqlite_master where name = 'idx_event_type'"
_MAKING_LOG = ".making-log.lock"
_CLAIMING = ".claiming.lock"

# Pages that rows leave behind can then be given back while others read and write (retention.py).
_GIVES_BACK_PAGES = "pragma auto_vacuum = incremental"
_INSERT_EVENT = (
    "insert into event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)"
    " values (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_TAG = "insert into asset_event_tags (event_id, asset_key, key, value, event_timestamp) values (?, ?, ?, ?, ?)"


class GridEventLogStorage(CellEvents, SqliteEventLogStorage):
    """Dagster's SQLite event log that stores the grid's cells in bulk.

    A relative `base_dir` is meant from DAGSTER_HOME, so that one dagster.yaml serves every home.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Dagster batches what it emits cell by cell only where this is set.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "1000")
        self._engine = lru_cache(maxsize=16)(self._new_engine)
        self.patience = PATIENCE.get()
        self._turns: dict[tuple[str, str], Turn] = {}
        self._tables: set[str] = set()
        self._home = None if Path(base_dir).is_absolute() else dagster_home(base_dir)
        super().__init__(str((self._home or Path()) / base_dir), inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> GridEventLogStorage:
        """What Dagster calls to build the storage that dagster.yaml names."""
        return cls(inst_data=inst_data, **config_value)

    def register_instance(self, instance: DagsterInstance) -> None:
        """Take note of the instance; refuse one that does not live where a relative `base_dir` starts."""
        if self._home and not self._home.samefile(instance.root_directory):
            raise UserError(
                f"The instance in {instance.root_directory} would write its events to {self._base_dir}: "
                "set DAGSTER_HOME to the instance's folder."
            )
        super().register_instance(instance)

    def expect_whole(self) -> None:
        """See that the index has the tables of the axes; Dagster would ask for a migration that mends nothing.

        Raises:
            OperationalError: It has not.
        """
        with self.index_connection() as connection:
            connection.execute(select(DynamicPartitionsTable.c.id).limit(1))

    @retry(
        retry=retry_if_exception_type((IntegrityError, OperationalError)),
        wait=wait_random(0.01, 0.1),
        stop=stop_after_attempt(10),
        reraise=True,
    )
    def add_dynamic_partitions(self, partitions_def_name: str, partition_keys: Sequence[str]) -> None:
        """As Dagster's own, which looks which keys are there and then adds: two processes may come between."""
        super().add_dynamic_partitions(partitions_def_name, partition_keys)

    def get_dynamic_partitions(self, partitions_def_name: str) -> Sequence[str]:
        """The keys of an axis in its order; Dagit takes any text for one, and what can be no key has no cells."""
        return _sound(partitions_def_name, super().get_dynamic_partitions(partitions_def_name))

    def get_put_on_axis(self, partitions_def_name: str) -> dict[str, datetime]:
        """All that was put on an axis and not taken off, and when, aware UTC; what can be no key, too."""
        columns = DynamicPartitionsTable.c
        chosen = select(columns.partition, columns.create_timestamp).order_by(columns.id)
        with self.index_connection() as connection:
            rows = connection.execute(chosen.where(columns.partitions_def_name == partitions_def_name)).fetchall()
        return {key: at.replace(tzinfo=UTC) for key, at in rows}

    def get_existing_dynamic_partitions(
        self, partitions_def_name: str, partition_keys: Sequence[str]
    ) -> AbstractSet[str]:
        """Which of these are keys of an axis."""
        return super().get_existing_dynamic_partitions(partitions_def_name, _sound(partitions_def_name, partition_keys))

    def get_paginated_dynamic_partitions(
        self, partitions_def_name: str, limit: int, ascending: bool, cursor: str | None = None
    ) -> PaginatedResults[str]:
        """The keys of an axis, some at once; a page may hold fewer than its limit."""
        page = super().get_paginated_dynamic_partitions(partitions_def_name, limit, ascending, cursor)
        return copy(page, results=_sound(partitions_def_name, page.results))

    def has_dynamic_partition(self, partitions_def_name: str, partition_key: str) -> bool:
        """Whether it is a key of an axis."""
        if judge_key(partitions_def_name, partition_key):
            return False
        return super().has_dynamic_partition(partitions_def_name, partition_key)

    def claim_concurrency_slot(
        self, concurrency_key: str, run_id: str, step_key: str, priority: int | None = None
    ) -> ConcurrencyClaimStatus:
        """As Dagster's own, except that a slot whose holder has ended is freed; waiting is told and has an end.

        Raises:
            BusyError: Others have had the slots for longer than `patience` says.
        """
        begun = time.monotonic()
        if (run_id, step_key) not in self._turns:
            # Who has a slot must be known to live.
            note_process(self._instance, run_id)
            self._turns[run_id, step_key] = Turn(concurrency_key, begun)
        turn = self._turns[run_id, step_key]
        status = self._claim(concurrency_key, run_id, step_key, priority)
        while not status.is_claimed and time.monotonic() < begun + _WAIT_SECONDS:
            if not self.free_abandoned_slots(concurrency_key, but=run_id):
                self._wait(turn, run_id)
            status = self._claim(concurrency_key, run_id, step_key, priority)
        if status.is_claimed:
            del self._turns[run_id, step_key]
        return copy(status, sleep_interval=0.0)

    def _claim(self, pool: str, run_id: str, step_key: str, priority: int | None) -> ConcurrencyClaimStatus:
        with self._alone_at_the_slots():
            return super().claim_concurrency_slot(pool, run_id, step_key, priority)

    def _wait(self, turn: Turn, run_id: str) -> None:
        now = time.monotonic()
        if turn.is_to_be_told(now):
            _log.warning("%s", turn.told(now, self._holders(turn.pool, run_id), self.patience))
        if turn.is_given_up(now, self.patience):
            raise turn.busy(self._holders(turn.pool, run_id), self.patience)
        with raise_execution_interrupts():  # Dagster holds a Ctrl-C back until the next step, which may be hours off
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _holders(self, pool: str, but: str) -> str:
        holders = [one.run_id for one in self.get_concurrency_info(pool).claimed_slots if one.run_id != but]
        return ", ".join(told(self._instance, run_id) for run_id in holders) or "nobody is known to have it"

    def free_abandoned_slots(self, pool: str | None = None, *, but: str | None = None) -> list[str]:
        """Give back what runs `but` one that are finished, dead or unknown have of a pool, or of all; their run ids."""
        there = [run_id for run_id in self._runs_at_slots(pool) if run_id != but]
        abandoned = [run_id for run_id in there if self._is_abandoned(run_id)]
        for run_id in abandoned:
            self.free_concurrency_slots_for_run(run_id)
        if pool:
            with self._alone_at_the_slots():
                # Who was to give it to the next may have ended before it did.
                if self.has_unassigned_slots(pool):
                    self.assign_pending_steps([pool])
        return abandoned

    def _runs_at_slots(self, pool: str | None) -> list[str]:
        """The runs that have a slot or wait for one."""
        tables = (ConcurrencySlotsTable.c, PendingStepsTable.c)
        with self.index_connection() as conn:
            chosen = (
                select(of.run_id).where(of.run_id.is_not(None), (of.concurrency_key == pool) if pool else true())
                for of in tables
            )
            return sorted({run_id for query in chosen for run_id in conn.execute(query).scalars()})

    def _is_abandoned(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run and not run.is_finished and is_over(self._instance, run):
            release(self._instance, run)
            return True
        return run is None or run.is_finished

    def free_concurrency_slots_for_run(self, run_id: str) -> None:
        """Give back all that a run has claimed, to the next who waits for it."""
        with self._alone_at_the_slots():
            super().free_concurrency_slots_for_run(run_id)

    def free_concurrency_slot_for_step(self, run_id: str, step_key: str) -> None:
        """Give back what a step has claimed, to the next who waits for it."""
        with self._alone_at_the_slots():
            super().free_concurrency_slot_for_step(run_id, step_key)

    def _alone_at_the_slots(self) -> AbstractContextManager[object]:
        # Dagster's own looks and then writes, in transactions of their own: two runs that come at once are both given
        # the only slot, or one that comes while it is freed is given none for ever.
        return hold(Path(self._base_dir) / _CLAIMING, self.patience.lock_timeout)

    def store_event(self, event: EventLogEntry) -> None:
        """As Dagster does, noting which runs owe an account of their cells."""
        kind = event.dagster_event_type
        if kind is PLANNED and _names_cells(event):
            with self.index_connection() as conn:
                open_account(conn, Account(event.run_id, asset_of(event)))
        super().store_event(event)
        if kind is DagsterEventType.RUN_SUCCESS:
            self.close_account(event.run_id)

    def close_account(self, run_id: str, asset: AssetKey | None = None) -> None:
        """Note that a run has said what became of each of its cells, of one asset or of all."""
        with self.index_connection() as conn:
            close_account(conn, run_id, asset)

    def read_accounts(self, assets: Iterable[AssetKey]) -> list[Account]:
        """The runs that owe an account of their cells, be they under way or not."""
        with self.index_connection() as conn:
            return read_accounts(conn, assets)

    def read_owed(self, account: Account) -> list[Owed]:
        """The cells that an account is owed of."""
        with self.index_connection() as conn:
            return read_owed(conn, account)

    def forget_owed(self, account: Account, cells: AbstractSet[str]) -> None:
        """Have cells that an account is owed of look as they did before the run was asked for them."""
        for some in chunks(sorted(cells), CELLS_A_BATCH):
            with self._db_lock, self._alone_in_index() as conn:
                ids = [owed.planned for owed in read_owed(conn, account) if owed.cell in set(some)]
                forget(conn, ids)
                forget_last(conn, account.asset, ids)

    def paint_owed(self, event: EventLogEntry) -> None:
        """Store a materialization of many cells, of those for which its run still owes an account.

        A run that was asked for a cell meanwhile says itself what becomes of it.
        """
        painted, account = cells_of(event), Account(event.run_id, asset_of(event))
        for some in chunks(painted.cells if painted else (), CELLS_A_BATCH):
            with self._db_lock, self._alone_in_index() as index:
                owed = {one.cell for one in read_owed(index, account)}
                if left := [cell for cell in some if cell in owed]:
                    self._store_in_index(index, self._cells_batch(event, left, are_in_log=False))

    @contextmanager
    def _alone_in_index(self) -> Iterator[Connection]:
        """A connection to the index that nobody can write before it has been committed."""
        with self._open(INDEX_SHARD_NAME) as conn:
            conn.exec_driver_sql("begin immediate")
            yield conn
            conn.commit()

    def _new_engine(self, shard: str) -> Engine:
        is_index = shard == INDEX_SHARD_NAME
        url = self.conn_string_for_shard(shard)
        engine = kept_engine(self, url) if is_index else _engine_of_run(url)
        size = _INDEX_PAGE_BYTES if is_index else _RUN_PAGE_BYTES
        before = [f"pragma page_size = {size}", *([_GIVES_BACK_PAGES] if is_index else [])]
        for use in ("connect", "checkout"):
            sqlalchemy_event.listen(engine, use, self._be_patient)
        sqlalchemy_event.listen(engine, "connect", lambda conn, _: [conn.execute(pragma) for pragma in before])
        return engine

    def _be_patient(self, connection: Any, *_: object) -> None:
        # At each use: a kept connection may be older than what was said.
        connection.execute(f"pragma busy_timeout = {int(self.patience.lock_timeout * 1_000)}")

    def has_table(self, table_name: str) -> bool:
        """Whether the index has a table; Dagster's own looks each time, and no table ever goes."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        # Dagster's constructor brings an engine of its own for the index.
        super()._initdb(self._engine(INDEX_SHARD_NAME) if for_index_shard else engine, for_index_shard)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        # As Dagster's own, which builds an engine for every event.
        with self._db_lock, self._open(shard) as conn, conn.begin():
            yield conn

    @contextmanager
    def _open(self, shard: str) -> Iterator[Connection]:
        engine = self._engine(shard)
        if shard not in self._initialized_dbs:
            if shard == INDEX_SHARD_NAME:
                self._initdb(engine)
            else:
                self._make_log(engine)
            self._initialized_dbs.add(shard)
        with engine.connect() as conn:
            yield conn

    def _make_log(self, engine: Engine) -> None:
        """Make a run's own file where there is none: as Dagster's own to whoever reads it, a fifth of its size."""
        with engine.connect() as conn:
            if conn.exec_driver_sql(_HAS_EVENTS).first():
                return
        making = hold(Path(self._base_dir) / _MAKING_LOG, self.patience.lock_timeout)
        with making, engine.connect() as conn:
            conn.exec_driver_sql("pragma journal_mode = wal")
            conn.exec_driver_sql(_VERSION_TABLE)
            conn.exec_driver_sql(_VERSION, (newest_version(),))
            conn.execute(CreateTable(AssetEventTagsTable, if_not_exists=True))
            conn.execute(CreateTable(SqlEventLogStorageTable, if_not_exists=True))
            conn.exec_driver_sql(_EVENTS_BY_TYPE)
            conn.commit()

    def delete_events(self, run_id: str) -> None:
        """Delete a run's events from the index and from its own log, and free its slots."""
        of_run = SqlEventLogStorageTable.c.run_id == run_id
        with self.run_connection(run_id) as conn:
            conn.execute(SqlEventLogStorageTable.delete().where(of_run))
        self._forget_all(of_run)
        self.free_concurrency_slots_for_run(run_id)

    def _delete_mirrored_events_for_asset_key(self, asset_key: AssetKey) -> None:
        # A part of wiping an asset. Dagster's own leaves the tags for whichever event gets a deleted one's id.
        self._forget_all(SqlEventLogStorageTable.c.asset_key == asset_key.to_string())

    def _forget_all(self, chosen: ColumnElement[bool]) -> None:
        with self.index_connection() as conn:
            ids = conn.execute(select(SqlEventLogStorageTable.c.id).where(chosen)).scalars().all()
        self.forget_events(ids)

    def wipe_asset_partitions(self, asset_key: AssetKey, partition_keys: Sequence[str]) -> None:
        """Have cells look as if nobody had ever asked for them; the logs of the runs that did stay as they are."""
        with self.index_connection() as conn:
            ids = find_events_of(conn, asset_key, partition_keys)
        self.forget_of(asset_key, ids)

    def read_runless(self, asset_key: AssetKey) -> Runless:
        """What was done to an asset's cells by hand."""
        with self.run_connection(RUNLESS_RUN_ID) as log:
            wipes = read_wipes(log, asset_key)
        with self.index_connection() as index:
            return runless_of(read_reports(index, asset_key), wipes)

    def forget_runless(self, asset_key: AssetKey, runless: Runless) -> None:
        """Have an asset's reported cells look as before, and nothing tell of what was wiped."""
        self.forget_of(asset_key, runless.reports)
        with self.run_connection(RUNLESS_RUN_ID) as log:
            forget_wipes(log, runless.wipes)

    def forget_of(self, asset_key: AssetKey, ids: Sequence[int]) -> None:
        """Delete events of an asset from the index, as if they had never been."""
        self.forget_events(ids)
        with self.index_connection() as conn:
            forget_last(conn, asset_key, ids)

    def forget_events(self, ids: Sequence[int]) -> None:
        """Delete events of the index, so many at a time that other processes get their turn."""
        for some in chunks(ids, CELLS_A_BATCH):
            with self.index_connection() as conn:
                forget(conn, some)

    def forget_log(self, run_id: str) -> None:
        """Remove the own file of a run that is deleted and that nobody writes to any more."""
        for ending in ("", "-wal", "-shm"):
            Path(f"{self.path_for_shard(run_id)}{ending}").unlink(missing_ok=True)
        self._initialized_dbs.discard(run_id)

    def _store_in_log(self, event: EventLogEntry) -> None:
        with self.run_connection(event.run_id) as conn:
            conn.execute(self.prepare_insert_event(event))

    def _store_batch(self, batch: EventBatch) -> None:
        """Store the batch in both files, each in one transaction; neither ever keeps a part of it.

        Two files cannot be committed at one instant. The index goes first: it is the grid, and what it says
        is true of the warehouse, while the run's log only tells how that came about. Should the log's commit
        then fail (a full disk; nothing else is left that can), this does not raise: Dagster would store all
        events once more.
        """
        run_id = batch.last.run_id
        with self._db_lock, self._open(run_id) as log, self._open(INDEX_SHARD_NAME) as index:
            if batch.are_in_log:
                _insert(log, batch.rows)
            self._store_in_index(index, batch)
            index.commit()
            try:
                log.commit()
            except DBAPIError:
                _log.exception("%s cells are recorded, but not shown in the log of run %s", len(batch.rows), run_id)

    def _store_in_index(self, index: Connection, batch: EventBatch) -> None:
        last_id = _insert(index, batch.rows)
        _insert_tags(index, batch, first_id=last_id - len(batch.rows) + 1)
        self._store_asset_event(index, batch.last, last_id)


def _names_cells(event: EventLogEntry) -> bool:
    data = event.get_dagster_event().asset_materialization_planned_data
    return data.partition is not None or data.partitions_subset is not None


def _engine_of_run(url: str) -> Engine:
    # There are thousands of such files, and they are removed one day: no connection is kept.
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


def _insert(conn: Connection, rows: Sequence[Row]) -> int:
    """Insert rows; the storage id of the last. Ids follow on from each other: nobody else can write now."""
    conn.exec_driver_sql(_INSERT_EVENT, [(*row[:3], _written(row.timestamp), *row[4:]) for row in rows])
    return int(conn.exec_driver_sql("select max(id) from event_logs").scalar_one())


def _insert_tags(conn: Connection, batch: EventBatch, first_id: int) -> None:
    tagged = zip(itertools.count(first_id), batch.rows, batch.tags, strict=False)
    rows = [
        (event_id, row.asset_key, key, value, _written(row.timestamp))
        for event_id, row, tags in tagged
        for key, value in tags.items()
    ]
    if rows:
        conn.exec_driver_sql(_INSERT_TAG, rows)


# The cells of one event have one time.
@lru_cache(maxsize=1)
def _written(timestamp: datetime) -> str:
    """A time as SQLAlchemy writes it to SQLite."""
    return timestamp.isoformat(sep=" ", timespec="microseconds")


def _sound(axis: str, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if judge_key(axis, key) is None]
