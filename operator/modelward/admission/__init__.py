"""The admission server: refuses with every reason at once, and puts the sidecar into pods."""
