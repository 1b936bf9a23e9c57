"""A person's approval before a promotion: `ask` suspends a run, `answer` lists and answers requests."""
