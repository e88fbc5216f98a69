"""The networks: torch modules and the files they live in."""
