"""The host: calls a plugin that calls back."""

import asyncio
from pathlib import Path

from supervisor import Supervisor, current_caller

from counter_proto import AdderBase, AuditBase, Change, CounterStub, Noted, Pair, PutRequest, Value


class Adder(AdderBase):
    """What the host passes in a call."""

    async def add(self, message: Pair) -> Value:
        """Add."""
        print(f"  adder: {message.a} + {message.b}")
        return Value(value=message.a + message.b)


class Audit(AuditBase):
    """What the host offers to its plugins for as long as they live."""

    async def record(self, message: Change) -> Noted:
        """Write it down; a service knows which plugin calls it."""
        print(f"  audit: {current_caller().plugin} set {message.key} to {message.value}")
        return Noted()


async def main() -> None:
    """Count apples."""
    config = Path(__file__).with_name("plugins.toml")
    async with Supervisor.from_config(config, services=[Audit()]) as supervisor:
        counter = await supervisor.dispense("counter", CounterStub)
        for amount in (1, 20, 300):
            print(f"put {amount} more apples")
            async with supervisor.plugin("counter").offer(Adder()) as adder:
                total = await counter.put(PutRequest(key="apples", amount=amount, adder=adder))
        print(f"apples: {total.value}")


if __name__ == "__main__":
    asyncio.run(main())
