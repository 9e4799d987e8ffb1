"""Pages about results: one file each that opens offline, ``report.html``."""
