"""Answer a host that looks for plugins and asks this one what it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from supervisor.manifest import MANIFEST_VARIABLE, Manifest
from supervisor.sdk.negotiation import Servicer, choose_services

__all__ = ["answer_if_asked"]


def answer_if_asked(
    manifest: Manifest | None,
    services: Sequence[Servicer],
    versions: Sequence[int] | Mapping[int, Sequence[Servicer]],
    environment: Mapping[str, str],
) -> None:
    """Print the manifest and exit with status 0, if `environment` says that a host asks for it.

    What the author left out is filled in: the interfaces are the full names of the gRPC services, the protocols are
    `versions`.
    """
    if MANIFEST_VARIABLE not in environment:
        return
    choose_services(services, versions, "")  # a plugin that could not serve has nothing to offer
    known = manifest or Manifest()
    complete = replace(
        known,
        interfaces=known.interfaces or _service_names(services, versions),
        protocols=known.protocols or tuple(sorted(versions)),
    )
    # On a line of its own, whatever was printed before.
    sys.stdout.write(f"\n{complete.to_json()}\n")
    sys.stdout.flush()
    sys.exit(0)


def _service_names(
    services: Sequence[Servicer], versions: Sequence[int] | Mapping[int, Sequence[Servicer]]
) -> tuple[str, ...]:
    groups = versions.values() if isinstance(versions, Mapping) else [services]
    routes = [route for group in groups for service in group for route in service.__mapping__()]
    return tuple(sorted({route.split("/")[1] for route in routes}))
