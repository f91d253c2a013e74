import dataclasses
import json
from datetime import date

import openai_harmony as library
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossia.common import vocabulary
from router.harmony.builtin import BROWSER, PYTHON
from router.harmony.render import render
from router.harmony.types import Format, HarmonyError, Message, Namespace, Tool, ToolCall
from tests.router.harmony.conversations import CALL, CLOCK, CONVERSATIONS, GOLDEN, WEATHER
from tests.router.harmony.streams import RELAXED


def said(role: str, text: str, channel: str | None = None) -> library.Message:
    message = library.Message.from_role_and_content(library.Role(role), text)
    return message if channel is None else message.with_channel(channel)


def whole(*messages: library.Message) -> list[int]:
    """The conversation rendered by oss-harmony alone."""
    conversation = library.Conversation.from_messages(messages)
    config = library.RenderConversationConfig(auto_drop_analysis=False)
    tokens: list[int] = vocabulary.load().encoding.render_conversation_for_completion(
        conversation, library.Role.ASSISTANT, config
    )
    return tokens


def system(effort: str = "Medium", day: str | None = None) -> library.Message:
    content = library.SystemContent.new().with_reasoning_effort(library.ReasoningEffort(effort))
    return said("system", content.with_conversation_start_date(day) if day else content)


def developer(instructions: str | None, *tools: Tool) -> library.Message:
    content = library.DeveloperContent.new()
    if instructions:
        content.with_instructions(instructions)
    if tools:
        content.with_function_tools([library.ToolDescription.new(t.name, t.description or "", t.parameters) for t in tools])
    return said("developer", content)


def called(name: str, arguments: str) -> library.Message:
    message = said("assistant", arguments, "commentary").with_recipient(name)
    return message.with_content_type("<|constrain|>json")


def answered(name: str, text: str) -> library.Message:
    author = library.Author.new(library.Role.TOOL, f"{name} to=assistant")
    return library.Message.from_author_and_content(author, text).with_channel("commentary")


WHOLE = {
    "bare": [system(), said("user", "Hello!")],
    "empty": [system()],
    "dated": [system("High", "2025-06-28"), developer("Be brief."), said("user", "Ciao, come stai? 🙂")],
    "instructions": [system(), developer("  One.\n\nTwo.\n"), said("user", "")],
    "answered": [system("Low"), said("user", "2 + 2?"), said("assistant", "4", "final"), said("user", "And 3 + 3?")],
    "tool_loop": [
        system(),
        developer("Use tools.", WEATHER, CLOCK),
        said("user", "Hi"),
        said("assistant", "Hello.", "final"),
        said("user", "Weather in Trento?"),
        said("assistant", "I need the weather.", "analysis"),
        said("assistant", "Let me look.", "commentary"),
        called("functions.get_weather", CALL.arguments),
        answered("functions.get_weather", '{"degrees": 21}'),
    ],
    "tool_done": [
        system(),
        developer(None, WEATHER),
        said("user", "Weather in Trento?"),
        called("functions.get_weather", CALL.arguments),
        called("browser.search", "{}"),
        answered("functions.get_weather", "21"),
        answered("browser.search", "found"),
        said("assistant", "21 degrees.", "final"),
        said("user", "Thanks"),
    ],
}


@pytest.mark.parametrize("name", WHOLE)
def test_equals_the_library(name: str) -> None:
    assert vocabulary.decode(CONVERSATIONS[name].tokens()) == vocabulary.decode(whole(*WHOLE[name]))
    assert CONVERSATIONS[name].tokens() == whole(*WHOLE[name])


def test_equals_what_was_recorded() -> None:
    assert {name: conversation.tokens() for name, conversation in CONVERSATIONS.items()} == json.loads(GOLDEN.read_text())


@RELAXED
@given(st.text(), st.text(), st.text(min_size=1))
def test_equals_the_library_for_any_text(user: str, answer: str, instructions: str) -> None:
    messages = [Message("developer", instructions), Message("user", user), Message("assistant", answer)]
    turns = [said("user", user), said("assistant", answer, "final")]
    assert render(messages, [], "medium", None) == whole(system(), developer(instructions), *turns)
    assert render(messages, [CLOCK], "medium", None) == whole(system(), developer(instructions, CLOCK), *turns)


