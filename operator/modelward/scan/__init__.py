"""What is to be known of training data before a model learns from it: pure, from files read to findings."""
