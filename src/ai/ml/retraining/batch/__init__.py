"""Batch scoring of any size: parts in, parts out, each exactly once. Uses the store and what lies below it."""
