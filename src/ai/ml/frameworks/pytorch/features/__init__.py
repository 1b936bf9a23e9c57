"""Features: raw columns into the float64 matrix `(n_rows, input_dim)` that the network reads, without a loop over rows.

`fit` learns vectorizer, medians and scaler from a typed table; `plan`, `cells` and `matrix` apply them.

Uses `ai.ml.core` only.
"""
