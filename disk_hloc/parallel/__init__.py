"""Stages by many processes or machines at once."""
