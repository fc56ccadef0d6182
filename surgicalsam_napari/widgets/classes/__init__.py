"""The classes of the open project: the dialog that lists and changes them, and the keys that choose one."""
