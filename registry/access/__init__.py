"""Access rules: who may use which tools, resources and prompts."""
