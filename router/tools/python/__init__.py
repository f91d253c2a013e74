"""The `python` tool: code runs in processes that reach neither the network nor files of others. Knows no gateway."""
