"""The data plane: authenticate the caller, check and screen what they ask, forward it, record it."""
