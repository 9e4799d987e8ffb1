"""Data sets to train on, in the form of DISK's release."""
