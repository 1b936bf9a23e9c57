"""Evidence: probe rows and the trained model's answers to them, sealed into the bundle. Uses the framework."""
