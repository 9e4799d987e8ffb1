"""The scripts of DISK's release: the same options, files and numbers, computed by our network."""
