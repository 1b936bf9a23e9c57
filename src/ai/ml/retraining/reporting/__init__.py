"""Model cards and HTML reports of a bundle. Nothing here can change an outcome.

Key types: `Material` (what a report is made of), `Study` (the measurements). May use the store and what lies below it;
knows no run and no batch.
"""
