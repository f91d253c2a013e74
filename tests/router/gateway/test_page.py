"""The page in a real browser: what a user sees of an answer, of a call, of a key that is asked for, and of the cluster."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import product
from typing import Any

import grpc
import httpx
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ossia.common.vocabulary import decode
from router.access.keys import digest, make
from router.engine import EngineError
from router.gateway.server import listen, serving
from router.gateway.settings import Settings
from router.store.keys import StoredKey
from router.store.store import Store
from tests.fakes.scripted import ScriptedEngine, answer, call
from tests.router.access.conftest import guarded, store

__all__ = ["guarded", "store"]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver")
TOOLS = '[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]'
PHONE = 360
DONE = "article.assistant:last-child:not([aria-busy])"
READABLE = 4.5  # https://www.w3.org/TR/WCAG22/#contrast-minimum


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


class User:
    """Looks at the page and types, in a thread of its own: the server runs in this one."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self._browser = browser
        self._url = url

    async def does(self, work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    async def comes(self, width: int = 1200) -> None:
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}

        def work() -> None:
            self._browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            self._browser.get(self._url)

        await self.does(work)

    async def prefers(self, light: str) -> None:
        """`light` or `dark`, as the system says it."""
        feature = {"name": "prefers-color-scheme", "value": light}
        await self.does(lambda: self._browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]}))

    async def sees(self, text: str, where: str = "body") -> str:
        """Waits for the text; returns all that stands there."""

        def found(browser: Chrome) -> str:
            whole = str(browser.find_element(By.CSS_SELECTOR, where).text)
            return whole if text in whole else ""

        return str(await self.does(lambda: WebDriverWait(self._browser, 20, 0.05).until(found)))

    async def types(self, where: str, text: str) -> None:
        await self.does(lambda: self._browser.find_element(By.CSS_SELECTOR, where).send_keys(text))

    async def presses(self, *keys: str) -> None:
        """Where the focus is."""
        await self.does(lambda: self._browser.switch_to.active_element.send_keys(*keys))

    async def focus(self) -> str:
        """The id of what has it, or what it is."""
        return str(await self.evaluates("document.activeElement.id || document.activeElement.localName"))

    async def clicks(self, where: str) -> None:
        await self.does(lambda: self._browser.find_element(By.CSS_SELECTOR, where).click())

    async def evaluates(self, script: str) -> Any:
        return await self.does(lambda: self._browser.execute_script(f"return {script}"))

    async def complaints(self) -> list[str]:
        """Of the browser: errors of scripts, and what the policy forbade."""
        return [entry["message"] for entry in await self.does(lambda: self._browser.get_log("browser"))]


@pytest.fixture
async def visit(start: Any, browser: Chrome) -> Any:
    async def begin(engine: ScriptedEngine, **more: Any) -> User:
        gateway = await start(engine, **more)
        user = User(browser, gateway.url)
        await user.does(lambda: browser.get_log("browser"))
        await user.comes()
        return user

    return begin


async def test_an_answer_comes_with_its_reasoning_and_its_speed(visit: Any) -> None:
    tokens = answer("There are three.", reasoning="Let me count.")
    engine = ScriptedEngine(tokens[:4], None, tokens[4:6], None, tokens[6:])
    user = await visit(engine)
    await user.sees("tiny", "#model")
    await user.types("#text", "How many rs?" + Keys.ENTER)
    await user.sees("Reasoning", "article.assistant")
    first = await user.sees("4 tokens", "article.assistant")
    assert "tokens/s" not in first, "nothing was measured yet"
    assert await user.evaluates("document.querySelector('article details').open") is True
    engine.go.set()
    engine.go.clear()
    await user.sees("tokens/s", "article.assistant[aria-busy] .meta")
    engine.go.set()
    whole = await user.sees("There are three.", DONE)
    assert f"{len(tokens)} tokens" in whole and "of reasoning" in whole and "tokens/s" in whole and "first after" in whole
    assert await user.evaluates("document.querySelector('article.assistant .thought').textContent") == "Let me count."
    assert await user.evaluates("document.querySelector('article.assistant details').open") is False
    assert await user.complaints() == []


