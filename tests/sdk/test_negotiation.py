"""Which version and which services."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.errors import ConfigurationError
from supervisor.sdk.negotiation import choose_services
from supervisor.services.health import HealthService


async def test_services_of_each_version() -> None:
    """The version that was negotiated brings its own servicers; a list of versions has the same for all."""
    one, two = HealthService(), HealthService()
    assert choose_services((), {1: [one], 2: [two]}, "1,2,3") == (2, [two])
    assert choose_services((), {1: [one], 2: [two]}, "7") == (1, [one])
    assert choose_services((one,), (3, 4), "4") == (4, (one,))


@pytest.mark.parametrize(
    ("services", "versions"),
    [(("any",), {1: ["any"]}), ((), (1,)), ((), {1: []}), (("any",), ()), ((), {})],
    ids=["twice", "none", "none for the version", "no version", "no versions"],
)
def test_services_that_cannot_be_served(services: Any, versions: Any) -> None:
    """Given twice, or not at all: said before anything is printed."""
    with pytest.raises(ConfigurationError):
        choose_services(services, versions, "1")
