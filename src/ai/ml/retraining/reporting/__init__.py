"""Cards and reports: what a person reads of a bundle. Nothing here can change an outcome.

Key types: `Material` (what a report is made of), `Study` (what was measured). May use the store and what lies below it;
knows no run and no batch.
"""
