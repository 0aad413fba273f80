"""The version of medrl: here, and not on top, so that what needs it does not import the Python API."""

__version__ = "0.1.0"