async def test_effort_and_model_are_what_was_picked_and_the_turns_before_are_sent(visit: Any) -> None:
    engine = ScriptedEngine(answer("Hello."))
    user = await visit(engine)
    await user.sees("someone/tiny", "#model")
    await user.types("#effort", "high")
    await user.types("#text", "Hi" + Keys.ENTER)
    await user.sees("Hello.", DONE)
    await user.types("#text", "And you?" + Keys.ENTER)
    await user.sees("And you?", "article.user ~ article.user")
    await user.sees("Hello.", DONE)
    prompt = decode(engine.submits[1].prompt)
    assert "Reasoning: high" in prompt
    assert prompt.index("Hi<") < prompt.index("Hello.") < prompt.index("And you?")


async def test_a_call_is_shown_and_goes_on_with_its_result(visit: Any) -> None:
    engine = ScriptedEngine(call("get_weather", '{"city": "Paris"}', reasoning="I should look."))
    user = await visit(engine)
    await user.clicks("form summary")
    await user.types("#tools", TOOLS)
    await user.types("#text", "Weather in Paris?" + Keys.ENTER)
    whole = await user.sees("get_weather", f"{DONE} .call")
    assert '{"city": "Paris"}' in whole
    engine.script = (answer("Sunny."),)
    await user.presses("18 degrees" + Keys.ENTER)  # the place for it has the focus
    await user.sees("Sunny.", DONE)
    assert await user.focus() == "text"
    prompt = decode(engine.submits[1].prompt)
    assert "I should look." in prompt and "18 degrees" in prompt


@pytest.mark.parametrize("way", ["button", "key"])
async def test_an_answer_is_stopped_and_the_engine_let_go(visit: Any, way: str) -> None:
    engine = ScriptedEngine(answer("Once upon a time.")[:-2], None)
    user = await visit(engine)
    await user.types("#text", "A story" + Keys.ENTER)
    await user.sees("Once upon")
    await (user.clicks("#send") if way == "button" else user.presses(Keys.ESCAPE))
    await user.sees("Stopped.", DONE)
    await asyncio.wait_for(engine.left.wait(), 10)
    await user.sees("Send", "#send")


async def test_a_new_chat_knows_nothing_of_the_one_that_it_ended(visit: Any) -> None:
    engine = ScriptedEngine(answer("Once upon a time.")[:-2], None)
    user = await visit(engine)
    await user.types("#text", "A story" + Keys.ENTER)
    await user.sees("Once upon")
    await user.clicks("#clear")
    await asyncio.wait_for(engine.left.wait(), 10)
    await user.sees("Send", "#send")
    engine.script = (answer("Hi."),)
    await user.types("#text", "Hello" + Keys.ENTER)
    await user.sees("Hi.", DONE)
    prompt = decode(engine.submits[1].prompt)
    assert "Hello<" in prompt and "story" not in prompt and "Once" not in prompt


async def test_everything_is_reached_and_done_by_keys(visit: Any) -> None:
    engine = ScriptedEngine(answer("Hi."))
    user = await visit(engine)
    await user.sees("tiny", "#model")
    assert await user.focus() == "text"
    await user.presses("one", Keys.SHIFT + Keys.ENTER + Keys.NULL, "two")
    assert await user.evaluates("document.getElementById('text').value") == "one\ntwo"
    assert not engine.submits
    await user.presses(Keys.ENTER)
    await user.sees("Hi.", DONE)
    assert "one\ntwo<" in decode(engine.submits[0].prompt)
    await user.evaluates("document.getElementById('model').focus()")
    passed = []
    for _ in range(8):
        passed.append(await user.focus())
        await user.presses(Keys.TAB)
    assert passed == ["model", "effort", "clear", "talk", "cluster", "measure", "summary", "text"]
    assert await user.focus() == "send"


