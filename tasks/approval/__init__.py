"""A person's word before a promotion: `ask` stops a run until it is given, `answer` lists what waits and gives it."""
