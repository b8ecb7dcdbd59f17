"""What ``headrace explain`` does: finds traces, makes lists again, prints what each part did."""
