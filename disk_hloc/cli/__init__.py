"""The command ``disk-hloc``: it parses arguments and calls functions of the other packages."""
