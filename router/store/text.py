"""Text of any characters, as every database takes it. Knows no table."""


def storable(text: str) -> str:
    """PostgreSQL has neither NUL nor half a surrogate pair, which clients may send."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
