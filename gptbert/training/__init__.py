"""State, step, optimizer, sharding, trainer and run log: how any objective is trained."""
