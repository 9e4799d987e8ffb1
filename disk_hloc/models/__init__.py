"""The networks and matchers. They know nothing of files but their own weights."""
