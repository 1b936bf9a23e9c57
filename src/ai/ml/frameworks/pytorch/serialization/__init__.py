"""Saving and loading bundles: the two functions of the contract PT-SERIAL-001.

`save` and `commit` write a bundle whole or not at all; `load` and `reader` read one without believing it, in the order
`zip_reader`, `pickle_reader`, `schema`, `skeleton`, `tensor_reader`. Uses `models` and `ai.ml.core`.

>>> from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
"""

from ai.ml.frameworks.pytorch.serialization.load import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import save_bundle

__all__ = ["load_bundle", "save_bundle"]
