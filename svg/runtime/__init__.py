"""What carries a program: its start and end, processes, precision, memory, and files that are whole or absent."""
