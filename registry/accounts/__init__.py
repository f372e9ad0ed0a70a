"""Accounts at servers: the credentials with which the gateway goes there, its own or a person's."""
