"""The pipeline as it would have run on past nights: `origins` cuts the past, `candidate` trains and proves one night.

`walk` decides by each policy and looks at what came true, `outcome` holds and shows it, `page` draws it. Uses runs,
reporting and what lies below them; the model's own store, ledger and champion are never touched.
"""
