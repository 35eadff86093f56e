"""The store of `examples/kv` behind HTTP: run it with `uvicorn app:app`, or `python app.py`.

curl -X PUT --data 'hello' localhost:8000/kv/greeting
curl localhost:8000/kv/greeting
curl -X POST localhost:8000/plugins/store/kill      # and it comes back
"""

import os
import signal
import sys
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request, Response
from grpclib import GRPCError, Status

KV_EXAMPLE = Path(__file__).parent.parent / "kv"
sys.path.insert(0, str(KV_EXAMPLE))

from supervisor import Interface, PluginNotFoundError, PluginUnavailableError, State, Supervisor  # noqa: E402

from kv_proto import GetRequest, KvStub, PutRequest  # noqa: E402  # from the example next door

KV = Interface("kv", KvStub, version=1)
supervisor = Supervisor.from_config(KV_EXAMPLE / "plugins.toml")
app = FastAPI(lifespan=supervisor.lifespan)


@app.exception_handler(PluginUnavailableError)
async def unavailable(request: Request, error: PluginUnavailableError) -> Response:
    """A plugin that is away for longer than a call may wait is not the client's fault."""
    return Response(str(error), status_code=503, headers={"Retry-After": "1"})


@app.get("/kv/{key}")
async def get(key: str) -> Response:
    """Return a value."""
    kv = await supervisor.dispense(KV)
    try:
        return Response((await kv.get(GetRequest(key=key))).value)
    except GRPCError as error:
        if error.status is Status.NOT_FOUND:
            raise HTTPException(404, error.message) from error
        raise


@app.put("/kv/{key}", status_code=204)
async def put(key: str, request: Request) -> None:
    """Set a value."""
    kv = await supervisor.dispense(KV)
    await kv.put(PutRequest(key=key, value=await request.body()))


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Say that this process works, whatever its plugins do."""
    return {"status": "ok"}


@app.get("/readyz")
async def readyz(response: Response) -> dict[str, str]:
    """Say whether every plugin takes calls."""
    states = {name: plugin.state.value for name, plugin in supervisor.plugins.items()}
    response.status_code = 200 if set(states.values()) == {State.READY.value} else 503
    return states


@app.post("/plugins/{name}/kill", status_code=202)
async def kill(name: str) -> dict[str, str]:
    """Kill a plugin, for a visitor to see it come back."""
    try:
        plugin = supervisor.plugin(name)
    except PluginNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    if plugin.pid is None:
        raise HTTPException(409, f"{name} has no process")
    os.kill(plugin.pid, signal.SIGKILL)
    return {"killed": repr(plugin)}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
