"""What the stand-in service always says."""

COMMIT = "c0ffee" + "0" * 34
