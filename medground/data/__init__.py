"""What a training batch is made of: examples, splits, augmentation and image storage."""
