"""Everything that can be configured, as pydantic models, and their flags and files. Uses `ai.ml.core` only."""
