"""A process that promotes its bundle, or rolls back, when told to: `store_racer.py ROOT BUNDLE`.

It decides on the champion as it is when the line comes, so that of two racers told at once one is overtaken now and
then. It answers with one line: won, already, or busy with the exit code and the sentence.
"""

from __future__ import annotations

import sys
from pathlib import Path

from store_samples import DECISION, proving, verdict_on

from ai.ml.core.bundle_dir import bundle_digest
from ai.ml.core.errors import Busy, UsageError
from ai.ml.retraining.store.store import Store


def act(store: Store, order: str, bundle: Path) -> str:
    champion = store.champion("m")
    try:
        if order == "rollback":
            store.rollback("m", reason="race", prove=proving)
            return "won"
        digest = bundle_digest(bundle)
        done = store.promote("m", bundle, verdict_on(digest), decision=DECISION, expected_champion=champion)
    except Busy as busy:
        return f"busy {int(busy.exit_code)}: {busy}"
    except UsageError as error:  # the other one promoted what this one was to roll back to
        return f"already: {error}"
    return "already" if done.already else "won"


if __name__ == "__main__":
    print("ready", flush=True)
    for line in sys.stdin:
        print(act(Store(sys.argv[1]), line.strip(), Path(sys.argv[2])), flush=True)
