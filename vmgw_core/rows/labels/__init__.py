"""What the labels of rows say: which tenant a row is for, and which series it belongs to."""
