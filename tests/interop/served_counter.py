"""The counter of the Go programs, in Python: calls its caller back for every sum, and lends an adder of its own."""

from betterproto.lib.google.protobuf import Empty
from interop_proto import AdderBase, AdderStub, CounterBase, CounterKey, CounterPut, CounterValue, Offer, Pair
from interop_serving import serve_as_asked

from supervisor.sdk import current


class Adder(AdderBase):
    """Adds."""

    async def add(self, pair: Pair) -> CounterValue:
        """Return the sum."""
        return CounterValue(value=pair.a + pair.b)


class Counter(CounterBase):
    """Has its caller add up its values."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}

    async def put(self, counter_put: CounterPut) -> Empty:
        """Replace a value by what the caller's adder says of the old and the new one."""
        async with current().dial(counter_put.adder, AdderStub) as adder:
            total = await adder.add(Pair(a=self._values.get(counter_put.key, 0), b=counter_put.value))
        self._values[counter_put.key] = total.value
        return Empty()

    async def get(self, counter_key: CounterKey) -> CounterValue:
        """Return a value, zero at first."""
        return CounterValue(value=self._values.get(counter_key.key, 0))

    async def lend(self, empty: Empty) -> Offer:
        """Offer an adder for as long as the plugin lives."""
        return Offer(service_id=await current().offer(Adder()))


serve_as_asked(Counter())
