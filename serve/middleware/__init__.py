"""Plain ASGI middleware: one idea, one file."""
