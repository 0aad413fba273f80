"""The parts of a run's report page."""
