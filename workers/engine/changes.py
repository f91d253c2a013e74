"""What a step changes in one group of cached blocks, in the end: a block stored and given up again has changed nothing."""


class Changes:
    def __init__(self) -> None:
        self._stored: dict[bytes, None] = {}  # dicts, for their order
        self._removed: dict[bytes, None] = {}

    @property
    def stored(self) -> tuple[bytes, ...]:
        return tuple(self._stored)

    @property
    def removed(self) -> tuple[bytes, ...]:
        return tuple(self._removed)

    def store(self, name: bytes) -> None:
        if name in self._removed:
            del self._removed[name]
        else:
            self._stored[name] = None

    def remove(self, name: bytes) -> None:
        if name in self._stored:
            del self._stored[name]
        else:
            self._removed[name] = None
