"""A supervisor in the lifespan of a Starlette application."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub, PutRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from supervisor import PluginSpec, Supervisor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # newer versions of it would rather have httpx2 than httpx
    from starlette.testclient import TestClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "kv"


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


def test_lifespan_may_be_entered_twice(tmp_path: Path) -> None:
    """One application, two TestClients one after the other, each on a loop of its own: the store works in both."""
    spec = PluginSpec(
        name="store", command=(sys.executable, str(EXAMPLE / "plugin.py")), env={"KV_FOLDER": str(tmp_path / "kv")}
    )
    supervisor = Supervisor([spec], observers=())

    async def kv(request: Request) -> Response:
        store = await supervisor.dispense(KvStub)
        key = request.path_params["key"]
        if request.method == "PUT":
            await store.put(PutRequest(key=key, value=await request.body()))
            return Response(status_code=204)
        return Response((await store.get(GetRequest(key=key))).value)

    app = Starlette(routes=[Route("/{key}", kv, methods=["GET", "PUT"])], lifespan=supervisor.lifespan)
    for life in (b"first", b"second"):
        with TestClient(app) as client:
            if life == b"second":
                assert client.get("/a").content == b"first"
            assert client.put("/a", content=life).status_code == 204
            assert client.get("/a").content == life
    with pytest.raises(Exception, match="not running"):
        TestClient(app).get("/a")
