"""Saving and loading bundles: the two functions of the contract PT-SERIAL-001.

>>> from ai.ml.frameworks.pytorch.serialization import load_bundle, save_bundle
"""

from ai.ml.frameworks.pytorch.serialization.load import load_bundle
from ai.ml.frameworks.pytorch.serialization.save import save_bundle

__all__ = ["load_bundle", "save_bundle"]
