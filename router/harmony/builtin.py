"""The tools that gpt-oss was trained with, as oss-harmony declares them."""

from collections.abc import Mapping

from openai_harmony import ToolNamespaceConfig

from router.harmony.types import Namespace, Tool


def _declared(config: ToolNamespaceConfig) -> Namespace:
    tools = tuple(Tool(tool.name, tool.description, tool.parameters) for tool in config.tools)
    return Namespace(config.name, config.description, tools, builtin=True)


BROWSER = _declared(ToolNamespaceConfig.browser())
PYTHON = _declared(ToolNamespaceConfig.python())
BUILT_IN: Mapping[str, Namespace] = {namespace.name: namespace for namespace in (BROWSER, PYTHON)}
