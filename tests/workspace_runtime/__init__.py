"""The container runtime: containers are made, held, reached and watched on real engines."""
