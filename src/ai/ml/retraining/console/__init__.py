"""What a process says and how it ends: progress, stdout, exit codes. Uses `ai.ml.core` only."""
