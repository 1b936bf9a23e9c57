"""Runs below a run, each in a process of its own.

`runs` starts one for each job, so many at once as are allowed, `schedule` for the segments of a table and `origins` for
the nights of a backtest; `processes` starts, watches and ends their processes; `child` is what such a process runs.
"""
