"""Segmentation: a decoder over an image encoder's feature maps, trained on masks."""
