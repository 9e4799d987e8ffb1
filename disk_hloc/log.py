"""The package's logger, which prints in hloc's format."""

from __future__ import annotations

import logging

logger = logging.getLogger("disk_hloc")


def show_logs(level: int = logging.INFO) -> None:
    """Print the package's log on stderr in hloc's format; repeated calls add no second handler.

    Programs call this; importing the library does not change logging.
    """
    if not any(handler.name == "disk_hloc" for handler in logger.handlers):
        handler = logging.StreamHandler()
        handler.name = "disk_hloc"
        handler.setFormatter(
            logging.Formatter(
                fmt="[%(asctime)s %(name)s %(levelname)s] %(message)s",
                datefmt="%Y/%m/%d %H:%M:%S",
            )
        )
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level)
