"""The viewer's layers of the open project, and the signals of changes."""