async def test_a_refusal_is_told(visit: Any) -> None:
    refused = EngineError(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many requests wait")
    user = await visit(ScriptedEngine(refused))
    await user.types("#text", "Hi" + Keys.ENTER)
    await user.sees("too many requests wait", ".error")


async def test_what_a_model_writes_is_text(visit: Any) -> None:
    user = await visit(ScriptedEngine(answer("<img src=x onerror=alert(1)><b>bold</b>")))
    await user.types("#text", "Hi" + Keys.ENTER)
    await user.sees("<b>bold</b>", "article.assistant")
    assert await user.evaluates("document.querySelectorAll('article img, article b').length") == 0


async def test_the_cluster_is_shown_as_it_is_now(visit: Any) -> None:
    replica: Any = {
        "name": "replica-0",
        "state": "ready",
        "dtype": "float32",
        "kernels": {},
        "ranks": [{"rank": 0, "pid": 7, "node": "here"}, {"rank": 1, "pid": 8, "node": "there"}],
        "running": 3,
        "waiting": 1,
        "prefill_tokens": 50,
        "kv_tokens_used": 256,
        "kv_tokens_total": 1024,
        "step_p99_ms": 12.5,
        "tokens_generated": 10,
    }
    seen: Any = {"queued": 0, "replicas": [replica]}
    user = await visit(ScriptedEngine(answer("Hi.")), cluster=lambda: seen)
    whole = await user.sees("replica-0 ready", "#cluster")
    assert "0 @ here, 1 @ there" in whole and "3, 1" in whole and "256 of 1,024 tokens" in whole
    seen = {"queued": 5, "replicas": [{**replica, "state": "connecting"}]}
    whole = await user.sees("replica-0 connecting", "#cluster")
    assert "5 requests wait" in whole


async def test_on_a_phone_the_cluster_takes_the_place_of_the_talk_and_nothing_is_wider_than_the_screen(visit: Any) -> None:
    user = await visit(ScriptedEngine(answer(f"{'long' * 100}\n\n| a | {'b ' * 100}|", reasoning="https://" + "x" * 300)))
    await user.comes(PHONE)
    await user.types("#text", "y" * 200 + Keys.ENTER)
    await user.sees("longlong", DONE)
    shown = "['talk', 'cluster'].map(id => getComputedStyle(document.getElementById(id)).display !== 'none')"
    width = "document.documentElement.scrollWidth"
    assert [await user.evaluates(shown), await user.evaluates(width)] == [[True, False], PHONE]
    await user.clicks("#toggle")
    assert [await user.evaluates(shown), await user.evaluates(width)] == [[False, True], PHONE]


async def test_it_is_readable_on_a_light_and_on_a_dark_system(visit: Any) -> None:
    user = await visit(ScriptedEngine(answer("Hi.")))
    brightness = {}
    for light in ("light", "dark"):
        await user.prefers(light)
        grounds, inks = [await colours(user, *names) for names in (("back", "tint"), ("fore", "soft", "main", "good", "bad"))]
        assert await user.evaluates("getComputedStyle(document.body).backgroundColor") == f"rgb{grounds[0]}"
        assert await user.evaluates("getComputedStyle(document.body).color") == f"rgb{inks[0]}"
        assert all(contrast(ground, ink) >= READABLE for ground, ink in product(grounds, inks))
        brightness[light] = luminance(grounds[0])
    await user.prefers("")
    assert brightness["dark"] < 0.05 and brightness["light"] > 0.9


Colour = tuple[int, int, int]


async def colours(user: User, *names: str) -> list[Colour]:
    """As the page's sheet calls them."""
    told = await user.evaluates(f"{list(names)}.map(name => getComputedStyle(document.body).getPropertyValue('--' + name))")
    digits = [name.strip("#") if len(name) == 7 else "".join(2 * digit for digit in name.strip("#")) for name in told]
    return [(int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)) for text in digits]


