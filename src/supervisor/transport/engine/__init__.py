"""A gRPC engine of our own: HTTP/2 as gRPC needs it, without I/O, and the asyncio side on top."""
