"""The inference protocol's gRPC service: imported only where a model's gRPC port is configured."""
