"""What people could use instead, one file each."""