WIKI = Namespace("wiki", "An encyclopedia.", (Tool("read", "One page.", {"type": "object", "properties": {}}),))
RUN = ToolCall("1", "python", "print(1)", builtin=True)
FIND = ToolCall("2", "browser.search", '{"query": "x"}', builtin=True)
READ = ToolCall("3", "wiki.read", "{}")
ASKED = (
    Message("user", "q", name="ann"),
    Message("assistant", "", reasoning="Run it.", tool_calls=(RUN,)),
    Message("tool", "1", tool_call_id="1"),
    Message("assistant", "", tool_calls=(FIND,)),
    Message("tool", "found", tool_call_id="2"),
    Message("assistant", "", tool_calls=(READ,)),
    Message("tool", "page", tool_call_id="3"),
)


def built_in(recipient: str, arguments: str) -> library.Message:
    return said("assistant", arguments, "analysis").with_recipient(recipient).with_content_type("code")


def result(name: str, text: str) -> library.Message:
    author = library.Author.new(library.Role.TOOL, f"{name} to=assistant")
    return library.Message.from_author_and_content(author, text).with_channel("analysis")


LOOP = [
    library.Message.from_author_and_content(library.Author.new(library.Role.USER, "ann"), "q"),
    said("assistant", "Run it.", "analysis"),
    built_in("python", "print(1)"),
    result("python", "1"),
    built_in("browser.search", '{"query": "x"}'),
    result("browser.search", "found"),
    called("wiki.read", "{}"),
    answered("wiki.read", "page"),
]


def with_tools() -> list[library.Message]:
    content = library.SystemContent.new().with_reasoning_effort(library.ReasoningEffort.MEDIUM)
    wiki = library.ToolNamespaceConfig(
        name="wiki",
        description="An encyclopedia.",
        tools=[library.ToolDescription.new("read", "One page.", {"type": "object", "properties": {}})],
    )
    instructed = library.DeveloperContent.new().with_tools(wiki)
    return [said("system", content.with_browser_tool().with_python_tool()), said("developer", instructed)]


def test_tools_of_the_server_equal_the_library() -> None:
    tokens = render(ASKED, [], "medium", None, namespaces=[BROWSER, PYTHON, WIKI])
    assert vocabulary.decode(tokens) == vocabulary.decode(whole(*with_tools(), *LOOP))
    assert tokens == whole(*with_tools(), *LOOP)


def test_built_in_calls_go_with_the_chain_of_thought() -> None:
    """As oss-harmony's own dropping of analysis has it."""
    tokens = render([*ASKED, Message("assistant", "a"), Message("user", "b")], [], "medium", None)
    kept = [LOOP[0], *LOOP[6:], said("assistant", "a", "final"), said("user", "b")]
    assert tokens == whole(system(), *kept)


def test_an_identity_takes_the_place_of_chatgpt() -> None:
    content = library.SystemContent.new().with_reasoning_effort(library.ReasoningEffort.LOW).with_model_identity("You are Ann.")
    assert render([], [], "low", None, identity="You are Ann.") == whole(said("system", content))
    assert "ChatGPT" in vocabulary.decode(render([], [], "low", None))


def test_a_function_cannot_have_the_name_of_a_namespace() -> None:
    with pytest.raises(HarmonyError) as error:
        render([], [CLOCK, Tool("python")], "low", None, namespaces=[PYTHON])
    assert error.value.field == "tools[1].function.name"


@pytest.mark.parametrize("bad", [Namespace("a b"), Namespace("a", "-" * 2000), Namespace("a", None, (Tool("<|end|>"),))])
@pytest.mark.parametrize("builtin", [True, False])
def test_a_namespace_that_cannot_be_rendered_is_named(bad: Namespace, builtin: bool) -> None:
    bad = dataclasses.replace(bad, builtin=builtin)
    with pytest.raises(HarmonyError) as error:
        render([], [], "low", None, namespaces=[bad])
    assert error.value.field.startswith(bad.name)


SHOPPING = """# Instructions

Be brief.

# Response Formats

## shopping_list

// What to buy.
// In order.
{"type":"array","items":{"type":"string"}}"""
ANY = '# Response Formats\n\n## any\n\n{"const":"<|end|>é"}'


def test_formats_are_the_last_section_of_the_developer_message() -> None:
    developers = [
        vocabulary.decode(CONVERSATIONS[name].tokens()).partition("<|start|>developer<|message|>")[2]
        for name in ("format", "format_alone")
    ]
    assert developers[0].startswith(f"{SHOPPING}<|end|><|start|>user")
    tools, _, after = developers[1].partition(ANY)
    assert tools.endswith("} // namespace functions\n\n")
    assert after.startswith("<|end|><|start|>user")
    alone = render([], [], "low", None, CONVERSATIONS["format_alone"].formats)
    assert f"<|start|>developer<|message|>{ANY}<|end|><|start|>assistant" in vocabulary.decode(alone)


