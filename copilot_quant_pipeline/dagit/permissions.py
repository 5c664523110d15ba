"""What nobody may do in Dagit, as its permissions are told it: paint cells of a grid, or wipe them, by hand.

Here: the two permissions that are taken away, with the reason, and the process context that takes them.
Not here: cells changed another way (upkeep, which repaints them), who gets in (gate).

Dagster's own permissions know places of code, not single assets; ours are all in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import AssetKey
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.permissions import PermissionResult, Permissions

from copilot_quant_pipeline.grid.axes import GRID_ASSETS

REASON = (
    "A green cell is a fact in the warehouse: only a run that stored it paints one, and nothing is wiped by hand."
    " copilot-quant reconcile makes the grid what is stored."
)
TAKEN = (Permissions.WIPE_ASSETS, Permissions.REPORT_RUNLESS_ASSET_EVENTS)

_Permitted = Mapping[str, PermissionResult]


class GridContext(WorkspaceRequestContext):
    """What a request may do: all that Dagit offers except TAKEN.

    Assets that are no grid may be reported by /report_asset_*, where the gate lets that through.
    """

    @property
    def permissions(self) -> _Permitted:
        """By permission, whether it is given and if not, why."""
        return _without_taken(super().permissions)

    def permissions_for_location(self, *, location_name: str) -> _Permitted:
        """Likewise in one place of code."""
        return _without_taken(super().permissions_for_location(location_name=location_name))

    def has_permission_for_selector(self, permission: str, selector: Any) -> bool:
        """Likewise for one definition; Dagster asks this for assets reported from outside."""
        if permission != Permissions.REPORT_RUNLESS_ASSET_EVENTS or self.read_only:
            return super().has_permission_for_selector(permission, selector)
        asset = selector if isinstance(selector, AssetKey) else getattr(selector, "asset_key", None)
        return asset is not None and asset.to_user_string() not in GRID_ASSETS and self.asset_graph.has(selector)


class GridWorkspace(WorkspaceProcessContext):
    """Dagster's process context whose requests are GridContexts."""

    def create_request_context(self, source: object | None = None) -> GridContext:
        """The context of one request."""
        return GridContext(
            instance=self.instance,
            current_workspace=self.get_current_workspace(),
            process_context=self,
            version=self.version,
            source=source,
            read_only=self._read_only,
        )


def _without_taken(permitted: _Permitted) -> _Permitted:
    taken = PermissionResult(enabled=False, disabled_reason=REASON)
    return {permission: taken if permission in TAKEN else result for permission, result in permitted.items()}
