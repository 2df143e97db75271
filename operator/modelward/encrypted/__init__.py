"""The homomorphic path: scoring what only the client can read."""
