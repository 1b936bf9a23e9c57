"""Runs below a run, each in a process of its own.

`schedule` starts one for each segment, so many at once as are allowed; `processes` starts, watches and ends their
processes; `child` is what such a process runs.
"""
