"""Types of answers: how an answer of a type is read, what it is worth, and what it votes for. One noun, one file."""
