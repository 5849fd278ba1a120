"""How the points of a sweep are chosen. Knows configs and their domains alone."""
