"""``python -m disk_hloc`` is the command ``disk-hloc``."""

from .cli import main

main()
