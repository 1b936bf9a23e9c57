"""A process's output and its end: progress, colours, standard output, exit codes. May use `ai.ml.core` only."""
