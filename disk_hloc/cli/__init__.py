"""The command ``disk-hloc``: it parses and calls."""
