"""Features: raw columns into the float64 matrix `(n_rows, input_dim)` that the network reads, without a loop over rows.

Uses `ai.ml.core` only.
"""
