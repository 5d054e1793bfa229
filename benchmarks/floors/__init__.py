"""The bare work, without any books: the limit that ours is held against."""
