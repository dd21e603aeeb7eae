"""After the training: predict, embed, evaluate, export."""