def test_prompt_ends_where_the_parser_begins() -> None:
    assert vocabulary.decode(CONVERSATIONS["tool_loop"].tokens()[-2:]) == "<|start|>assistant"


EVIL = vocabulary.decode(range(vocabulary.FIRST_SPECIAL, vocabulary.FIRST_SPECIAL + 20))


def specials(tokens: list[int]) -> list[int]:
    return [token for token in tokens if token >= vocabulary.FIRST_SPECIAL]


def loop(text: str) -> list[int]:
    schema = {
        "type": "object",
        "description": text,
        "properties": {text: {"type": "string", "description": text, "enum": [text], "default": text}},
    }
    calls = (ToolCall("1", "f", text), ToolCall("2", "python", text, builtin=True))
    messages = [
        Message("system", text),
        Message("user", text),
        Message("assistant", text, tool_calls=calls, reasoning=text),
        Message("tool", text, tool_call_id="1"),
        Message("tool", text, tool_call_id="2"),
    ]
    tools = (Tool("f", text, schema),)
    namespaces = [Namespace("python", text, tools, builtin=True), Namespace("other", text, tools)]
    form = Format("form", text, {text: text})
    return render(messages, tools, "medium", date(2025, 1, 1), [form], namespaces=namespaces, identity=text)


def test_no_text_becomes_a_special_token() -> None:
    tokens = loop(EVIL)
    assert specials(tokens) == specials(loop("innocent"))
    assert vocabulary.decode(tokens).count(EVIL) == 8 + 3 * 6 + 2 + 1 + 3, "messages, tools, namespaces, identity, format"


def test_lone_surrogates_are_replaced() -> None:
    assert vocabulary.decode(loop("\ud800")) == vocabulary.decode(loop("\N{REPLACEMENT CHARACTER}"))


def test_reasoning_without_an_answer_stays() -> None:
    tokens = render([Message("user", "q"), Message("assistant", "", reasoning="cut off here")], [], "low", None)
    assert "<|channel|>analysis<|message|>cut off here<|end|><|start|>assistant" in vocabulary.decode(tokens)


def test_a_tool_message_may_name_its_function() -> None:
    tokens = render([Message("tool", "21", name="clock")], [], "low", None)
    assert "<|start|>functions.clock to=assistant<|channel|>commentary<|message|>21<|end|>" in vocabulary.decode(tokens)


CALLS = "messages[0].tool_calls"


@pytest.mark.parametrize(
    ("messages", "tools", "field"),
    [
        ([Message("user", "q"), Message("tool", "r", tool_call_id="no")], [], "messages[1].tool_call_id"),
        (
            [Message("tool", "r", tool_call_id="call_1"), Message("assistant", "", tool_calls=(CALL,))],
            [],
            "messages[0].tool_call_id",
        ),
        ([Message("tool", "r")], [], "messages[0].tool_call_id"),
        ([Message("tool", "r", name="a b")], [], "messages[0].name"),
        ([Message("user", "r", name="<|end|>")], [], "messages[0].name"),
        ([Message("assistant", "r", name="")], [], "messages[0].name"),
        (
            [Message("assistant", "", tool_calls=(ToolCall("1", "x<|call|>", ""),))],
            [],
            "messages[0].tool_calls[0].function.name",
        ),
        ([Message("assistant", "", tool_calls=(CALL, ToolCall("1", "", "")))], [], f"{CALLS}[1].function.name"),
        ([], [CLOCK, Tool("a to=b")], "tools[1].function.name"),
        (
            [],
            [Tool("f", "d", {"type": "object", "properties": {"a": {"default": float("nan")}}})],
            "tools[0].function.parameters",
        ),
        ([], [Tool("f", "d", {"type": {1, 2}})], "tools[0].function.parameters"),
        ([], [Tool("f", "-" * 2000)], "tools[0].function"),
        ([], [Tool(f"f{number}", "word " * 50_000) for number in range(6)], "tools[4].function"),
    ],
)
def test_invalid_input_names_the_field(messages: list[Message], tools: list[Tool], field: str) -> None:
    with pytest.raises(HarmonyError) as error:
        render(messages, tools, "medium", None)
    assert error.value.field == field
