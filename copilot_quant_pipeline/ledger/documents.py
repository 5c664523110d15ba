"""The JSON document of an event, written once and filled in for each cell.

Here: which events are alike, the shortest document Dagster reads back as the same event, and its blanks.
Not here: rows, tables and transactions (events, sqlite).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast
from uuid import uuid4

from dagster import MetadataValue
from dagster._core.definitions.events import AssetMaterialization
from dagster._core.events import StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster_shared.serdes import deserialize_value, serialize_value

Tags = Mapping[str, str] | None
Document = Callable[[str | None, Tags, float], str]

# What Dagster's own constructors fill in where it is absent; `message` of an entry is for readers long gone.
_LEFT_OUT_WHEN_EMPTY = {
    "AssetMaterialization": {"description"},
    "AssetMaterializationPlannedData": {"partition", "partitions_subset"},
    "DagsterEvent": {"logging_tags", "pid", "solid_handle", "step_handle", "step_kind_value"},
    "EventLogEntry": {"message"},
    "EventMetadataEntry": {"description"},
    "StepMaterializationData": {"asset_lineage"},
}
# A step handle is built from the node handle, a step key from the step handle.
_DERIVED = {"DagsterEvent": {"step_handle", "step_key"}}


def materialization(event: EventLogEntry) -> AssetMaterialization:
    """The materialization that an ASSET_MATERIALIZATION event carries."""
    return event.get_dagster_event().step_materialization_data.materialization


def are_alike(event: EventLogEntry, other: EventLogEntry) -> bool:
    """Whether two materialization events differ in partition, tags and time only."""
    metadata, others = materialization(event).metadata, materialization(other).metadata
    return _frame(event) == _frame(other) and _are_same_metadata(metadata, others)


def materialized_document(event: EventLogEntry) -> Document:
    """How to write the documents of all materialization events that are alike `event`."""
    whole = shortest(event)
    inner = whole["dagster_event"]["event_specific_data"]["materialization"]
    blanks = _Blanks(*(uuid4().hex for _ in range(3)))
    inner["partition"], inner["tags"], whole["timestamp"] = blanks
    before, between, after, end = _cut(_dumps(whole), blanks)

    def write(partition: str | None, tags: Tags, timestamp: float) -> str:
        tags_json = "null" if tags is None else _dumps(dict(tags))
        return f"{before}{_dumps(partition)}{between}{tags_json}{after}{_dumps(timestamp)}{end}"

    return write


def planned_document(event: EventLogEntry) -> Callable[[str], str]:
    """How to write the document of one cell's planned event, from the event planned for all cells."""
    planned = event.get_dagster_event().asset_materialization_planned_data
    blank = uuid4().hex
    one = planned._replace(partition=blank, partitions_subset=None)
    only = event._replace(dagster_event=event.get_dagster_event()._replace(event_specific_data=one))
    before, after = _cut(_dumps(shortest(only)), [blank])
    return lambda partition: f"{before}{_dumps(partition)}{after}"


def shortest(event: EventLogEntry) -> dict[str, Any]:
    """The event as Dagster packs it, without what Dagster fills in by itself; whole if that changes it."""
    whole: dict[str, Any] = json.loads(serialize_value(event))
    short: dict[str, Any] = _without_defaults(whole)
    return short if deserialize_value(_dumps(short), EventLogEntry) == event else whole


class _Blanks(NamedTuple):
    partition: str
    tags: str
    timestamp: str


def _frame(event: EventLogEntry) -> tuple[Any, ...]:
    dagster_event = event.get_dagster_event()
    data: StepMaterializationData = dagster_event.step_materialization_data
    asset = data.materialization
    return (
        event._replace(timestamp=0.0, dagster_event=None),
        dagster_event._replace(event_specific_data=None),
        data.asset_lineage,
        asset.asset_key,
        asset.description,
    )


def _are_same_metadata(one: Mapping[str, MetadataValue[Any]], other: Mapping[str, MetadataValue[Any]]) -> bool:
    # Equality would not do: 1, 1.0 and True are equal and are stored differently.
    return one.keys() == other.keys() and all(
        value is other[name] or _packed(value) == _packed(other[name]) for name, value in one.items()
    )


def _packed(value: MetadataValue[Any]) -> str:
    return serialize_value(cast("Any", value))


def _without_defaults(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_defaults(item) for name, item in value.items() if not _is_default(value, name)}
    return value


def _is_default(packed: dict[str, Any], name: str) -> bool:
    kind = packed.get("__class__", "")
    empty = name in _LEFT_OUT_WHEN_EMPTY.get(kind, ()) and packed[name] in (None, "", [], {})
    return empty or (name in _DERIVED.get(kind, ()) and packed.get("solid_handle") is not None)


def _cut(text: str, blanks: Iterable[str]) -> list[str]:
    pieces = []
    for blank in blanks:
        piece, _, text = text.partition(f'"{blank}"')
        pieces.append(piece)
    return [*pieces, text]


_dumps = json.JSONEncoder(separators=(",", ":")).encode
