"""What the paired bootstrap costs: 2,000 resamples over 100,000 rows, against a loop that resamples row by row.

    python benchmarks/decision.py [--json FILE]

Prints CPU seconds, the ratio to the loop, and how far the two intervals are apart in units of the interval's width.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from ai.ml.retraining.decision.bootstrap import paired_gain

RESAMPLES = 2_000


def looped(before: np.ndarray, after: np.ndarray, seed: int = 0) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    differences = before - after
    gains = [differences[rng.integers(0, len(before), len(before))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: list[dict[str, float]] = []
    for rows in (1_000, 10_000, 100_000, 1_000_000):
        rng = np.random.default_rng(1)
        hard = rng.exponential(size=rows)
        before, after = hard + rng.exponential(size=rows), hard + 0.95 * rng.exponential(size=rows)
        start = time.process_time()
        gain = paired_gain(before, after, root=False)
        ours = time.process_time() - start
        result = {"rows": rows, "cpu_s": ours, "low": gain.low, "high": gain.high}
        if rows <= 100_000:
            start = time.process_time()
            low, high = looped(before, after)
            loop = time.process_time() - start
            apart = max(abs(low - gain.low), abs(high - gain.high)) / (high - low)
            result |= {"loop_cpu_s": loop, "times_faster": loop / ours, "apart": apart}
        results.append(result)
        print("  ".join(f"{key} {value:,.4g}" for key, value in result.items()))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
