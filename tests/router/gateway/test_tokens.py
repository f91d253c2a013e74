"""Tokenizing, detokenizing and rendering: what the engine would be given, to the token."""

from typing import Any

from router.gateway.settings import Settings
from tests.fakes.scripted import CONTEXT, MODEL, ScriptedEngine, answer
from tests.router.gateway.test_chat import ASK, TOOLS

TEXT = "Ünicode 🜁, <|end|> and\nmore"


async def post(gateway: Any, path: str, status: int = 200, **body: Any) -> Any:
    response = await gateway.http.post(path, json={"model": MODEL, **body})
    assert response.status_code == status, response.text
    return response.json()


async def test_text_makes_a_round_trip(start: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine)
    told = await post(gateway, "/tokenize", prompt=TEXT, return_token_strs=True, add_special_tokens=True)
    assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), CONTEXT)
    assert len(told["token_strs"]) == told["count"]
    assert told["token_strs"][0] == "Ü"
    assert await post(gateway, "/detokenize", tokens=told["tokens"]) == {"prompt": TEXT}
    await post(gateway, "/v1/completions", prompt=TEXT)
    assert list(engine.submits[0].prompt) == told["tokens"]
    assert (await post(gateway, "/tokenize", prompt=""))["tokens"] == []


async def test_special_tokens_are_spelled_out(start: Any) -> None:
    gateway = await start(ScriptedEngine())
    assert await post(gateway, "/detokenize", tokens=[200_006, 200_007]) == {"prompt": "<|start|><|end|>"}
    refused = await post(gateway, "/detokenize", 400, tokens=[1, 201_088])
    assert refused["error"]["param"] == "tokens"


async def test_a_chat_is_rendered_as_it_is_submitted(start: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine, Settings(prompt_date="none"))
    body = {**ASK, "tools": TOOLS, "reasoning_effort": "high", "stream": True}
    told = await post(gateway, "/v1/render", **body)
    assert not engine.submits
    await gateway.http.post("/v1/chat/completions", json=body)
    assert list(engine.submits[0].prompt) == told["tokens"]
    assert told["prompt"].startswith("<|start|>system<|message|>You are ChatGPT")
    assert told["prompt"].endswith("<|start|>user<|message|>Hi<|end|><|start|>assistant")
    assert told["count"] == len(told["tokens"])
    assert (await post(gateway, "/v1/render", 400, messages=[]))["error"]["param"] == "messages"


async def test_responses_are_rendered_as_they_are_submitted(start: Any) -> None:
    """With all that they go on from: an earlier response, a conversation."""
    engine = ScriptedEngine(answer("Hello"))
    gateway = await start(engine, Settings(prompt_date="none"))
    first = await post(gateway, "/v1/responses", input="One")
    conversation = (await gateway.client.conversations.create(items=[{"role": "user", "content": "Two"}])).id
    for more in ({"previous_response_id": first["id"]}, {"conversation": conversation}, {"truncation": "auto"}):
        body = {"input": "Three", "instructions": "Rhyme.", "reasoning": {"effort": "low"}, "max_output_tokens": 9, **more}
        told = await post(gateway, "/v1/responses/render", **body)
        submitted = len(engine.submits)
        await post(gateway, "/v1/responses", **body)
        assert list(engine.submits[submitted].prompt) == told["tokens"]
        assert told["prompt"].endswith("<|start|>user<|message|>Three<|end|><|start|>assistant")
        assert (told["count"], told["max_model_len"]) == (len(told["tokens"]), CONTEXT)
    listed = (await gateway.http.get(f"/v1/conversations/{conversation}/items")).json()
    assert len(listed["data"]) == 3
    refused = await post(gateway, "/v1/responses/render", 400, input="x", previous_response_id="resp_none")
    assert refused["error"]["code"] == "previous_response_not_found"


async def test_messages_are_rendered_as_they_are_submitted(start: Any) -> None:
    engine = ScriptedEngine(answer("x"))
    gateway = await start(engine, Settings(prompt_date="none"))
    body = {**ASK, "max_tokens": 9, "system": "Rhyme.", "tools": [{"name": "weather", "input_schema": {}}]}
    told = await post(gateway, "/v1/messages/render", **body)
    assert not engine.submits
    await post(gateway, "/v1/messages", **body)
    assert list(engine.submits[0].prompt) == told["tokens"]
    assert (await post(gateway, "/v1/messages/render", 400, **ASK))["type"] == "error"


async def test_mistakes_are_the_clients(start: Any) -> None:
    gateway = await start(ScriptedEngine())
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("/tokenize", {"prompt": 1}),
        ("/detokenize", {"tokens": [-1]}),
        ("/tokenize", {"prompt": "", "x": 1}),
    ]
    for path, body in wrong:
        assert (await post(gateway, path, 400, **body))["error"]["type"] == "invalid_request_error"
    assert (await post(gateway, "/tokenize", 404, model="gpt-9", prompt=""))["error"]["code"] == "model_not_found"
