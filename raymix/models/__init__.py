"""After the training: predict, embed, export."""
