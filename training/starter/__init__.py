"""The starter model: the recipe that makes the small chat model which a local launch serves."""
