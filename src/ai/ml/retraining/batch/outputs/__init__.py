"""Where a batch's answers go: folder, single file, bucket, SQL table; `base` is the protocol that they share."""
