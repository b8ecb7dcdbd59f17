"""A whole installation on this machine: embedded servers, a simulated audience, the live page.

See docs/architecture.md.
"""
