"""A controller for tests: serves Fleet.Watch on a port, with the state it is given as protobuf's JSON."""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.json_format import Parse

from ossia.v1 import fleet_pb2, fleet_pb2_grpc


class Fleet(fleet_pb2_grpc.FleetServicer):
    def __init__(self, state: fleet_pb2.FleetState) -> None:
        self._state = state
        self._end = threading.Event()

    def Watch(self, request: fleet_pb2.WatchRequest, context: grpc.ServicerContext) -> Iterator[fleet_pb2.FleetState]:
        context.add_callback(self._end.set)
        yield self._state
        self._end.wait()


def serve(port: int, state: fleet_pb2.FleetState) -> None:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    fleet_pb2_grpc.add_FleetServicer_to_server(Fleet(state), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    initial = Parse(sys.argv[2], fleet_pb2.FleetState())
    initial.processes.add(part="controller", pid=os.getpid())
    serve(int(sys.argv[1]), initial)
