"""A map over HTTP: ``disk-hloc map serve``."""
