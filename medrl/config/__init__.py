"""From the words of a command line to a checked `schema.Run`: what is composed, checked, named and frozen."""
