"""Cards and reports: what a person reads of a bundle. Nothing here can change an outcome."""
