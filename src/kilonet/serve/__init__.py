"""A trained net behind HTTP: the page, the API, and the limits that keep both standing."""