def luminance(colour: Colour) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    red, green, blue = (linear(part / 255) for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else float(((part + 0.055) / 1.055) ** 2.4)


def contrast(one: Colour, other: Colour) -> float:
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.fixture
async def locked(guarded: Any, store: Store, browser: Chrome) -> tuple[ScriptedEngine, str, User]:
    """An engine, a key to it, and a user who has none yet."""
    key, engine = make(), ScriptedEngine(answer("Hello."))
    await store.keys.add(StoredKey("key_1", digest(key), "acme", "test", None, {}))
    gateway = await guarded(engine, keys=True)
    user = User(browser, gateway.url)
    await user.comes()
    await user.sees("asks for an API key", "#door")
    return engine, key, user


async def test_a_key_is_asked_for_until_it_is_right_and_kept_until_the_tab_is_closed(locked: Any) -> None:
    engine, key, user = locked
    assert await user.focus() == "key"
    await user.presses("sk-ossia-wrong" + Keys.ENTER)
    await user.sees("this API key is unknown", "#refused")
    await user.presses(key + Keys.ENTER)
    await user.sees("tiny", "#model")
    await user.types("#text", "Hi" + Keys.ENTER)
    await user.sees("Hello.", DONE)
    assert engine.submits[0].tenant == "acme"
    kept = "[sessionStorage.getItem('key'), localStorage.length, document.cookie]"
    assert await user.evaluates(kept) == [key, 0, ""]
    await user.comes()
    await user.sees("tiny", "#model")
    assert await user.evaluates("document.getElementById('door').open") is False


async def test_a_question_for_a_key_is_declined_and_comes_again_with_the_next_message(locked: Any) -> None:
    _, key, user = locked
    await user.presses(Keys.ESCAPE)
    await user.sees("no API key", "#talk")
    await user.sees("no API key", "#replicas")  # which is asked for every second
    assert await user.evaluates("document.getElementById('door').open") is False
    await user.types("#text", "Hi" + Keys.ENTER)
    await user.sees("asks for an API key", "#door")
    await user.presses(key + Keys.ENTER)
    await user.sees("Hello.", DONE)
    await user.sees("No replica", "#replicas")


Change = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


async def untouched(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece


async def held_back(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join([piece async for piece in pieces])


async def cut_off(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for _ in range(3):
        yield await anext(pieces)
    raise ConnectionAbortedError


def proxy(upstream: httpx.AsyncClient, change: Change) -> Starlette:
    """Something between a browser and a gateway."""

    async def passed(request: Request) -> Response:
        answered = await upstream.send(upstream.build_request("GET", request.url.path), stream=True)
        kind, pieces = answered.headers["content-type"], answered.aiter_raw()
        body = change(pieces) if kind.startswith("text/event-stream") else pieces
        return StreamingResponse(body, answered.status_code, {"content-type": kind})

    return Starlette(routes=[Route("/{path:path}", passed)])


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (untouched, "20 events"),  # how late depends on what else this machine does
        (held_back, "holds streams back: of 20 events some were"),
        (cut_off, " events: "),
    ],
)
async def test_what_proxies_do_to_streams_is_told(start: Any, browser: Chrome, change: Change, verdict: str) -> None:
    gateway = await start(ScriptedEngine(answer("Hi.")), Settings(beat_s=0.05))
    bound = listen("127.0.0.1", 0)
    async with serving(proxy(gateway.http, change), bound):
        user = User(browser, f"http://127.0.0.1:{bound.getsockname()[1]}")
        await user.comes()
        await user.clicks("#measure")
        await user.sees(verdict, "#measured")
        await user.does(lambda: browser.get("about:blank"))


async def test_a_stream_is_held_back_where_events_are_half_a_second_late(visit: Any) -> None:
    user = await visit(ScriptedEngine())
    assert await user.evaluates("verdict(20, .49)") == "20 events came as they were sent, none more than 490 ms late."
    assert "holds streams back: of 20 events some were 0.5 s late" in await user.evaluates("verdict(20, .5)")
