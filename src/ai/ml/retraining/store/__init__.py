"""The store: versions, ledger and champion pointer of each model, in a folder or a bucket.

Key type: `Store`. May use the verdict of the gate and what lies below it.
"""
