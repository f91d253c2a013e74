"""Serves a replica's engine over gRPC: ossia.v1.Engine, health and reflection, on one event loop."""
