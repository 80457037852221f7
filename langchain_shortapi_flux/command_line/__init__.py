"""What ``python -m langchain_shortapi_flux`` is made of. ``__main__`` above it is the door."""
