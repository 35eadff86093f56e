"""The matrix: who hosts whom, with and without TLS, with which broker, over which network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Final

__all__ = ["BROKERS", "CELLS", "NETWORKS", "PAIRS", "TLS", "Cell"]

PAIRS: Final = {
    "python-go": "Python host → Go plugin",
    "go-python": "Go host → Python plugin",
    "python-python": "Python → Python",
    "go-go": "Go → Go (checks the instrument)",
}
TLS: Final = {"plain": "plain", "tls": "AutoMTLS"}
BROKERS: Final = {"off": "broker off", "sockets": "broker", "mux": "broker, multiplexed"}
NETWORKS: Final = {"unix": "unix", "tcp": "tcp"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One way for a host and a plugin to meet. Its parts are keys of the tables above."""

    pair: str
    tls: str
    broker: str
    network: str

    def __str__(self) -> str:
        return f"{self.pair}-{self.tls}-{self.broker}-{self.network}"

    @property
    def host(self) -> str:
        """The host's language."""
        return self.pair.split("-")[0]

    @property
    def plugin(self) -> str:
        """The plugin's language."""
        return self.pair.split("-")[1]

    @property
    def flags(self) -> tuple[str, ...]:
        """What the Go host is told."""
        wanted = {
            "-auto-mtls": self.tls == "tls",
            "-mux": self.broker == "mux",
            "-tcp": self.network == "tcp",
        }
        return tuple(flag for flag, on in wanted.items() if on)

    @property
    def fields(self) -> dict[str, Any]:
        """What our specification says."""
        return {
            "auto_mtls": self.tls == "tls",
            "multiplex": self.broker == "mux",
            "insecure": self.network == "tcp" and self.tls == "plain",
        }


CELLS: Final = tuple(Cell(*parts) for parts in product(PAIRS, TLS, BROKERS, NETWORKS))
