"""An engine is let go as soon as its answer is known, and one that breaks its promise is our failure."""

import pytest
from prometheus_client import CollectorRegistry

from ossia.common.vocabulary import encode
from router.gateway.chat import ChatAnswer
from router.gateway.choice import copies
from router.gateway.completions import CompletionAnswer
from router.gateway.errors import ApiError, Json
from router.gateway.generation import Source
from router.gateway.metrics import Metrics
from router.gateway.schema_chat import ChatBody
from router.gateway.schema_completions import CompletionBody
from tests.fakes.scripted import FINISH, ScriptedEngine, answer, card, pairs

CHAT = b'{"model":"tiny","messages":[{"role":"user","content":"x"}],"stop":"END"}'
COMPLETION = b'{"model":"tiny","prompt":"x","stop":"END"}'


def ask(engine: ScriptedEngine, kind: type) -> ChatAnswer | CompletionAnswer:
    source = Source(engine, Metrics(CollectorRegistry()), "id", "", "")
    if kind is ChatAnswer:
        chat = ChatBody.parse(CHAT)
        return ChatAnswer(source, chat, [chat.submit([1], card())], card())
    completion = CompletionBody.parse(COMPLETION)
    return CompletionAnswer(source, completion, [completion.submit([1], card())], card())


@pytest.mark.parametrize("kind", [ChatAnswer, CompletionAnswer])
async def test_the_engine_is_free_before_the_last_chunk_is_taken(kind: type) -> None:
    tokens = answer("the END") if kind is ChatAnswer else encode("the END")
    engine = ScriptedEngine(tokens[:2], tokens[2:], None)
    chunks = ask(engine, kind).chunks()
    seen: list[Json] = []
    while not seen or seen[-1]["choices"][0]["finish_reason"] is None:  # type: ignore[index]
        seen += await anext(chunks)
    assert engine.running == 0
    await chunks.aclose()


async def test_an_answer_is_stored_before_a_client_knows_that_it_ended() -> None:
    stored: list[Json] = []

    async def store(whole: Json) -> None:
        stored.append(whole)

    source = Source(ScriptedEngine(*pairs(answer("x"), 2)), Metrics(CollectorRegistry()), "id", "", "")
    chat = ChatBody.parse(CHAT)
    submits = copies(chat.submit([1], card()), 2)
    ended = 0
    async for chunks in ChatAnswer(source, chat, submits, card(), store=store).chunks():
        ended += sum(chunk["choices"][0]["finish_reason"] is not None for chunk in chunks)  # type: ignore[index]
        assert len(stored) == (ended == 2)


class Silent(ScriptedEngine):
    """Ends without a finish."""

    def __init__(self) -> None:
        super().__init__(encode("a"), finish=FINISH.FINISH_REASON_UNSPECIFIED)


@pytest.mark.parametrize("kind", [ChatAnswer, CompletionAnswer])
async def test_an_engine_that_never_finishes_is_an_internal_error(kind: type) -> None:
    with pytest.raises(ApiError) as raised:
        await ask(Silent(), kind).whole()
    assert raised.value.status == 500
