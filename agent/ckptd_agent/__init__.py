"""What lives inside the training process. Whatever fails in here, training goes on."""
