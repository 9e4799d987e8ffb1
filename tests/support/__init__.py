"""Files and functions that several tests use."""
