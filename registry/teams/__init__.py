"""Teams of an organisation's users."""
