"""What runs inside a trainer's process: one program each, which speaks JSON lines."""
