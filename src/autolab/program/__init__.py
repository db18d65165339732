"""Programs: the content of a task's editable files, how it is named, edited and checked."""
