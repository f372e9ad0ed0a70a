"""People and tokens that others vouch for: an OIDC provider that signs people in, and issuers of access tokens."""
