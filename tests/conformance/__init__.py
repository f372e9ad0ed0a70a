"""The official MCP conformance suite, run against the gateway from both sides.

`suite` runs it and reads what it found, `required` is the table of what each revision requires, `baseline` (with
`baseline.toml`) names what does not pass and why, `client` is the program that the suite starts to test the gateway's
side towards servers. The server that the suite talks to, straight or through the gateway, is
`tests.support.servers.conformance`. What the suite does not look at across eras is in `test_era_pairs`.
"""
