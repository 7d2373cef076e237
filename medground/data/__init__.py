"""Training batches: examples, splits, augmentation and image storage."""
