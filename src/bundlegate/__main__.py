"""`python -m bundlegate`: the console script, where its folder isn't on the PATH."""

import sys

from ai.ml.retraining.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
