"""The plugin: a counter that cannot add. Its caller brings an adder to each call, and the host keeps the books."""

from supervisor.sdk import current, serve

from counter_proto import AdderStub, AuditStub, Change, CounterBase, Pair, PutRequest, Value


class Counter(CounterBase):
    """Values in memory."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    async def put(self, message: PutRequest) -> Value:
        """Call the host twice: what it passed in this call, and what it offers to every call."""
        async with current().dial(message.adder, AdderStub) as adder:
            total = await adder.add(Pair(a=self.values.get(message.key, 0), b=message.amount))
        self.values[message.key] = total.value

        audit = await current().host(AuditStub)
        await audit.record(Change(key=message.key, value=total.value))
        return total


if __name__ == "__main__":
    serve(Counter())
