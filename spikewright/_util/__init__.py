"""What any room may use: checks of arguments, words, sizes, snapshots of modules."""
