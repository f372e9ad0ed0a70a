"""Real components for tests: databases, Node programs, compilers, engines. `fixtures` exposes them to pytest."""
