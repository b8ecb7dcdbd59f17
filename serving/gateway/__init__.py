"""The HTTP gateway without its connections: requests in, answers out. See also ``agents/gateway.py``."""
