"""Vectors of sixteen floats in numba: what the compiled loops are made of."""
