"""The gateway's own tools, one module per noun, each calling the registry's services."""
