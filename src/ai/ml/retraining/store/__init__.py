"""The store: versions, ledger and champion pointer, in a folder or a bucket. Key type: `Store`. Uses `gate.verdict`."""
