"""What an MCP result is to a model that reads text. Knows no connection."""

import json

import mcp_types as mcp

from router.tools.bounded import bounded
from router.tools.types import ToolResult


def read(result: mcp.CallToolResult, most: int) -> ToolResult:
    """The result's text, at most some `most` bytes of it; what is no text is named, so that the model knows what it misses."""
    parts = [_text(block) for block in result.content]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    return ToolResult(bounded("\n".join(parts), most), result.is_error)


def _text(block: mcp.ContentBlock) -> str:
    match block:
        case mcp.TextContent():
            return block.text
        case mcp.EmbeddedResource(resource=mcp.TextResourceContents() as resource):
            return resource.text
        case mcp.EmbeddedResource(resource=resource):
            return f"[a file that is no text: {resource.uri}]"
        case mcp.ResourceLink():
            return f"[{block.name}: {block.uri}]"
        case _:
            return f"[{block.type}, which cannot be shown]"
