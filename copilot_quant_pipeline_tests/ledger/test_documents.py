"""The stored document of an event, whatever is in it, is read back by Dagster as exactly that event."""

from __future__ import annotations

import json
import math
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.definitions.events import AssetMaterialization
from dagster._core.definitions.partitions.subset.default import DefaultPartitionsSubset
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.handle import StepHandle
from dagster_shared.serdes import deserialize_value, serialize_value
from hypothesis import given
from hypothesis import strategies as st

from copilot_quant_pipeline.ledger.documents import (
    are_alike,
    materialized_document,
    planned_document,
)

text = st.text(max_size=12)
maybe_text = st.none() | text
tag_values = st.text("aZ0_-.", max_size=6)
tags = st.none() | st.dictionaries(st.sampled_from(["by", "dagster/data_version"]), tag_values)
times = st.floats(min_value=0, max_value=4e9, allow_nan=False)
values = st.one_of(
    st.integers(-(2**60), 2**60).map(dg.MetadataValue.int),
    st.floats(allow_nan=False).map(dg.MetadataValue.float),
    st.booleans().map(dg.MetadataValue.bool),
    st.none().map(lambda _: dg.MetadataValue.null()),
    text.map(dg.MetadataValue.text),
    text.map(dg.MetadataValue.md),
    text.map(dg.MetadataValue.url),
    st.dictionaries(text, st.none() | st.integers() | text, max_size=2).map(dg.MetadataValue.json),
)


@st.composite
def materialized(draw: st.DrawFn) -> EventLogEntry:
    asset = AssetMaterialization(
        dg.AssetKey(draw(st.lists(st.sampled_from(["a", "é", "b c"]), min_size=1, max_size=2))),
        description=draw(maybe_text),
        metadata=draw(st.dictionaries(text, values, max_size=3)),
        partition=draw(maybe_text),
        tags=draw(tags),
    )
    node = draw(st.sampled_from([None, NodeHandle("bars", None), NodeHandle("x", NodeHandle("g", None))]))
    key = draw(st.sampled_from([None, "bars", "bars_2"]))
    event = DagsterEvent(
        DagsterEventType.ASSET_MATERIALIZATION.value,
        "job",
        step_handle=StepHandle(node, key) if node and key else None,
        node_handle=node,
        step_kind_value=draw(st.sampled_from([None, "COMPUTE"])),
        logging_tags=draw(st.sampled_from([None, {}, {"run_id": "r"}])),
        event_specific_data=StepMaterializationData(asset),
        message=draw(maybe_text),
        pid=draw(st.none() | st.integers(0, 9)),
        step_key=draw(st.sampled_from([None, "bars", "else"])),
    )
    return EventLogEntry(
        None, 10, draw(text), "run", draw(times), draw(maybe_text), draw(maybe_text), dagster_event=event
    )


def with_cell(event: EventLogEntry, partition: str | None, of: Any, at: float) -> EventLogEntry:
    dagster_event = event.get_dagster_event()
    data = dagster_event.step_materialization_data
    asset = data.materialization._replace(partition=partition, tags=of)
    data = data._replace(materialization=asset)
    return event._replace(timestamp=at, dagster_event=dagster_event._replace(event_specific_data=data))


def with_metadata(value: Any) -> EventLogEntry:
    asset = AssetMaterialization("bars", metadata={"n": value})
    event = DagsterEvent("ASSET_MATERIALIZATION", "job", event_specific_data=StepMaterializationData(asset))
    return EventLogEntry(None, 10, "", "run", 0.0, dagster_event=event)


@given(materialized(), maybe_text, tags, times)
def test_a_document_filled_in_for_a_cell_is_read_back_as_that_cells_event(
    first: EventLogEntry, partition: str | None, of: Any, at: float
) -> None:
    event = with_cell(first, partition, of, at)
    assert are_alike(event, first)
    document = materialized_document(first)(partition, of, at)
    by_dagster = deserialize_value(serialize_value(event), EventLogEntry)
    assert deserialize_value(document, EventLogEntry) == by_dagster


@given(materialized(), materialized())
def test_events_are_alike_only_where_their_documents_are_but_for_partition_tags_and_time(
    one: EventLogEntry, other: EventLogEntry
) -> None:
    documents = [json.loads(serialize_value(with_cell(event, None, None, 0.0))) for event in (one, other)]
    same_text = json.dumps(documents[0], sort_keys=True) == json.dumps(documents[1], sort_keys=True)
    assert are_alike(one, other) == same_text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (dg.MetadataValue.int(1), dg.MetadataValue.float(1.0)),
        (dg.MetadataValue.json({"n": 1}), dg.MetadataValue.json({"n": True})),
        (dg.MetadataValue.json({"n": 1}), dg.MetadataValue.json({"n": 1.0})),
        (dg.MetadataValue.text("x"), dg.MetadataValue.md("x")),
    ],
)
def test_metadata_that_is_equal_in_python_and_stored_differently_is_not_alike(one: Any, other: Any) -> None:
    assert not are_alike(with_metadata(one), with_metadata(other))


def test_a_number_that_equals_nothing_not_even_itself_is_still_stored() -> None:
    document = materialized_document(with_metadata(math.nan))("cell", None, 1.5)
    assert json.loads(document)["timestamp"] == 1.5
    assert "NaN" in document


@given(st.lists(text.filter(bool), min_size=2, max_size=4, unique=True))
def test_a_planned_cells_document_is_read_back_as_the_event_dagster_plans_for_it(keys: list[str]) -> None:
    def planned(partition: str | None, subset: DefaultPartitionsSubset | None) -> EventLogEntry:
        data = AssetMaterializationPlannedData(dg.AssetKey("bars"), partition, subset)
        event = DagsterEvent.build_asset_materialization_planned_event("job", "bars", data)
        return EventLogEntry(None, 10, "", "run", 17.25, "bars", "job", event)

    write = planned_document(planned(None, DefaultPartitionsSubset(set(keys))))
    for key in keys:
        assert deserialize_value(write(key), EventLogEntry) == planned(key, None)
