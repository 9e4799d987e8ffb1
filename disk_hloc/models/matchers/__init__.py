"""Matchers, a file each; a conf's ``model: name`` is the name of the file."""
