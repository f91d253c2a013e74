"""What the model thought before it called tools, for clients that do not send it back with the call. Knows no endpoint.

gpt-oss was trained to see its reasoning until its turn ends in an answer, however many tools it calls on the way; OpenAI's
Chat API has no field for it. Kept in this process, and in the database, so that another gateway may go on with the turn.
"""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from ossia.common.errors import UserError
from router.harmony.render import open_from
from router.harmony.types import Message
from router.harmony.vault import Vault
from router.store.reasoning import Reasoning

logger = logging.getLogger(__name__)

_FAILURES = (SQLAlchemyError, OSError, UserError)  # of the database, or of its key
PATIENCE_S = 5.0  # with the database: the answer waits for it
LIFETIME_S = 24 * 3600.0
_OWN = re.compile(r"call_[0-9a-f]{32}")
_MOST = 512  # calls of one request


class Thoughts:
    """`store` is the database's part; None keeps everything in memory alone. If it fails or is silent, that costs no answer."""

    def __init__(self, vault: Vault | None = None, store: Reasoning | None = None) -> None:
        self._vault = vault or Vault()
        self._store = store

    async def keep(self, tenant: str, call_ids: Sequence[str], reasoning: str, stored: bool) -> None:
        """For the results of these calls; in memory alone unless `stored`."""
        for call_id in call_ids:
            self._vault.put(tenant, call_id, reasoning)
        if not (self._store and stored):
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                for call_id in call_ids:
                    await self._store.put(tenant, call_id, reasoning, time.time() + LIFETIME_S)
        except _FAILURES:
            logger.exception("what was thought before a call is not stored: another gateway will not know it")

    async def recall(self, tenant: str, messages: Sequence[Message]) -> list[Message]:
        """The conversation, with the reasoning that its running tool loop lacks."""
        begin = open_from(messages)
        asked = [call_id for message in messages[begin:] for call_id in _lacking(message)][-_MOST:]
        if not asked:
            return list(messages)
        found = await self._found(tenant, asked)
        return [*messages[:begin], *(_recalled(message, found) for message in messages[begin:])]

    async def _found(self, tenant: str, call_ids: Sequence[str]) -> dict[str, str]:
        found = self._vault.get(tenant, call_ids)
        missing = [call_id for call_id in call_ids if call_id not in found]
        if not (self._store and missing):
            return found
        try:
            async with asyncio.timeout(PATIENCE_S):
                return found | await self._store.get(tenant, missing)
        except _FAILURES:
            logger.exception("what was thought before a call cannot be read: the model goes on without")
            return found


def _lacking(message: Message) -> list[str]:
    """Ids of calls that this gateway, or another like it, gave out and that came back without their reasoning."""
    return [] if message.reasoning else [call.id for call in message.tool_calls if _OWN.fullmatch(call.id)]


def _recalled(message: Message, found: dict[str, str]) -> Message:
    thought = next((found[call_id] for call_id in _lacking(message) if call_id in found), None)
    return message if thought is None else replace(message, reasoning=thought)
