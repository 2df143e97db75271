"""Why a model answered as it did: Shapley values of columns, and the same in words."""
