"""Jobs of the outbox, as people see and replay them."""
