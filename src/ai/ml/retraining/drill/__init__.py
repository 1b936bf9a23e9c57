"""The drill: copies of a user's own table broken in every known way, and the night that each would have had.

Key types: `Scene` (the tables), `Kind` (one way to break one), `Night` (what became of it), `DrillReport`. Plays the
steps of a real run (`runs`) in a scratch store; the gate, which no table can mislead, proves the drill's champion only.
"""
