"""The console script `bundlegate`: one module for each family of commands. A leaf: nothing imports it."""
