"""Many models from one table, one for each value of a column. Uses runs."""
