"""Attacks on a model, over its own endpoint: what is asked, and what the answers tell. Opens no sockets itself."""
