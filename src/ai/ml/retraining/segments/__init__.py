"""Many models from one table, one for each value of a column: `cut` makes their tables, `outcome` their summary.

Uses runs and what lies below it.
"""
