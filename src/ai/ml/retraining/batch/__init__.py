"""Batch scoring of any size: parts in, parts out, each exactly once.

`job` plans a job and runs it: `parts` says what there is to score, `pinned` proves the bundle in each process,
`runners` hand groups of parts to processes, `score_part` scores one, and `outputs` keeps the answers with a `Receipt`
for each part, by which a later run knows what is done. Uses the store and what lies below it, and nothing of a
retraining.
"""
