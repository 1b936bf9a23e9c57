"""The gate: proves in fresh processes that a saved bundle answers as the trained model did, bit for bit.

Key types: `Verdict`, `CheckResult`, `Precheck`, `Finding`; `prove` is the way in, the policy is `GatePolicy`. May use
evidence and settings; knows no store.
"""
