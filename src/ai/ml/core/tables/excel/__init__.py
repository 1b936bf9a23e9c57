"""Reading Excel workbooks: a sheet into Arrow, and the cells that hold an error instead of a value.

`reader` reads a sheet, `cells` finds the errors that the library reads as missing. Uses `ai.ml.core.errors` only.
"""
