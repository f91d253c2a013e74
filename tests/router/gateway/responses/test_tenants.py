"""What one tenant stored, or was given sealed, is nobody else's."""

from pathlib import Path
from typing import Any

from router.access.access import Access
from router.access.config import AccessConfig
from router.access.keys import digest, make
from router.store.keys import StoredKey
from tests.fakes.scripted import ScriptedEngine, call
from tests.router.gateway.responses.conftest import ASK, WEATHER, Gateways

SEALED: dict[str, Any] = {**ASK, "include": ["reasoning.encrypted_content"], "tools": [WEATHER]}


async def test_tenants_do_not_see_each_other(begin: Gateways, tmp_path: Path) -> None:
    store = begin.store(f"sqlite:///{tmp_path}/store.db")
    headers = {}
    for tenant in ("ours", "theirs"):
        key = make()
        await store.keys.add(StoredKey(f"key_{tenant}", digest(key), tenant, "test", None, {}))
        headers[tenant] = {"authorization": f"Bearer {key}"}
    gateway = await begin(
        ScriptedEngine(call("weather", "{}", "Secret.")), store=store, access=Access(AccessConfig(keys=True), store)
    )
    ours, theirs, http = headers["ours"], headers["theirs"], gateway.http

    made = (await http.post("/v1/responses", json={**SEALED, "background": True}, headers=ours)).json()
    done = await http.get(f"/v1/responses/{made['id']}", params={"stream": "true"}, headers=ours)
    assert "response.completed" in done.text
    conversation = (await http.post("/v1/conversations", json={}, headers=ours)).json()["id"]
    answered = (await http.post("/v1/responses", json=SEALED, headers=ours)).json()
    thought = answered["output"][0]

    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"), ("GET", "?stream=true")):
        assert (await http.request(method, f"/v1/responses/{made['id']}{path}", headers=theirs)).status_code == 404
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/items")):
        assert (await http.request(method, f"/v1/conversations/{conversation}{path}", headers=theirs)).status_code == 404
    stolen = {"id": thought["id"], "type": "reasoning", "summary": [], "encrypted_content": thought["encrypted_content"]}
    for asked, status in (
        ({"previous_response_id": made["id"]}, 400),
        ({"conversation": conversation}, 404),
        ({"input": [{"type": "item_reference", "id": thought["id"]}]}, 404),
        ({"input": [stolen, {"role": "user", "content": "Tell."}]}, 400),
    ):
        assert (await http.post("/v1/responses", json={**ASK, **asked}, headers=theirs)).status_code == status, asked
        assert (await http.post("/v1/responses", json={**ASK, **asked}, headers=ours)).status_code == 200, asked
