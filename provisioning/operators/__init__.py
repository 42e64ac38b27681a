"""Operators: people and scripts that act on the registry, their roles, logins, sessions and tokens. A Django app."""
