"""What the gateway tells of itself to those who run it: metrics, traces, and a line for each call."""
