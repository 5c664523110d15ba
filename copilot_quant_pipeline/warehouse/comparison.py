"""When two rows of a table say the same.

Here: SQL conditions from a table's declaration.
Not here: what is done about rows that differ (warehouse/settling.py, warehouse/plausibility.py).

Columns are declared names; `old` and `new` are the aliases or structs the two rows go by.
"""

from __future__ import annotations

from collections.abc import Iterable

from copilot_quant_pipeline.warehouse.tables import Column


def differs(column: Column, old: str = "s", new: str = "i") -> str:
    """Whether the two rows differ in `column`: by more than its tolerance, what is set once by having it."""
    before, after = f'{old}."{column.name}"', f'{new}."{column.name}"'
    if column.kind == "once":
        return f"{before} is null and {after} is not null"
    if not column.tolerance:
        return f"{before} is distinct from {after}"
    near = f"abs({before} - {after}) <= {column.tolerance} * greatest(abs({before}), abs({after}))"
    return f"not coalesce({near}, {before} is null and {after} is null)"


def any_differs(columns: Iterable[Column], old: str = "s", new: str = "i") -> str:
    """Whether any of `columns` differs."""
    return " or ".join(f"({differs(column, old, new)})" for column in columns) or "false"
