"""Adapters: bytes and calls, over grpclib."""
