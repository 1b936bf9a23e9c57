"""Files that are whole or absent: atomic writes, directory locks, scratch folders, objects in buckets.

Uses `ai.ml.core.errors` only.
"""
