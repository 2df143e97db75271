"""Where a model's data came from, what was done to it and why, and who got its answers: pure."""
