"""The objects of a database: what the migrations make, what is there, and how the one becomes the other."""
