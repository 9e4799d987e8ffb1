"""``python -m disk_hloc`` is the command ``disk-hloc``."""

from disk_hloc.cli.main import main

main()
