"""The retraining cycle around a bundle: evidence, gate, store, decision, batch scoring."""
