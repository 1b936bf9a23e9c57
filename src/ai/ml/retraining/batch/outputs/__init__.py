"""Where a batch's answers go: a folder, a single file, a prefix in a bucket, a table of a database.

`resumable` is the protocol, once; `folder`, `bucket` and `sql` are an `OutputLocation` each, which it works on, and
`file` joins the parts of a folder. A part is published whole, then its receipt; the manifest and the mark of success
come last. Whatever a run was killed at, the next one goes on from the receipts.
"""
