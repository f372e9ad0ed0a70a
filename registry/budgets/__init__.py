"""Budgets: limits on spending, and the ledger that keeps them."""
