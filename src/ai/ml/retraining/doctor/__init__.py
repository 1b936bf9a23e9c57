"""What keeps a nightly run from happening: versions, server, pool, worker, schedules, store, disk, clock.

Key type: `Diagnosis`. Uses the store. Prefect is asked over HTTP and never imported: a broken one can be told of, too.
"""
