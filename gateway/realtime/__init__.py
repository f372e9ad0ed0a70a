"""What is told to clients as it happens, over WebSockets."""
