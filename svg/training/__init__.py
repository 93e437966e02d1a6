"""The parts that train.py reads top to bottom: what is learned, its optimiser, its log, and the run's folder."""
