"""What a process says and how it ends: progress, standard output, exit codes. May use `ai.ml.core` only."""
