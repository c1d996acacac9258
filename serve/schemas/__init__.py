"""Request and response bodies as pydantic models: they check the control plane and document everything."""
