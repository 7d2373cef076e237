"""Batches, loop and resume: what pretrain and finetune have in common."""
