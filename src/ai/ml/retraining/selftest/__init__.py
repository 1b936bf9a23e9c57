"""The self-test: seeds known defects into copies of a bundle and sees the gate refuse each.

Key types: `Defect`, `Copy`, `SelftestReport`. May use the gate and the evidence; knows no store and no run.
"""
