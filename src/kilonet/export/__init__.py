"""A trained net in the form that its user needs, each proved before it is kept."""
