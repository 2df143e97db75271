"""`make demo`: the whole way from nothing to a refused and a protected model on a real cluster, each step explained.

The end-to-end tests install through the same functions, so what the demo shows is what they test.
"""
