"""The scripts of DISK's release, with the same options, files and results, on our network."""
