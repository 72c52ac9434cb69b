"""What runs inside containers while an image is checked: read as text and handed to their Python, never
imported.
"""
