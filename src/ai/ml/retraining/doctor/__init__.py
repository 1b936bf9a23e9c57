"""What keeps a nightly run from happening: versions, server, pool, worker, schedules, store, disk, clock.

Key type: `Diagnosis`. Uses the store. Prefect's API is called over HTTP and Prefect never
imported, so that a broken installation can be reported.
"""
