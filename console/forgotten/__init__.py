"""What ``headrace forget`` does: forgets a user, and looks in every place for what is left."""
