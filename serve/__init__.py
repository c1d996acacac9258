"""The gateway: chat with feedback in front of vLLM engines. Imports no torch."""
