"""The framework's own gRPC services."""
