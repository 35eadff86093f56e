"""What our hosts offer to a counter."""

from __future__ import annotations

from interop_proto import AdderBase, CounterValue, Pair

from supervisor import current_caller

__all__ = ["Adder"]


class Adder(AdderBase):
    """Adds, and keeps who asked."""

    def __init__(self) -> None:
        self.callers: list[str] = []

    async def add(self, pair: Pair) -> CounterValue:
        """Return the sum."""
        self.callers.append(current_caller().plugin)
        return CounterValue(value=pair.a + pair.b)
