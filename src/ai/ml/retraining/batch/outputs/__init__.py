"""Where a batch's answers go: `folder`, single `file`, `bucket`, `sql` table; `base.Destination` is what all can do.

A part is published whole, then its receipt; the manifest and the mark of success come last. Whatever a run was killed
at, the next one goes on from the receipts.
"""
