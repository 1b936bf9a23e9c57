"""Tabular PyTorch models: building, training, scoring, saving and loading."""
