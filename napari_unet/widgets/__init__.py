"""The docks: napari, Qt, magicgui. No torch."""
