import os

# gRPC reads it when it is imported, which comes after this: else its lines on servers that stop stand between our own.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
