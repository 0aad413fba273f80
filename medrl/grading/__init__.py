"""From text to a verdict: answers, papers' own scorers, judges."""
