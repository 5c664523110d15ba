"""What an I/O manager records, on the ledger and where the ledger is not."""

from __future__ import annotations

import copy
import pickle

import dagster as dg
import pytest
from dagster import DagsterEventType

from copilot_quant_pipeline.ledger.cell_key import Cells
from copilot_quant_pipeline.ledger.recording import materialization_of, record_cells
from copilot_quant_pipeline_tests.ledger.small_grid import BARS, DATES, SYMBOLS, grid, job, rectangle, run

ALL = rectangle("2024-01-02|AAPL", "2024-01-05|MSFT")
CELLS = [dg.MultiPartitionKey({"date": date, "symbol": symbol}) for date in DATES for symbol in SYMBOLS]


def green(instance: dg.DagsterInstance) -> set[str]:
    return instance.get_materialized_partitions(BARS)


def test_a_green_run_emits_one_event_and_the_grid_has_one_a_cell(ledger: dg.DagsterInstance) -> None:
    result = job.execute_in_process(instance=ledger, asset_selection=[BARS], tags=ALL)
    assert len(result.asset_materializations_for_node("bars")) == 1
    assert len(ledger.all_logs(result.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)) == 12
    assert green(ledger) == set(CELLS)


def test_without_the_ledger_the_framework_emits_an_event_a_cell() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("symbol", SYMBOLS)
        whole = job.execute_in_process(instance=instance, asset_selection=[BARS], tags=ALL)
        assert len(whole.asset_materializations_for_node("bars")) == 12
        run(instance, BARS, ALL, fail=["2024-01-03|AAPL"])
        newest = instance.fetch_materializations(BARS, limit=11).records
        assert {record.partition_key for record in newest} == set(CELLS) - {"2024-01-03|AAPL"}


def test_each_cell_has_its_own_dimension_tags_and_what_all_share(ledger: dg.DagsterInstance) -> None:
    run(ledger, BARS, ALL)
    records = ledger.fetch_materializations(BARS, limit=100).records
    for record in records:
        asset = record.asset_materialization
        assert asset is not None
        assert asset.tags is not None
        assert isinstance(asset.partition, dg.MultiPartitionKey)
        assert asset.partition.keys_by_dimension == {
            "date": asset.tags["dagster/partition/date"],
            "symbol": asset.tags["dagster/partition/symbol"],
        }
        assert "dagster/data_version" in asset.tags
        assert asset.metadata["rows"] == dg.MetadataValue.int(5)


def test_a_run_whose_cells_all_failed_records_none(ledger: dg.DagsterInstance) -> None:
    run(ledger, BARS, ALL, fail=CELLS)
    assert green(ledger) == set()


def test_cells_of_another_run_are_refused(ledger: dg.DagsterInstance) -> None:
    class Confused(dg.IOManager):
        def handle_output(self, context: dg.OutputContext, obj: object) -> None:
            record_cells(context, ["2024-01-02|AAPL", "2024-01-05|MSFT"])

        def load_input(self, context: dg.InputContext) -> None:
            raise NotImplementedError

    @dg.asset(key=BARS, partitions_def=grid)
    def confused() -> int:
        return 1

    result = dg.materialize(
        [confused],
        instance=ledger,
        tags=rectangle("2024-01-02|AAPL", "2024-01-03|AAPL"),
        resources={"io_manager": Confused()},
        raise_on_error=False,
    )
    assert not result.success
    assert "2024-01-05|MSFT" in str(result.all_events)
    assert green(ledger) == set()


def test_cells_can_be_reported_without_a_run(ledger: dg.DagsterInstance) -> None:
    ledger.report_runless_asset_event(materialization_of(BARS, CELLS[:5], {"by": "reconcile"}))
    assert green(ledger) == set(CELLS[:5])


@pytest.mark.parametrize("send", [copy.deepcopy, lambda key: pickle.loads(pickle.dumps(key))])  # noqa: S301
def test_whoever_the_key_of_many_cells_is_sent_to_gets_the_key_of_one(send: object) -> None:
    assert callable(send)
    sent = send(Cells.of(CELLS))
    assert type(sent) is dg.MultiPartitionKey
    assert sent == CELLS[-1]
    assert sent.keys_by_dimension == CELLS[-1].keys_by_dimension
