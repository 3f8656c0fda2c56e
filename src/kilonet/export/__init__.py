"""A trained net in the form that its user needs: ONNX, a page, C; `ship.py` proves each before it is kept."""
