"""All actions of the plugin in one list: it feeds tooltips, keys, the list of keys, napari's menus and command palette."""
