import os

# gRPC reads it when it is imported, which is after this. Else it tells on stderr, between our own lines, of servers that stopped.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
