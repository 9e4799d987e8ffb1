"""Files and runs that tests share."""
