"""Reading CSV: its format told from its first bytes, then every cell as the text that the file holds.

`reader` is the way in; `dialect` finds delimiter, encoding and quoting, `preamble` what stands above the header, and
`quotes` finds stray quotes in the bytes that `stream` hands on. Uses `ai.ml.core.tables.cells`.
"""
