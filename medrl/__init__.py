"""medrl: supervised and reinforcement learning of medical reasoning models, with numbers that can be made again."""

__version__ = "0.1.0"
