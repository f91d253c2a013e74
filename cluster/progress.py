"""What `ossia serve` tells the person at the terminal: one line a change, on stderr."""

import sys
from typing import TextIO

from ossia.v1 import fleet_pb2

WORDS = {
    fleet_pb2.REPLICA_STATE_STARTING: "is starting",
    fleet_pb2.REPLICA_STATE_READY: "is ready",
    fleet_pb2.REPLICA_STATE_FAILED: "failed",
}


class Progress:
    """Remembers what was said of each replica, so that nothing is said twice in a row."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._said: dict[str, str] = {}

    def say(self, text: str) -> None:
        print(f"ossia: {text}", file=self._stream, flush=True)

    def fleet(self, state: fleet_pb2.FleetState) -> None:
        """Says which replicas changed."""
        for replica in state.replicas:
            words = WORDS.get(replica.state, "is unknown")
            line = f"{replica.name} {words}" + (f": {replica.message}" if replica.message else "")
            if self._said.get(replica.name) != line:
                self._said[replica.name] = line
                self.say(line)
