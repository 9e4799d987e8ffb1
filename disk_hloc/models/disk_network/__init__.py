"""DISK's network at inference."""
