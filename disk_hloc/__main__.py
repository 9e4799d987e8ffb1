"""``python -m disk_hloc`` runs the command ``disk-hloc``."""

from disk_hloc.cli import main

main()
