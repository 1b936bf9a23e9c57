"""The gate: proves that a saved bundle answers as the trained model did. Key type: `Verdict`. Uses evidence."""
