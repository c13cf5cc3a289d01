"""PyTorch side of laglite: the network, training, and the reading of checkpoints."""
