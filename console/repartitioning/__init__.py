"""Making the partitions of an installation more: what is kept of users and items goes to the new ones."""
