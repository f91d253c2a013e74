"""The page in a real browser: what a user sees of an answer, of a call, of a key that is asked for, and of the cluster."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from ossia.common.vocabulary import decode
from router.engine import EngineError
from tests.fakes.scripted import ScriptedEngine, answer, call

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver")
TOOLS = '[{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]'
PHONE = 400


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
        def work() -> None:
            self._browser.set_window_size(width, 800)
            self._browser.get(self._url)

        await self.does(work)

    async def sees(self, text: str, where: str = "body") -> str:
        """Waits for the text; returns all that stands there."""

        def found(browser: Chrome) -> str:
            whole = str(browser.find_element(By.CSS_SELECTOR, where).text)
            return whole if text in whole else ""

        return str(await self.does(lambda: WebDriverWait(self._browser, 20, 0.05).until(found)))

    async def types(self, where: str, text: str) -> None:
        await self.does(lambda: self._browser.find_element(By.CSS_SELECTOR, where).send_keys(text))

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
    engine = ScriptedEngine(tokens[:6], None, tokens[6:])
    user = await visit(engine)
    await user.sees("tiny", "#model")
    await user.types("#text", "How many rs?" + Keys.ENTER)
    await user.sees("Reasoning", "article.assistant")
    assert await user.evaluates("document.querySelector('article details').open") is True
    engine.go.set()
    await user.sees("There are three.", "article.assistant")
    whole = await user.sees("tokens/s", "article.assistant")
    assert "of reasoning" in whole and "first after" in whole
    assert await user.evaluates("document.querySelector('article.assistant .thought').textContent") == "Let me count."
    assert await user.evaluates("document.querySelector('article.assistant details').open") is False
    assert await user.complaints() == []


async def test_effort_and_model_are_what_was_picked_and_the_turns_before_are_sent(visit: Any) -> None:
    engine = ScriptedEngine(answer("Hello."))
    user = await visit(engine)
    await user.sees("someone/tiny", "#model")
    await user.types("#effort", "high")
    await user.types("#text", "Hi" + Keys.ENTER)
    await user.sees("tokens/s", "article.assistant")
    await user.types("#text", "And you?" + Keys.ENTER)
    await user.sees("tokens/s", "article.assistant:last-child")
    prompt = decode(engine.submits[1].prompt)
    assert "Reasoning: high" in prompt
    assert prompt.index("Hi<") < prompt.index("Hello.") < prompt.index("And you?")


async def test_a_call_is_shown_and_goes_on_with_its_result(visit: Any) -> None:
    engine = ScriptedEngine(call("get_weather", '{"city": "Paris"}', reasoning="I should look."))
    user = await visit(engine)
    await user.clicks("form summary")
    await user.types("#tools", TOOLS)
    await user.types("#text", "Weather in Paris?" + Keys.ENTER)
    whole = await user.sees("get_weather", ".call")
    assert '{"city": "Paris"}' in whole
    engine.script = (answer("Sunny."),)
    await user.types(".call input", "18 degrees" + Keys.ENTER)
    await user.sees("Sunny.", "article.assistant:last-child")
    prompt = decode(engine.submits[1].prompt)
    assert "I should look." in prompt and "18 degrees" in prompt


async def test_an_answer_is_stopped_and_the_engine_let_go(visit: Any) -> None:
    engine = ScriptedEngine(answer("Once upon a time.")[:-2], None)
    user = await visit(engine)
    await user.types("#text", "A story" + Keys.ENTER)
    await user.sees("Once upon")
    await user.clicks("#send")
    await user.sees("Stopped.", "article.assistant")
    await asyncio.wait_for(engine.left.wait(), 10)
    await user.sees("Send", "#send")


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


async def test_on_a_phone_the_cluster_takes_the_place_of_the_talk(visit: Any) -> None:
    user = await visit(ScriptedEngine(answer("Hi.")))
    await user.comes(PHONE)
    shown = "['talk', 'cluster'].map(id => getComputedStyle(document.getElementById(id)).display !== 'none')"
    assert await user.evaluates(shown) == [True, False]
    await user.clicks("#toggle")
    assert await user.evaluates(shown) == [False, True]
    assert await user.evaluates("document.documentElement.scrollWidth <= window.innerWidth") is True
