"""The console script `bundlegate`: `cli` has its flags, and one module each the commands that share a subject.

A leaf: nothing imports it, and it imports what a command needs when that command runs.
"""
