"""What a model reads of an MCP result."""

import mcp_types as mcp
import pytest

from router.tools.content import read
from router.tools.types import ToolResult


def _result(*content: mcp.ContentBlock, structured: object = None, is_error: bool = False) -> mcp.CallToolResult:
    return mcp.CallToolResult(content=list(content), structured_content=structured, is_error=is_error)


def test_texts_are_joined_and_errors_stay_errors() -> None:
    found = _result(mcp.TextContent(type="text", text="a"), mcp.TextContent(type="text", text="b"), is_error=True)
    assert read(found, 100) == ToolResult("a\nb", error=True)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (mcp.ImageContent(type="image", data="AAAA", mime_type="image/png"), "[image, which cannot be shown]"),
        (mcp.AudioContent(type="audio", data="AAAA", mime_type="audio/wav"), "[audio, which cannot be shown]"),
        (mcp.ResourceLink(type="resource_link", name="notes", uri="file:///n"), "[notes: file:///n]"),
        (mcp.EmbeddedResource(type="resource", resource=mcp.TextResourceContents(uri="file:///n", text="hello")), "hello"),
        (
            mcp.EmbeddedResource(type="resource", resource=mcp.BlobResourceContents(uri="file:///n", blob="AAAA")),
            "[a file that is no text: file:///n]",
        ),
    ],
)
def test_what_is_no_text_is_named(block: mcp.ContentBlock, text: str) -> None:
    assert read(_result(block), 100) == ToolResult(text)


def test_a_value_without_text_is_json() -> None:
    assert read(_result(structured={"a": ["é"]}), 100) == ToolResult('{"a": ["é"]}')
    assert read(_result(mcp.TextContent(type="text", text="a"), structured={"a": 1}), 100) == ToolResult("a")


def test_long_results_are_cut() -> None:
    assert "bytes left out" in read(_result(mcp.TextContent(type="text", text="a" * 2000)), 1000).text
